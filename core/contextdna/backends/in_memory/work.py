"""Projects, agents, sessions, delegations and grants in plain dicts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from contextdna.backends.in_memory.sheets import Sheets, in_force
from contextdna.values.agent import Agent
from contextdna.values.grant import Grant
from contextdna.values.ids import AgentId, DelegationId, GrantId, ProjectId, RecordId, SessionId
from contextdna.values.principal import Role
from contextdna.values.project import Project
from contextdna.values.session import Delegation, DelegationStatus, Direction, Session, SessionFilter, SessionStatus


class InMemoryProjects:
    """``ProjectTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets

    async def add(self, project: Project) -> bool:
        """Add a project; False when it is there already."""
        rows = self._sheets.projects.change()
        return rows.setdefault(project.id, project) is project

    async def get(self, project_id: ProjectId) -> Project | None:
        """Fetch a project."""
        return self._sheets.projects.rows.get(project_id)

    async def all(self) -> list[Project]:
        """List all projects by id."""
        return sorted(self._sheets.projects.rows.values(), key=lambda project: project.id)

    async def see_agent(self, agent: Agent) -> None:
        """Add an agent, or update where and when it was last seen; of its roles the highest is kept."""
        rows = self._sheets.agents.change()
        key = (agent.project_id, agent.id)
        known = rows.get(key) or Agent(
            agent.id, agent.project_id, "", "", agent.role, agent.first_seen_at, agent.last_seen_at
        )
        role = max(known.role, agent.role, key=lambda role: role.rank)
        rows[key] = replace(
            known,
            team_id=agent.team_id,
            swarm_id=agent.swarm_id,
            role=role,
            credential_role=agent.credential_role or known.credential_role,
            last_seen_at=agent.last_seen_at,
        )

    async def touch_agent(self, project_id: ProjectId, agent_id: AgentId, *, at: datetime) -> None:
        """Note that an agent was at work; one that is not known is left so."""
        rows = self._sheets.agents.change()
        known = rows.get((project_id, agent_id))
        if known is not None and known.last_seen_at < at:
            rows[project_id, agent_id] = replace(known, last_seen_at=at)

    async def agents(self, project_id: ProjectId, agent_ids: Sequence[AgentId] | None = None) -> list[Agent]:
        """List agents of a project by id, all or the named ones."""
        agents = [agent for agent in self._sheets.agents.rows.values() if agent.project_id == project_id]
        named = [agent for agent in agents if agent_ids is None or agent.id in agent_ids]
        return sorted(named, key=lambda agent: agent.id)


class InMemorySessions:
    """``SessionTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets

    async def add(self, session: Session) -> None:
        """Add a session.

        Raises:
            Conflict: ``already_exists``.
        """
        self._sheets.sessions.add(session.id, session)

    async def get(self, session_id: SessionId) -> Session | None:
        """Fetch a session by its public id."""
        return self._sheets.sessions.rows.get(session_id)

    async def replace(self, session: Session) -> None:
        """Store a session's new state; one that is not there is left so."""
        rows = self._sheets.sessions.change()
        if session.id in rows:
            rows[session.id] = session

    async def add_delegation(self, delegation: Delegation) -> None:
        """Add a delegation.

        Raises:
            Conflict: ``already_exists``.
        """
        self._sheets.delegations.add(delegation.id, delegation)

    async def get_delegation(self, delegation_id: DelegationId) -> Delegation | None:
        """Fetch a delegation."""
        return self._sheets.delegations.rows.get(delegation_id)

    async def replace_delegation(self, delegation: Delegation) -> None:
        """Store a delegation's new state; one that is not there is left so."""
        rows = self._sheets.delegations.change()
        if delegation.id in rows:
            rows[delegation.id] = delegation

    async def with_agent(self, project_id: ProjectId, agent_id: AgentId, *, limit: int) -> list[Session]:
        """List active sessions with an agent in their lineage, by id."""
        rows = [row for row in self._sheets.sessions.rows.values() if row.project_id == project_id]
        active = [row for row in rows if row.status is SessionStatus.ACTIVE and agent_id in row.lineage]
        return sorted(active, key=lambda row: row.id)[:limit]

    async def below(self, session_id: SessionId) -> list[Session]:
        """List the active sessions that were begun in a session, by id."""
        begun = [row for row in self._sheets.sessions.rows.values() if session_id and row.parent_id == session_id]
        return sorted((row for row in begun if row.status is SessionStatus.ACTIVE), key=lambda row: row.id)

    async def count_around(self, session_id: SessionId, *, most: int) -> int:
        """Count the outermost session around one, and the active ones nested in that."""
        rows = self._sheets.sessions.rows
        outermost = rows.get(session_id)
        while outermost is not None and outermost.parent_id:
            outermost = rows.get(outermost.parent_id)
        begun: dict[SessionId, list[SessionId]] = {}
        for session in rows.values():
            if session.status is SessionStatus.ACTIVE:
                begun.setdefault(session.parent_id, []).append(session.id)
        waiting, counted = [outermost.id] if outermost else [], 0
        while waiting and counted < most:
            counted += 1
            waiting += begun.get(waiting.pop(), [])
        return counted

    async def find(
        self, project_id: ProjectId, where: SessionFilter, *, now: datetime, before: SessionId, limit: int
    ) -> list[Session]:
        """List sessions by id, the newest first; one past its end counts as expired."""
        found = [
            row
            for row in self._sheets.sessions.rows.values()
            if row.project_id == project_id
            and _is_shown(row, where)
            and where.agent_id in ("", row.agent_id)
            and where.status in (None, row.standing(now))
            and (not before or row.id < before)
        ]
        return sorted(found, key=lambda row: row.id, reverse=True)[:limit]

    async def overdue(self, project_id: ProjectId, *, now: datetime, limit: int) -> list[Session]:
        """List active sessions past their end, those that ended first before the others."""
        found = [
            row
            for row in self._sheets.sessions.rows.values()
            if row.project_id == project_id and row.status is SessionStatus.ACTIVE and row.expires_at <= now
        ]
        return sorted(found, key=lambda row: (row.expires_at, row.id))[:limit]

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
        found = [
            row
            for row in self._sheets.delegations.rows.values()
            if row.project_id == project_id
            and _concerns(row, agent_id, direction, lineage=self._lineage_of(row))
            and status in (None, row.standing(now))
            and (not before or row.id < before)
        ]
        return sorted(found, key=lambda row: row.id, reverse=True)[:limit]

    def _lineage_of(self, delegation: Delegation) -> tuple[AgentId, ...]:
        child = self._sheets.sessions.rows.get(delegation.child_session_id)
        return child.lineage if child else ()


