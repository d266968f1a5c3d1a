"""Agents as a caller may know and change them: the directory, registering and retiring, history."""

from contextdna.domain import agent_history, agents
from contextdna.domain.access import Action, Caller
from contextdna.domain.endings import Ended
from contextdna.hub.door import Door
from contextdna.values.agent import Agent, AgentCard, AgentFilter, AgentHistoryFilter, AgentHistoryPage, Swarm
from contextdna.values.ids import AgentEntryId, AgentId


class Agents:
    """The agent part of a workspace. Where an agent is named, an empty id means the caller's own."""

    def __init__(self, door: Door, caller: Caller) -> None:
        self._door = door
        self._caller = caller

    async def register(self, request: agents.RegisterRequest) -> agents.RegisterReport:
        """Add an agent to the directory, change what it says, or reinstate one that was retired.

        Raises:
            AccessDenied: ``agent_not_yours`` or ``circle_not_yours``.
        """
        return await self._door.write(self._caller, Action.REGISTER_AGENT, lambda op: agents.register(op, request))

    async def heartbeat(self, agent_id: AgentId = AgentId("")) -> Agent:
        """Keep that an agent is alive; no event tells of it.

        Raises:
            NotFound: ``agent_not_found``.
            AccessDenied: ``agent_not_yours`` or ``agent_retired``.
        """
        return await self._door.write(self._caller, Action.BEAT_AGENT, lambda op: agents.heartbeat(op, agent_id))

    async def set_confidence(self, confidence: float, agent_id: AgentId = AgentId("")) -> Agent:
        """Keep how sure an agent is of its work, 0 to 1.

        Raises:
            NotFound: ``agent_not_found``.
            AccessDenied: ``agent_not_yours`` or ``agent_retired``.
        """
        return await self._door.write(
            self._caller, Action.RATE_AGENT, lambda op: agents.set_confidence(op, agent_id, confidence)
        )

    async def retire(self, agent_id: AgentId = AgentId("")) -> agents.RetireReport:
        """Take an agent out of service: its sessions and all below end, until it is registered again.

        Raises:
            NotFound: ``agent_not_found``.
            AccessDenied: ``agent_not_yours``, ``agent_retired`` or ``operator_not_retired``.
        """
        before = Ended()
        while True:
            report = await self._door.write(
                self._caller,
                Action.RETIRE_AGENT,
                lambda op, before=before: agents.retire(op, agent_id, before),  # type: ignore[misc]
            )
            if report.finished:
                return report
            before = Ended(report.sessions_ended, report.grants_ended)

    async def get(self, agent_id: AgentId = AgentId("")) -> AgentCard:
        """Show an agent; all that is known of it only to itself, those above it, its coordinators and role system.

        Raises:
            NotFound: ``agent_not_found``.
        """
        return await self._door.read(self._caller, Action.READ_AGENTS, lambda op: agents.card(op, agent_id))

    async def list(
        self, where: AgentFilter = AgentFilter(), *, after: AgentId = AgentId(""), limit: int = 100
    ) -> tuple[AgentCard, ...]:
        """Show the agents of the project by id, from behind one.

        Raises:
            LimitExceeded: ``limit_out_of_range``.
        """
        return await self._door.read(
            self._caller, Action.READ_AGENTS, lambda op: agents.page(op, where, after=after, limit=limit)
        )

    async def swarms(self) -> tuple[Swarm, ...]:
        """Show the swarms and teams of the project with their agents counted by status."""
        return await self._door.read(self._caller, Action.READ_AGENTS, agents.swarms)

    async def history(
        self,
        where: AgentHistoryFilter = AgentHistoryFilter(),
        *,
        cursor: AgentEntryId = AgentEntryId(""),
        newest_first: bool = True,
        limit: int = 50,
    ) -> AgentHistoryPage:
        """Read what happened to an agent, or to all agents whose history the caller may know.

        Args:
            where: Which entries.
            cursor: Go on behind this entry, in the direction of the reading; empty starts at its beginning.
            newest_first: Whether to read from the end.
            limit: How many at most.

        Raises:
            NotFound: ``agent_not_found``.
            AccessDenied: ``agent_not_yours``.
            InvalidInput: ``cursor_invalid`` or ``period_invalid``.
        """
        return await self._door.read(
            self._caller,
            Action.READ_AGENT_HISTORY,
            lambda op: agent_history.read(op, where, cursor=cursor, newest_first=newest_first, limit=limit),
        )
