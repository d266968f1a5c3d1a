"""The directory of agents and their history in plain dicts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from contextdna.backends.in_memory.sheets import Sheets, in_force
from contextdna.values.agent import Agent, AgentCount, AgentEntry, AgentFilter, AgentHistoryFilter, AgentStatus
from contextdna.values.ids import AgentEntryId, AgentId, ProjectId, is_below
from contextdna.values.principal import Reader, Role
from contextdna.values.session import Session, SessionStatus


class InMemoryAgents:
    """``AgentTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets

    async def get(self, project_id: ProjectId, agent_id: AgentId) -> Agent | None:
        """Fetch an agent."""
        return self._sheets.agents.rows.get((project_id, agent_id))

    async def put(self, agent: Agent) -> None:
        """Add an agent, or replace all that is known of it but when it was first seen."""
        rows = self._sheets.agents.change()
        known = rows.get((agent.project_id, agent.id), agent)
        rows[agent.project_id, agent.id] = replace(agent, first_seen_at=known.first_seen_at)

    async def is_retired(self, project_id: ProjectId, agent_id: AgentId) -> bool:
        """Tell whether an agent is there and retired."""
        known = self._sheets.agents.rows.get((project_id, agent_id))
        return known is not None and known.status is AgentStatus.RETIRED

    async def page(self, project_id: ProjectId, where: AgentFilter, *, after: AgentId, limit: int) -> list[Agent]:
        """List agents by id, from behind one."""
        agents = [agent for agent in self._of(project_id) if agent.id > after and _meant(agent, where)]
        return sorted(agents, key=lambda agent: agent.id)[:limit]

    async def counts(self, project_id: ProjectId) -> list[AgentCount]:
        """Count the agents by swarm, team and status."""
        counted = Counter((agent.swarm_id, agent.team_id, agent.status) for agent in self._of(project_id))
        return [AgentCount(*group, agents) for group, agents in sorted(counted.items())]

    async def in_session(self, project_id: ProjectId, agent_ids: Sequence[AgentId], *, now: datetime) -> set[AgentId]:
        """Tell which of some agents have an active session."""
        return {agent_id for agent_id in agent_ids if self._is_in_session(project_id, agent_id, now)}

    async def gone(self, project_id: ProjectId, agent_ids: Sequence[AgentId], *, now: datetime) -> set[AgentId]:
        """Tell which of some agents are retired, or were not seen since the last of their sessions was over."""
        agents = [agent for agent in self._of(project_id) if agent.id in agent_ids]
        return {a.id for a in agents if a.status is AgentStatus.RETIRED or self._has_left(a, now)}

    async def at_work(
        self, project_id: ProjectId, *, team_id: str | None, swarm_id: str | None, seen_since: datetime, now: datetime
    ) -> list[AgentId]:
        """List the agents that have an active session, or were seen lately and are not gone, by id."""
        return sorted(
            agent.id
            for agent in self._of(project_id)
            if agent.status is not AgentStatus.RETIRED
            and team_id in (None, agent.team_id)
            and swarm_id in (None, agent.swarm_id)
            and (self._is_in_session(project_id, agent.id, now) or self._works_by_itself(agent, seen_since, now))
        )

    def _works_by_itself(self, agent: Agent, seen_since: datetime, now: datetime) -> bool:
        """Tell whether an agent without a session was seen lately, and not only as the host of others."""
        if agent.last_seen_at <= seen_since or self._has_left(agent, now):
            return False
        alive = agent.heartbeat_at is not None and agent.heartbeat_at > seen_since
        return alive or not self._is_host(agent, now)

    def _is_host(self, agent: Agent, now: datetime) -> bool:
        begun = [s for s in self._sheets.sessions.rows.values() if s.project_id == agent.project_id]
        return any(
            session.principal_id == agent.id != session.agent_id and session.standing(now) is SessionStatus.ACTIVE
            for session in begun
        )

    def _is_in_session(self, project_id: ProjectId, agent_id: AgentId, now: datetime) -> bool:
        of_agent = self._sessions_of(project_id, agent_id)
        return any(session.standing(now) is SessionStatus.ACTIVE for session in of_agent)

    def _has_left(self, agent: Agent, now: datetime) -> bool:
        sessions = self._sessions_of(agent.project_id, agent.id)
        if not sessions or self._is_in_session(agent.project_id, agent.id, now):
            return False
        return agent.last_seen_at <= max(session.ended_at or session.expires_at for session in sessions)

    def _sessions_of(self, project_id: ProjectId, agent_id: AgentId) -> list[Session]:
        return [s for s in self._sheets.sessions.rows.values() if (s.project_id, s.agent_id) == (project_id, agent_id)]

    async def waiting_for(self, project_id: ProjectId, agent_id: AgentId, *, now: datetime) -> set[AgentId]:
        """Tell who gave an agent grants in force, or sent it by name signals in force that it has not acknowledged."""
        grants = [grant for grant in self._sheets.grants.rows.values() if grant.grantee_id == agent_id]
        gave = {grant.granted_by for grant in grants if grant.project_id == project_id and in_force(grant, now)}
        return gave | {
            signal.sender_id
            for signal in self._sheets.signals.rows.values()
            if signal.project_id == project_id
            and agent_id in signal.audience
            and signal.withdrawn_at is None
            and signal.expires_at > now
            and (project_id, signal.id, agent_id) not in self._sheets.acknowledgements.rows
        }

    async def append(self, entries: Sequence[AgentEntry]) -> None:
        """Add entries to the history.

        Raises:
            Conflict: ``already_exists``.
        """
        for entry in entries:
            seq = len(self._sheets.agent_history.rows) + 1
            self._sheets.agent_history.add((entry.project_id, entry.id), replace(entry, seq=seq))

    async def place(self, project_id: ProjectId, entry_id: AgentEntryId) -> int | None:
        """Give an entry's place in the order of commit."""
        entry = self._sheets.agent_history.rows.get((project_id, entry_id))
        return entry.seq if entry else None

    async def history(
        self, reader: Reader, where: AgentHistoryFilter, *, place: int | None, newest_first: bool, limit: int
    ) -> list[AgentEntry]:
        """Read the entries that the reader may know, in the order of commit or from its end."""
        entries = [entry for entry in self._sheets.agent_history.rows.values() if _chosen(entry, where)]
        known = [
            entry
            for entry in (reversed(entries) if newest_first else entries)
            if entry.project_id == reader.project_id and self._knows(reader, entry.agent_id)
        ]
        if place is not None:
            known = [entry for entry in known if (entry.seq < place if newest_first else entry.seq > place)]
        return known[:limit]

    def _of(self, project_id: ProjectId) -> list[Agent]:
        return [agent for agent in self._sheets.agents.rows.values() if agent.project_id == project_id]

    def _knows(self, reader: Reader, agent_id: AgentId) -> bool:
        if reader.role is Role.SYSTEM or agent_id == reader.agent_id or is_below(agent_id, reader.agent_id):
            return True
        agent = self._sheets.agents.rows.get((reader.project_id, agent_id))
        if reader.role is not Role.COORDINATOR or agent is None:
            return False
        return agent.role is not Role.SYSTEM and reader.swarm_id in ("", agent.swarm_id)


def _meant(agent: Agent, where: AgentFilter) -> bool:
    return (
        where.agent_type in ("", agent.agent_type)
        and (not where.capability or where.capability in agent.capabilities)
        and where.status in (None, agent.status)
        and where.team_id in (None, agent.team_id)
        and where.swarm_id in (None, agent.swarm_id)
    )


def _chosen(entry: AgentEntry, where: AgentHistoryFilter) -> bool:
    return (
        where.agent_id in ("", entry.agent_id)
        and (not where.what or entry.what in where.what)
        and (where.since is None or entry.at >= where.since)
        and (where.until is None or entry.at < where.until)
    )
