"""Events: what of the outbox a reader may know."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_count
from contextdna.values.event import Event, is_addressed
from contextdna.values.ids import EventId, RecordId
from contextdna.values.visibility import visible

EVENTS_MAX = 1000
_PAGE = 500  # of the outbox, read at once where most is not for the reader


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in the order of commit. ``cursor`` stands behind what was looked through, seen or not."""

    events: tuple[Event, ...]
    cursor: EventId
    more: bool


async def read(op: Operation, after: EventId, *, limit: int) -> EventPage:
    """Read the events behind one that the actor may know of.

    Raises:
        LimitExceeded: ``limit_out_of_range``.
    """
    check_count(limit, name="limit", maximum=EVENTS_MAX)
    found: list[Event] = []
    cursor, full = after, False
    while not full:
        page = await op.tx.events.after(op.project_id, cursor, limit=_PAGE)
        if not page:
            break
        known = await known_to(op, page)
        room = limit - len(found)
        full = len(known) > room
        found += known[:room]
        cursor = found[-1].id if full else page[-1].id
    op.note(events=len(found))
    return EventPage(tuple(found), cursor, full)


async def known_to(op: Operation, events: Sequence[Event]) -> list[Event]:
    """Keep the events that the actor may know of now, each with the records that it may see.

    An event is known to the agent that caused it, to its audience, and to whoever may see one of its records. A record
    that was forgotten counts by its level, one that was purged is nobody's.
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
        if records or is_addressed(event.audience, reader):
            known.append(replace(event, record_ids=records, audience=()))
    return known
