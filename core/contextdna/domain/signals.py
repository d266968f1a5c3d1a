"""Signals: sent to agents or to a circle, acknowledged once by each, seen by nobody else."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from contextdna.domain import access, targets
from contextdna.domain.encryption import Binding
from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_agent_id, check_count, check_json, check_name, check_seconds, check_text
from contextdna.errors import AccessDenied, Conflict, IntegrityFault, InvalidInput, LimitExceeded
from contextdna.values.event import EVERYONE, EventName, is_addressed, swarm_audience, team_audience
from contextdna.values.ids import AgentId, IdPrefix, SignalId, new_id
from contextdna.values.level import Level
from contextdna.values.principal import Reader, Role
from contextdna.values.signal import (
    Acknowledged,
    Acknowledgement,
    AcknowledgeReport,
    Circle,
    ReceivedSignal,
    SentSignal,
    Signal,
    SignalDraft,
    SignalStatus,
)

PENDING_MAX: Final = 100
WAITING_MAX: Final = 1000
"""Signals of one sender that wait for somebody: whoever looks at all that waits for it reads each of them."""
_EXPIRES_S_MAX: Final = 7 * 24 * 3600.0
_NOTE_BYTES_MAX: Final = 4096


async def send(op: Operation, draft: SignalDraft) -> SentSignal:
    """Send a signal to agents of the project, to a circle of the sender's, or to both.

    Raises:
        AccessDenied: ``circle_not_yours``; or ``role_required``: the whole project, by an agent.
        InvalidInput: A field is wrong, nobody is meant, or the sender is among the targets.
        LimitExceeded: ``signals_too_many``: so many of the sender wait already.
    """
    _check(op, draft)
    sender = op.actor.agent_id
    await _check_room(op, sender)
    meant = await targets.meant(op, draft.targets)
    circles = [_circle(op.actor.reader, draft.circle)] if draft.circle else []
    audience = tuple(dict.fromkeys((*(agent_id for some in meant.values() for agent_id in some), *circles)))
    signal_id = SignalId(new_id(IdPrefix.SIGNAL, op.now))
    signal = Signal(
        id=signal_id,
        project_id=op.project_id,
        name=draft.name,
        sender_id=sender,
        session_id=op.actor.session_id,
        audience=audience,
        created_at=op.now,
        expires_at=op.now + timedelta(seconds=draft.expires_in_s),
        withdrawn_at=None,
        sealed=op.keys.seal(
            {"payload": draft.payload}, _binding(op, signal_id, draft.name, sender, audience), encrypted=True
        ),
    )
    await op.tx.signals.add(signal)
    named, unknown, gone = await targets.told(op, meant)
    op.note([signal_id], targets=len(named), circle=str(draft.circle or ""))
    op.emit(EventName.SIGNAL_SENT, subject=signal_id, audience=audience)
    return SentSignal(signal_id, signal.expires_at, named, unknown, gone)


async def acknowledge(op: Operation, signal_id: SignalId, *, note: str) -> AcknowledgeReport:
    """Acknowledge a signal; a second time tells of the first, and changes nothing.

    Raises:
        NotFound: It is not there, or not for the actor.
        AccessDenied: ``signal_own``.
        Conflict: ``signal_expired`` or ``signal_withdrawn``, without an acknowledgement before.
    """
    check_text(note, name="note", bytes_max=_NOTE_BYTES_MAX, empty_allowed=True)
    signal = await _for_actor(op, signal_id)
    agent_id = op.actor.agent_id
    if signal.sender_id == agent_id:
        raise AccessDenied(
            "this signal is your own",
            code="signal_own",
            hint="Those it is for acknowledge it.",
            record_ids=(signal_id,),
        )
    op.note([signal_id])
    for given in await op.tx.signals.acknowledgements(op.project_id, signal_id):
        if given.agent_id == agent_id:
            op.note(already=True)
            return AcknowledgeReport(signal_id, given.at, already=True)
    _require_in_force(op, signal)
    sealed = op.keys.seal({"note": note}, _note_binding(op, signal_id, agent_id), encrypted=True)
    await op.tx.signals.acknowledge(Acknowledgement(op.project_id, signal_id, agent_id, op.now, sealed))
    op.emit(EventName.SIGNAL_ACKNOWLEDGED, subject=signal_id, audience=[signal.sender_id])
    return AcknowledgeReport(signal_id, op.now, already=False)


async def withdraw(op: Operation, signal_id: SignalId) -> bool:
    """Take one's own signal back; False when it was before, or when its time is over and nobody waits for it any more.

    Raises:
        NotFound: It is not there, or neither from nor for the actor.
        AccessDenied: ``signal_not_yours``.
    """
    signal = await own(op, signal_id)
    changed = signal.expires_at > op.now and await op.tx.signals.withdraw(op.project_id, signal_id, at=op.now)
    op.note([signal_id], withdrawn=int(changed))
    if changed:
        op.emit(EventName.SIGNAL_WITHDRAWN, subject=signal_id, audience=signal.audience)
    return changed


async def pending(op: Operation, *, limit: int) -> tuple[ReceivedSignal, ...]:
    """Read what waits for the actor, oldest first: in force, and not acknowledged by it.

    Raises:
        LimitExceeded: ``limit_out_of_range``.
        IntegrityFault: ``body_unreadable``: none of them opens.
    """
    check_count(limit, name="limit", maximum=PENDING_MAX)
    opened, damaged = await _open_pending(op, limit=limit, name="", senders=())
    if damaged is not None and not opened:
        raise damaged
    return opened


async def next_pending(op: Operation, *, name: str, senders: Sequence[AgentId]) -> ReceivedSignal | None:
    """Read the oldest that waits for the actor, of a name and of senders where these are given; None without one."""
    opened, _ = await _open_pending(op, limit=1, name=name, senders=senders)
    return opened[0] if opened else None


async def _open_pending(
    op: Operation, *, limit: int, name: str, senders: Sequence[AgentId]
) -> tuple[tuple[ReceivedSignal, ...], IntegrityFault | None]:
    """Open what waits and opens, so many at most: damaged ones hide no others, and the audit entry counts them."""
    reader, skipped = op.actor.reader, list[SignalId]()
    damaged, size = None, limit
    while True:
        found = await op.tx.signals.pending(
            op.project_id,
            _addresses(reader),
            agent_id=reader.agent_id,
            now=op.now,
            name=name,
            senders=senders,
            without=skipped,
            limit=size,
        )
        opened, seen = [], len(skipped)
        for signal in found:
            try:
                opened.append(received(op, signal, reader))
            except IntegrityFault as fault:
                damaged = fault
                skipped.append(signal.id)
        if len(found) < size or len(opened) >= limit or len(skipped) == seen:
            break
        size = PENDING_MAX
    if skipped:
        op.note(unreadable=len(skipped))
    op.note([signal.id for signal in opened[:limit]])
    return tuple(opened[:limit]), damaged


async def status(op: Operation, signal_id: SignalId) -> SignalStatus:
    """Tell who has acknowledged a signal and who has not, to its sender and the role system; to a target, of itself.

    Raises:
        NotFound: It is not there, or none of the actor's business.
    """
    signal = await op.tx.signals.get(op.project_id, signal_id)
    reader = op.actor.reader
    if signal is None or not (_concerns(signal, reader) or reader.role is Role.SYSTEM):
        raise access.absent_error((signal_id,), denied=signal is not None)
    given = await op.tx.signals.acknowledgements(op.project_id, signal_id)
    if signal.sender_id == reader.agent_id or reader.role is Role.SYSTEM:
        stand = await targets.standing(op, signal, {one.agent_id for one in given})
    else:
        given = [one for one in given if one.agent_id == reader.agent_id]
        stand = targets.Standing(len(given), () if given else (reader.agent_id,), ())
    op.note([signal_id])
    return SignalStatus(
        id=signal.id,
        name=signal.name,
        sender_id=signal.sender_id,
        sent_at=signal.created_at,
        expires_at=signal.expires_at,
        withdrawn_at=signal.withdrawn_at,
        expired=signal.expires_at <= op.now,
        acknowledged=tuple(_acknowledged(op, signal, one) for one in given),
        answered=stand.answered,
        missing=stand.missing,
        gone=stand.gone,
    )


async def own(op: Operation, signal_id: SignalId) -> Signal:
    """Fetch a signal that the actor has sent.

    Raises:
        NotFound: It is not there, or neither from nor for the actor.
        AccessDenied: ``signal_not_yours``.
    """
    signal = await _for_actor(op, signal_id)
    if signal.sender_id != op.actor.agent_id:
        raise AccessDenied(
            "this signal is another agent's",
            code="signal_not_yours",
            hint="Only its sender does this; acknowledge it with acknowledge_signal.",
            record_ids=(signal_id,),
        )
    return signal


def received(op: Operation, signal: Signal, reader: Reader) -> ReceivedSignal:
    """Open a signal for one of its audience.

    Raises:
        IntegrityFault: ``body_unreadable``: the row was changed, or its audience is another than the index says.
    """
    binding = _binding(op, signal.id, signal.name, signal.sender_id, signal.audience)
    payload = op.keys.open(signal.sealed, binding, encrypted=True)["payload"]
    if not is_addressed(signal.audience, reader):
        raise IntegrityFault(
            "a signal lies with someone that it is not for",
            code="body_unreadable",
            hint="Run `contextdna doctor` and restore the data folder from a backup.",
        )
    return ReceivedSignal(signal.id, signal.name, signal.sender_id, signal.created_at, signal.expires_at, payload)


async def _for_actor(op: Operation, signal_id: SignalId) -> Signal:
    signal = await op.tx.signals.get(op.project_id, signal_id)
    if signal is None or not _concerns(signal, op.actor.reader):
        raise access.absent_error((signal_id,), denied=signal is not None)
    return signal


def _concerns(signal: Signal, reader: Reader) -> bool:
    return signal.sender_id == reader.agent_id or is_addressed(signal.audience, reader)


def _addresses(reader: Reader) -> list[str]:
    """List what of an audience means a reader; ``is_addressed`` has the last word."""
    circles = [team_audience(reader.team_id)] if reader.team_id else []
    circles += [swarm_audience(reader.swarm_id)] if reader.swarm_id else []
    return [EVERYONE, reader.agent_id, *circles]


def _circle(reader: Reader, circle: Circle) -> str:
    """Name a circle that the sender is in.

    Raises:
        AccessDenied: ``circle_not_yours`` or ``role_required``.
    """
    if circle is Circle.PROJECT:
        if reader.role is Role.AGENT:
            raise AccessDenied(
                "a signal to the whole project needs the role coordinator",
                code="role_required",
                hint="Send it to your team or swarm, or name its targets.",
            )
        return EVERYONE
    circle_id = reader.team_id if circle is Circle.TEAM else reader.swarm_id
    if not circle_id:
        raise AccessDenied(f"you are in no {circle}", code="circle_not_yours", hint="Name the agents it is for.")
    return team_audience(circle_id) if circle is Circle.TEAM else swarm_audience(circle_id)


def _check(op: Operation, draft: SignalDraft) -> None:
    check_name(draft.name, name="name")
    if not draft.targets and draft.circle is None:
        raise InvalidInput("a signal for nobody", code="targets_missing", hint="Name target_agent_ids or a circle.")
    check_count(len(draft.targets), name="target_agent_ids", maximum=op.settings.limits.batch_max, minimum=0)
    for target in draft.targets:
        check_agent_id(target, name="target_agent_id")
    if op.actor.agent_id in draft.targets:
        raise InvalidInput("you are among the targets", code="target_is_self", hint="Name other agents.")
    check_seconds(draft.expires_in_s, name="expires_in_s", maximum=_EXPIRES_S_MAX)
    check_json(draft.payload, name="payload", bytes_max=op.settings.limits.metadata_bytes_max)


async def _check_room(op: Operation, sender: AgentId) -> None:
    if await op.tx.signals.waiting(op.project_id, sender, now=op.now, limit=WAITING_MAX) < WAITING_MAX:
        return
    raise LimitExceeded(
        f"{WAITING_MAX} signals of yours wait already",
        code="signals_too_many",
        hint="Withdraw those that are over, wait for their acknowledgements, or let them expire sooner (expires_in_s).",
    )


def _require_in_force(op: Operation, signal: Signal) -> None:
    if signal.withdrawn_at is not None:
        raise Conflict(
            "the signal was withdrawn", code="signal_withdrawn", hint="Do not act on it.", record_ids=(signal.id,)
        )
    if signal.expires_at <= op.now:
        raise Conflict(
            "the signal has expired",
            code="signal_expired",
            hint="Ask its sender for a new one.",
            record_ids=(signal.id,),
        )


def _acknowledged(op: Operation, signal: Signal, given: Acknowledgement) -> Acknowledged:
    if op.actor.agent_id not in (signal.sender_id, given.agent_id):
        return Acknowledged(given.agent_id, given.at)
    try:
        body = op.keys.open(given.sealed, _note_binding(op, signal.id, given.agent_id), encrypted=True)
    except IntegrityFault:  # that it was given stands without the note
        op.note(unreadable=int(op.details.get("unreadable", 0)) + 1)
        return Acknowledged(given.agent_id, given.at)
    return Acknowledged(given.agent_id, given.at, str(body["note"]))


def _binding(op: Operation, signal_id: SignalId, name: str, sender: AgentId, audience: Sequence[str]) -> Binding:
    """Bind a payload to whom it is from and for: who edits the row to widen its audience makes it unreadable."""
    return Binding("signals", op.project_id, signal_id, Level.PRIVATE, 1, (name, sender, *audience))


def _note_binding(op: Operation, signal_id: SignalId, agent_id: AgentId) -> Binding:
    return Binding("acknowledgements", op.project_id, signal_id, Level.PRIVATE, 1, (agent_id,))
