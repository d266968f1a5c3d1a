"""The connections to the server: a bounded number, each with its prepared statements, given out for a unit of work."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio

from contextdna.backends.postgres.driver import Link, unavailable

_IDLE_MAX_S: Final = 300.0


class Links:
    """A pool of connections.

    Args:
        open_link: Opens a connection.
        least: How many stay open when nothing is to do.
        most: How many there are at most; writers leave one of four to readers.
        acquire_timeout_s: How long to wait for one.
    """

    def __init__(
        self, open_link: Callable[[], Awaitable[Link]], *, least: int, most: int, acquire_timeout_s: float
    ) -> None:
        self._open_link = open_link
        self._least = least
        self._acquire_timeout_s = acquire_timeout_s
        self._room = anyio.Semaphore(most, fast_acquire=True)
        self._writers = anyio.Semaphore(max(1, most - max(1, most // 4)), fast_acquire=True)
        self._idle: list[Link] = []
        self._given: set[Link] = set()
        self._hangs = 0
        self._closed = False

    async def fill(self) -> None:
        """Open as many connections as stay open."""
        while len(self._idle) < self._least:
            self._idle.append(await self._open_link())

    @asynccontextmanager
    async def take(self, *, writing: bool = False) -> AsyncIterator[Link]:
        """Give a connection for a while; one that was cut meanwhile is forgotten.

        Raises:
            StorageUnavailable: None is to be had in time, the server is away, or hung while this waited, or all was
                closed.
        """
        hangs = self._hangs
        async with self._seat(writing=writing):
            if self._hangs != hangs:
                raise unavailable("storage_unreachable", "PostgreSQL does not answer")
            link = self._next_idle() or await self._open_link()
            self._given.add(link)
            try:
                yield link
            finally:
                self._given.discard(link)
                if link.is_hung:  # so are the others: whoever takes the next one would wait as long again
                    self._hangs += 1
                    self.forget_idle()
                self._put_back(link)

    def forget_idle(self) -> None:
        """Cut the connections that nobody uses: the server they led to is gone, or hangs."""
        while self._idle:
            self._idle.pop().cut()

    async def close(self) -> None:
        """Close all connections; those in use are cut."""
        self._closed = True
        for link in self._given:
            link.cut()
        async with anyio.create_task_group() as tasks:  # each may wait for the server's answer
            while self._idle:
                tasks.start_soon(self._idle.pop().close)

    @asynccontextmanager
    async def _seat(self, *, writing: bool) -> AsyncIterator[None]:
        taken: list[anyio.Semaphore] = []
        try:
            with anyio.move_on_after(self._acquire_timeout_s):
                for semaphore in (self._writers, self._room) if writing else (self._room,):
                    await semaphore.acquire()
                    taken.append(semaphore)
            if not taken or taken[-1] is not self._room:
                raise unavailable("storage_busy", "all connections to PostgreSQL are in use")
            if self._closed:
                raise unavailable("storage_closed", "the database is closed")
            yield
        finally:
            for semaphore in taken:
                semaphore.release()

    def _next_idle(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()  # the last used: the others may grow old and be closed
            if link.is_open:
                return link
        return None

    def _put_back(self, link: Link) -> None:
        if self._closed or not link.is_open:
            link.cut()
            return
        link.idle_since = time.monotonic()
        self._idle.append(link)
        if len(self._idle) > self._least and link.idle_since - self._idle[0].idle_since > _IDLE_MAX_S:
            self._idle.pop(0).cut()
