"""Sessions and delegations."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from contextdna.values.ids import AgentId, DelegationId, ProjectId, SessionId
from contextdna.values.principal import Role
from contextdna.values.record import Sealed


class SessionStatus(StrEnum):
    """Where a session stands."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Session:
    """One agent's piece of work. ``id`` is public; the handle is ``id.secret`` and only its digest is kept."""

    id: SessionId
    project_id: ProjectId
    secret_digest: bytes
    agent_id: AgentId
    team_id: str
    swarm_id: str
    role: Role
    principal_id: AgentId
    lineage: tuple[AgentId, ...]
    parent_id: SessionId
    delegation_id: DelegationId
    status: SessionStatus
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    sealed: Sealed
    """The task and, once ended, the output."""


class DelegationStatus(StrEnum):
    """Where a delegation stands."""

    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Delegation:
    """A task handed from a parent session to a child session, with the grants that go with it."""

    id: DelegationId
    project_id: ProjectId
    parent_session_id: SessionId
    child_session_id: SessionId
    parent_agent_id: AgentId
    child_agent_id: AgentId
    depth: int
    status: DelegationStatus
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
