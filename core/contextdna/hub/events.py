"""Events as a caller may know them: read from a cursor, or followed as they happen."""

from collections.abc import AsyncIterator, Collection

from contextdna.domain import events
from contextdna.domain.access import Action, Caller
from contextdna.domain.operation import Operation
from contextdna.hub.door import Door
from contextdna.hub.stream import EventStream
from contextdna.values.event import Event, EventName
from contextdna.values.ids import EventId

_PAGE = 500


class Events:
    """The event part of a workspace."""

    def __init__(self, door: Door, stream: EventStream, caller: Caller) -> None:
        self._door = door
        self._stream = stream
        self._caller = caller

    async def read(self, *, after: EventId = EventId(""), limit: int = 100) -> events.EventPage:
        """Read the events of the project behind one, in the order of commit; only what the caller may know of.

        Raises:
            LimitExceeded: ``limit_out_of_range``.
        """
        return await self._door.read(self._caller, Action.READ_EVENTS, lambda op: events.read(op, after, limit=limit))

    async def follow(self, *, after: EventId | None = None, names: Collection[EventName] = ()) -> AsyncIterator[Event]:
        """Go through events as they are committed, by any process, until the caller stops.

        Access is judged at each delivery: what was revoked is not told, and a session that ended raises.

        Args:
            after: First what came behind this event, from the start with an empty id; None begins with now.
            names: Only these; all when empty.
        """
        kinds = frozenset(names)

        def wanted(event: Event) -> bool:
            return not kinds or event.name in kinds

        async def here(op: Operation) -> str:
            return op.project_id

        project_id = await self._door.read(self._caller, Action.READ_EVENTS, here)
        async with self._stream.listen(lambda event: event.project_id == project_id and wanted(event)) as listener:
            cursor, last_seq, behind = after, 0, after is not None
            while True:
                while behind:
                    page = await self.read(after=cursor or EventId(""), limit=_PAGE)
                    for event in page.events:
                        last_seq = event.seq
                        if wanted(event):
                            yield event
                    cursor, behind = page.cursor, page.more
                arrived, behind = await listener.take()
                if behind and cursor is None:
                    cursor = arrived[0].id
                fresh = [event for event in arrived if event.seq > last_seq]
                if behind or not fresh:
                    continue
                for event in await self._door.read(
                    self._caller,
                    Action.READ_EVENTS,
                    lambda op, some=fresh: events.known_to(op, some),  # type: ignore[misc]
                ):
                    yield event
                cursor, last_seq = fresh[-1].id, fresh[-1].seq
