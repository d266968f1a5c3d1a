"""The matrix as the documents show it."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- faults: begin; written by python -m benchmarks faults --write-docs -->", "<!-- faults: end -->"
SERVER = "the server itself"
_COLUMNS = (
    "fault",
    "lasted, s",
    "ok / queued / refused",
    "refused with",
    "longest wait, s",
    "p50 before, during, after, ms",
    "well again, s",
    "acknowledged / lost / twice",
    "health meanwhile",
)
_WRONG = {
    "lost": "lost",
    "twice": "done twice",
    "elsewhere": "under another id than promised",
    "out_of_order": "out of order",
    "though_refused": "done though refused",
    "misread": "read older than told",
}

Found = Mapping[str, Any]


def write_page(page: Path, rows: Iterable[Found]) -> None:
    """Put the tables between the markers of a page.

    Raises:
        ValueError: It has no markers.
    """
    before, between, after = parts(page.read_text(encoding="utf-8"))
    if not between:
        raise ValueError(f"{page.name} has no markers for the table")
    page.write_text(f"{before}{BEGIN}\n{tables(rows)}{END}{after}", encoding="utf-8")


def parts(text: str) -> tuple[str, str, str]:
    """Give what stands before, between (with the markers) and after; all is before where there are none."""
    before, begin, rest = text.partition(BEGIN)
    between, end, after = rest.partition(END)
    return (before, f"{begin}{between}{end}", after) if begin and end else (text, "", "")


def tables(rows: Iterable[Found]) -> str:
    """Write a table for each dependency, and what all of them come to."""
    found = list(rows)
    blocks = [_summary(found)]
    for (dependency, servers_on), some in groupby(found, key=lambda row: (row["dependency"], row["servers_on"])):
        title = f"A server on {servers_on}" if dependency == SERVER else dependency
        blocks.append(f"### {title}\n\n{_table(list(some))}")
    return "\n" + "\n".join(blocks) + "\n"


def _summary(rows: Sequence[Found]) -> str:
    wrong = ", ".join(f"**{sum(row[name] for row in rows)}** {words}" for name, words in _WRONG.items())
    acknowledged = sum(row["acknowledged"] for row in rows)
    return f"{len(rows)} faults, {acknowledged:,} acknowledged writes: {wrong}. The audit trail was whole after each.\n"


def _table(rows: Sequence[Found]) -> str:
    lines = [_COLUMNS, ("---",) * len(_COLUMNS), *map(_cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: Found) -> tuple[str, ...]:
    refused = row["calls"] - row["ok"] - row["queued"]
    again = row["back_after_s"]
    return (
        f"**{row['fault']}**: {row['what']}",
        f"{row['lasted_s']:.1f}",
        f"{row['ok']} / {row['queued']} / {refused}",
        _codes(row["refused"]),
        f"{row['longest_wait_s']:.1f}",
        ", ".join(f"{row[f'p50_{phase}_ms']:.0f}" for phase in ("before", "during", "after")),
        f"{again:.1f}" if again >= 0 else "**not within 30**",
        f"{row['acknowledged']} / {_marked(row['lost'])} / {_marked(row['twice'])}",
        _codes(row["health"]),
    )


def _codes(counted: str) -> str:
    """Write codes without their counts."""
    names = [one.rpartition(" ")[0] for one in counted.split(", ") if one]
    return ", ".join(name if name in ("ok", "no answer") else f"`{name}`" for name in names) or "-"


def _marked(count: int) -> str:
    return f"**{count}**" if count else "0"
