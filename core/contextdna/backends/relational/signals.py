"""Signals and their acknowledgements."""

from collections.abc import Sequence
from datetime import datetime

from contextdna.backends.relational.columns import (
    json_list,
    json_list_or_none,
    micros,
    micros_or_none,
    moment,
    moment_or_none,
    sealed_of,
    sealed_params,
    texts_of,
)
from contextdna.backends.relational.statements import Executor, Row
from contextdna.values.ids import AgentId, ProjectId, SignalId
from contextdna.values.signal import Acknowledgement, Presence, Signal


class Signals:
    """Fulfils ``ports.signals.SignalTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows
        self._run = executor.run
        self._run_many = executor.run_many

    async def add(self, signal: Signal) -> None:
        """Add a signal, and a row for each of its audience, by which it is found."""
        await self._run(
            "signal_add",
            (
                signal.id,
                signal.project_id,
                signal.name,
                signal.sender_id,
                signal.session_id,
                json_list(signal.audience),
                micros(signal.created_at),
                micros(signal.expires_at),
                micros_or_none(signal.withdrawn_at),
                *sealed_params(signal.sealed),
            ),
        )
        await self._run_many(
            "signal_target_add",
            [
                (signal.project_id, signal.id, target, signal.sender_id, signal.name, micros(signal.expires_at))
                for target in signal.audience
            ],
        )

    async def get(self, project_id: ProjectId, signal_id: SignalId) -> Signal | None:
        """Fetch a signal, whoever it is for."""
        rows = await self._rows("signal_get", (project_id, signal_id))
        return _signal_of(rows[0]) if rows else None

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
        where = (name, json_list_or_none(senders), limit, json_list(without))
        params = (project_id, json_list(addresses), agent_id, micros(now), *where)
        return [_signal_of(row) for row in await self._rows("signals_pending", params)]

    async def waiting(self, project_id: ProjectId, sender_id: AgentId, *, now: datetime, limit: int) -> int:
        """Count the signals of a sender that are in force and wait for somebody, up to a limit."""
        return int((await self._rows("signals_waiting", (project_id, sender_id, micros(now), limit)))[0][0])

    async def withdraw(self, project_id: ProjectId, signal_id: SignalId, *, at: datetime) -> bool:
        """Take a signal back; False when it was before, or is not there."""
        await self._run("signal_targets_delete", (project_id, json_list([signal_id])))
        return await self._run("signal_withdraw", (project_id, signal_id, micros(at))) > 0

    async def acknowledge(self, acknowledgement: Acknowledgement) -> bool:
        """Keep an acknowledgement; False when the agent has given one before."""
        given = acknowledgement
        params = (given.project_id, given.signal_id, given.agent_id, micros(given.at), *sealed_params(given.sealed))
        await self._run("signal_target_settle", (given.project_id, given.signal_id, given.agent_id))
        return await self._run("signal_acknowledge", params) > 0

    async def acknowledgements(self, project_id: ProjectId, signal_id: SignalId) -> list[Acknowledgement]:
        """List the acknowledgements of a signal, the first one first."""
        rows = await self._rows("signal_acknowledgements", (project_id, signal_id))
        return [Acknowledgement(row[0], row[1], row[2], moment(row[3]), sealed_of(*row[4:])) for row in rows]

    async def delete_expired(self, project_id: ProjectId, *, now: datetime, limit: int) -> int:
        """Remove signals that have expired, with their acknowledgements."""
        rows = await self._rows("signals_expired", (project_id, micros(now), limit))
        if rows:
            params = (project_id, json_list(row[0] for row in rows))
            for name in ("signal_acknowledgements_delete", "signal_targets_delete", "signals_delete"):
                await self._run(name, params)
        return len(rows)

    async def presence(self, project_id: ProjectId, agent_ids: Sequence[AgentId], *, now: datetime) -> Presence | None:
        """Tell when any of some agents was last seen and what of sessions they have; None where none is known."""
        named = json_list(agent_ids)
        [[seen]] = await self._rows("presence_seen", (project_id, named))
        if seen is None:
            return None
        [[updated, until, left]] = await self._rows("presence_in_sessions", (project_id, named, micros(now)))
        return Presence(moment(max(seen, updated or seen)), moment_or_none(until), moment_or_none(left))


def _signal_of(row: Row) -> Signal:
    return Signal(
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        texts_of(row[5]),
        moment(row[6]),
        moment(row[7]),
        moment_or_none(row[8]),
        sealed_of(*row[9:]),
    )
