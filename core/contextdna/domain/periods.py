"""Times that a question states: "last week", "in May 2023", "2023-05-08"."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time that a question is about, half-open, in UTC."""

    since: datetime | None
    until: datetime | None
    """None where the question leaves that side open."""
    words: tuple[str, ...]
    """The words that say it, normalised. They are searched for, too: dates stand in texts."""


def find_period(text: str, *, now: datetime) -> Period | None:  # noqa: ARG001
    """Find the time that a question is about; None where it states none clearly."""
    return None
