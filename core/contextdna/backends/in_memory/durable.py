"""An in-memory database that outlives its process: what units change is in a write-ahead log before it is answered.

The log holds the changed rows; opening puts them back. A snapshot of all rows bounds the log: it is taken when the log
has grown by as much as the last snapshot held, so that writing snapshots never costs more than writing the log.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from copy import copy
from dataclasses import replace
from typing import Any, Final, TypeVar

import anyio

from contextdna.backends.background import running
from contextdna.backends.in_memory import redo
from contextdna.backends.in_memory.database import InMemoryDatabase, InMemoryTransaction, run_unit
from contextdna.backends.in_memory.sheets import Sheets
from contextdna.backends.open_units import too_large
from contextdna.errors import ContextDnaError, IntegrityFault, StorageUnavailable
from contextdna.ports.database import DatabaseStatus, Unit
from contextdna.ports.write_ahead_log import ENTRY_BYTES_MAX, Snapshots, WriteAheadLog

R = TypeVar("R")

GROUP_UNITS_MAX: Final = 256
_GROUP_BYTES_MAX: Final = 8 * 1024 * 1024
_UNIT_BYTES_MAX: Final = ENTRY_BYTES_MAX - _GROUP_BYTES_MAX
"""Fits into a group with all that may be in it already."""
CHECKPOINT_BYTES: Final = 8 * 1024 * 1024
"""The log grows by so much, at least, between two snapshots.

