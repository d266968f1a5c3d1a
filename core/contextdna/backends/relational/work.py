"""Projects and agents, sessions and delegations, grants."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from contextdna.backends.relational.agents import agent_of
from contextdna.backends.relational.columns import (
    json_list,
    micros,
    micros_or_none,
    moment,
    moment_or_none,
    sealed_of,
    sealed_params,
    texts_of,
)
from contextdna.backends.relational.statements import Executor, Row
from contextdna.values.agent import Agent
from contextdna.values.grant import Grant
from contextdna.values.ids import AgentId, DelegationId, GrantId, ProjectId, RecordId, SessionId
from contextdna.values.principal import Role
from contextdna.values.project import Project
from contextdna.values.session import Delegation, DelegationStatus, Direction, Session, SessionFilter, SessionStatus

_ROLES: Final = {role.value: role for role in Role}


class Projects:
    """Fulfils ``ports.work.ProjectTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows
        self._run = executor.run

    async def add(self, project: Project) -> bool:
        """Add a project; False when it is there already."""
        return await self._run("project_add", (project.id, micros(project.created_at))) > 0

    async def get(self, project_id: ProjectId) -> Project | None:
        """Fetch a project."""
        rows = await self._rows("project_get", (project_id,))
        return _project_of(rows[0]) if rows else None

    async def all(self) -> list[Project]:
        """List all projects by id."""
        return [_project_of(row) for row in await self._rows("projects_all")]

    async def see_agent(self, agent: Agent) -> None:
        """Add an agent, or update where and when it was last seen; of its roles the highest is kept."""
        await self._run(
            "agent_see",
            (
                agent.project_id,
                agent.id,
                agent.team_id,
                agent.swarm_id,
                agent.role.value,
                micros(agent.first_seen_at),
                micros(agent.last_seen_at),
                agent.credential_role.value if agent.credential_role else "",
            ),
        )

    async def touch_agent(self, project_id: ProjectId, agent_id: AgentId, *, at: datetime) -> None:
        """Note that an agent was at work; one that is not known is left so."""
        await self._run("agent_touch", (project_id, agent_id, micros(at)))

    async def agents(self, project_id: ProjectId, agent_ids: Sequence[AgentId] | None = None) -> list[Agent]:
        """List agents of a project, all or the named ones."""
        if agent_ids is None:
            rows = await self._rows("agents_all", (project_id,))
        else:
            rows = await self._rows("agents_named", (project_id, json_list(agent_ids)))
        return [agent_of(row) for row in rows]


class Sessions:
    """Fulfils ``ports.work.SessionTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows
        self._run = executor.run

    async def add(self, session: Session) -> None:
        """Add a session."""
        await self._run("session_add", _session_params(session))

    async def get(self, session_id: SessionId) -> Session | None:
        """Fetch a session by its public id."""
        rows = await self._rows("session_get", (session_id,))
        return _session_of(rows[0]) if rows else None

    async def replace(self, session: Session) -> None:
        """Store a session's new state."""
        await self._run("session_replace", _session_params(session))

    async def add_delegation(self, delegation: Delegation) -> None:
        """Add a delegation."""
        await self._run("delegation_add", _delegation_params(delegation))

    async def get_delegation(self, delegation_id: DelegationId) -> Delegation | None:
        """Fetch a delegation."""
        rows = await self._rows("delegation_get", (delegation_id,))
        return _delegation_of(rows[0]) if rows else None

    async def replace_delegation(self, delegation: Delegation) -> None:
        """Store a delegation's new state."""
        await self._run("delegation_replace", _delegation_params(delegation))

    async def with_agent(self, project_id: ProjectId, agent_id: AgentId, *, limit: int) -> list[Session]:
        """List active sessions with an agent in their lineage, by id."""
        return [_session_of(row) for row in await self._rows("sessions_with_agent", (project_id, agent_id, limit))]

    async def below(self, session_id: SessionId) -> list[Session]:
        """List the active sessions that were begun in a session, by id."""
        return [_session_of(row) for row in await self._rows("sessions_below", (session_id,))]

    async def count_around(self, session_id: SessionId, *, most: int) -> int:
        """Count the outermost session around one, and the active ones nested in that."""
        [(counted,)] = await self._rows("sessions_around", (session_id, most))
        return int(counted)

    async def find(
        self, project_id: ProjectId, where: SessionFilter, *, now: datetime, before: SessionId, limit: int
    ) -> list[Session]:
        """List sessions by id, the newest first; one past its end counts as expired."""
        shown = (project_id, where.agent_id, where.seen_by, where.of_swarm)
        params = (*shown, where.status.value if where.status else "", before, micros(now), limit)
        return [_session_of(row) for row in await self._rows("sessions_find", params)]

    async def overdue(self, project_id: ProjectId, *, now: datetime, limit: int) -> list[Session]:
        """List active sessions past their end, those that ended first before the others."""
        return [_session_of(row) for row in await self._rows("sessions_overdue", (project_id, micros(now), limit))]

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
        """List delegations by id, the newest first; one past its end counts as expired."""
        params = (project_id, agent_id, direction.value, status.value if status else "", before, micros(now), limit)
        return [_delegation_of(row) for row in await self._rows("delegations_find", params)]


