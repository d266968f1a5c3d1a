"""Runs units of work on a connection's own thread: reads on a snapshot, writes in groups."""

import asyncio
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from typing import Any, Final, TypeVar

from contextdna.backends.relational.match import match_text
from contextdna.backends.relational.statements import Params, Row
from contextdna.backends.relational.transaction import tables_over
from contextdna.backends.sqlite.driver import Thread, is_busy, library, mapped_error, retry_while_busy
from contextdna.errors import StorageUnavailable
from contextdna.ports.database import Transaction, Unit
from contextdna.values.search import Match

R = TypeVar("R")

_HELD: Final = ("index_insert", "audit_append", "event_append")
"""Inserts that may wait until the end of the group: nothing in a unit depends on them."""


Mark = tuple[tuple[int, int], ...]
"""For each held insert: how many rows there are, and how many of them are written."""


class WritingExecutor:
    """Runs statements on the writing connection. No coroutine of it ever suspends.

    Some inserts are held back and written at once for the whole group: before COMMIT, or before a statement that looks
    at their table. FTS5 writes out a segment of its own at every savepoint, and one statement for many rows is cheaper
    than one for each.
    """

    def __init__(self, connection: Any, statements: Mapping[str, str]) -> None:
        self._execute = connection.execute
        self._execute_many = connection.executemany
        self._statements = statements
        self._held: dict[str, list[Params]] = {name: [] for name in _HELD}
        self._written: dict[str, int] = dict.fromkeys(_HELD, 0)
        self._looks_at = _watchers(statements)

    async def rows(self, name: str, params: Params = ()) -> list[Row]:
        """Run a query and fetch all its rows."""
        if name in self._looks_at:
            self._write(self._looks_at[name])
        rows: list[Row] = self._execute(self._statements[name], params).fetchall()
        return rows

    async def run(self, name: str, params: Params = ()) -> int:
        """Run a statement and give how many rows it changed."""
        if name in self._held:
            self._held[name].append(params)
            return 1
        if name in self._looks_at:
            self._write(self._looks_at[name])
        changed: int = self._execute(self._statements[name], params).rowcount
        return changed

    async def run_many(self, name: str, params: Sequence[Params]) -> None:
        """Run a statement once for each set of parameters."""
        if name in self._held:
            self._held[name].extend(params)
            return
        if name in self._looks_at:
            self._write(self._looks_at[name])
        if len(params) == 1:
            self._execute(self._statements[name], params[0])
        else:
            self._execute_many(self._statements[name], params)

    def match_params(self, match: Match) -> Params:
        """Write a match for FTS5."""
        return (match_text(match),)

    def write_held(self) -> None:
        """Write all rows that are held back."""
        self._write(_HELD)

    def _write(self, names: Iterable[str]) -> None:
        for name in names:
            rows, written = self._held[name], self._written[name]
            if written < len(rows):
                self._execute_many(self._statements[name], rows[written:])
                self._written[name] = len(rows)

    def mark(self) -> Mark:
        """Note how far the held inserts have come, for a savepoint."""
        return tuple((len(self._held[name]), self._written[name]) for name in _HELD)

    def return_to(self, mark: Mark) -> None:
        """Forget the rows since a mark; those written since then but held before are held again."""
        for name, (held, written) in zip(_HELD, mark, strict=True):
            del self._held[name][held:]
            self._written[name] = written

    def clear(self) -> None:
        """Forget all, at the end of a transaction."""
        for name in _HELD:
            self._held[name].clear()
            self._written[name] = 0


