"""Events as a caller may know them: read from a cursor, or followed as they happen."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing, suppress
from typing import Final, TypeVar

import anyio

from contextdna.domain import events
from contextdna.domain.access import Action, Caller
from contextdna.errors import ContextDnaError
from contextdna.hub.door import Door, Run
from contextdna.hub.stream import EventStream
from contextdna.values.event import Event, EventName, Interest
from contextdna.values.ids import EventId

R = TypeVar("R")

ACCOUNTED_EVERY: Final = 1000
"""A follower's audit entries: one as it begins, one for each so many events, one for the rest as it ends."""


class Events:
    """The event part of a workspace."""

    def __init__(self, door: Door, stream: EventStream, caller: Caller) -> None:
        self._door = door
        self._stream = stream
        self._caller = caller

    async def read(self, *, after: EventId = EventId(""), limit: int = 100) -> events.EventPage:
        """Read the events of the project behind one, in the order of commit; only what the caller may know of.

        A page may be short, or empty, and still be followed by ``more``: a call looks through a bounded part.

        Raises:
            LimitExceeded: ``limit_out_of_range``.
        """
        return await self._door.read(self._caller, Action.READ_EVENTS, lambda op: events.read(op, after, limit=limit))

    async def follow(
        self, *, after: EventId | None = None, names: Collection[EventName] = (), about: Collection[str] = ()
    ) -> AsyncGenerator[Event, None]:
        """Go through events as they are committed, by any process, until the caller stops.

        Access is judged as each is handed out: what was revoked is not told, and a session that ended raises.

        Args:
            after: First what came behind this event, from the start with an empty id; None begins with now.
            names: Only these; all when empty.
            about: Only events of one of these records or subjects; all when empty.

        Raises:
            StorageUnavailable: The hub is closed, or the outbox cannot be read.
        """
        tally = _Tally(self._door, self._caller)
        async with aclosing(self._arriving(after, Interest.of(names, about), tally)) as arriving:
            async for some in arriving:
                known = {event.id for event in await tally.known(some)}
                for event in some:
                    if event.id not in known:
                        continue
                    for told in await tally.known([event]):  # again: the reader took its time over the ones before
                        await tally.count(1)
                        yield told

    async def batches(
        self, *, after: EventId | None = None, names: Collection[EventName] = (), about: Collection[str] = ()
    ) -> AsyncGenerator[tuple[Event, ...], None]:
        """Follow events by handfuls: what came while the caller was busy comes together, judged as it is handed out.

        The first batch comes at once, an empty one where there is nothing to tell: from then on nothing is missed.

        Args:
            after: First what came behind this event, from the start with an empty id; None begins with now.
            names: Only these; all when empty.
            about: Only events of one of these records or subjects; all when empty.

        Raises:
            StorageUnavailable: The hub is closed, or the outbox cannot be read.
        """
        tally = _Tally(self._door, self._caller)
        begun = False
        async with aclosing(self._arriving(after, Interest.of(names, about), tally)) as arriving:
            async for some in arriving:
                known = await tally.known(some)
                if known or not begun:
                    begun = True
                    await tally.count(len(known))
                    yield tuple(known)

    async def _arriving(
        self, after: EventId | None, interest: Interest, tally: "_Tally"
    ) -> AsyncGenerator[Sequence[Event], None]:
        """Give what is wanted in the order of commit, not yet judged; first, at once, what lies behind the start."""
        project_id, start = await tally.begin(lambda op: events.start(op, after))

        def wanted(event: Event) -> bool:
            return event.project_id == project_id and interest(event)

        try:
            async with self._stream.listen(wanted) as listener:
                place, behind = (listener.place, False) if start is None else (start, True)
                some: Sequence[Event] = ()
                while True:
                    if behind:
                        page = await tally.look(lambda op, place=place: events.passed(op, place, interest))  # type: ignore[misc]
                        some, place, behind = page.events, page.place, page.more
                    yield some
                    while not behind:
                        arrived, behind = await listener.take()
                        some = [event for event in arrived if event.seq > place]
                        if some and not behind:
                            place = some[-1].seq
                            break
        finally:
            await tally.end()


class _Tally:
    """The looks of one follower, and how many events it was told: an entry each would bury the log."""

    def __init__(self, door: Door, caller: Caller) -> None:
        self._door = door
        self._caller = caller
        self._told = 0

    async def begin(self, run: Run[R]) -> R:
        answer, self._draft = await self._door.look(self._caller, Action.READ_EVENTS, run)
        await self._door.account(self._draft, following=1)
        return answer

    async def look(self, run: Run[R]) -> R:
        answer, _ = await self._door.look(self._caller, Action.READ_EVENTS, run)
        return answer

    async def known(self, some: Sequence[Event]) -> list[Event]:
        return await self.look(lambda op: events.known_to(op, some)) if some else []

    async def count(self, told: int) -> None:
        self._told += told
        if self._told >= ACCOUNTED_EVERY:
            await self.end()

    async def end(self) -> None:
        told, self._told = self._told, 0
        if told:
            with (
                anyio.CancelScope(shield=True),
                suppress(ContextDnaError),
            ):  # what cannot be written now goes on waiting
                await self._door.account(self._draft, events=told)
