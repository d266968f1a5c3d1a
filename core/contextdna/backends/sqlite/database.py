"""The SQLite database: opening, the pool of readers, health, closing."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio

from contextdna.backends.fair_lock import FairLock
from contextdna.backends.migrations import load_migrations
from contextdna.backends.relational.statements import load_statements
from contextdna.backends.sqlite.driver import (
    ENGINE_VERSION,
    connect_reader,
    connect_writer,
    has_wal_reset_bug,
    library,
    mapped_error,
    on_thread,
    open_thread,
    safe_from_other_processes,
    with_mapped_errors,
)
from contextdna.backends.sqlite.moving import refuse_incomplete
from contextdna.backends.sqlite.remains import empty_log, has_purged_entries, merge_index
from contextdna.backends.sqlite.schema import DIALECT, migrate
from contextdna.backends.sqlite.units import GroupWriter, ReadingThread
from contextdna.errors import ContextDnaError, StorageUnavailable
from contextdna.ports.database import DatabaseStatus, Unit

R = TypeVar("R")

_MERGE_PAGES: Final = 200  # of the index in one step: 12 ms measured, in which other writes wait


class SqliteDatabase:
    """Fulfils ``ports.database.Database`` on one file, which other processes may use at the same time."""

    def __init__(
        self,
        writer: GroupWriter,
        open_reader: Callable[[], Any],
        *,
        readers: int,
        queue_max: int,
        busy_timeout_s: float,
    ) -> None:
        self._writer = writer
        self._open_reader = open_reader
        self._room = anyio.Semaphore(queue_max, fast_acquire=True)
        self._seats = anyio.Semaphore(readers, fast_acquire=True)
        self._searches = FairLock()
        self._idle: list[ReadingThread] = []
        self._readers: list[ReadingThread] = []
        self._watcher: ReadingThread | None = None
        self._busy_timeout_s = busy_timeout_s
        self._closed = False

    async def write(self, unit: Unit[R]) -> R:
        """Run a unit alone and answer once it is durable.

        A caller that is cancelled before its unit has begun leaves it undone; later the outcome is open.

        Raises:
            StorageUnavailable: Busy past the deadline, full, read-only or closed. Nothing was written.
            Exception: Whatever the unit raised.
        """
        async with self._room:
            self._check_open()
            result: R = await self._writer.write(unit)
            return result

    async def read(
        self,
        unit: Unit[R],
        *,
        enough: Callable[[R], bool] | None = None,  # noqa: ARG002 - no copies
        search_by: str = "",
    ) -> R:
        """Run a unit on one consistent snapshot; writing in it is an error.

        Searches run one at a time, and those who ask take turns. They compute more than they read, and Python computes
        on one thread at a time: three at once answer no more of them, at up to half as much CPU time again, and take
        the seats of short reads.

        Args:
            unit: The unit.
            enough: No copy answers here.
            search_by: Who searches with the unit; empty where it does not search.

        Raises:
            StorageUnavailable: The engine cannot answer.
            RuntimeError: The unit wrote.
            Exception: Whatever the unit raised.
        """
        async with self._searches.held_for(search_by) if search_by else nullcontext(), self._reading() as reader:
            result: R = await reader.read(unit)
            return result

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[ReadingThread]:
        async with self._seats:
            self._check_open()
            reader = self._idle.pop() if self._idle else await self._new_reader()
            try:
                yield reader
            finally:
                self._idle.append(reader)

    async def revision(self) -> int:
        """Give a number that is another one after other connections, of any process, have committed.

        Raises:
            StorageUnavailable: The engine cannot answer.
        """
        self._check_open()
        if self._watcher is None:  # a connection of its own, as each counts for itself
            self._watcher = await self._new_reader()
        return await self._watcher.revision()

    async def status(self, *, deep: bool = False) -> DatabaseStatus:
        """Report on the engine; ``deep`` also checks every page and the index, which takes time on large files."""
        self._check_open()
        status: DatabaseStatus
        try:
            if deep:
                status = await self._writer.alone(lambda: _status(self._writer.thread.raw, deep=True))
            else:  # beside the writer, which may be waiting for another process
                async with self._reading() as reader:
                    status = await reader.thread.run(lambda: _status(reader.thread.raw, deep=False))
        except ContextDnaError as error:
            return DatabaseStatus("sqlite", ENGINE_VERSION, 0, 0, sound=False, problem=error.message)
        return status

    async def shred_remains(self) -> None:
        """Drop what purged rows left in logs and free pages.

        Free pages are overwritten at once (``secure_delete``); here the index is rewritten without the entries of
        purged records, where it has any, and the write-ahead log is emptied. Writes of others go on in between.

        Raises:
            StorageUnavailable: ``storage_busy``: a reader kept the log in use for too long, or another process wrote.
        """
        self._check_open()
        connection = self._writer.thread.raw
        deadline = time.monotonic() + self._busy_timeout_s
        if await self._writer.alone(with_mapped_errors, has_purged_entries, connection):
            pages = -_MERGE_PAGES  # negative: begin to merge everything
            while await self._writer.alone(merge_index, connection, pages, deadline):
                pages = _MERGE_PAGES
        while not await self._writer.alone(with_mapped_errors, empty_log, connection):
            if time.monotonic() >= deadline:
                raise StorageUnavailable(
                    "the write-ahead log is in use",
                    code="storage_busy",
                    hint="Try again when other processes are done reading.",
                    retryable=True,
                )
            await anyio.sleep(0.01)

    async def _new_reader(self) -> ReadingThread:
        thread = await open_thread(self._open_reader)
        reader = ReadingThread(thread, load_statements(DIALECT))
        self._readers.append(reader)
        return reader

    async def open_first_reader(self) -> None:
        """Open one reading connection ahead of the first read."""
        self._idle.append(await self._new_reader())

    async def close(self) -> None:
        """Finish what is queued, empty the log where nobody else uses it, and close the readers."""
        if self._closed:
            return
        self._closed = True
        for reader in self._readers:
            await reader.thread.close()
        await self._writer.drain()
        with suppress(ContextDnaError):
            await self._writer.alone(with_mapped_errors, empty_log, self._writer.thread.raw)

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailable("the database is closed", code="storage_closed", hint="Open it again.")


@asynccontextmanager
async def open_sqlite(
    path: Path, *, readers: int = 3, group_max: int = 256, busy_timeout_s: float = 30.0
) -> AsyncIterator[SqliteDatabase]:
    """Open a database, made and migrated where needed.

    Args:
        path: The file. It gets 0600 and a new folder 0700.
        readers: Reading connections at most.
        group_max: Units that are committed together at most.
        busy_timeout_s: How long to wait for other processes.

    Raises:
        StorageUnavailable: It cannot be opened, is of a newer schema (``schema_newer``), an installation is being moved
            into it (``move_incomplete``), or the engine is too old for it (``engine_too_old``) or for sharing it
            (``engine_unsafe``).
        IntegrityFault: It is damaged, not a database, or a migration was changed.
    """
    async with on_thread(lambda: connect_writer(path, busy_timeout_s=busy_timeout_s)) as thread:
        with safe_from_other_processes(path):
            await thread.run(migrate, thread.raw, load_migrations(DIALECT), None, busy_timeout_s)
            await thread.run(with_mapped_errors, refuse_incomplete, thread.raw)
            database = SqliteDatabase(
                GroupWriter(thread, load_statements(DIALECT), group_max=group_max, busy_timeout_s=busy_timeout_s),
                lambda: connect_reader(path, busy_timeout_s=busy_timeout_s),
                readers=readers,
                queue_max=4 * group_max,
                busy_timeout_s=busy_timeout_s,
            )
            try:
                await database.open_first_reader()
                yield database
            finally:
                with anyio.CancelScope(shield=True):
                    await database.close()


def _status(connection: Any, *, deep: bool) -> DatabaseStatus:
    try:
        version = connection.execute("SELECT coalesce(max(version), 0) FROM schema_migrations").fetchone()[0]
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")] if deep else ["ok"]
    except library.Error as error:
        raise mapped_error(error) from error
    sound = found == ["ok"]
    problem = "" if sound else f"the integrity check failed: {len(found)} or more problems"
    if sound and has_wal_reset_bug():
        problem = f"SQLite {ENGINE_VERSION} may damage a file that several processes write; install pysqlite3."
    return DatabaseStatus("sqlite", ENGINE_VERSION, version, pages * page_bytes, sound=sound, problem=problem)
