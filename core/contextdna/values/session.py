"""Sessions, their working state, and delegations."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from contextdna.values.ids import AgentId, DelegationId, ProjectId, RecordId, SessionId
from contextdna.values.principal import Role
from contextdna.values.record import Sealed


class SessionStatus(StrEnum):
    """Where a session stands."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CLOSED = "closed"
    """Ended from outside: with the session it was begun in, or because its delegation was declined or revoked."""


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
    """The task, and how far it has come. What it left are records of their own, each with its level."""
    thoughts: int = 0
    """How many thoughts its agent has counted."""
    state_version: int = 0
    """Rises with every change of its working state, in the same transaction."""

    def standing(self, now: datetime) -> SessionStatus:
        """Give where it stands now: past its end it has expired, whether anyone has closed it or not."""
        overdue = self.status is SessionStatus.ACTIVE and self.expires_at <= now
        return SessionStatus.EXPIRED if overdue else self.status


@dataclass(frozen=True, slots=True)
class StateRow:
    """One key of a session's working state as it is stored: the value always encrypted."""

    project_id: ProjectId
    session_id: SessionId
    key: str
    version: int
    """The session's state version that wrote it."""
    updated_at: datetime
    expires_at: datetime
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class StateEntry:
    """One key of a session's working state, opened."""

    key: str
    value: Any
    version: int
    updated_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions a listing means, and whose it may show; empty means any."""

    status: SessionStatus | None = None
    agent_id: AgentId = AgentId("")
    seen_by: AgentId = AgentId("")
    """Only those with this agent in their lineage: its own and all below it."""
    of_swarm: str = ""
    """Beside these, those of a swarm, but for the role system's."""


class DelegationStatus(StrEnum):
    """Where a delegation stands."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    COMPLETED = "completed"
    FAILED = "failed"
    REVOKED = "revoked"
    EXPIRED = "expired"


OPEN_DELEGATIONS: Final = frozenset({DelegationStatus.PENDING, DelegationStatus.ACCEPTED})
"""Where a delegation is not over yet."""


class Direction(StrEnum):
    """Which delegations an agent means: those that it and agents below it gave, or those that it received."""

    GIVEN = "given"
    RECEIVED = "received"
    ANY = ""


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
    accepted_at: datetime | None = None
    ended_at: datetime | None = None
    result_ids: tuple[RecordId, ...] = ()
    """What the child brought back: memories and artifacts."""

    def standing(self, now: datetime) -> DelegationStatus:
        """Give where it stands now: past its end it has expired, whether anyone has closed it or not."""
        overdue = self.status in OPEN_DELEGATIONS and self.expires_at <= now
        return DelegationStatus.EXPIRED if overdue else self.status
