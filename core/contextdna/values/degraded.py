"""Degraded modes: what a server does without when something that it leans on is away, and how it says so."""

from dataclasses import dataclass
from enum import StrEnum


class ModeName(StrEnum):
    """The degraded modes; health, answers and the documents call them so."""

    DATABASE_AWAY = "database_away"
    """PostgreSQL does not answer: reads are refused, writes that can be taken wait in the spool."""
    DATABASE_REPLAY = "database_replay"
    """PostgreSQL is back, and what was queued is written to it, in order."""
    WRITES_ASIDE = "writes_aside"
    """Queued writes were refused when they were replayed, and are kept for an operator to look at."""
    SPOOL_DAMAGED = "spool_damaged"
    """Slots of the spool are not what was written: what stands in them behind the damage is not stored."""
    ARTIFACTS_SPOOLED = "artifacts_spooled"
    """S3 does not answer, or has not all of the artifacts yet: their bytes wait in the data folder."""
    ARTIFACTS_AWAY = "artifacts_away"
    """S3 does not answer, and nothing waits for it: artifacts are neither kept nor read."""
    WRITES_REFUSED = "writes_refused"
    """The database is read, and refuses what is to be written: its disk is full, or fails."""
    ARTIFACTS_REFUSED = "artifacts_refused"
    """The store of artifacts refuses new ones: it is full, or lets us no more."""
    CACHE_AWAY = "cache_away"
    """Redis does not answer: this process caches, and looks for events, by itself."""
    MEMORY_ONLY = "memory_only"
    """The database file cannot be used: everything is in memory, and gone when the server ends."""


@dataclass(frozen=True, slots=True)
class DegradedMode:
    """A mode that is in force."""

    name: ModeName
    problem: str = ""
    """Code of the error that it comes from, where there is one."""
    waiting: int = 0
    """How much waits: queued writes, artifacts, writes set aside, or slots that are damaged."""


class Notices:
    """What the caller of one call is to be told beside its answer: which degraded mode touched it, each once."""

    def __init__(self) -> None:
        self._told: dict[ModeName, str] = {}

    def add(self, name: ModeName, text: str) -> None:
        """Note that a mode touched this call, and what it means for the answer."""
        self._told.setdefault(name, text)

    def __contains__(self, name: ModeName) -> bool:
        """Tell whether a mode touched this call."""
        return name in self._told

    def lines(self) -> list[str]:
        """Give one short line for each mode."""
        return [f"{name}: {text}" for name, text in self._told.items()]
