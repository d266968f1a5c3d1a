"""Signals of a workspace, and waiting for them: for the next one, or for acknowledgements of one's own."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import anyio

from contextdna.domain import coordination, signals
from contextdna.domain.access import Action, Caller
from contextdna.domain.coordination import AcknowledgementWatch, Look, Watch
from contextdna.domain.operation import Operation
from contextdna.errors import ContextDnaError
from contextdna.hub.door import Door
from contextdna.hub.stream import EventStream, Listener
from contextdna.ports.database import Transaction
from contextdna.values.audit import AuditDraft
from contextdna.values.event import Event
from contextdna.values.ids import AgentId, SignalId
from contextdna.values.principal import Reader
from contextdna.values.signal import (
    AcknowledgementWait,
    AcknowledgeReport,
    ReceivedSignal,
    SentSignal,
    SignalDraft,
    SignalStatus,
    SignalWait,
    WaitOutcome,
)

T = TypeVar("T")

Progress = Callable[[float, float, str], Awaitable[None]]
"""Told (seconds waited, seconds at most, what is waited for)."""

LOOK_S_MAX: Final = 30.0
"""A waiter looks again after so long at the latest: its own session, or the other's, may have ended untold."""

_LOOK_S_MIN: Final = 0.05
_PULSES: Final = 3
"""How often a waiter shows that it is at work within the time after which it would count as gone."""


class Signals:
    """The signal part of a workspace."""

    def __init__(self, door: Door, stream: EventStream, caller: Caller) -> None:
        self._door = door
        self._stream = stream
        self._caller = caller

    async def send(self, draft: SignalDraft) -> SentSignal:
        """Send a signal to agents by name, to a circle of one's own, or to both.

        Raises:
            AccessDenied: ``circle_not_yours``, or ``role_required`` for the whole project.
        """
        return await self._door.write(self._caller, Action.SEND_SIGNAL, lambda op: signals.send(op, draft))

    async def acknowledge(self, signal_id: SignalId, *, note: str = "") -> AcknowledgeReport:
        """Acknowledge a signal; a second time tells of the first.

        Raises:
            Conflict: ``signal_expired`` or ``signal_withdrawn``.
        """
        return await self._door.write(
            self._caller, Action.ACKNOWLEDGE_SIGNAL, lambda op: signals.acknowledge(op, signal_id, note=note)
        )

    async def withdraw(self, signal_id: SignalId) -> bool:
        """Take one's own signal back; False when it was before, or has expired."""
        return await self._door.write(self._caller, Action.WITHDRAW_SIGNAL, lambda op: signals.withdraw(op, signal_id))

    async def pending(self, *, limit: int = 20) -> tuple[ReceivedSignal, ...]:
        """Read the signals that wait for the caller, oldest first."""
        return await self._door.read(self._caller, Action.READ_SIGNALS, lambda op: signals.pending(op, limit=limit))

    async def status(self, signal_id: SignalId) -> SignalStatus:
        """Tell who has acknowledged a signal and who has not."""
        return await self._door.read(self._caller, Action.READ_SIGNALS, lambda op: signals.status(op, signal_id))

    async def wait_for(
        self,
        *,
        name: str = "",
        sender: AgentId = AgentId(""),
        timeout_s: float = 60.0,
        on_progress: Progress | None = None,
        progress_every_s: float = 1.0,
    ) -> SignalWait:
        """Wait for the next signal for the caller; one that waits already is given at once.

        It stays pending until it is acknowledged. The wait ends at its deadline, when a signal was called off before it
        was read, and when the sender is named and gone.

        Args:
            name: Only a signal of this name.
            sender: Only a signal of this agent.
            timeout_s: How long to wait, from 0 to ``work.wait_max_s``.
            on_progress: Told now and then while it waits.
            progress_every_s: How often.
        """
        patience = _Patience(timeout_s, on_progress, progress_every_s)
        watch = await self._door.write(
            self._caller,
            Action.AWAIT_SIGNAL,
            lambda op: coordination.begin(op, name=name, sender=sender, timeout_s=timeout_s),
        )
        found = await self._wait(watch, lambda op, events: coordination.look(op, watch, events), patience)
        return SignalWait(found.outcome or WaitOutcome.TIMED_OUT, found.signal, patience.elapsed_s, found.unknown)

    async def wait_for_acknowledgements(
        self,
        signal_id: SignalId,
        *,
        count: int | None = None,
        timeout_s: float = 60.0,
        on_progress: Progress | None = None,
        progress_every_s: float = 1.0,
    ) -> AcknowledgementWait:
        """Wait until one's own signal has been acknowledged by all that it is for, or by so many.

        It ends early when the signal is withdrawn or expires, and when too few can still acknowledge it.

        Args:
            signal_id: The signal.
            count: How many of its targets are enough; all that are not gone, and one at least, when None.
            timeout_s: How long to wait, from 0 to ``work.wait_max_s``.
            on_progress: Told now and then while it waits.
            progress_every_s: How often.
        """
        patience = _Patience(timeout_s, on_progress, progress_every_s)
        watch = await self._door.write(
            self._caller,
            Action.AWAIT_SIGNAL,
            lambda op: coordination.begin_for_acknowledgements(op, signal_id, count=count, timeout_s=timeout_s),
        )
        found = await self._wait(
            watch, lambda op, _events: coordination.look_for_acknowledgements(op, watch, count=count), patience
        )
        if found.status is None:
            raise AssertionError("a look at acknowledgements gives a status")
        return AcknowledgementWait(found.outcome or WaitOutcome.TIMED_OUT, found.status, patience.elapsed_s)

    async def _wait(
        self,
        watch: Watch | AcknowledgementWatch,
        look: Callable[[Operation, list[Event]], Awaitable[Look]],
        patience: "_Patience",
    ) -> Look:
        """Wait; looks are not audited one by one: the begin is, and the end, that of a cancelled wait too."""
        try:
            found, draft = await self._look_until_found(watch, look, patience)
        except anyio.get_cancelled_exc_class():
            await self._account_cancelled(patience)
            raise
        outcome = found.outcome or WaitOutcome.TIMED_OUT
        await self._door.account(draft, **{outcome.value: 1, "waited_s": int(patience.elapsed_s)})
        return found

    async def _look_until_found(
        self,
        watch: Watch | AcknowledgementWatch,
        look: Callable[[Operation, list[Event]], Awaitable[Look]],
        patience: "_Patience",
    ) -> tuple[Look, AuditDraft]:
        """Look, and look again whenever something happened, until there is an outcome or the deadline.

        It listens before the first look, so that nothing falls in between, and holds nothing of the database while it
        waits.
        """
        pulse_s = self._door.settings.work.coordinator_silence_s / _PULSES
        events: list[Event] = []
        async with self._stream.listen(watch.concerns) as listener:
            while True:
                over = patience.is_over
                found, draft = await self._door.look(
                    self._caller,
                    Action.AWAIT_SIGNAL,
                    lambda op, some=events: look(op, some),  # type: ignore[misc]
                )
                if found.outcome or over:
                    return found, draft
                if patience.since_pulse_s >= pulse_s:
                    await self._show_life(watch.reader)
                    patience.note_pulse()
                events = await patience.wake(listener, within_s=min(found.again_in_s, pulse_s), message=found.message)

    async def _account_cancelled(self, patience: "_Patience") -> None:
        async def nothing(_op: Operation) -> None:
            """Look at nothing: only the caller matters."""

        with anyio.CancelScope(shield=True), suppress(ContextDnaError):  # the hub may be closing
            _, draft = await self._door.look(self._caller, Action.AWAIT_SIGNAL, nothing)
            await self._door.account(draft, cancelled=1, waited_s=int(patience.elapsed_s))

    async def _show_life(self, reader: Reader) -> None:
        """Note that the waiter is at work: another may be waiting for it in turn."""
        now = self._door.clock()

        async def unit(tx: Transaction) -> None:
            await tx.projects.touch_agent(reader.project_id, reader.agent_id, at=now)

        with suppress(ContextDnaError):  # the next one will do
            await self._door.database.write(unit)


