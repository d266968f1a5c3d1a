"""Projects and the small records around them."""

from dataclasses import dataclass
from datetime import datetime

from contextdna.values.ids import AgentId, ProjectId, RecordId


@dataclass(frozen=True, slots=True)
class Project:
    """A project: the widest circle of readers and the unit of keys, index and audit chain."""

    id: ProjectId
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Link:
    """A relationship from one record to another, such as ``relates_to``."""

    project_id: ProjectId
    source_id: RecordId
    target_id: RecordId
    relation: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class IdempotentResult:
    """The first answer to a write that carried an idempotency key."""

    project_id: ProjectId
    agent_id: AgentId
    key: str
    fingerprint: bytes
    """Keyed hash of the request: the same key with another request is an error."""
    answer: str
    """JSON, ids and versions only."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Conflict:
    """A stale update that was refused: a newer version had come before it."""

    id: str
    project_id: ProjectId
    record_id: RecordId
    agent_id: AgentId
    expected_version: int
    current_version: int
    at: datetime


@dataclass(frozen=True, slots=True)
class ProjectOverview:
    """What a reader may know of a project: counts of what it may see."""

    project: Project
    records_by_kind: tuple[tuple[str, int], ...]
    records_by_level: tuple[tuple[str, int], ...]
    records_by_type: tuple[tuple[str, int], ...]
    agents: int
