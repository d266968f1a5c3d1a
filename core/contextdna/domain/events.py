"""Events: what of the outbox a reader may know."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_count
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
from contextdna.values.ids import EventId, ProjectId, RecordId
from contextdna.values.level import Level
from contextdna.values.record import Record
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
    op.note(events=len(found))
    return EventPage(tuple(found), cursor, more)


async def start(op: Operation, after: EventId | None) -> tuple[ProjectId, int | None]:
    """Give the project of the actor, and the place in the outbox that a cursor stands for; None for no cursor."""
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
    those who could see it by its level.
    """
    reader = op.actor.reader
    wanted = list(dict.fromkeys(RecordId(name) for event in events for name in event.record_ids))
    seen: set[str] = set()
    if wanted:
        grants = await op.tx.grants.active_for(op.project_id, wanted, reader.agent_id, now=op.now)
        granted = {grant.record_id for grant in grants}
        refs = await op.tx.records.refs(op.project_id, wanted)
        seen = {ref.id for ref in refs if visible(reader, ref, granted=ref.id in granted)}
    known = []
    for event in events:
        if event.agent_id == reader.agent_id:
            known.append(event)
            continue
        records = tuple(name for name in event.record_ids if name in seen)
        addressed = is_addressed(event.audience, reader)
        if addressed and event.name is EventName.MEMORY_PURGED:
            records = event.record_ids
        if records or addressed:
            known.append(replace(event, record_ids=records, audience=()))
    return known


def emit_purged(op: Operation, records: Iterable[Record]) -> None:
    """Tell of a purge: an event for each circle that could see some of the records by their level."""
    circles: dict[tuple[str, ...], list[RecordId]] = {}
    for record in records:
        circles.setdefault(_circle_of(record), []).append(record.id)
    for circle, record_ids in circles.items():
        op.emit(EventName.MEMORY_PURGED, record_ids, audience=circle)


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
