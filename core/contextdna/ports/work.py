"""Ports: projects, agents, sessions, delegations and grants."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from contextdna.values.agent import Agent
from contextdna.values.grant import Grant
from contextdna.values.ids import AgentId, DelegationId, GrantId, ProjectId, RecordId, SessionId
from contextdna.values.project import Project
from contextdna.values.session import Delegation, DelegationStatus, Direction, Session, SessionFilter


class ProjectTable(Protocol):
    """Projects and the agents seen in them."""

    async def add(self, project: Project) -> bool:
        """Add a project; False when it is there already."""
        ...

    async def get(self, project_id: ProjectId) -> Project | None:
        """Fetch a project."""
        ...

    async def all(self) -> list[Project]:
        """List all projects by id."""
        ...

    async def see_agent(self, agent: Agent) -> None:
        """Add an agent, or update where and when it was last seen; of its roles the highest is kept.

        The role of its credential is replaced where the sighting has one. How it is registered stays.
        """
        ...

    async def touch_agent(self, project_id: ProjectId, agent_id: AgentId, *, at: datetime) -> None:
        """Note that an agent was at work; one that is not known is left so."""
        ...

    async def agents(self, project_id: ProjectId, agent_ids: Sequence[AgentId] | None = None) -> list[Agent]:
        """List agents of a project, all or the named ones."""
        ...


class SessionTable(Protocol):
    """Sessions and the delegations between them."""

    async def add(self, session: Session) -> None:
        """Add a session."""
        ...

    async def get(self, session_id: SessionId) -> Session | None:
        """Fetch a session by its public id."""
        ...

    async def replace(self, session: Session) -> None:
        """Store a session's new state."""
        ...

    async def add_delegation(self, delegation: Delegation) -> None:
        """Add a delegation."""
        ...

    async def get_delegation(self, delegation_id: DelegationId) -> Delegation | None:
        """Fetch a delegation."""
        ...

    async def replace_delegation(self, delegation: Delegation) -> None:
        """Store a delegation's new state."""
        ...

    async def with_agent(self, project_id: ProjectId, agent_id: AgentId, *, limit: int) -> list[Session]:
        """List by id active sessions that an agent works in, or that came from its own: it is in their lineage."""
        ...

    async def below(self, session_id: SessionId) -> list[Session]:
        """List the active sessions that were begun in a session, delegated or not."""
        ...

    async def count_around(self, session_id: SessionId, *, most: int) -> int:
        """Count the outermost session that a session was begun in, and the active ones nested in that, however deep.

        Args:
            session_id: Any session of the tree.
            most: Stop counting there.
        """
        ...

    async def find(
        self, project_id: ProjectId, where: SessionFilter, *, now: datetime, before: SessionId, limit: int
    ) -> list[Session]:
        """List sessions by id, the newest first; ``before`` one, or from the newest with an empty id.

        One past its end counts as expired.
        """
        ...

    async def overdue(self, project_id: ProjectId, *, now: datetime, limit: int) -> list[Session]:
        """List active sessions past their end, those that ended first before the others."""
        ...

    async def find_delegations(
        self,
        project_id: ProjectId,
        agent_id: AgentId,
        *,
        direction: Direction,
        status: DelegationStatus | None,
        now: datetime,
        before: DelegationId,
        limit: int,
    ) -> list[Delegation]:
        """List delegations by id, the newest first; an empty agent id means all of the project.

        What agents below an agent gave counts as given by it, below its path or in its lineage. One past its end
        counts as expired.
        """
        ...


class GrantTable(Protocol):
    """Grants: record -> agent, read only."""

    async def add(self, grants: Sequence[Grant]) -> None:
        """Add grants."""
        ...

    async def active_for(
        self, project_id: ProjectId, record_ids: Sequence[RecordId], grantee_id: AgentId, *, now: datetime
    ) -> list[Grant]:
        """List grants in force on records for one agent."""
        ...

    async def given(
        self, project_id: ProjectId, *, granted_by: AgentId, grantee_ids: Sequence[AgentId], now: datetime
    ) -> list[Grant]:
        """List grants in force that one agent gave to others, by sharing or by delegating."""
        ...

    async def on_records(self, project_id: ProjectId, record_ids: Sequence[RecordId], *, now: datetime) -> list[Grant]:
        """List grants in force on records, whoever gave them."""
        ...

    async def revoke(self, project_id: ProjectId, grant_ids: Sequence[GrantId], *, at: datetime) -> int:
        """End grants now, and those that rest on them; gives how many were in force."""
        ...

    async def revoke_delegation(self, project_id: ProjectId, delegation_id: DelegationId, *, at: datetime) -> int:
        """End every grant of a delegation now, and those that rest on them; gives how many were in force."""
        ...

    async def delete_ended(self, project_id: ProjectId, *, before: datetime, limit: int) -> int:
        """Remove grants that were over before a time; gives how many."""
        ...
