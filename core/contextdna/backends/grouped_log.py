"""A write-ahead log over a store that blocks: units wait together for one flush, on a thread of the log's own."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from copy import copy
from typing import Any, Final, Protocol, TypeVar

import anyio

from contextdna.backends.log_thread import LogThread
from contextdna.backends.open_units import OpenUnits
from contextdna.errors import StorageUnavailable
from contextdna.values.log_entry import LogEntry, LogStatus, LogUnit

R = TypeVar("R")

_GROUP_UNITS_MAX: Final = 256
_GROUP_BYTES_MAX: Final = 16 * 1024 * 1024


class LogStore(Protocol):
    """Entries at rest. One thread calls, but for the two numbers, which are read at any time."""

    @property
    def last_seq(self) -> int:
        """Of the newest entry."""
        ...

    @property
    def forgotten(self) -> int:
        """All up to here are forgotten."""
        ...

    def append(self, units: Sequence[Sequence[bytes]]) -> Sequence[int | BaseException]:
        """Make units durable together; gives the number of each one's last entry, or why it was left out.

        Raises:
            StorageUnavailable: None was kept, but with ``storage_outcome_unknown``.
        """
        ...

    def page(self, after: int) -> list[LogEntry]:
        """Give the next entries behind a number, that are not forgotten: at least one where there is one.

        Raises:
            IntegrityFault: ``log_damaged`` or ``wrong_key``.
            StorageUnavailable: They cannot be read.
        """
        ...

    def forget(self, seq: int) -> None:
        """Drop all entries up to a number, durably."""
        ...

    def status(self) -> LogStatus:
        """Report on the log."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class _Waiting:
    """A unit and the future of its caller."""

    __slots__ = ("entries", "future", "outcome")

    def __init__(self, entries: Sequence[bytes], future: asyncio.Future[int]) -> None:
        self.entries = entries
        self.future = future
        self.outcome: int | BaseException = 0

    def answer(self) -> None:
        if self.future.done():
            return  # the caller was cancelled
        if isinstance(self.outcome, BaseException):
            self.future.set_exception(self.outcome)
        else:
            self.future.set_result(self.outcome)


class GroupedLog:
    """``WriteAheadLog`` over a store. All work on that is done by one thread, in order."""

    def __init__(self, store: LogStore, thread: LogThread) -> None:
        self._store = store
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._units = OpenUnits()
        self._queue: deque[_Waiting] = deque()
        self._is_scheduled = False
        self._is_closed = False

    async def begin(self) -> LogUnit:
        """Begin a unit."""
        return self._units.begin()

    async def write_entry(self, unit: LogUnit, data: bytes) -> None:
        """Add an entry to a unit; it is kept in memory until the unit is committed.

        Raises:
            LimitExceeded: ``log_entry_too_large``.
            InvalidInput: ``log_unit_unknown``.
        """
        self._units.add(unit, data)

    async def commit(self, unit: LogUnit) -> int:
        """Make a unit durable and give the number of its last entry.

        Raises:
            StorageUnavailable: Nothing is kept, but with ``storage_outcome_unknown``.
            InvalidInput: ``log_unit_unknown``.
        """
        entries = self._units.take(unit)
        self._check_open()
        if not entries:
            return self._store.last_seq
        waiting = _Waiting(entries, self._loop.create_future())
        self._queue.append(waiting)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._thread.submit(self._commit_next)
        return await waiting.future

    async def rollback(self, unit: LogUnit) -> None:
        """Drop a unit."""
        self._units.drop(unit)

    async def recover(self, *, after: int = 0) -> AsyncIterator[LogEntry]:
        """Give the committed entries that are not forgotten, in order, a page at a time.

        Raises:
            IntegrityFault: ``log_damaged`` or ``wrong_key``.
            StorageUnavailable: They cannot be read.
        """
        last_seq, at = self._store.last_seq, after
        while (at := max(at, self._store.forgotten)) < last_seq:
            for entry in await self._run(self._store.page, at):
                at = entry.seq
                if at <= last_seq:
                    yield entry

    async def forget(self, seq: int) -> None:
        """Drop all entries up to a number, durably.

        Raises:
            StorageUnavailable: It cannot be written.
            InvalidInput: ``log_seq_unknown``.
        """
        await self._run(self._store.forget, seq)

    async def status(self) -> LogStatus:
        """Report on the log."""
        return await self._run(self._store.status)

    async def close(self) -> None:
        """Finish what is queued, mark the end and let go of the files; open units are dropped."""
        if not self._is_closed:
            self._is_closed = True
            await self._thread.run(self._finish)

    async def _run(self, fn: Callable[..., R], *args: Any) -> R:
        self._check_open()
        return await self._thread.run(fn, *args)

    def _check_open(self) -> None:
        if self._is_closed:
            raise StorageUnavailable("the write-ahead log is closed", code="log_closed", hint="Open it again.")

    # What follows runs on the thread.

    def _commit_next(self) -> None:
        # Cleared first: a caller that comes from here on schedules another turn, at worst one that finds nothing.
        self._is_scheduled = False
        group = self._take_group()
        if group:
            self._commit(group)
            self._thread.answer(_answer, group)
        if self._queue and not self._is_scheduled:
            self._is_scheduled = True
            self._thread.submit(self._commit_next)

    def _take_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._queue and len(group) < _GROUP_UNITS_MAX and size < _GROUP_BYTES_MAX:
            waiting = self._queue.popleft()
            if not waiting.future.cancelled():
                group.append(waiting)
                size += sum(map(len, waiting.entries))
        return group

    def _commit(self, group: list[_Waiting]) -> None:
        outcomes: Sequence[int | BaseException]
        try:
            outcomes = self._store.append([waiting.entries for waiting in group])
        except BaseException as error:  # noqa: BLE001 - owned by this thread: nobody may be left waiting
            outcomes = [_each(error) for _ in group]
        for waiting, outcome in zip(group, outcomes, strict=True):
            waiting.outcome = outcome

    def _finish(self) -> None:
        while self._queue:
            self._commit_next()
        self._store.close()


def _answer(group: list[_Waiting]) -> None:
    for waiting in group:
        waiting.answer()


def _each(error: BaseException) -> BaseException:
    """Give each caller an error of its own: raised twice, one would gather the traces of both."""
    return copy(error) if isinstance(error, StorageUnavailable) else error


@asynccontextmanager
async def open_grouped(open_store: Callable[[], LogStore]) -> AsyncIterator[GroupedLog]:
    """Open a store on a thread of its own, and a log over it.

    Raises:
        ContextDnaError: Whatever opening the store raised.
    """
    thread = LogThread()
    try:
        log = GroupedLog(await thread.run(open_store), thread)
        try:
            yield log
        finally:
            with anyio.CancelScope(shield=True):
                await log.close()
    finally:
        thread.end()
