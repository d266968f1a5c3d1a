"""A write-ahead log in a folder: units wait together for one flush to disk, on a thread of the log's own."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio

from contextdna.backends.open_units import OpenUnits
from contextdna.backends.segmented_log.segments import Segments
from contextdna.errors import StorageUnavailable
from contextdna.ports.write_ahead_log import Sealer
from contextdna.values.log_entry import LogEntry, LogStatus, LogUnit

R = TypeVar("R")

SEGMENT_BYTES: Final = 16 * 1024 * 1024
_GROUP_UNITS_MAX: Final = 256
_GROUP_BYTES_MAX: Final = 16 * 1024 * 1024


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


class SegmentedLog:
    """``WriteAheadLog`` in files that one process owns. All work on them is done by one thread, in order."""

    def __init__(self, segments: Segments, thread: ThreadPoolExecutor) -> None:
        self._segments = segments
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
            return self._segments.last_seq
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
        """Give the committed entries that are not forgotten, in order, a segment at a time.

        Raises:
            IntegrityFault: ``log_damaged`` or ``wrong_key``.
            StorageUnavailable: A segment cannot be read.
        """
        last_seq, after = self._segments.last_seq, max(after, self._segments.forgotten)
        for segment in await self._run(self._segments.segments_behind, after):
            for entry in await self._run(partial(self._segments.read, after=after), segment):
                if entry.seq <= last_seq:
                    yield entry

    async def forget(self, seq: int) -> None:
        """Drop all entries up to a number, durably; segments that hold nothing else are removed.

        Raises:
            StorageUnavailable: It cannot be written.
            InvalidInput: ``log_seq_unknown``.
        """
        await self._run(self._segments.forget, seq)

    async def status(self) -> LogStatus:
        """Report on the log."""
        return await self._run(self._segments.status)

    async def close(self) -> None:
        """Finish what is queued, mark the end and let go of the files; open units are dropped."""
        if not self._is_closed:
            self._is_closed = True
            await self._loop.run_in_executor(self._thread, self._finish)

    async def _run(self, fn: Callable[..., R], *args: Any) -> R:
        self._check_open()
        return await self._loop.run_in_executor(self._thread, fn, *args)

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
            with suppress(RuntimeError):  # the loop is gone, and its callers with it
                self._loop.call_soon_threadsafe(_answer, group)
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
            outcomes = self._segments.append([waiting.entries for waiting in group])
        except BaseException as error:  # noqa: BLE001 - owned by this thread: nobody may be left waiting
            outcomes = [_each(error) for _ in group]
        for waiting, outcome in zip(group, outcomes, strict=True):
            waiting.outcome = outcome

    def _finish(self) -> None:
        while self._queue:
            self._commit_next()
        self._segments.close()


def _answer(group: list[_Waiting]) -> None:
    for waiting in group:
        waiting.answer()


def _each(error: BaseException) -> BaseException:
    """Give each caller an error of its own: raised twice, one would gather the traces of both."""
    if not isinstance(error, StorageUnavailable):
        return error
    return StorageUnavailable(error.message, code=error.code, hint=error.hint, retryable=error.retryable)


@asynccontextmanager
async def open_segmented_log(
    folder: Path,
    *,
    sealer: Sealer | None = None,
    segment_bytes: int = SEGMENT_BYTES,
    size_bytes_max: int = 0,
) -> AsyncIterator[SegmentedLog]:
    """Open a log and own it; a new one is made in an empty folder, a torn tail of an old one is cut off.

    Args:
        folder: For the log alone; made with 0700, its files with 0600.
        sealer: Seals each entry; without one what the entries hold lies there as it is.
        segment_bytes: From this size on, a file is followed by the next.
        size_bytes_max: Commits that would make the log larger are refused with ``log_full``; 0 sets no bound.

    Raises:
        StorageUnavailable: ``log_in_use``, ``log_newer``, or the folder cannot be used.
        IntegrityFault: ``log_damaged``. Nothing was changed.
    """
    open_files = partial(Segments, folder, sealer=sealer, segment_bytes=segment_bytes, size_bytes_max=size_bytes_max)
    thread = ThreadPoolExecutor(1, thread_name_prefix="contextdna-log")
    try:
        segments = await asyncio.get_running_loop().run_in_executor(thread, open_files)
        log = SegmentedLog(segments, thread)
        try:
            yield log
        finally:
            with anyio.CancelScope(shield=True):
                await log.close()
    finally:
        thread.shutdown(wait=False)
