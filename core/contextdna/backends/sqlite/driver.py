"""The one SQLite library of the process: which it is, how a connection is set up, what its errors mean."""

import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import aiosqlite
import anyio
import anyio.to_thread

from contextdna.errors import Conflict, ContextDnaError, IntegrityFault, LimitExceeded, StorageUnavailable

# Chosen once: two SQLite libraries on one file in one process undo each other's POSIX locks.
try:
    from pysqlite3 import dbapi2 as _library
except ModuleNotFoundError:
    import sqlite3 as _library  # no wheel for this platform

library: Final[Any] = _library
"""The DB-API module in use: pysqlite3, or the standard one where there is no wheel."""

ENGINE_VERSION: Final[str] = library.sqlite_version

_ENGINE_MIN: Final = (3, 43, 0)  # contentless_delete of FTS5
_WAL_RESET_BUG: Final = ((3, 7, 0), (3, 51, 2))

R = TypeVar("R")


def version_tuple(version: str) -> tuple[int, ...]:
    """Split a version such as ``3.53.4``."""
    return tuple(int(part) for part in version.split("."))


def has_wal_reset_bug(version: str = ENGINE_VERSION) -> bool:
    """Tell whether a SQLite version may corrupt a file that several processes write.

    Source: https://sqlite.org/wal.html#the_wal_reset_bug
    """
    first, last = _WAL_RESET_BUG
    return first <= version_tuple(version) <= last


class Thread(aiosqlite.Connection):
    """A connection on a thread of its own, that runs whole functions there.

    aiosqlite offers one hop to the thread per statement; a unit of work has several, so ``run`` hands a function over
    through the inherited ``_execute``: one hop for all of them. That is why aiosqlite is pinned to a minor version.
    """

    async def run(self, fn: Callable[..., R], *args: Any) -> R:
        """Run a function on the thread and await its result."""
        result: R = await self._execute(fn, *args)  # type: ignore[no-untyped-call]
        return result

    def submit(self, fn: Callable[[], None]) -> None:
        """Queue a function that answers by other means; it must not raise."""
        self._tx.put_nowait((None, fn))

    async def ended(self) -> None:
        """Wait for the end of a thread that was told to stop, so that it never answers to a closed loop."""
        await anyio.to_thread.run_sync(self._thread.join)

    @property
    def raw(self) -> Any:
        """The driver's connection, for functions that run on the thread."""
        return self._conn


async def open_thread(connect: Callable[[], Any]) -> Thread:
    """Start a thread and connect on it."""
    thread = Thread(connect, 64)
    try:
        await thread
    except BaseException:
        with anyio.CancelScope(shield=True):
            await thread.ended()
        raise
    return thread


@asynccontextmanager
async def on_thread(connect: Callable[[], Any]) -> AsyncIterator[Thread]:
    """Connect on a new thread for a while."""
    thread = await open_thread(connect)
    try:
        yield thread
    finally:
        with anyio.CancelScope(shield=True):
            await thread.close()


@contextmanager
def safe_from_other_processes(path: Path) -> Iterator[None]:
    """Keep other processes off the file for as long as the engine has the WAL-reset bug; else do nothing.

    Raises:
        StorageUnavailable: ``engine_unsafe``: another process has the file open.
    """
    if not has_wal_reset_bug(ENGINE_VERSION):
        yield
        return
    import fcntl  # absent on Windows, where there is always a wheel

    with path.with_name(f"{path.name}-owner").open("a") as owner:
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go by the system, too, when the process dies
        except OSError as error:
            raise StorageUnavailable(
                f"SQLite {ENGINE_VERSION} may damage a file that several processes write, and another one has it open",
                code="engine_unsafe",
                hint="Install pysqlite3 or a Python with SQLite 3.51.3 or newer, or run one server for all hosts.",
            ) from error
        yield


