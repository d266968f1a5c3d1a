"""What a benchmark found: printed as tables, or kept as JSON with what is needed to read it."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from contextdna.backends.sqlite.driver import ENGINE_VERSION

Row = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Report:
    """Tables by title, whose rows all have the same columns, and notes on how to read them."""

    tables: Mapping[str, Sequence[Row]]
    notes: Sequence[str] = ()


def environment() -> dict[str, str | int]:
    """Tell what was measured, and on what: no more than what moves the figures."""
    return {
        "contextdna": version("contextdna"),
        "python": platform.python_version(),
        "sqlite": ENGINE_VERSION,
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 0,
    }


def as_json(benchmark: str, options: Mapping[str, Any], report: Report) -> str:
    """Write a report down; of an option that is a path, only the last part."""
    shown = {name: value.name if isinstance(value, Path) else value for name, value in options.items()}
    found = {"benchmark": benchmark, "environment": environment(), "options": shown}
    return json.dumps(found | {"tables": report.tables, "notes": report.notes}, indent=1) + "\n"


def print_report(report: Report) -> None:
    """Print each table under its title, then the notes."""
    for title, rows in report.tables.items():
        print(f"\n{title}")
        if rows:
            _print_rows([list(rows[0]), *([_shown(value) for value in row.values()] for row in rows)])
    print()
    for note in report.notes:
        print(note)


def _print_rows(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    numeric = [all(_is_number(line[at]) for line in lines[1:]) for at in range(len(widths))]
    for line in lines:
        cells = zip(line, widths, numeric, strict=True)
        print("  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells).rstrip())


def _shown(value: str | float) -> str:
    match value:
        case str():
            return value
        case int():
            return f"{value:,}"
        case _:
            return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").replace("-", "").isdigit()