class InMemoryGrants:
    """``GrantTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets

    async def add(self, grants: Sequence[Grant]) -> None:
        """Add grants.

        Raises:
            Conflict: ``already_exists``.
        """
        for grant in grants:
            self._sheets.grants.add((grant.project_id, grant.id), grant)

    async def active_for(
        self, project_id: ProjectId, record_ids: Sequence[RecordId], grantee_id: AgentId, *, now: datetime
    ) -> list[Grant]:
        """List grants in force on records for one agent, by id."""
        return [
            grant
            for grant in self._in_force(project_id, now)
            if grant.record_id in record_ids and grant.grantee_id == grantee_id
        ]

    async def given(
        self, project_id: ProjectId, *, granted_by: AgentId, grantee_ids: Sequence[AgentId], now: datetime
    ) -> list[Grant]:
        """List grants in force that one agent gave to others, by id."""
        return [
            grant
            for grant in self._in_force(project_id, now)
            if grant.granted_by == granted_by and grant.grantee_id in grantee_ids
        ]

    async def on_records(self, project_id: ProjectId, record_ids: Sequence[RecordId], *, now: datetime) -> list[Grant]:
        """List grants in force on records, whoever gave them, by id."""
        return [grant for grant in self._in_force(project_id, now) if grant.record_id in record_ids]

    def _in_force(self, project_id: ProjectId, now: datetime) -> list[Grant]:
        grants = [grant for grant in self._sheets.grants.rows.values() if grant.project_id == project_id]
        return sorted((grant for grant in grants if in_force(grant, now)), key=lambda grant: grant.id)

    async def revoke(self, project_id: ProjectId, grant_ids: Sequence[GrantId], *, at: datetime) -> int:
        """End grants now, and those that rest on them; gives how many were in force."""
        return self._revoke(project_id, at, lambda grant: grant.id in grant_ids)

    async def revoke_delegation(self, project_id: ProjectId, delegation_id: DelegationId, *, at: datetime) -> int:
        """End every grant of a delegation now, and those that rest on them; gives how many were in force."""
        return self._revoke(project_id, at, lambda grant: grant.delegation_id == delegation_id != "")

    def _revoke(self, project_id: ProjectId, at: datetime, chosen: Callable[[Grant], bool]) -> int:
        rows = self._sheets.grants.change()
        mine = [grant for grant in rows.values() if grant.project_id == project_id]
        reached = {grant.id for grant in mine if chosen(grant)}
        while more := {grant.id for grant in mine if grant.rests_on in reached} - reached:
            reached |= more
        ended = [grant for grant in self._in_force(project_id, at) if grant.id in reached]
        for grant in ended:
            rows[project_id, grant.id] = replace(grant, revoked_at=at)
        return len(ended)

    async def delete_ended(self, project_id: ProjectId, *, before: datetime, limit: int) -> int:
        """Remove grants that were over before a time; gives how many."""
        rows = self._sheets.grants.change()
        mine = sorted((grant for grant in rows.values() if grant.project_id == project_id), key=lambda row: row.id)
        over = [
            grant.id
            for grant in mine
            if any(end is not None and end < before for end in (grant.revoked_at, grant.expires_at))
        ]
        for grant_id in over[:limit]:
            del rows[project_id, grant_id]
        return len(over[:limit])


def _is_shown(session: Session, where: SessionFilter) -> bool:
    if not where.seen_by or where.seen_by in session.lineage:
        return True
    of_swarm = where.of_swarm != "" and session.swarm_id == where.of_swarm
    return of_swarm and session.role is not Role.SYSTEM


def _concerns(delegation: Delegation, agent_id: AgentId, direction: Direction, *, lineage: tuple[AgentId, ...]) -> bool:
    parent = delegation.parent_agent_id
    given = parent == agent_id or parent.startswith(f"{agent_id}/") or agent_id in lineage[:-1]
    received = delegation.child_agent_id == agent_id
    if not agent_id:
        return True
    return (given and direction is not Direction.RECEIVED) or (received and direction is not Direction.GIVEN)