def connect_writer(path: Path, *, busy_timeout_s: float) -> Any:
    """Open the writing connection, making the file and its folder where there is none.

    Raises:
        StorageUnavailable: The file cannot be opened, or the engine is too old.
    """
    if version_tuple(ENGINE_VERSION) < _ENGINE_MIN:
        raise StorageUnavailable(
            f"SQLite {ENGINE_VERSION} is too old",
            code="engine_too_old",
            hint="Install the pysqlite3 wheel, or a Python whose SQLite is 3.43 or newer.",
        )
    with_mapped_errors(_create_file, path)
    deadline = time.monotonic() + busy_timeout_s
    return retry_while_busy(lambda: _connect(path, _WRITER_PRAGMAS), deadline)


def connect_reader(path: Path, *, busy_timeout_s: float) -> Any:
    """Open a reading connection.

    Raises:
        StorageUnavailable: The file cannot be opened.
    """
    deadline = time.monotonic() + busy_timeout_s
    return retry_while_busy(lambda: _connect(path, _READER_PRAGMAS), deadline)


# Each is set alone and read back: SQLite ignores what it does not know or may not do.
_PRAGMAS: Final[Mapping[str, str | int]] = {
    "synchronous": 2,
    "foreign_keys": 1,
    "secure_delete": 1,
    "mmap_size": 0,
    "trusted_schema": 0,
    "temp_store": 2,
}
# The caches of pages are small, so that they are full within seconds. With twice as much, stores and questions compute
# as much over 10,000 memories, and 3 to 5 % less over 100,000: the system holds the file, too, and what another
# connection commits empties them.
# The writer waits for other processes in retry_while_busy, which is fairer than SQLite's own back-off to 100 ms.
_WRITER_PRAGMAS: Final[Mapping[str, str | int]] = {
    "busy_timeout": 0,
    "journal_mode": "wal",
    "cache_size": -8_192,
    **_PRAGMAS,
}
_READER_PRAGMAS: Final[Mapping[str, str | int]] = {
    "busy_timeout": 5_000,
    "cache_size": -4_096,
    **_PRAGMAS,
    "query_only": 1,
}


def _connect(path: Path, pragmas: Mapping[str, str | int]) -> Any:
    connection = library.connect(os.fspath(path), isolation_level=None, cached_statements=256)
    try:
        for name, wanted in pragmas.items():
            _set_pragma(connection, name, wanted)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_pragma(connection: Any, name: str, wanted: str | int) -> None:
    connection.execute(f"PRAGMA {name} = {wanted}")
    row = connection.execute(f"PRAGMA {name}").fetchone()
    if name == "mmap_size" and row is None:
        return  # built without memory mapping
    if row is None or row[0] != wanted:
        raise StorageUnavailable(
            f"SQLite did not take {name} = {wanted}",
            code="storage_pragma_refused",
            hint="Keep the database on a local disk; network file systems do not support WAL.",
        )


def _create_file(path: Path) -> None:
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # the WAL takes its permissions from this file


_BUSY: Final = 5
_LOCKED: Final = 6
_CONSTRAINT: Final = 19
# pysqlite3 gives no extended codes. The second text is our own: a trigger guards the audit log against a second row.
_TAKEN: Final = ("UNIQUE constraint failed", "audit_log is append-only")


def is_busy(error: BaseException) -> bool:
    """Tell whether an error means that another connection holds a lock."""
    return _primary_code(error) in {_BUSY, _LOCKED}


def retry_while_busy(attempt: Callable[[], R], deadline: float) -> R:
    """Call until another process lets us, with jitter, or until a deadline (``time.monotonic``).

    Raises:
        StorageUnavailable: ``storage_busy``, and whatever else the error of an attempt means.
    """
    pause_s = 0.001
    while True:
        try:
            return attempt()
        except library.Error as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise mapped_error(error) from error
        time.sleep(random.uniform(0.0002, pause_s))  # noqa: S311 - jitter, not a secret
        pause_s = min(pause_s * 1.5, 0.01)


