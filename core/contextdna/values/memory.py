"""Memories: what an agent keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from contextdna.values.ids import AgentId, RecordId
from contextdna.values.level import Level
from contextdna.values.record import Record, Tier

MEMORY_TYPES: Final = (
    "fact",
    "preference",
    "decision",
    "success_pattern",
    "failure_pattern",
    "optimization",
    "observation",
    "insight",
    "lesson",
    "constraint",
    "procedure",
    "plan",
    "task",
    "result",
    "summary",
    "question",
    "event",
    "reference",
    "note",
)
"""The memory types every project knows; ``memories.extra_types`` in the settings adds more."""


class OnDuplicate(StrEnum):
    """What storing a content that is already there does."""

    MERGE = "merge"
    NEW = "new"
    ERROR = "error"


class StoreStatus(StrEnum):
    """What became of a memory that was sent to be stored."""

    STORED = "stored"
    MERGED = "merged"
    QUEUED = "queued"
    """Not stored: it waits, durably, for a database that is away, and will bear the id that was given."""


@dataclass(frozen=True, slots=True)
class MemoryDraft:
    """A memory as its author hands it in; validated by ``domain.validation``."""

    content: str
    memory_type: str = "fact"
    tier: Tier = Tier.SEMANTIC
    level: Level = Level.PROJECT
    importance: float = 0.5
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    retention_days: float | None = None
    relates_to: tuple[RecordId, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryChange:
    """New values for some fields of a memory; ``None`` leaves a field as it is."""

    content: str | None = None
    memory_type: str | None = None
    tier: Tier | None = None
    level: Level | None = None
    importance: float | None = None
    tags: tuple[str, ...] | None = None
    metadata: Mapping[str, Any] | None = None
    valid_to: datetime | None = None
    retention_days: float | None = None
    superseded_by: RecordId | None = None

    def is_empty(self) -> bool:
        """True when no field is set."""
        return all(getattr(self, name) is None for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class StoredMemory:
    """The answer to a store: which record now holds the content."""

    id: RecordId
    version: int
    status: StoreStatus
    agent_id: AgentId = AgentId("")
    """Who stored it."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory opened for a reader who may see it."""

    record: Record
    content: str
    tags: tuple[str, ...]
    metadata: Mapping[str, Any]
    relates_to: tuple[RecordId, ...] = ()
    granted_by: str = ""
    access_count: int = 0


@dataclass(frozen=True, slots=True)
class MemorySelection:
    """Which memories a sweep of one's own memories means (forget, share); empty means no limit."""

    memory_types: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    min_importance: float = 0.0
    older_than: datetime | None = None

    def is_empty(self) -> bool:
        """True when nothing narrows the selection."""
        return self == MemorySelection()


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What a forget did, or with ``dry_run`` would do."""

    ids: tuple[RecordId, ...]
    matched: int
    dry_run: bool
    purged: bool
    restorable_until: datetime | None
