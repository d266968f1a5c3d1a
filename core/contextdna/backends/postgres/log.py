"""A write-ahead log in PostgreSQL, in two tables of its own: made when a log is first opened, as few need one.

One process owns a log by an advisory lock of its connection. A lock is lost with its connection, so each append also
checks that the log still ends where this process left it: who has lost it unawares writes nothing.
"""

import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from copy import copy
from typing import Any, Final, TypeVar

import anyio

from contextdna.backends.log_entries import EntrySeals, crc32c, damaged, in_use, unknown_seq
from contextdna.backends.open_units import OpenUnits
from contextdna.backends.postgres.driver import DRIVER_ERRORS, Server, connect, is_cut_off, mapped_error, unavailable
from contextdna.errors import ContextDnaError, StorageUnavailable
from contextdna.ports.write_ahead_log import Sealer
from contextdna.values.log_entry import LogEntry, LogStatus, LogUnit

R = TypeVar("R")

_LOG_ID_BYTES: Final = 16
_GROUP_UNITS_MAX: Final = 256
_GROUP_BYTES_MAX: Final = 16 * 1024 * 1024
_PAGE_ENTRIES: Final = 64
_GOODBYE_S: Final = 2.0

_SCHEMA: Final = """
BEGIN;
SELECT pg_advisory_xact_lock(hashtextextended('contextdna write-ahead logs', 0));
CREATE TABLE IF NOT EXISTS write_ahead_logs (
    name text PRIMARY KEY, log_id bytea NOT NULL, last_seq bigint NOT NULL, forgotten_seq bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS write_ahead_entries (
    log_id bytea NOT NULL, seq bigint NOT NULL, sealed boolean NOT NULL, crc bigint NOT NULL, data bytea NOT NULL,
    PRIMARY KEY (log_id, seq)
);
COMMIT;
"""
_OWN: Final = "SELECT pg_try_advisory_lock(hashtextextended('contextdna write-ahead log ' || $1, 0))"
_APPEND: Final = """
WITH owned AS (
    UPDATE write_ahead_logs SET last_seq = $3 WHERE log_id = $1 AND last_seq = $2 RETURNING log_id
)
INSERT INTO write_ahead_entries (log_id, seq, sealed, crc, data)
SELECT owned.log_id, entry.seq, $4, entry.crc, entry.data
FROM owned, unnest($5::bigint[], $6::bigint[], $7::bytea[]) AS entry (seq, crc, data)
"""
_FORGET: Final = """
WITH owned AS (
    UPDATE write_ahead_logs SET forgotten_seq = $3 WHERE log_id = $1 AND last_seq = $2 RETURNING log_id
)
DELETE FROM write_ahead_entries USING owned WHERE write_ahead_entries.log_id = owned.log_id AND seq <= $3
"""
_PAGE: Final = """
SELECT seq, sealed, crc, data FROM write_ahead_entries WHERE log_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""
_SIZE: Final = "SELECT coalesce(sum(octet_length(data)), 0)::bigint FROM write_ahead_entries WHERE log_id = $1"


class _Waiting:
    """A unit whose caller waits, and what became of it."""

    __slots__ = ("entries", "error", "is_over", "seq")

    def __init__(self, entries: Sequence[bytes]) -> None:
        self.entries = entries
        self.seq = 0
        self.error: ContextDnaError | None = None
        self.is_over = False


class PostgresLog:
    """``WriteAheadLog`` on one connection, which is made anew when it was lost."""

    def __init__(self, server: Server, name: str, sealer: Sealer | None) -> None:
        self._server = server
        self._name = name
        self._sealer = sealer
        self._connection: Any = None
        self._log_id = b""
        self._last_seq = 0
        self._forgotten = 0
        self._units = OpenUnits()
        self._queue: deque[_Waiting] = deque()
        self._using = anyio.Lock(fast_acquire=True)
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
            StorageUnavailable: The server is away; nothing is kept, but with ``storage_outcome_unknown``. With
                ``log_in_use`` another process has taken the log over.
            InvalidInput: ``log_unit_unknown``.
        """
        waiting = _Waiting(self._units.take(unit))
        self._check_open()
        if not waiting.entries:
            return self._last_seq
        self._queue.append(waiting)
        try:
            async with self._using:
                if not waiting.is_over:
                    with anyio.CancelScope(shield=True):  # others wait for the same commit; statements have deadlines
                        await self._commit_group()
        except BaseException:
            if waiting in self._queue:  # its caller is gone
                self._queue.remove(waiting)
            raise
        if waiting.error is not None:
            raise waiting.error
        return waiting.seq

    async def rollback(self, unit: LogUnit) -> None:
        """Drop a unit."""
        self._units.drop(unit)

    async def recover(self, *, after: int = 0) -> AsyncIterator[LogEntry]:
        """Give the committed entries that are not forgotten, in order, a page at a time.

        Raises:
            IntegrityFault: ``log_damaged`` or ``wrong_key``.
            StorageUnavailable: The server is away.
        """
        async with self._using:
            await self._connected()
        last_seq, at = self._last_seq, after
        while (at := max(at, self._forgotten)) < last_seq:
            for entry in await self._page(at):
                at = entry.seq
                if at <= last_seq:
                    yield entry

    async def forget(self, seq: int) -> None:
        """Drop all entries up to a number, durably.

        Raises:
            StorageUnavailable: The server is away.
            InvalidInput: ``log_seq_unknown``.
        """
        if seq > self._last_seq:
            raise unknown_seq(seq)
        async with self._using:
            await self._connected()
            if seq <= self._forgotten:
                return
            params = (self._log_id, self._last_seq, seq)
            status = await self._ask(lambda link: link.execute(_FORGET, *params), changes=True)
            if status != f"DELETE {seq - self._forgotten}":
                await self._cut()
                raise in_use()
            self._forgotten = seq

    async def status(self) -> LogStatus:
        """Report on the log."""
        size, problem = 0, ""
        try:
            async with self._using:
                size = await self._ask(lambda link: link.fetchval(_SIZE, self._log_id))
        except ContextDnaError as error:
            problem = error.message
        return LogStatus(
            engine="postgresql",
            log_id=self._log_id.hex(),
            entries=self._last_seq - self._forgotten,
            last_seq=self._last_seq,
            forgotten_seq=self._forgotten,
            size_bytes=size,
            sound=not problem,
            problem=problem,
        )

    async def open(self) -> None:
        """Make the tables and the log where they are not there, and own it."""
        async with self._using:
            await self._connected()

    async def close(self) -> None:
        """Let go of the log; open units are dropped."""
        self._is_closed = True
        async with self._using:
            await self._cut()

    async def _commit_group(self) -> None:
        group: list[_Waiting] = []
        size = 0
        while self._queue and len(group) < _GROUP_UNITS_MAX and size < _GROUP_BYTES_MAX:
            group.append(self._queue.popleft())
            size += sum(map(len, group[-1].entries))
        try:
            await self._append(group)
        except ContextDnaError as error:
            for waiting in group:
                waiting.error = copy(error)  # each its own: raised twice, one would gather both traces
        for waiting in group:
            waiting.is_over = True

    async def _append(self, group: Sequence[_Waiting]) -> None:
        await self._connected()  # first: after a loss it tells where the log ends
        first = self._last_seq + 1
        sealed = [self._seals.seal(seq, entry) for seq, entry in enumerate(_entries(group), first)]
        last = self._last_seq + len(sealed)
        params = (
            *(self._log_id, self._last_seq, last, self._seals.is_sealing),
            *(list(range(first, last + 1)), [crc32c(entry) for entry in sealed], sealed),
        )
        status = await self._ask(lambda link: link.execute(_APPEND, *params), changes=True)
        if status != f"INSERT 0 {len(sealed)}":
            await self._cut()
            raise in_use()
        for waiting in group:
            self._last_seq += len(waiting.entries)
            waiting.seq = self._last_seq

    async def _page(self, after: int) -> list[LogEntry]:
        async with self._using:
            rows = await self._ask(lambda link: link.fetch(_PAGE, self._log_id, after, _PAGE_ENTRIES))
        if after < self._forgotten:
            return []  # forgotten meanwhile: the caller goes on from there
        found = []
        for at, (seq, sealed, crc, data) in enumerate(rows, after + 1):
            if seq != at or crc != crc32c(data):
                break
            found.append(self._seals.open(seq, data, is_sealed=sealed))
        if not found and after < self._last_seq:
            raise damaged(f"entry {after + 1} is not what was written")
        return found

    async def _ask(self, ask: Callable[[Any], Awaitable[R]], *, changes: bool = False) -> R:
        connection = await self._connected()
        try:
            return await ask(connection)
        except DRIVER_ERRORS as error:
            failure = mapped_error(error)
            if is_cut_off(error):
                await self._cut()
                if changes:
                    failure = unavailable(
                        "storage_outcome_unknown", "the connection was lost while the log was written"
                    )
        raise failure

    async def _connected(self) -> Any:
        self._check_open()
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._server)
            try:
                await self._own()
            except DRIVER_ERRORS as error:
                failure = mapped_error(error)
            except ContextDnaError as error:
                failure = error
            else:
                return self._connection
            await self._cut()
            raise failure
        return self._connection

    async def _own(self) -> None:
        link = self._connection
        await link.execute("SET synchronous_commit = on")  # what is acknowledged is on the disk, whatever the default
        await link.execute(_SCHEMA)
        if not await link.fetchval(_OWN, self._name):
            raise in_use()
        await link.execute(
            "INSERT INTO write_ahead_logs VALUES ($1, $2, 0, 0) ON CONFLICT DO NOTHING",
            self._name,
            secrets.token_bytes(_LOG_ID_BYTES),
        )
        row = await link.fetchrow(
            "SELECT log_id, last_seq, forgotten_seq FROM write_ahead_logs WHERE name = $1", self._name
        )
        self._log_id, self._last_seq, self._forgotten = row
        held = await link.fetchval("SELECT count(*) FROM write_ahead_entries WHERE log_id = $1", self._log_id)
        if held != self._last_seq - self._forgotten:
            raise damaged("entries are missing")
        self._seals = EntrySeals(self._log_id, self._sealer)

    async def _cut(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=_GOODBYE_S)
            except DRIVER_ERRORS:
                connection.terminate()

    def _check_open(self) -> None:
        if self._is_closed:
            raise StorageUnavailable("the write-ahead log is closed", code="log_closed", hint="Open it again.")


def _entries(group: Sequence[_Waiting]) -> list[bytes]:
    return [entry for waiting in group for entry in waiting.entries]


@asynccontextmanager
async def open_postgres_log(
    url: str,
    *,
    name: str,
    sealer: Sealer | None = None,
    acquire_timeout_s: float = 10.0,
    statement_timeout_s: float = 15.0,
) -> AsyncIterator[PostgresLog]:
    """Open a log and own it; its tables are made where they are not there.

    Args:
        url: ``postgresql://user@host:5432/name``.
        name: Which of the logs in the database.
        sealer: Seals each entry; without one what the entries hold lies there as it is.
        acquire_timeout_s: How long to wait for a connection.
        statement_timeout_s: How long a statement may take.

    Raises:
        StorageUnavailable: ``log_in_use``, or the server is away.
        IntegrityFault: ``log_damaged``.
    """
    log = PostgresLog(Server(url, acquire_timeout_s, statement_timeout_s), name, sealer)
    try:
        await log.open()
        yield log
    finally:
        with anyio.CancelScope(shield=True):
            await log.close()
