"""Port: the agents of a project and their history."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from contextdna.values.agent import Agent, AgentCount, AgentEntry, AgentFilter, AgentHistoryFilter
from contextdna.values.ids import AgentEntryId, AgentId, ProjectId
from contextdna.values.principal import Reader


class AgentTable(Protocol):
    """The directory of agents, and an append-only history of what happened to them."""

    async def get(self, project_id: ProjectId, agent_id: AgentId) -> Agent | None:
        """Fetch an agent."""
        ...

    async def put(self, agent: Agent) -> None:
        """Add an agent, or replace all that is known of it but when it was first seen."""
        ...

    async def is_retired(self, project_id: ProjectId, agent_id: AgentId) -> bool:
        """Tell whether an agent is there and retired; asked with every call of a principal, hence apart."""
        ...

    async def page(self, project_id: ProjectId, where: AgentFilter, *, after: AgentId, limit: int) -> list[Agent]:
        """List agents by id, from behind one (or from the start, with an empty id)."""
        ...

    async def counts(self, project_id: ProjectId) -> list[AgentCount]:
        """Count the agents by swarm, team and status, in this order."""
        ...

    async def in_session(self, project_id: ProjectId, agent_ids: Sequence[AgentId], *, now: datetime) -> set[AgentId]:
        """Tell which of some agents have an active session."""
        ...

    async def gone(self, project_id: ProjectId, agent_ids: Sequence[AgentId], *, now: datetime) -> set[AgentId]:
        """Tell which of some agents are retired, or were not seen since the last of their sessions was over."""
        ...

    async def at_work(
        self, project_id: ProjectId, *, team_id: str | None, swarm_id: str | None, seen_since: datetime, now: datetime
    ) -> list[AgentId]:
        """List the agents that have an active session, or were seen lately and are not gone, by id.

        One without a session that has begun sessions which others work in is a host: it counts only where a heartbeat
        of its own came lately.

        Args:
            project_id: The project.
            team_id: Only those of this team.
            swarm_id: Only those of this swarm.
            seen_since: Lately is after this time.
            now: The time.
        """
        ...

    async def waiting_for(self, project_id: ProjectId, agent_id: AgentId, *, now: datetime) -> set[AgentId]:
        """Tell who gave an agent grants in force, or sent it by name signals in force that it has not acknowledged."""
        ...

    async def append(self, entries: Sequence[AgentEntry]) -> None:
        """Add entries to the history.

        Raises:
            Conflict: ``already_exists``: an id is taken.
        """
        ...

    async def place(self, project_id: ProjectId, entry_id: AgentEntryId) -> int | None:
        """Give an entry's place in the order of commit; None when there is no such entry."""
        ...

    async def history(
        self, reader: Reader, where: AgentHistoryFilter, *, place: int | None, newest_first: bool, limit: int
    ) -> list[AgentEntry]:
        """Read the entries of agents whose history the reader may know, in the order of commit or from its end.

        Args:
            reader: Who asks: itself, agents below its path, a coordinator's own swarm (all agents, when it has none)
                but no agent of role system; the role system reads all.
            where: Which entries.
            place: Go on behind this place, in the direction of the reading.
            newest_first: Whether to read from the end.
            limit: How many at most.
        """
        ...