def with_mapped_errors(fn: Callable[..., R], *args: Any) -> R:
    """Call, and raise what a driver's or the file system's error means in our tree."""
    try:
        return fn(*args)
    except library.Error as error:
        raise mapped_error(error) from error
    except OSError as error:
        raise _unavailable("storage_cannot_open", "the database file cannot be opened or made") from error


def _primary_code(error: BaseException) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


_HINTS: Final[Mapping[str, str]] = {
    "storage_error": "Run the doctor command; if it finds nothing, report this as a bug.",
    "storage_no_permission": "Check the permissions of the database file and its folder.",
    "storage_busy": "Another process holds the database; try again.",
    "storage_no_memory": "Free memory and try again.",
    "storage_read_only": "Make the database file and its folder writable for this user.",
    "storage_interrupted": "Try again.",
    "storage_io_error": "Check the disk and the system log, then run the doctor command.",
    "storage_full": "Free disk space and try again; nothing was written.",
    "storage_cannot_open": "Check that the folder exists and that this user may read and write it.",
    "storage_pragma_refused": "Keep the database on a local disk.",
}

# Primary result codes of SQLite -> code of ours. Source: https://sqlite.org/rescode.html
_UNAVAILABLE: Final[Mapping[int, tuple[str, str]]] = {
    2: ("storage_error", "SQLite met an internal error"),
    3: ("storage_no_permission", "the system refused access to the database"),
    4: ("storage_interrupted", "the statement was aborted"),
    _BUSY: ("storage_busy", "the database is busy"),
    _LOCKED: ("storage_busy", "a table of the database is locked"),
    7: ("storage_no_memory", "SQLite ran out of memory"),
    8: ("storage_read_only", "the database is read-only"),
    9: ("storage_interrupted", "the statement was interrupted"),
    10: ("storage_io_error", "the disk reported an error"),
    13: ("storage_full", "the disk or the database is full"),
    14: ("storage_cannot_open", "the database file cannot be opened"),
    15: ("storage_busy", "the locks of the write-ahead log are contended"),
    17: ("storage_busy", "the schema changed under the statement"),
    22: ("storage_error", "the system lacks large files"),
    23: ("storage_no_permission", "the statement is not authorised"),
}
_RETRYABLE: Final = frozenset({"storage_busy", "storage_interrupted", "storage_full", "storage_no_memory"})


def mapped_error(error: BaseException) -> ContextDnaError:
    """Say in our tree what an error of the driver means. No text of the driver is passed on."""
    code = _primary_code(error)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code in _UNAVAILABLE:
        ours, message = _UNAVAILABLE[code]
        return _unavailable(ours, f"{message} ({name})")
    if code == 11:
        return IntegrityFault(
            f"the database file is damaged ({name})",
            code="database_corrupt",
            hint="Stop all processes that use it, keep a copy, and restore a backup.",
        )
    if code == 26:
        return IntegrityFault(
            f"the file is not an SQLite database ({name})",
            code="not_a_database",
            hint="Check the path in the settings; move the file away or restore a backup.",
        )
    if code == 18:
        return LimitExceeded(f"a value is over the limit of SQLite ({name})", hint="Send less at once.")
    if code == _CONSTRAINT and str(error).startswith(_TAKEN):
        return Conflict(
            f"a row of that key is there already ({name})",
            code="already_exists",
            hint="Nothing was written; use a new id.",
        )
    if code == _CONSTRAINT:
        return IntegrityFault(
            f"the change breaks a rule of the schema ({name})",
            code="constraint_violated",
            hint="Nothing was written; an id may be in use already, or the row may not be changed.",
        )
    return _unavailable("storage_error", f"SQLite refused the statement ({name})")


def _unavailable(code: str, message: str) -> StorageUnavailable:
    return StorageUnavailable(message, code=code, hint=_HINTS[code], retryable=code in _RETRYABLE)
