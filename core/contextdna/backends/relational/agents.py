"""The directory of agents and their history."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from contextdna.backends.relational.columns import (
    json_list,
    json_list_or_none,
    micros,
    micros_or_none,
    moment,
    moment_or_none,
    texts_of,
)
from contextdna.backends.relational.statements import Executor, Row
from contextdna.values.agent import (
    Agent,
    AgentChange,
    AgentCount,
    AgentEntry,
    AgentFilter,
    AgentHistoryFilter,
    AgentStatus,
)
from contextdna.values.ids import AgentEntryId, AgentId, ProjectId
from contextdna.values.principal import Reader, Role

_ROLES: Final = {role.value: role for role in Role}
_STATUSES: Final = {status.value: status for status in AgentStatus}
_AFTER_ALL: Final = 2**63 - 1


class Agents:
    """Fulfils ``ports.agents.AgentTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows
        self._run = executor.run
        self._run_many = executor.run_many

    async def get(self, project_id: ProjectId, agent_id: AgentId) -> Agent | None:
        """Fetch an agent."""
        rows = await self._rows("agent_get", (project_id, agent_id))
        return agent_of(rows[0]) if rows else None

    async def put(self, agent: Agent) -> None:
        """Add an agent, or replace all that is known of it but when it was first seen."""
        await self._run("agent_put", _agent_params(agent))

    async def is_retired(self, project_id: ProjectId, agent_id: AgentId) -> bool:
        """Tell whether an agent is there and retired."""
        return bool(await self._rows("agent_is_retired", (project_id, agent_id)))

    async def page(self, project_id: ProjectId, where: AgentFilter, *, after: AgentId, limit: int) -> list[Agent]:
        """List agents by id, from behind one."""
        status = where.status.value if where.status else ""
        params = (project_id, after, limit, where.agent_type, where.capability, status, where.team_id, where.swarm_id)
        return [agent_of(row) for row in await self._rows("agents_page", params)]

    async def counts(self, project_id: ProjectId) -> list[AgentCount]:
        """Count the agents by swarm, team and status."""
        rows = await self._rows("agents_counts", (project_id,))
        return [AgentCount(row[0], row[1], _STATUSES[row[2]], row[3]) for row in rows]

    async def in_session(self, project_id: ProjectId, agent_ids: Sequence[AgentId], *, now: datetime) -> set[AgentId]:
        """Tell which of some agents have an active session."""
        rows = await self._rows("agents_in_session", (project_id, json_list(agent_ids), micros(now)))
        return {row[0] for row in rows}

    async def gone(self, project_id: ProjectId, agent_ids: Sequence[AgentId], *, now: datetime) -> set[AgentId]:
        """Tell which of some agents are retired, or were not seen since the last of their sessions was over."""
        rows = await self._rows("agents_gone", (project_id, json_list(agent_ids), micros(now)))
        return {row[0] for row in rows}

    async def at_work(
        self, project_id: ProjectId, *, team_id: str | None, swarm_id: str | None, seen_since: datetime, now: datetime
    ) -> list[AgentId]:
        """List the agents that have an active session, or were seen lately and are not gone, by id."""
        params = (project_id, micros(seen_since), micros(now), team_id, swarm_id)
        return [row[0] for row in await self._rows("agents_at_work", params)]

    async def waiting_for(self, project_id: ProjectId, agent_id: AgentId, *, now: datetime) -> set[AgentId]:
        """Tell who gave an agent grants in force, or sent it by name signals in force that it has not acknowledged."""
        return {row[0] for row in await self._rows("agent_waiting_for", (project_id, agent_id, micros(now)))}

    async def append(self, entries: Sequence[AgentEntry]) -> None:
        """Add entries to the history."""
        await self._run_many("agent_entry_append", [_entry_params(entry) for entry in entries])

    async def place(self, project_id: ProjectId, entry_id: AgentEntryId) -> int | None:
        """Give an entry's place in the order of commit."""
        rows = await self._rows("agent_entry_place", (project_id, entry_id))
        return int(rows[0][0]) if rows else None

    async def history(
        self, reader: Reader, where: AgentHistoryFilter, *, place: int | None, newest_first: bool, limit: int
    ) -> list[AgentEntry]:
        """Read the entries that the reader may know, in the order of commit or from its end."""
        start = place if place is not None else _AFTER_ALL if newest_first else 0
        params: tuple[Any, ...] = (
            reader.project_id,
            reader.agent_id,
            reader.swarm_id,
            int(reader.role is Role.SYSTEM),
            int(reader.role is Role.COORDINATOR),
            json_list_or_none(where.what),
            micros_or_none(where.since),
            micros_or_none(where.until),
            start,
            limit,
        )
        direction = "backwards" if newest_first else "forwards"
        if where.agent_id:
            name, params = f"agent_history_of_one_{direction}", (*params, where.agent_id)
        else:
            name = f"agent_history_{direction}"
        return [_entry_of(row) for row in await self._rows(name, params)]


def agent_of(row: Row) -> Agent:
    """Make an agent of a row of the ``agent`` fragment."""
    return Agent(
        id=row[1],
        project_id=row[0],
        team_id=row[2],
        swarm_id=row[3],
        role=_ROLES[row[4]],
        first_seen_at=moment(row[5]),
        last_seen_at=moment(row[6]),
        agent_type=row[7],
        capabilities=texts_of(row[8]),
        status=_STATUSES[row[9]],
        confidence=row[10],
        registered_by=row[11],
        heartbeat_at=moment_or_none(row[12]),
        retired_at=moment_or_none(row[13]),
        placed=bool(row[14]),
        credential_role=_ROLES.get(row[15]),
    )


def _agent_params(agent: Agent) -> tuple[Any, ...]:
    return (
        agent.project_id,
        agent.id,
        agent.team_id,
        agent.swarm_id,
        agent.role.value,
        micros(agent.first_seen_at),
        micros(agent.last_seen_at),
        agent.agent_type,
        json_list(agent.capabilities),
        agent.status.value,
        agent.confidence,
        agent.registered_by,
        micros_or_none(agent.heartbeat_at),
        micros_or_none(agent.retired_at),
        int(agent.placed),
        agent.credential_role.value if agent.credential_role else "",
    )


def _entry_params(entry: AgentEntry) -> tuple[Any, ...]:
    return (
        entry.project_id,
        entry.id,
        entry.agent_id,
        micros(entry.at),
        entry.what.value,
        entry.by_agent_id,
        entry.session_id,
        entry.confidence,
        entry.details,
    )


def _entry_of(row: Row) -> AgentEntry:
    return AgentEntry(
        row[0],
        row[1],
        row[2],
        moment(row[3]),
        AgentChange(row[4]),
        row[5],
        session_id=row[6],
        confidence=row[7],
        details=row[8],
        seq=row[9],
    )
