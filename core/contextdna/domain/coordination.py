"""Waiting on others: what one look tells a waiter, and when the one that it waits for is gone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from contextdna.domain import signals, targets
from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_agent_id, check_count, check_name, check_seconds
from contextdna.values.agent import AgentStatus
from contextdna.values.event import DEPARTURES, Event, EventName, is_addressed
from contextdna.values.ids import AgentId, SignalId
from contextdna.values.principal import Reader
from contextdna.values.signal import Presence, ReceivedSignal, SignalStatus, WaitOutcome

_ACKNOWLEDGEMENTS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Watch:
    """What a waiter waits for: the next signal for it, of a name and of senders where these are given."""

    reader: Reader
    name: str
    sender: AgentId
    """As the waiter called it; empty for any."""
    senders: tuple[AgentId, ...]
    """Who is meant by that."""

    def concerns(self, event: Event) -> bool:
        """Tell whether an event is a reason to look again."""
        if event.project_id != self.reader.project_id:
            return False
        if event.name in (EventName.SIGNAL_SENT, EventName.SIGNAL_WITHDRAWN):
            return is_addressed(event.audience, self.reader)
        return _may_be_gone(event, (self.reader.agent_id, *self.senders))


@dataclass(frozen=True, slots=True)
class AcknowledgementWatch:
    """What the sender of a signal waits for."""

    reader: Reader
    signal_id: SignalId
    named: tuple[AgentId, ...]
    in_circle: bool

    def concerns(self, event: Event) -> bool:
        """Tell whether an event is a reason to look again."""
        if event.project_id != self.reader.project_id:
            return False
        if event.name in (EventName.SIGNAL_ACKNOWLEDGED, EventName.SIGNAL_WITHDRAWN):
            return event.subject == self.signal_id
        anyone = self.in_circle and event.name in DEPARTURES
        return anyone or _may_be_gone(event, (self.reader.agent_id, *self.named))


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found. Without an outcome, look again when something happens, or after ``again_in_s``."""

    outcome: WaitOutcome | None = None
    signal: ReceivedSignal | None = None
    status: SignalStatus | None = None
    again_in_s: float = float("inf")
    message: str = ""
    unknown: tuple[AgentId, ...] = ()
    """The sender, as it was called, where nobody has seen it yet."""


def _may_be_gone(event: Event, agent_ids: Sequence[AgentId]) -> bool:
    return event.name in DEPARTURES and not {event.agent_id, event.subject, *event.audience}.isdisjoint(agent_ids)


async def begin(op: Operation, *, name: str, sender: AgentId, timeout_s: float) -> Watch:
    """Begin to wait for a signal.

    Raises:
        InvalidInput: A filter or the time is wrong.
    """
    check_name(name, name="name", empty_allowed=True)
    if sender:
        check_agent_id(sender, name="sender")
    check_seconds(timeout_s, name="timeout_s", maximum=op.settings.work.wait_max_s, zero_allowed=True)
    op.note(timeout_s=timeout_s, sender=sender)
    senders = (await targets.meant(op, [sender]))[sender] if sender else ()
    return Watch(op.actor.reader, name, sender, senders)


async def begin_for_acknowledgements(
    op: Operation, signal_id: SignalId, *, count: int | None, timeout_s: float
) -> AcknowledgementWatch:
    """Begin to wait for acknowledgements of one's own signal.

    Raises:
        NotFound: It is not there, or none of the actor's business.
        AccessDenied: ``signal_not_yours``.
        InvalidInput: The count or the time is wrong.
    """
    if count is not None:
        check_count(count, name="count", maximum=_ACKNOWLEDGEMENTS_MAX)
    check_seconds(timeout_s, name="timeout_s", maximum=op.settings.work.wait_max_s, zero_allowed=True)
    signal = await signals.own(op, signal_id)
    op.note([signal_id], timeout_s=timeout_s)
    named = tuple(agent_id for bearers in targets.named_targets(signal) for agent_id in bearers)
    return AcknowledgementWatch(op.actor.reader, signal_id, named, targets.has_circle(signal))


