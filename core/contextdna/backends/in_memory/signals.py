"""Signals and their acknowledgements in plain dicts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from contextdna.backends.in_memory.sheets import Sheets
from contextdna.values.ids import AgentId, ProjectId, SignalId
from contextdna.values.session import SessionStatus
from contextdna.values.signal import Acknowledgement, Presence, Signal


class InMemorySignals:
    """``SignalTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets

    async def add(self, signal: Signal) -> None:
        """Add a signal.

        Raises:
            Conflict: ``already_exists``.
        """
        self._sheets.signals.add((signal.project_id, signal.id), signal)

    async def get(self, project_id: ProjectId, signal_id: SignalId) -> Signal | None:
        """Fetch a signal, whoever it is for."""
        return self._sheets.signals.rows.get((project_id, signal_id))

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
        """List what waits for an agent, oldest first."""
        found = [
            signal
            for signal in self._sheets.signals.rows.values()
            if signal.project_id == project_id
            and not set(addresses).isdisjoint(signal.audience)
            and signal.sender_id != agent_id
            and signal.expires_at > now
            and signal.withdrawn_at is None
            and name in ("", signal.name)
            and (not senders or signal.sender_id in senders)
            and signal.id not in without
            and (project_id, signal.id, agent_id) not in self._sheets.acknowledgements.rows
        ]
        return sorted(found, key=lambda signal: (signal.created_at, signal.id))[:limit]

    async def waiting(self, project_id: ProjectId, sender_id: AgentId, *, now: datetime, limit: int) -> int:
        """Count the signals of a sender that are in force and wait for somebody, up to a limit."""
        given = self._sheets.acknowledgements.rows
        own = [
            signal
            for signal in self._sheets.signals.rows.values()
            if (signal.project_id, signal.sender_id) == (project_id, sender_id)
            and signal.expires_at > now
            and signal.withdrawn_at is None
            and any((project_id, signal.id, AgentId(target)) not in given for target in signal.audience)
        ]
        return min(len(own), limit)

    async def withdraw(self, project_id: ProjectId, signal_id: SignalId, *, at: datetime) -> bool:
        """Take a signal back; False when it was before, or is not there."""
        rows = self._sheets.signals.change()
        signal = rows.get((project_id, signal_id))
        if signal is None or signal.withdrawn_at is not None:
            return False
        rows[project_id, signal_id] = replace(signal, withdrawn_at=at)
        return True

    async def acknowledge(self, acknowledgement: Acknowledgement) -> bool:
        """Keep an acknowledgement; False when the agent has given one before."""
        rows = self._sheets.acknowledgements.change()
        key = (acknowledgement.project_id, acknowledgement.signal_id, acknowledgement.agent_id)
        return rows.setdefault(key, acknowledgement) is acknowledgement

    async def acknowledgements(self, project_id: ProjectId, signal_id: SignalId) -> list[Acknowledgement]:
        """List the acknowledgements of a signal, the first one first."""
        rows = self._sheets.acknowledgements.rows.values()
        given = [row for row in rows if (row.project_id, row.signal_id) == (project_id, signal_id)]
        return sorted(given, key=lambda row: (row.at, row.agent_id))

    async def delete_expired(self, project_id: ProjectId, *, now: datetime, limit: int) -> int:
        """Remove signals that have expired, with their acknowledgements."""
        signals, given = self._sheets.signals.change(), self._sheets.acknowledgements.change()
        over = [signal for key, signal in signals.items() if key[0] == project_id and signal.expires_at <= now]
        gone = {signal.id for signal in sorted(over, key=lambda signal: (signal.expires_at, signal.id))[:limit]}
        for signal_id in gone:
            del signals[project_id, signal_id]
        for key in [key for key in given if key[0] == project_id and key[1] in gone]:
            del given[key]
        return len(gone)

    async def presence(self, project_id: ProjectId, agent_ids: Sequence[AgentId], *, now: datetime) -> Presence | None:
        """Tell when any of some agents was last seen and what of sessions they have; None where none is known."""
        rows = self._sheets.agents.rows
        agents = [rows[project_id, agent_id] for agent_id in agent_ids if (project_id, agent_id) in rows]
        if not agents:
            return None
        sessions = [
            session
            for session in self._sheets.sessions.rows.values()
            if session.project_id == project_id and session.agent_id in agent_ids
        ]
        active = [s for s in sessions if s.status is SessionStatus.ACTIVE and s.expires_at > now]
        own = [s for s in sessions if s.status not in (SessionStatus.CLOSED, SessionStatus.EXPIRED)]
        seen = [agent.last_seen_at for agent in agents] + [session.updated_at for session in own]
        return Presence(
            seen_at=max(seen),
            working_until=max((session.expires_at for session in active), default=None),
            left_at=max((s.ended_at or s.expires_at for s in sessions if s not in active), default=None),
        )
