"""Events: what changed, told after commit."""

from dataclasses import dataclass
from datetime import datetime

from contextdna.values.ids import AgentId, EventId, ProjectId


@dataclass(frozen=True, slots=True)
class Event:
    """A change, by ids only: who listens reads the record through the door."""

    id: EventId
    project_id: ProjectId
    name: str
    """Past tense, ``noun.verb``: ``memory.stored``."""
    agent_id: AgentId
    record_ids: tuple[str, ...]
    at: datetime
