"""Waiting on others: what one look tells a waiter, and when the one that it waits for is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contextdna.domain import signals
from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_agent_id, check_count, check_name
from contextdna.errors import InvalidInput
from contextdna.values.agent import AgentStatus
from contextdna.values.event import Event, EventName, is_addressed
from contextdna.values.ids import AgentId, SignalId, name_of
from contextdna.values.principal import Reader
from contextdna.values.signal import Presence, ReceivedSignal, SignalStatus, WaitOutcome

_ACKNOWLEDGEMENTS_MAX: Final = 10_000
_PAGE: Final = 10  # of which the first that opens is the one
_LEFT: Final = frozenset({"session.ended", "agent.retired"})  # what may end a wait, the waiter's own or that of others


@dataclass(frozen=True, slots=True)
class Watch:
    """What a waiter waits for: the next signal for it, of a name and of senders where these are given."""

    reader: Reader
    name: str
    senders: tuple[AgentId, ...]

    def concerns(self, event: Event) -> bool:
        """Tell whether an event is a reason to look again."""
        if event.project_id != self.reader.project_id:
            return False
        if event.name in (EventName.SIGNAL_SENT, EventName.SIGNAL_WITHDRAWN):
            return is_addressed(event.audience, self.reader)
        return may_end(event, (self.reader.agent_id, *self.senders))


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found. Without an outcome, look again when something happens, or after ``again_in_s``."""

    outcome: WaitOutcome | None = None
    signal: ReceivedSignal | None = None
    status: SignalStatus | None = None
    again_in_s: float = float("inf")
    message: str = ""


def may_end(event: Event, agent_ids: Sequence[AgentId]) -> bool:
    """Tell whether an event may mean that one of some agents is gone."""
    return event.name in _LEFT and not {event.agent_id, event.subject, *event.audience}.isdisjoint(agent_ids)


async def begin(op: Operation, *, name: str, sender: AgentId, timeout_s: float) -> Watch:
    """Begin to wait for a signal.

    Raises:
        InvalidInput: A filter or the time is wrong.
    """
    check_name(name, name="name", empty_allowed=True)
    if sender:
        check_agent_id(sender, name="sender")
    _check_timeout(op, timeout_s)
    op.note(timeout_s=timeout_s, sender=sender)
    senders = _senders(op, sender) if sender else ()
    return Watch(op.actor.reader, name, senders)


async def begin_for_acknowledgements(
    op: Operation, signal_id: SignalId, *, count: int | None, timeout_s: float
) -> Reader:
    """Begin to wait for acknowledgements of one's own signal.

    Raises:
        NotFound: It is not there, or none of the actor's business.
        AccessDenied: ``signal_not_yours``.
        InvalidInput: The count or the time is wrong.
    """
    if count is not None:
        check_count(count, name="count", maximum=_ACKNOWLEDGEMENTS_MAX)
    _check_timeout(op, timeout_s)
    await signals.own(op, signal_id)
    op.note([signal_id], timeout_s=timeout_s)
    return op.actor.reader


async def look(op: Operation, watch: Watch, events: Sequence[Event]) -> Look:
    """Look for the next signal: one that waits comes before the news that its sender is gone."""
    waiting = await signals.pending(op, limit=_PAGE, name=watch.name, senders=watch.senders)
    if waiting:
        return Look(WaitOutcome.SIGNALLED, waiting[0])
    if await _called_off(op, watch, events):
        return Look(WaitOutcome.WITHDRAWN)
    message = f"waiting for {watch.name or 'a signal'}"
    if not watch.senders:
        return Look(message=message)
    left_s = await present_for_s(op, watch.senders)
    if left_s <= 0:
        return Look(WaitOutcome.SENDER_GONE)
    return Look(again_in_s=left_s, message=f"{message} from {watch.senders[0]}")


async def look_for_acknowledgements(op: Operation, signal_id: SignalId, *, count: int | None) -> Look:
    """Look how many have acknowledged one's own signal."""
    await signals.own(op, signal_id)
    status = await signals.status(op, signal_id)
    given = len(status.acknowledged)
    enough = given >= count if count else given > 0 and not status.missing
    outcome = None
    if enough:
        outcome = WaitOutcome.ACKNOWLEDGED
    elif status.withdrawn_at is not None:
        outcome = WaitOutcome.WITHDRAWN
    elif status.expired:
        outcome = WaitOutcome.TIMED_OUT
    return Look(
        outcome,
        status=status,
        again_in_s=(status.expires_at - op.now).total_seconds(),
        message=f"{given} acknowledged, {len(status.missing)} missing",
    )


async def present_for_s(op: Operation, agent_ids: Sequence[AgentId]) -> float:
    """Tell for how long an agent, by any of its ids, counts as present if nothing more is heard of it; 0: it is gone.

    One that the project has not seen yet may still come.
    """
    agents = await op.tx.projects.agents(op.project_id, agent_ids)
    if agents and all(agent.status is AgentStatus.RETIRED for agent in agents):
        return 0.0
    presence = await op.tx.signals.presence(op.project_id, agent_ids, now=op.now)
    beats = [agent.heartbeat_at for agent in agents if agent.heartbeat_at]
    if presence is None:
        return float("inf")
    return _left_s(
        presence, max([presence.seen_at, *beats]), now=op.now, silence_s=op.settings.work.coordinator_silence_s
    )


def _left_s(presence: Presence, seen_at: datetime, *, now: datetime, silence_s: float) -> float:
    ended = presence.left_at is not None and seen_at <= presence.left_at
    if presence.working_until is None and ended:
        return 0.0
    left_s = silence_s - (now - seen_at).total_seconds()
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


def _senders(op: Operation, sender: AgentId) -> tuple[AgentId, ...]:
    """Give the agents that are meant by a sender's name; an agent above in the delegation has a bare name, too."""
    above = [agent_id for agent_id in op.actor.lineage if name_of(agent_id) == sender]
    return tuple(dict.fromkeys((*signals.known_as(op.actor.agent_id, sender), *above)))


def _check_timeout(op: Operation, timeout_s: float) -> None:
    maximum = op.settings.work.wait_max_s
    if not 0 <= timeout_s <= maximum:
        raise InvalidInput(
            "timeout_s must be from 0 to wait_max_s",
            code="timeout_s_out_of_range",
            hint=f"Use at most {maximum:.0f} seconds, and wait again.",
        )
