"""Port: signals and their acknowledgements."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from contextdna.values.ids import AgentId, ProjectId, SignalId
from contextdna.values.signal import Acknowledgement, Presence, Signal


class SignalTable(Protocol):
    """Signals by their audience, with one acknowledgement of each agent at most."""

    async def add(self, signal: Signal) -> None:
        """Add a signal."""
        ...

    async def get(self, project_id: ProjectId, signal_id: SignalId) -> Signal | None:
        """Fetch a signal, whoever it is for."""
        ...

    async def pending(
        self,
        project_id: ProjectId,
        addresses: Sequence[str],
        *,
        agent_id: AgentId,
        now: datetime,
        name: str = "",
        senders: Sequence[AgentId] = (),
        without: Sequence[SignalId] = (),
        limit: int,
    ) -> list[Signal]:
        """List what waits for an agent, oldest first: in force, of another sender, not acknowledged by it.

        Args:
            project_id: The project.
            addresses: What of an audience means the agent.
            agent_id: The agent.
            now: The time.
            name: Only signals of this name; any when empty.
            senders: Only of these senders; of any when empty.
            without: Leave these out.
            limit: How many at most.
        """
        ...

    async def waiting(self, project_id: ProjectId, sender_id: AgentId, *, now: datetime, limit: int) -> int:
        """Count the signals of a sender that are in force and wait for somebody, up to a limit.

        A circle's wait until they expire; those to agents by name until each has acknowledged.
        """
        ...

    async def withdraw(self, project_id: ProjectId, signal_id: SignalId, *, at: datetime) -> bool:
        """Take a signal back; False when it was before, or is not there."""
        ...

    async def acknowledge(self, acknowledgement: Acknowledgement) -> bool:
        """Keep an acknowledgement; False, and nothing changed, when the agent has given one before."""
        ...

    async def acknowledgements(self, project_id: ProjectId, signal_id: SignalId) -> list[Acknowledgement]:
        """List the acknowledgements of a signal, the first one first."""
        ...

    async def delete_expired(self, project_id: ProjectId, *, now: datetime, limit: int) -> int:
        """Remove signals that have expired, with their acknowledgements; gives how many signals went."""
        ...

    async def presence(self, project_id: ProjectId, agent_ids: Sequence[AgentId], *, now: datetime) -> Presence | None:
        """Tell when any of some agents was last seen and what of sessions they have; None where none is known."""
        ...
