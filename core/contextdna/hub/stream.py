"""The live end of the outbox: one tail reads what was committed, here or by another process, and wakes who waits."""

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio

from contextdna.errors import ContextDnaError, StorageUnavailable
from contextdna.ports.database import Database
from contextdna.ports.storage import EventChannel
from contextdna.values.event import Event

logger = logging.getLogger(__name__)

POLL_S: Final = 0.1
"""How often other processes' commits are looked for while someone listens: half of it is the median delay. One look
costs 0.1 ms, and with it a waiting process stays at about 1 % of a core (``python -m benchmarks signals``)."""

HEARING_POLL_S: Final = 2.0
"""The same, where the channel tells of other processes' commits: for what a process that was killed did not tell."""

_BATCH: Final = 500
_BUFFER_MAX: Final = 1000
_RETRY_S: Final = 1.0


class Listener:
    """One waiter: the events that it wants, in the order of commit, until its buffer is full."""

    def __init__(self, wanted: Callable[[Event], bool], *, place: int) -> None:
        self.place = place
        """It hears of every event behind this place in the outbox; of some before it, too, when it is not alone."""
        self._wanted = wanted
        self._events: deque[Event] = deque()
        self._arrived = anyio.Event()
        self._missed = False
        self._closed = False

    def offer(self, event: Event) -> None:
        """Take an event if it is wanted; a listener that lags behind loses the oldest, and is told."""
        if not self._wanted(event):
            return
        if len(self._events) >= _BUFFER_MAX:
            self._events.popleft()
            self._missed = True
        self._events.append(event)
        self._arrived.set()

    def close(self) -> None:
        """Wake who waits: nothing will come any more."""
        self._closed = True
        self._arrived.set()

    async def take(self) -> tuple[list[Event], bool]:
        """Wait for events; gives (events, whether older ones were lost since the last call).

        Raises:
            StorageUnavailable: ``storage_closed``: the hub was closed, and everything before has been taken.
        """
        await self._arrived.wait()
        if self._closed and not self._events:
            raise _closed()
        events, missed = list(self._events), self._missed
        self._events.clear()
        self._missed = False
        if not self._closed:
            self._arrived = anyio.Event()
        return events, missed


class EventStream:
    """Follows the outbox while anybody listens. The channel and the database only hint that there is something new."""

    def __init__(self, database: Database, channel: EventChannel) -> None:
        self._database = database
        self._channel = channel
        self._listeners: set[Listener] = set()
        self._occupied = anyio.Event()
        self._hint = anyio.Event()
        self._seq = 0
        self._revision = 0
        self._problem = ""
        self._closed = False

    @asynccontextmanager
    async def listen(self, wanted: Callable[[Event], bool]) -> AsyncIterator[Listener]:
        """Hear of every event committed from now on that is wanted; nothing here checks access.

        Raises:
            StorageUnavailable: The outbox cannot be read, or the hub was closed.
        """
        place = await self._database.read(lambda tx: tx.events.last_seq())
        if self._closed:
            raise _closed()
        if self._listeners:  # the tail may have gone on since
            place = max(place, self._seq)
        else:
            self._seq = place
        listener = Listener(wanted, place=place)
        self._listeners.add(listener)
        self._occupied.set()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                self._occupied = anyio.Event()

    async def run(self) -> None:
        """Follow the outbox until cancelled; who still listens then is woken."""
        try:
            async with self._channel.listen() as hints, anyio.create_task_group() as tasks:
                tasks.start_soon(self._note_hints, hints)
                while True:
                    await self._occupied.wait()
                    await self._turn()
        finally:
            self._closed = True
            for listener in self._listeners:
                listener.close()

    async def _turn(self) -> None:
        try:
            await self._deliver()
            self._problem = ""
            await self._wait_for_news()
        except ContextDnaError as error:
            if error.code != self._problem:  # once, not every second
                logger.warning("events cannot be read now: %s", error.code)
            self._problem = error.code
            await anyio.sleep(_RETRY_S)

    async def _note_hints(self, hints: AsyncIterator[None]) -> None:
        async for _ in hints:
            self._hint.set()

    async def _wait_for_news(self) -> None:
        while self._listeners and not self._hint.is_set():
            with anyio.move_on_after(HEARING_POLL_S if self._channel.hears_others else POLL_S):
                await self._hint.wait()
                break
            revision = await self._database.revision()
            if revision != self._revision:
                self._revision = revision
                break
        if self._hint.is_set():
            self._hint = anyio.Event()

    async def _deliver(self) -> None:
        while self._listeners:
            start = self._seq
            events = await self._database.read(lambda tx, start=start: tx.events.since(start, limit=_BATCH))  # type: ignore[misc]
            for event in events:
                if event.seq <= self._seq:
                    continue  # all left and another came during the read, who begins further on
                self._seq = event.seq
                for listener in self._listeners:
                    listener.offer(event)
            if len(events) < _BATCH:
                return


def _closed() -> StorageUnavailable:
    return StorageUnavailable("the hub is closed", code="storage_closed", hint="Open it again.")
