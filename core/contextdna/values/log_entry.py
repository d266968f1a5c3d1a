"""What a write-ahead log gives back."""

from dataclasses import dataclass, field
from typing import NewType

LogUnit = NewType("LogUnit", int)
"""Names a unit that was begun and is neither committed nor rolled back; good for the log that gave it only."""


def entry_id(log_id: str, seq: int) -> str:
    """Name the entry at a place of a log, everywhere and for ever."""
    return f"{log_id}.{seq}"


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One committed entry."""

    seq: int
    """Its place: 1, 2, 3 … over the life of a log, never given twice."""
    id: str
    """Its name everywhere and for ever: what applies an entry keeps it, to know it when it comes again."""
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LogStatus:
    """What health tells of a log."""

    engine: str
    log_id: str
    entries: int
    """Committed and not forgotten."""
    last_seq: int
    """Of the newest entry ever committed; 0 before the first."""
    forgotten_seq: int
    """All up to here are forgotten."""
    size_bytes: int
    sound: bool = True
    problem: str = ""


@dataclass(frozen=True, slots=True)
class LogSnapshot:
    """What the entries of a log have led to."""

    log_id: str
    seq: int
    """Up to where they are applied in it."""
    chunks: tuple[bytes, ...] = field(repr=False)
    size_bytes: int = 0
