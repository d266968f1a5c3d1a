"""A grant: one agent may read one record for a while."""

from dataclasses import dataclass
from datetime import datetime

from contextdna.values.ids import AgentId, DelegationId, GrantId, ProjectId, RecordId


@dataclass(frozen=True, slots=True)
class Grant:
    """Read access to a record for one agent: revocable, never re-shareable."""

    id: GrantId
    project_id: ProjectId
    record_id: RecordId
    grantee_id: AgentId
    granted_by: AgentId
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    delegation_id: DelegationId = DelegationId("")
    """Set when the grant belongs to a delegation and lapses with it; else empty."""
    rests_on: GrantId = GrantId("")
    """The grant by which the giver itself reads the record, and with which this one lapses; empty when by its own
    right."""
    assignment: bool = False
    """Whether the assignee of a task reads it by this: it lasts as long as the assignment, whatever is shared."""
