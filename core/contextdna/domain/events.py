"""Events: what of the outbox a reader may know."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_count
from contextdna.errors import Conflict
from contextdna.values.event import (
    EVERYONE,
    OPERATORS,
    Event,
    EventName,
    Interest,
    is_addressed,
    swarm_audience,
    team_audience,
)
from contextdna.values.ids import EventId, IdPrefix, ProjectId, RecordId, is_below
from contextdna.values.level import Level
from contextdna.values.principal import Reader
from contextdna.values.record import Kind, Record
from contextdna.values.visibility import visible

EVENTS_MAX = 1000
_PAGE = 500  # of the outbox, read at once where most is not for the reader
_PAGES_MAX = 20  # in one call: a reader to whom little is known must not hold a snapshot over the whole outbox


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in the order of commit. ``cursor`` stands behind what was looked through, seen or not."""

    events: tuple[Event, ...]
    cursor: EventId
    more: bool
    gap: bool = False
    """The event that the cursor named is kept no longer: what came between it and these may be gone with it."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Wanted events of a part of the outbox, not judged yet, and the place where the part ends."""

    events: tuple[Event, ...]
    place: int
    more: bool


async def read(op: Operation, after: EventId, *, limit: int) -> EventPage:
    """Read the events behind one that the actor may know of.

    Raises:
        LimitExceeded: ``limit_out_of_range``.
    """
    check_count(limit, name="limit", maximum=EVENTS_MAX)
    found: list[Event] = []
    cursor, more = after, True
    gap = await _is_gone(op, after)
    for _ in range(_PAGES_MAX):
        page = await op.tx.events.after(op.project_id, cursor, limit=_PAGE)
        if not page:
            more = False
            break
        known = await known_to(op, page)
        room = limit - len(found)
        found += known[:room]
        if len(known) > room:
            cursor = found[-1].id
            break
        cursor = page[-1].id
    if gap and cursor == after and not await op.tx.events.after(op.project_id, EventId(""), limit=1):
        cursor = EventId("")  # all is gone: what comes next lies behind no gap
    op.note(events=len(found))
    return EventPage(tuple(found), cursor, more, gap)


async def _is_gone(op: Operation, after: EventId) -> bool:
    return bool(after) and await op.tx.events.place(op.project_id, after) is None


async def start(op: Operation, after: EventId | None) -> tuple[ProjectId, int | None]:
    """Give the project of the actor, and the place in the outbox that a cursor stands for; None for no cursor.

    Raises:
        Conflict: ``cursor_expired``: the cursor's event is kept no longer, and what came next may be gone with it.
    """
    if after is not None and await _is_gone(op, after):
        raise Conflict(
            "the events behind the cursor are not all kept any more",
            code="cursor_expired",
            hint="Read what you depend on anew, and follow from now, or from the start with an empty id.",
        )
    if after is None:
        return op.project_id, None
    behind = await op.tx.events.after(op.project_id, after, limit=1)
    return op.project_id, behind[0].seq - 1 if behind else await op.tx.events.last_seq()


async def passed(op: Operation, place: int, interest: Interest) -> Passage:
    """Read the next part of the outbox behind a place."""
    page = await op.tx.events.since(place, limit=_PAGE)
    wanted = tuple(event for event in page if event.project_id == op.project_id and interest(event))
    return Passage(wanted, page[-1].seq if page else place, len(page) == _PAGE)


async def known_to(op: Operation, events: Sequence[Event]) -> list[Event]:
    """Keep the events that the actor may know of now, each with the records that it may see.

    An event is known to the agent that caused it, to its audience, and to whoever may see one of its records. A record
    that was forgotten counts by its level. One that was purged can no longer be judged: the audience of its purge are
    those who could see it by its level, and of earlier events only those who caused them are told its id.
    """
    reader = op.actor.reader
    wanted = list(dict.fromkeys(RecordId(name) for event in events for name in event.record_ids))
    seen: set[str] = set()
    kept: set[str] = set()
    if wanted:
        grants = await op.tx.grants.active_for(op.project_id, wanted, reader.agent_id, now=op.now)
        granted = {grant.record_id for grant in grants}
        refs = await op.tx.records.refs(op.project_id, wanted)
        seen = {ref.id for ref in refs if visible(reader, ref, granted=ref.id in granted)}
        kept = {ref.id for ref in refs}
    phases = await _seen_phases(op, events)
    known = []
    for event in events:
        own, addressed = event.agent_id == reader.agent_id, is_addressed(event.audience, reader)
        if event.name is EventName.GATE_CHANGED and event.subject not in phases:
            continue
        purge = event.name is EventName.MEMORY_PURGED
        told_when_gone = addressed if purge else own
        records = tuple(name for name in event.record_ids if name in seen or (told_when_gone and name not in kept))
        if own:
            known.append(replace(event, record_ids=records))
        elif records or addressed:
            known.append(replace(event, record_ids=records, audience=_below(event, reader)))
    return known


async def _seen_phases(op: Operation, events: Sequence[Event]) -> set[str]:
    """Tell of which phases whose gates changed the actor sees a record: of others it learns nothing, not their name."""
    named = {event.subject for event in events if event.name is EventName.GATE_CHANGED}
    return {phase for phase in named if await op.tx.loops.latest_iteration(op.actor.reader, phase, now=op.now)}


def _below(event: Event, reader: Reader) -> tuple[str, ...]:
    """Keep of an audience the reader itself and agents below it: nobody learns who else was told."""
    return tuple(name for name in event.audience if name == reader.agent_id or is_below(name, reader.agent_id))


async def emit_of(
    op: Operation, name: EventName, record_ids: Sequence[RecordId], *, audience: Sequence[str] = ()
) -> None:
    """Tell what became of records: an event for each conversation's turns, with it as subject, one for the rest."""
    turns = [record_id for record_id in record_ids if record_id.startswith(f"{IdPrefix.TURN}_")]
    said = {turn.id: turn.session_id for turn in await op.tx.records.take(op.project_id, turns)} if turns else {}
    parts: dict[str, list[RecordId]] = {}
    for record_id in record_ids:
        parts.setdefault(said.get(record_id, ""), []).append(record_id)
    for conversation, part in parts.items():
        op.emit(name, part, subject=conversation, audience=audience)


def emit_purged(op: Operation, records: Iterable[Record]) -> None:
    """Tell of a purge: an event for each circle that could see some of the records by their level.

    Turns are told of by conversation, as in ``emit_of``.
    """
    parts: dict[tuple[tuple[str, ...], str], list[RecordId]] = {}
    for record in records:
        conversation = record.session_id if record.kind is Kind.TURN else ""
        parts.setdefault((_circle_of(record), conversation), []).append(record.id)
    for (circle, conversation), record_ids in parts.items():
        op.emit(EventName.MEMORY_PURGED, record_ids, subject=conversation, audience=circle)


def _circle_of(record: Record) -> tuple[str, ...]:
    match record.level:
        case Level.TEAM if record.team_id:
            return (record.owner_id, team_audience(record.team_id))
        case Level.SWARM if record.swarm_id:
            return (record.owner_id, swarm_audience(record.swarm_id))
        case Level.PROJECT:
            return (EVERYONE,)
        case Level.SYSTEM:
            return (record.owner_id, OPERATORS)
        case _:
            return (record.owner_id,)
