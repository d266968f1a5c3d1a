"""A queued write that was refused when it was replayed."""

from dataclasses import dataclass
from datetime import datetime

from contextdna.values.ids import AgentId, ProjectId


@dataclass(frozen=True, slots=True)
class AsideWrite:
    """What an operator may know of it: nothing of its text, which is its author's."""

    id: str
    at: datetime
    """When it was refused."""
    code: str
    """Why."""
    message: str
    action: str = ""
    """What was asked for; empty, as is all that follows, where this version cannot read it."""
    project_id: ProjectId = ProjectId("")
    agent_id: AgentId = AgentId("")
    """Who asked."""
    record_ids: tuple[str, ...] = ()
    """The ids that were promised, or that it was about."""
    queued_at: datetime | None = None