class _Patience:
    """How long one wait may take, and whom to tell meanwhile."""

    def __init__(self, timeout_s: float, on_progress: Progress | None, every_s: float) -> None:
        self._began = self._pulsed = anyio.current_time()
        self._timeout_s = timeout_s
        self._on_progress = on_progress
        self._every_s = every_s
        self._next_progress = self._began + every_s if on_progress else float("inf")

    @property
    def elapsed_s(self) -> float:
        """Seconds since the wait began."""
        return anyio.current_time() - self._began

    @property
    def is_over(self) -> bool:
        """Whether the deadline has come."""
        return self.elapsed_s >= self._timeout_s

    @property
    def since_pulse_s(self) -> float:
        """Seconds since the waiter last showed that it is at work."""
        return anyio.current_time() - self._pulsed

    def note_pulse(self) -> None:
        """Count from now."""
        self._pulsed = anyio.current_time()

    async def wake(self, listener: Listener, *, within_s: float, message: str) -> list[Event]:
        """Sleep until something happened, for so long at most and never beyond the deadline; gives what happened."""
        sleep_s = min(max(within_s, _LOOK_S_MIN), LOOK_S_MAX)
        until = min(anyio.current_time() + sleep_s, self._began + self._timeout_s)
        while True:
            with anyio.CancelScope(deadline=min(until, self._next_progress)):
                events, _ = await listener.take()
                return events
            if anyio.current_time() >= self._next_progress:
                await self._report(message)
            if anyio.current_time() >= until:
                return []

    async def _report(self, message: str) -> None:
        if self._on_progress is not None:
            with anyio.CancelScope(deadline=self._began + self._timeout_s):  # who does not listen must not hold it up
                await self._on_progress(self.elapsed_s, self._timeout_s, message)
        self._next_progress = anyio.current_time() + self._every_s