async def look(op: Operation, watch: Watch, events: Sequence[Event]) -> Look:
    """Look for the next signal: one that waits comes before the news that its sender is gone."""
    return await _while_in_session(op, await _look(op, watch, events))


async def _while_in_session(op: Operation, found: Look) -> Look:
    """Let a waiter look again when its own session expires: its wait ends with that."""
    session = await op.tx.sessions.get(op.actor.session_id) if op.actor.session_id else None
    if session is None:
        return found
    left_s = max(0.0, (session.expires_at - op.now).total_seconds())
    return replace(found, again_in_s=min(found.again_in_s, left_s))


async def _look(op: Operation, watch: Watch, events: Sequence[Event]) -> Look:
    signal = await signals.next_pending(op, name=watch.name, senders=watch.senders)
    if signal is not None:
        return Look(WaitOutcome.SIGNALLED, signal)
    if await _called_off(op, watch, events):
        return Look(WaitOutcome.WITHDRAWN)
    message = f"waiting for {watch.name or 'a signal'}"
    if not watch.senders:
        return Look(message=message)
    message += f" from {watch.sender}"
    left_s = await present_for_s(op, watch.senders)
    if left_s is None:
        return Look(message=f"{message}, whom the project has not seen yet", unknown=(watch.sender,))
    if left_s <= 0:
        return Look(WaitOutcome.SENDER_GONE)
    return Look(again_in_s=left_s, message=message)


async def look_for_acknowledgements(op: Operation, watch: AcknowledgementWatch, *, count: int | None) -> Look:
    """Look how many have acknowledged one's own signal, and whether more can."""
    status = await signals.status(op, watch.signal_id)
    found = Look(
        _outcome(status, count=count, may_grow=watch.in_circle),
        status=status,
        again_in_s=(status.expires_at - op.now).total_seconds(),
        message=f"{status.answered} acknowledged, {len(status.missing)} missing",
    )
    return await _while_in_session(op, found)


def _outcome(status: SignalStatus, *, count: int | None, may_grow: bool) -> WaitOutcome | None:
    answered, left = status.answered, len(status.missing)
    if answered >= count if count else answered and not left:
        return WaitOutcome.ACKNOWLEDGED
    if status.withdrawn_at is not None:
        return WaitOutcome.WITHDRAWN
    if status.expired:
        return WaitOutcome.TIMED_OUT
    too_few = answered + left < count and not may_grow if count else status.gone and not left
    return WaitOutcome.TARGETS_GONE if too_few else None


async def present_for_s(op: Operation, agent_ids: Sequence[AgentId]) -> float | None:
    """Tell for how long an agent, by any of its ids, counts as present if nothing more is heard of it; 0: it is gone.

    None of one that the project has not seen yet: it may still come.
    """
    agents = await op.tx.projects.agents(op.project_id, agent_ids)
    if agents and all(agent.status is AgentStatus.RETIRED for agent in agents):
        return 0.0
    presence = await op.tx.signals.presence(op.project_id, agent_ids, now=op.now)
    if presence is None:
        return None
    return _left_s(presence, now=op.now, silence_s=op.settings.work.coordinator_silence_s)


def _left_s(presence: Presence, *, now: datetime, silence_s: float) -> float:
    ended = presence.left_at is not None and presence.seen_at <= presence.left_at
    if presence.working_until is None and ended:
        return 0.0
    left_s = silence_s - (now - presence.seen_at).total_seconds()
    if presence.working_until is not None:
        left_s = min(left_s, (presence.working_until - now).total_seconds())
    return max(0.0, left_s)


async def _called_off(op: Operation, watch: Watch, events: Sequence[Event]) -> bool:
    """Tell whether a signal that would have ended the wait was withdrawn before it was read."""
    for event in events:
        if event.name is not EventName.SIGNAL_WITHDRAWN:
            continue
        signal = await op.tx.signals.get(op.project_id, SignalId(event.subject))
        if signal is None or watch.name not in ("", signal.name):
            continue
        if watch.senders and signal.sender_id not in watch.senders:
            continue
        given = await op.tx.signals.acknowledgements(op.project_id, signal.id)
        if all(one.agent_id != watch.reader.agent_id for one in given):
            op.note([signal.id])
            return True
    return False
