"""A write-ahead log in a SQLite file of its own.

Not in the database's file: what is kept here is kept for when that cannot be written, and its flushes would wait for
those of the database.
"""

import os
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from contextdna.backends import owner
from contextdna.backends.folders import make_folder
from contextdna.backends.grouped_log import GroupedLog, open_grouped
from contextdna.backends.log_entries import EntrySeals, crc32c, damaged, in_use, unknown_seq
from contextdna.backends.sqlite.driver import (
    connect_writer,
    library,
    mapped_error,
    retry_while_busy,
    with_mapped_errors,
)
from contextdna.errors import StorageUnavailable
from contextdna.ports.write_ahead_log import Sealer
from contextdna.values.log_entry import LogEntry, LogStatus

_FORMAT: Final = 1
_LOG_ID_BYTES: Final = 16
_PAGE_ENTRIES: Final = 256
_PAGE_BYTES: Final = 16 * 1024 * 1024
_BUSY_S: Final = 5.0

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS log (one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER NOT NULL, "
    "log_id BLOB NOT NULL, last_seq INTEGER NOT NULL, forgotten_seq INTEGER NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS entries (seq INTEGER PRIMARY KEY, sealed INTEGER NOT NULL, crc INTEGER NOT NULL, "
    "data BLOB NOT NULL) STRICT",
)


class SqliteLogStore:
    """``LogStore`` in a file that one process owns.

    Args:
        path: The file.
        sealer: Seals each entry; None leaves them as they are.
    """

    def __init__(self, path: Path, *, sealer: Sealer | None) -> None:
        self._path = path
        self._lock = with_mapped_errors(_own, path)
        self.last_seq = 0
        self.forgotten = 0
        try:
            self._connection = connect_writer(path, busy_timeout_s=_BUSY_S)
        except BaseException:
            os.close(self._lock)
            raise
        try:
            with_mapped_errors(self._open, sealer)
        except BaseException:
            self._let_go()
            raise

    def append(self, units: Sequence[Sequence[bytes]]) -> Sequence[int | BaseException]:
        """Make units durable together; gives the number of each one's last entry.

        Raises:
            StorageUnavailable: None was kept.
        """
        seq = self.last_seq
        outcomes: list[int | BaseException] = []
        rows = []
        for entries in units:
            rows += [self._row(at, entry) for at, entry in enumerate(entries, seq + 1)]
            seq += len(entries)
            outcomes.append(seq)
        self._transact("INSERT INTO entries (seq, sealed, crc, data) VALUES (?, ?, ?, ?)", rows, "last_seq", seq)
        self.last_seq = seq
        return outcomes

    def page(self, after: int) -> list[LogEntry]:
        """Give the next entries behind a number, that are not forgotten.

        Raises:
            IntegrityFault: ``log_damaged`` or ``wrong_key``.
            StorageUnavailable: They cannot be read.
        """
        after = max(after, self.forgotten)
        found: list[LogEntry] = []
        size = 0
        query = "SELECT seq, sealed, crc, data FROM entries WHERE seq > ? ORDER BY seq LIMIT ?"
        try:
            for seq, sealed, crc, data in self._connection.execute(query, (after, _PAGE_ENTRIES)):
                if seq != after + 1 or crc != crc32c(data):
                    break
                found.append(self._seals.open(seq, data, is_sealed=bool(sealed)))
                after, size = seq, size + len(data)
                if size > _PAGE_BYTES:
                    break
        except library.Error as error:
            raise mapped_error(error) from error
        if not found and after < self.last_seq:
            raise damaged(f"entry {after + 1} is not what was written")
        return found

    def forget(self, seq: int) -> None:
        """Drop all entries up to a number, durably; SQLite overwrites them with zeros.

        Raises:
            InvalidInput: ``log_seq_unknown``.
            StorageUnavailable: It cannot be written.
        """
        if seq > self.last_seq:
            raise unknown_seq(seq)
        if seq <= self.forgotten:
            return
        self._transact("DELETE FROM entries WHERE seq <= ?", [(seq,)], "forgotten_seq", seq)
        self.forgotten = seq
        if seq == self.last_seq:
            with suppress(library.Error):  # what is done is still in SQLite's own log: emptied here or at the next time
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def status(self) -> LogStatus:
        """Report on the log."""
        paths = (self._path, self._path.with_name(f"{self._path.name}-wal"))
        return LogStatus(
            engine="sqlite",
            log_id=self._log_id.hex(),
            entries=self.last_seq - self.forgotten,
            last_seq=self.last_seq,
            forgotten_seq=self.forgotten,
            size_bytes=sum(path.stat().st_size for path in paths if path.exists()),
        )

    def close(self) -> None:
        """Let go of the file."""
        self._let_go()

    def _open(self, sealer: Sealer | None) -> None:
        deadline = time.monotonic() + _BUSY_S
        for statement in _SCHEMA:
            retry_while_busy(partial(self._connection.execute, statement), deadline)
        row = (1, _FORMAT, secrets.token_bytes(_LOG_ID_BYTES), 0, 0)
        self._connection.execute("INSERT OR IGNORE INTO log VALUES (?, ?, ?, ?, ?)", row)
        version, self._log_id, self.last_seq, self.forgotten = self._connection.execute(
            "SELECT format, log_id, last_seq, forgotten_seq FROM log"
        ).fetchone()
        if version > _FORMAT:
            raise StorageUnavailable(
                f"the write-ahead log is of format {version}, this version reads up to {_FORMAT}",
                code="log_newer",
                hint="Use the version of contextdna that wrote it, or a newer one.",
            )
        held, newest = self._connection.execute("SELECT count(*), coalesce(max(seq), 0) FROM entries").fetchone()
        if held != self.last_seq - self.forgotten or newest not in (0, self.last_seq):
            raise damaged("entries are missing")
        self._seals = EntrySeals(self._log_id, sealer)

    def _row(self, seq: int, entry: bytes) -> tuple[int, bool, int, bytes]:
        sealed = self._seals.seal(seq, entry)
        return seq, self._seals.is_sealing, crc32c(sealed), sealed

    def _transact(self, statement: str, rows: Sequence[Any], column: str, seq: int) -> None:
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(statement, rows)
                execute(f"UPDATE log SET {column} = ?", (seq,))  # noqa: S608 - one of two names of ours
                execute("COMMIT")
            except BaseException:
                with suppress(library.Error):  # SQLite has rolled back by itself
                    execute("ROLLBACK")
                raise
        except library.Error as error:
            raise mapped_error(error) from error

    def _let_go(self) -> None:
        self._connection.close()
        os.close(self._lock)


def _own(path: Path) -> int:
    make_folder(path.parent)
    try:
        return owner.own(path.with_name(f"{path.name}-owner"))
    except BlockingIOError as error:
        raise in_use() from error


@asynccontextmanager
async def open_sqlite_log(path: Path, *, sealer: Sealer | None = None) -> AsyncIterator[GroupedLog]:
    """Open a log and own it, made where there is none.

    Args:
        path: A file of its own, which gets 0600 and a new folder 0700.
        sealer: Seals each entry; without one what the entries hold lies there as it is.

    Raises:
        StorageUnavailable: ``log_in_use``, ``log_newer``, or the file cannot be used.
        IntegrityFault: ``log_damaged``, ``database_corrupt`` or ``not_a_database``.
    """
    async with open_grouped(partial(SqliteLogStore, path, sealer=sealer)) as log:
        yield log