def _watchers(statements: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Find which statements name the table of a held insert: statement -> the inserts to write before it."""
    tables = {name: statements[name].split("INTO ", 1)[1].split()[0] for name in _HELD}
    watchers = {
        # Each open looks through all statements, so for a part of a word first, which is quick.
        watcher: tuple(name for name, table in tables.items() if table in text and re.search(rf"\b{table}\b", text))
        for watcher, text in statements.items()
        if watcher not in _HELD
    }
    return {watcher: names for watcher, names in watchers.items() if names}


class ReadingExecutor:
    """Runs queries on a reading connection. No coroutine of it ever suspends."""

    def __init__(self, connection: Any, statements: Mapping[str, str]) -> None:
        self._execute = connection.execute
        self._statements = statements

    async def rows(self, name: str, params: Params = ()) -> list[Row]:
        """Run a query and fetch all its rows."""
        rows: list[Row] = self._execute(self._statements[name], params).fetchall()
        return rows

    async def run(self, name: str, params: Params = ()) -> int:  # noqa: ARG002 - the protocol's names
        """Refuse."""
        raise RuntimeError(f"a read unit may not write ({name})")

    async def run_many(self, name: str, params: Sequence[Params]) -> None:  # noqa: ARG002 - the protocol's names
        """Refuse."""
        raise RuntimeError(f"a read unit may not write ({name})")

    def match_params(self, match: Match) -> Params:
        """Write a match for FTS5."""
        return (match_text(match),)


def drive(unit: Unit[Any], tables: Transaction) -> Any:
    """Run a unit to its end in one step, on this thread.

    Raises:
        RuntimeError: The unit awaited something that suspends.
        Exception: Whatever the unit raised.
    """
    steps = unit(tables).__await__()
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    close = getattr(steps, "close", None)
    if close:
        close()
    raise RuntimeError("a unit of work may await nothing but the tables of its transaction: it suspended")


_INTERRUPT_AGAIN_S: Final = 0.02


class _Turn:
    """A unit's time on a reading connection."""

    __slots__ = ("given_up",)

    def __init__(self) -> None:
        self.given_up = False


class ReadingThread:
    """One reading connection: each unit sees one snapshot.

    A unit whose caller was cancelled is interrupted, so that the next one need not wait for an answer to nobody. The
    lock ties an interrupt to its unit: none is sent once that has ended, so that none can meet the next.
    """

    def __init__(self, thread: Thread, statements: Mapping[str, str]) -> None:
        self.thread = thread
        self._execute = thread.raw.execute
        self._interrupt = thread.raw.interrupt
        self._tables = tables_over(ReadingExecutor(thread.raw, statements))
        self._lock = threading.Lock()
        self._running: _Turn | None = None

    async def read(self, unit: Unit[Any]) -> Any:
        """Run a unit in a read transaction."""
        turn = _Turn()
        try:
            return await self.thread.run(self._read, unit, turn)
        except asyncio.CancelledError:
            self._give_up(turn)
            raise

    def _give_up(self, turn: _Turn) -> None:
        """Interrupt a unit, again until it ends: an interrupt between two of its statements has no effect."""
        with self._lock:
            turn.given_up = True
            if self._running is not turn:
                return
            self._interrupt()
        asyncio.get_running_loop().call_later(_INTERRUPT_AGAIN_S, self._give_up, turn)

    async def revision(self) -> int:
        """Give SQLite's count of commits by others. Source: https://sqlite.org/pragma.html#pragma_data_version"""
        return await self.thread.run(self._revision)

    def _revision(self) -> int:
        try:
            return int(self._execute("PRAGMA data_version").fetchone()[0])
        except library.Error as error:
            raise mapped_error(error) from error

    def _read(self, unit: Unit[Any], turn: _Turn) -> Any:
        try:
            self._execute("BEGIN")
            try:
                self._set_running(turn)
                return None if turn.given_up else drive(unit, self._tables)
            finally:
                self._set_running(None)
                self._execute("COMMIT")
        except library.Error as error:
            raise mapped_error(error) from error

    def _set_running(self, turn: _Turn | None) -> None:
        with self._lock:
            self._running = turn


class _Waiting:
    """A unit and the future of its caller."""

    __slots__ = ("error", "future", "result", "unit")

    def __init__(self, unit: Unit[Any], future: asyncio.Future[Any]) -> None:
        self.unit = unit
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def answer(self) -> None:
        if self.future.done():
            return  # the caller was cancelled
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class _TransactionLost(Exception):
    """SQLite rolled the whole transaction back under a unit, as it may after a full disk."""


class GroupWriter:
    """The writing connection: whatever units wait when it gets free are committed together.

    The thread takes the next group itself, so no task stands between it and the callers: none to be cancelled, none
    to die, and no hop more. A cancelled caller's unit that has not begun is left out; one that has begun may be
    committed.
    """

    def __init__(self, thread: Thread, statements: Mapping[str, str], *, group_max: int, busy_timeout_s: float) -> None:
        self.thread = thread
        self._loop = asyncio.get_running_loop()
        self._execute = thread.raw.execute
        self._connection = thread.raw
        self._executor = WritingExecutor(thread.raw, statements)
        self._tables = tables_over(self._executor)
        self._group_max = group_max
        self._busy_timeout_s = busy_timeout_s
        self._queue: deque[_Waiting] = deque()
        self._scheduled = False
        self._broken: BaseException | None = None
        self._contended_until = 0.0

    async def write(self, unit: Unit[Any]) -> Any:
        """Queue a unit and wait until it is durable."""
        if self._broken is not None:
            raise _stopped() from self._broken
        waiting = _Waiting(unit, self._loop.create_future())
        self._queue.append(waiting)
        if not self._scheduled:
            self._scheduled = True
            self.thread.submit(self._commit_next)
        return await waiting.future

    async def alone(self, fn: Callable[..., R], *args: Any) -> R:
        """Run a function on the thread, between groups and outside any transaction."""
        return await self.thread.run(fn, *args)

    async def drain(self) -> None:
        """Wait until nothing is queued."""
        while self._queue or self._scheduled:
            await self.thread.run(_nothing)

    # What follows runs on the thread.

    def _commit_next(self) -> None:
        # Cleared first: a caller that comes from here on schedules another turn, at worst one that finds nothing.
        self._scheduled = False
        group: list[_Waiting] = []
        try:
            while self._queue and len(group) < self._group_max:
                waiting = self._queue.popleft()
                if not waiting.future.cancelled():
                    group.append(waiting)
            if group:
                self._commit(group)
        except BaseException as error:  # noqa: BLE001 - owned by this thread: nobody may be left waiting
            self._broken = error
            group.extend(self._queue)
            self._queue.clear()
            for waiting in group:
                waiting.error = waiting.error or _stopped()
        with suppress(RuntimeError):  # the loop is gone, and its callers with it
            self._loop.call_soon_threadsafe(_answer, group)
        if self._queue and not self._scheduled:
            self._scheduled = True
            self.thread.submit(self._commit_next)

    def _commit(self, group: Sequence[_Waiting]) -> None:
        try:
            self._begin(group)
        except StorageUnavailable as error:
            for waiting in group:
                waiting.error = copy(error)
            return
        try:
            if len(group) == 1:
                group[0].result = drive(group[0].unit, self._tables)
            else:
                for waiting in group:
                    self._run_in_savepoint(waiting)
            self._executor.write_held()
        except BaseException as error:  # noqa: BLE001 - a unit may raise anything; its caller gets it
            self._roll_back()
            if len(group) == 1:
                group[0].error = _for_caller(error)
            else:
                # The transaction is lost with the work of all: each gets one of its own, and fails alone.
                for waiting in group:
                    waiting.result = waiting.error = None
                    self._commit([waiting])
            return
        try:
            self._execute("COMMIT")
        except library.Error as error:
            self._roll_back()
            for waiting in group:
                waiting.error = waiting.error or mapped_error(error)
        finally:
            self._executor.clear()

    def _begin(self, group: Sequence[_Waiting]) -> None:
        self._executor.clear()
        if self._contended_until and time.monotonic() < self._contended_until:
            time.sleep(_COURTESY_S)
        try:
            self._execute("BEGIN IMMEDIATE")
            return
        except library.Error as error:
            if not is_busy(error):
                raise mapped_error(error) from error
        self._contended_until = time.monotonic() + 1.0

        def attempt() -> None:
            if all(waiting.future.cancelled() for waiting in group):
                raise StorageUnavailable("nobody waits for the write any more")  # a server that ends would
            self._execute("BEGIN IMMEDIATE")

        retry_while_busy(attempt, time.monotonic() + self._busy_timeout_s)

    def _run_in_savepoint(self, waiting: _Waiting) -> None:
        mark = self._executor.mark()
        self._execute("SAVEPOINT unit")
        try:
            waiting.result = drive(waiting.unit, self._tables)
        except BaseException as error:
            if not self._connection.in_transaction:
                raise _TransactionLost from error
            waiting.error = _for_caller(error)
            self._execute("ROLLBACK TO unit")
            self._executor.return_to(mark)
        self._execute("RELEASE unit")

    def _roll_back(self) -> None:
        self._executor.clear()
        if self._connection.in_transaction:
            self._execute("ROLLBACK")


# How long a process that met another writer in the last second leaves the lock free between its groups.
_COURTESY_S: Final = 0.001


def _nothing() -> None:
    pass


def _answer(group: Sequence[_Waiting]) -> None:
    for waiting in group:
        waiting.answer()


def _for_caller(error: BaseException) -> BaseException:
    if not isinstance(error, library.Error):
        return error
    ours = mapped_error(error)
    ours.__cause__ = error
    return ours


def _stopped() -> StorageUnavailable:
    return StorageUnavailable(
        "the database's writer has stopped after an error",
        code="storage_stopped",
        hint="Restart the server and run the doctor command.",
    )