Source: chosen; half a second of replaying at opening.
"""


class _Waiting:
    """A unit whose caller waits, and what became of it."""

    __slots__ = ("answer", "error", "is_over", "unit")

    def __init__(self, unit: Unit[Any]) -> None:
        self.unit = unit
        self.answer: Any = None
        self.error: Exception | None = None
        self.is_over = False

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.answer


class DurableInMemoryDatabase:
    """``Database`` in plain dicts, over a write-ahead log. Units that wait at the same time are made durable together.

    Args:
        log: Its own, recovered.
        snapshots: Its own.
        sheets: What the log and the snapshot hold.
        seq: Of the newest entry in them.
        snapshot_bytes: Of the newest snapshot.
        checkpoint_bytes: How much the log grows, at least, between two snapshots.
    """

    def __init__(
        self,
        log: WriteAheadLog,
        snapshots: Snapshots,
        sheets: Sheets,
        *,
        seq: int,
        snapshot_bytes: int = 0,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
    ) -> None:
        self._log = log
        self._snapshots = snapshots
        self._committed = sheets
        self._seq = seq
        self._writing = anyio.Lock(fast_acquire=True)
        self._saving = anyio.Lock()
        self._queue: deque[_Waiting] = deque()
        self._least_bytes = checkpoint_bytes
        self._snapshot_bytes = snapshot_bytes
        self._logged_bytes = 0
        self._is_due = anyio.Event()

    async def write(self, unit: Unit[R]) -> R:
        """Run a unit alone and answer once it is in the log, durably.

        Raises:
            StorageUnavailable: Nothing was written, but with ``storage_outcome_unknown``.
            RuntimeError: The unit awaited something else than the transaction's tables.
            Exception: Whatever the unit raised.
        """
        waiting = _Waiting(unit)
        self._queue.append(waiting)
        try:
            async with self._writing:
                if not waiting.is_over:
                    with anyio.CancelScope(shield=True):  # others wait for the same flush
                        await self._commit_group()
        except BaseException:
            if waiting in self._queue:  # its caller is gone, and it has not begun
                self._queue.remove(waiting)
            raise
        result: R = waiting.result()
        return result

    async def read(self, unit: Unit[R], *, enough: Callable[[R], bool] | None = None, search_by: str = "") -> R:
        """Run a unit on the committed state; what is not durable yet is not seen.

        Raises:
            RuntimeError: The unit tried to write, or awaited something else than the transaction's tables.
            Exception: Whatever the unit raised.
        """
        return await InMemoryDatabase(self._committed).read(unit, enough=enough, search_by=search_by)

    async def revision(self) -> int:
        """Give the place of the newest event: nobody else writes here."""
        return await InMemoryDatabase(self._committed).revision()

    async def status(self, *, deep: bool = False) -> DatabaseStatus:
        """Report on the engine and its log; ``deep`` also reads what lies on the disk."""
        log = await self._log.status()
        problem = log.problem
        if deep and log.sound:
            try:
                await self._snapshots.load()
                async for _ in self._log.recover():
                    pass
            except ContextDnaError as error:
                problem = error.message
        size = log.size_bytes + self._snapshot_bytes
        base = await InMemoryDatabase(self._committed).status()
        return replace(base, size_bytes=size, sound=not problem, problem=problem)

    async def shred_remains(self) -> None:
        """Drop what purged rows left in the log and in the snapshot, by a new one. Writers wait for it.

        Raises:
            StorageUnavailable: The snapshot or the log cannot be written.
        """
        async with self._writing:  # so that the snapshot holds all that the log does, and no segment has to stay
            await self._checkpoint()

    async def keep_log_short(self) -> None:
        """Take snapshots whenever the log has grown enough, until cancelled. One that fails is tried again later."""
        while True:
            await self._is_due.wait()
            self._is_due = anyio.Event()
            with suppress(StorageUnavailable):  # the log is whole, and the status tells of its size
                await self._checkpoint()

    async def _checkpoint(self) -> None:
        async with self._saving:
            sheets, seq = self._committed, self._seq  # never changed in place, so others write meanwhile
            self._logged_bytes = 0
            log_id = (await self._log.status()).log_id
            counted = _Counted()
            await self._snapshots.save(log_id, seq, counted.chunks(sheets))
            self._snapshot_bytes = counted.size
            await self._log.forget(seq)

    async def _commit_group(self) -> None:
        group: list[_Waiting] = []
        state, size = self._committed, 0
        entries: list[bytes] = []
        while self._queue and len(group) < GROUP_UNITS_MAX and size < _GROUP_BYTES_MAX:
            waiting = self._queue.popleft()
            group.append(waiting)
            changes: list[redo.Change] = []
            sheets = redo.recorded(state, changes)
            try:
                waiting.answer = run_unit(waiting.unit, InMemoryTransaction(sheets))
            except Exception as error:  # noqa: BLE001 - its caller gets it
                waiting.error = error
                continue
            if changes and len(entry := redo.encode(changes)) > _UNIT_BYTES_MAX:
                waiting.error = too_large()
            elif changes:
                state = redo.settled(sheets)
                entries.append(entry)
                size += len(entry)
        await self._make_durable(group, entries, state)
        for waiting in group:
            waiting.is_over = True
        self._logged_bytes += size
        if self._logged_bytes > max(self._least_bytes, self._snapshot_bytes):
            self._is_due.set()

    async def _make_durable(self, group: list[_Waiting], entries: list[bytes], state: Sheets) -> None:
        if not entries:
            return
        unit = await self._log.begin()
        try:
            for entry in entries:
                await self._log.write_entry(unit, entry)
            seq = await self._log.commit(unit)
        except ContextDnaError as error:
            await self._log.rollback(unit)
            for waiting in group:
                waiting.error = waiting.error or copy(error)  # each its own: raised twice, one would gather both traces
            return
        self._committed, self._seq = state, seq


class _Counted:
    """How large a snapshot is, once it is written."""

    def __init__(self) -> None:
        self.size = 0

    def chunks(self, sheets: Sheets) -> Iterator[bytes]:
        for chunk in redo.snapshot(sheets):
            self.size += len(chunk)
            yield chunk


@asynccontextmanager
async def open_durable(
    log: WriteAheadLog, snapshots: Snapshots, *, checkpoint_bytes: int = CHECKPOINT_BYTES
) -> AsyncIterator[DurableInMemoryDatabase]:
    """Open the database that a log holds; empty where that is new.

    Raises:
        IntegrityFault: ``log_damaged``, also where the snapshot and the log do not fit.
        StorageUnavailable: The log or the snapshot cannot be read.
    """
    sheets, seq, size = await _recovered(log, snapshots)
    database = DurableInMemoryDatabase(
        log, snapshots, sheets, seq=seq, snapshot_bytes=size, checkpoint_bytes=checkpoint_bytes
    )
    async with running(database.keep_log_short):
        yield database


async def _recovered(log: WriteAheadLog, snapshots: Snapshots) -> tuple[Sheets, int, int]:
    status, sheets, seq, size = await log.status(), Sheets(), 0, 0
    snapshot = await snapshots.load()
    if snapshot is not None:
        if snapshot.log_id != status.log_id or snapshot.seq > status.last_seq:
            raise _unfit("the snapshot is not of this log, or the log has lost its end")
        seq, size = snapshot.seq, snapshot.size_bytes
        for chunk in snapshot.chunks:
            redo.apply(chunk, sheets)
    if status.forgotten_seq > seq:
        raise _unfit("the snapshot that holds what it has forgotten is missing")
    async for entry in log.recover(after=seq):
        redo.apply(entry.data, sheets)
        seq = entry.seq
    return sheets, seq, size


def _unfit(what: str) -> IntegrityFault:
    return IntegrityFault(
        f"the write-ahead log is damaged: {what}",
        code="log_damaged",
        hint="Nothing was changed. Restore the data folder from a backup.",
    )