class Grants:
    """Fulfils ``ports.work.GrantTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows
        self._run = executor.run
        self._run_many = executor.run_many

    async def add(self, grants: Sequence[Grant]) -> None:
        """Add grants."""
        await self._run_many("grant_add", [_grant_params(grant) for grant in grants])

    async def active_for(
        self, project_id: ProjectId, record_ids: Sequence[RecordId], grantee_id: AgentId, *, now: datetime
    ) -> list[Grant]:
        """List grants in force on records for one agent."""
        params = (project_id, json_list(record_ids), grantee_id, micros(now))
        return [_grant_of(row) for row in await self._rows("grants_active_for", params)]

    async def given(
        self, project_id: ProjectId, *, granted_by: AgentId, grantee_ids: Sequence[AgentId], now: datetime
    ) -> list[Grant]:
        """List grants in force that one agent gave to others, by sharing or by delegating."""
        params = (project_id, json_list(grantee_ids), granted_by, micros(now))
        return [_grant_of(row) for row in await self._rows("grants_given", params)]

    async def on_records(self, project_id: ProjectId, record_ids: Sequence[RecordId], *, now: datetime) -> list[Grant]:
        """List grants in force on records, whoever gave them."""
        params = (project_id, json_list(record_ids), micros(now))
        return [_grant_of(row) for row in await self._rows("grants_on_records", params)]

    async def revoke(self, project_id: ProjectId, grant_ids: Sequence[GrantId], *, at: datetime) -> int:
        """End grants now, and those that rest on them; gives how many were in force."""
        return await self._run("grants_revoke", (project_id, json_list(grant_ids), micros(at)))

    async def revoke_delegation(self, project_id: ProjectId, delegation_id: DelegationId, *, at: datetime) -> int:
        """End every grant of a delegation now, and those that rest on them; gives how many were in force."""
        return await self._run("grants_revoke_delegation", (project_id, delegation_id, micros(at)))

    async def delete_ended(self, project_id: ProjectId, *, before: datetime, limit: int) -> int:
        """Remove grants that were over before a time; gives how many."""
        return await self._run("grants_delete_ended", (project_id, micros(before), limit))


def _project_of(row: Row) -> Project:
    return Project(row[0], moment(row[1]))


def _session_params(session: Session) -> tuple[Any, ...]:
    return (
        session.id,
        session.project_id,
        session.secret_digest,
        session.agent_id,
        session.team_id,
        session.swarm_id,
        session.role.value,
        session.principal_id,
        json_list(session.lineage),
        session.parent_id,
        session.delegation_id,
        session.status.value,
        micros(session.created_at),
        micros(session.updated_at),
        micros(session.expires_at),
        micros_or_none(session.ended_at),
        *sealed_params(session.sealed),
        session.thoughts,
        session.state_version,
    )


def _session_of(row: Row) -> Session:
    return Session(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        row[5],
        _ROLES[row[6]],
        row[7],
        tuple(AgentId(agent) for agent in texts_of(row[8])),
        row[9],
        row[10],
        SessionStatus(row[11]),
        moment(row[12]),
        moment(row[13]),
        moment(row[14]),
        moment_or_none(row[15]),
        sealed_of(row[16], row[17], row[18], row[19]),
        row[20],
        row[21],
    )


def _delegation_params(delegation: Delegation) -> tuple[Any, ...]:
    return (
        delegation.id,
        delegation.project_id,
        delegation.parent_session_id,
        delegation.child_session_id,
        delegation.parent_agent_id,
        delegation.child_agent_id,
        delegation.depth,
        delegation.status.value,
        micros(delegation.created_at),
        micros(delegation.expires_at),
        micros_or_none(delegation.accepted_at),
        micros_or_none(delegation.ended_at),
        json_list(delegation.result_ids),
    )


def _delegation_of(row: Row) -> Delegation:
    return Delegation(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        row[5],
        row[6],
        DelegationStatus(row[7]),
        moment(row[8]),
        moment(row[9]),
        moment_or_none(row[10]),
        moment_or_none(row[11]),
        tuple(RecordId(result) for result in texts_of(row[12])),
    )


def _grant_params(grant: Grant) -> tuple[Any, ...]:
    return (
        grant.id,
        grant.project_id,
        grant.record_id,
        grant.grantee_id,
        grant.granted_by,
        micros(grant.created_at),
        micros_or_none(grant.expires_at),
        micros_or_none(grant.revoked_at),
        grant.delegation_id,
        grant.rests_on,
        int(grant.assignment),
    )


def _grant_of(row: Row) -> Grant:
    return Grant(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        moment(row[5]),
        moment_or_none(row[6]),
        moment_or_none(row[7]),
        row[8],
        row[9],
        bool(row[10]),
    )
