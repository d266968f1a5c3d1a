"""The matrix as the documents show it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.report import Row

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
NOTES: Sequence[str] = ()


def write_page(page: Path, rows: Iterable[Row]) -> None:
    """Put the tables between the markers of a page.

    Raises:
        ValueError: It has no markers.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page.name} has no markers for the table")
    page.write_text(f"{before}{BEGIN}\n{tables(rows)}{END}{after}", encoding="utf-8")


def tables(rows: Iterable[Row]) -> str:
    """Write the tables."""
    return "".join(str(row) for row in rows)
