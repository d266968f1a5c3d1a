"""Draw the plots of docs/benchmarks.md, as SVG, from the results in benchmarks/results/.

The same results give the same files. The background is left open and the colours are neither dark nor light, so that
a plot reads on both. A plot whose results are not there is left as it is; of results that were measured in different
sizes or with different callers, it shows what there is.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence, Set
from math import isnan, nan
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.all import RESULTS
from benchmarks.report import Report, Row

DOCS = Path(__file__).parents[1] / "docs" / "benchmarks"
Results = Mapping[str, Mapping[str, Any]]
"""Kept results by name."""

_GREY = "#7f8791"
_COLOURS = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#e11d74", "#b58900")
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "contextdna",
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": _GREY,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _GREY,
    "axes.titlecolor": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=_COLOURS),
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "grid.color": _GREY,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.labelcolor": _GREY,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the JSON files are")
    parser.add_argument("--into", type=Path, default=DOCS, metavar="DIR", help="where the SVG files go")


def run(options: argparse.Namespace) -> Report:
    """Draw what there are results for."""
    files = sorted(options.results.glob("*.json"))
    results = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    options.into.mkdir(parents=True, exist_ok=True)
    drawn: list[Row] = []
    for name, draw in PLOTS.items():
        with mpl.rc_context(_STYLE):
            figure = draw(results)
            if figure:
                file = options.into / f"{name}.svg"
                figure.savefig(file, transparent=True, metadata={"Date": None, "Creator": None})
                drawn.append({"plot": file.name})
    return Report({"drawn": drawn})


def _table(result: Mapping[str, Any], at: int = 0) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = list(result["tables"].values())[at]
    return rows


def _rows_where(result: Mapping[str, Any], **values: str | int) -> list[dict[str, Any]]:
    return [row for row in _table(result) if all(row[name] == value for name, value in values.items())]


def _recalls(results: Results) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Give the results of recall by data set and way through the product."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, result in results.items():
        _, data, way = (*name.split("-", maxsplit=2), "", "")[:3]
        if result["benchmark"] == "recall" and way:
            found.setdefault(data, {})[way] = result
    return found


def _panels(columns: int, *, rows: int = 1, width: float = 4.2) -> tuple[Figure, list[Axes]]:
    """Make a figure with panels side by side, row by row; no window, no global state."""
    figure = Figure(figsize=(width * columns, 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    return figure, list(panels.flat)


def _bars(panel: Axes, groups: Sequence[str], series: Mapping[str, Sequence[float]], *, form: str) -> None:
    """Draw bars side by side in each group, with their values above; for a value that is not a number, none."""
    width = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        there = [(group, value) for group, value in enumerate(values) if not isnan(value)]
        at = [group + (number - (len(series) - 1) / 2) * width for group, _ in there]
        bars = panel.bar(at, [value for _, value in there], width, label=name if there else "")
        panel.bar_label(bars, fmt=form, color=_GREY, fontsize=7, padding=2)
    panel.set_xticks(range(len(groups)), groups)
    panel.margins(y=0.25)  # room for the values and the legend
    panel.grid(axis="y")
    panel.set_axisbelow(True)
    panel.legend(fontsize=7)


def draw_latency(results: Results) -> Figure | None:
    """Draw times over the number of memories: an agent alone, both kinds of questions, product and floor."""
    alone = _rows_where(results["latency"], callers=1, role="agent") if "latency" in results else []
    if not alone:
        return None
    figure, panels = _panels(2)
    for panel, kind in zip(panels, ("three words", "sentence"), strict=True):
        rows = [row for row in alone if row["question"] == kind]
        sizes = [row["memories"] for row in rows]
        for who, prefix, colour in (("retrieve_context", "", _COLOURS[0]), ("bare FTS5", "floor_", _COLOURS[1])):
            for percentile, dashes in (("p50", "-"), ("p95", "--")):
                times = [row[f"{prefix}{percentile}_ms"] for row in rows]
                label = f"{who}, {percentile}"
                panel.plot(sizes, times, dashes, marker="o", markersize=3, color=colour, label=label)
        panel.set(xscale="log", yscale="log", title=kind, xlabel="memories", ylabel="ms")
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
        panel.minorticks_off()
        panel.yaxis.set_major_formatter("{x:g}")
        panel.grid()
        panel.legend(fontsize=7)
    return figure


def draw_callers(results: Results) -> Figure | None:
    """Draw times over the number of callers: sentences, alone and while a writer commits.

    At the largest size that both were measured in; where there is none, at the largest of each, in panels of its own.
    """
    which = {"role": "agent", "question": "sentence"}
    alone, beside = (
        {(row["memories"], row["callers"]): row for row in _rows_where(results[name], **which)}
        if name in results
        else {}
        for name in ("latency", "latency-writer")
    )
    sizes = _sizes_shown(*({size for size, _ in rows} for rows in (alone, beside)))
    if not sizes:
        return None
    figure, panels = _panels(2, rows=len(sizes))
    shown = [(size, percentile) for size in sizes for percentile in ("p50", "p95")]
    for panel, (size, percentile) in zip(panels, shown, strict=True):
        callers = sorted({many for of_size, many in (alone | beside) if of_size == size})
        at = [(size, many) for many in callers]
        lines = {
            "bare FTS5": _times(beside | alone, at, f"floor_{percentile}_ms"),  # its database rests in both
            "retrieve_context": _times(alone, at, f"{percentile}_ms"),
            "while a writer commits": _times(beside, at, f"{percentile}_ms"),
        }
        _bars(panel, [str(many) for many in callers], lines, form="%.1f")
        panel.set(title=f"{percentile}, {size:,} memories", xlabel="callers", ylabel="ms", yscale="log")
    return figure


def _sizes_shown(one: Set[int], other: Set[int]) -> list[int]:
    """Give the largest size of both; where they have none in common, the largest of each that has any."""
    both = one & other
    return [max(both)] if both else sorted(max(sizes) for sizes in (one, other) if sizes)


def _times(rows: Mapping[tuple[int, int], Row], at: Sequence[tuple[int, int]], name: str) -> list[float]:
    """Give a figure of the rows of some sizes and callers; not a number where a row is not there."""
    return [float(rows[place][name]) if place in rows else nan for place in at]


def draw_recall(results: Results) -> Figure | None:
    """Draw recall and MRR of each way through the product, over all questions."""
    found = _recalls(results)
    if not found:
        return None
    figure, panels = _panels(len(found), width=8.4 / len(found))
    measures = ("recall@5", "recall@10", "recall@20", "MRR")
    for panel, (data, ways) in zip(panels, found.items(), strict=True):
        series = {name: [_table(result)[-1][measure] for measure in measures] for name, result in ways.items()}
        _bars(panel, measures, series, form="%.2f")
        panel.set(ylim=(0, 1.15), title=f"{data}: evidence by turn, all categories")
    return figure


def draw_categories(results: Results) -> Figure | None:
    """Draw recall@10 and MRR by category, turns being stored as memories."""
    found = {data: ways["memories"] for data, ways in _recalls(results).items() if "memories" in ways}
    if not found:
        return None
    figure, panels = _panels(len(found), width=8.4 / len(found))
    for panel, (data, result) in zip(panels, found.items(), strict=True):
        rows = _table(result)
        groups = [f"{row['category']}\n{row['questions']:,}" for row in rows]
        _bars(panel, groups, {name: [row[name] for row in rows] for name in ("recall@10", "MRR")}, form="%.2f")
        panel.set(ylim=(0, 1.15), title=f"{data}: by category, with the number of questions")
    return figure


def draw_memory(results: Results) -> Figure | None:
    """Draw what a server takes in memory and a memory on disk."""
    if "memory" not in results:
        return None
    figure, panels = _panels(2)
    processes, disk = _table(results["memory"]), _table(results["memory"], 1)
    groups = [f"{row['server']}\n{row['when']}".replace(" ", "\n", 1) for row in processes]
    figures = {name: [row[f"{name.lower()}_mb"] for row in processes] for name in ("RSS", "PSS")}
    _bars(panels[0], groups, figures, form="%.0f")
    panels[0].set(title=next(iter(results["memory"]["tables"])), ylabel="MB")
    panels[0].tick_params(axis="x", labelsize=6)
    bars = panels[1].barh([row["part"] for row in disk], [row["bytes_a_memory"] for row in disk])
    panels[1].bar_label(bars, fmt="%.0f", color=_GREY, fontsize=7, padding=2)
    panels[1].invert_yaxis()
    panels[1].set(title="on disk", xlabel="bytes a memory of 40 words")
    return figure


def draw_calls(results: Results) -> Figure | None:
    """Draw what calls and starts cost beside a trivial server."""
    if not {"stdio", "cold-start"} <= results.keys():
        return None
    figure, panels = _panels(2)
    shown = (("stdio", "one call over stdio"), ("cold-start", "from the start to the answer to initialize"))
    for panel, (name, title) in zip(panels, shown, strict=True):
        rows = _table(results[name])
        series = {percentile: [row[f"{percentile}_ms"] for row in rows] for percentile in ("p50", "p95")}
        _bars(panel, [row["call"].replace(", ", ",\n") for row in rows], series, form="%.1f")
        panel.set(title=title, ylabel="ms")
        panel.tick_params(axis="x", labelsize=6)
    return figure


PLOTS: Mapping[str, Callable[[Results], Figure | None]] = {
    "latency": draw_latency,
    "callers": draw_callers,
    "recall": draw_recall,
    "categories": draw_categories,
    "memory": draw_memory,
    "calls": draw_calls,
}
"""What draws each file, or gives None where its results are not there."""
