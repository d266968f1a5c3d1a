"""An SQLite file as the side that an installation is moved from, or to."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio

from contextdna.backends.migrations import load_migrations
from contextdna.backends.moving import (
    BATCH_BYTES,
    BATCH_ROWS,
    check_schema,
    incomplete,
    not_empty,
    other_source,
    size_of,
    taken_over,
)
from contextdna.backends.relational.statements import load_statements
from contextdna.backends.sqlite.driver import (
    Thread,
    connect_writer,
    library,
    on_thread,
    retry_while_busy,
    safe_from_other_processes,
    with_mapped_errors,
)
from contextdna.backends.sqlite.schema import DIALECT, migrate, read_status
from contextdna.backends.sqlite.shape import is_index, moved_tables, own_order
from contextdna.backends.sqlite.units import ReadingThread
from contextdna.ports.database import Unit
from contextdna.values.move import MovedRow, MovedTable, MoveState, Tallies, Tally

R = TypeVar("R")

_BUSY_TIMEOUT_S: Final = 30.0
_STRETCH_WORDS: Final = 500_000
"""Of the index, sorted at once: some 50 MB."""
_STRETCHES_MAX: Final = 64
"""Each goes through the whole index, at 0.1 µs a word."""
_WORDS: Final = "CREATE VIRTUAL TABLE temp.words USING fts5vocab('main', 'records_index', 'instance')"


class SqliteSide:
    """A file that is read."""

    engine = "sqlite"

    def __init__(self, thread: Thread, *, batch_rows: int = BATCH_ROWS) -> None:
        self._thread = thread
        self._connection = thread.raw
        self._reader = ReadingThread(thread, load_statements(DIALECT))
        self._batch_rows = batch_rows

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[None]:
        """See within one snapshot what follows."""
        await self._run(lambda connection: connection.execute("BEGIN"))
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await self._run(lambda connection: connection.execute("ROLLBACK"))

    async def batches(self, table: MovedTable, after: str = "") -> AsyncIterator[Sequence[MovedRow]]:
        """Read a table in the order of its key within each project, from behind a place on."""
        place = json.loads(after) if after else []
        rows = await self._run(_rows_of, table, place)
        while batch := await self._run(lambda _: _next_batch(rows, self._batch_rows)):
            yield batch

    def place_of(self, table: MovedTable, row: MovedRow) -> str:
        """Write down where a row stands."""
        return json.dumps([row[table.columns.index(column)] for column in own_order(table)])

    async def json_columns(self, table: MovedTable) -> frozenset[str]:  # noqa: ARG002 - the protocol's names
        """Name none: texts are kept as they were written."""
        return frozenset()

    async def count(self, table: MovedTable) -> int:
        """Count the rows of a table."""
        found = await self._run(_all, f"SELECT count(*) FROM {_source_of(table)}")  # noqa: S608 - names of the schema
        return int(found[0][0])

    async def last_numbers(self) -> Mapping[str, int]:
        """Give the last number that each counted table has given."""
        numbers = dict(await self._run(_all, "SELECT name, seq FROM sqlite_sequence"))
        return numbers | dict(await self._run(_all, "SELECT 'records', coalesce(max(seq), 0) FROM records"))

    async def revision(self) -> int:
        """Give a number that is another one once others have written."""
        return await self._reader.revision()

    async def blob_keys(self) -> Sequence[str]:
        """List the blobs that records refer to, each once."""
        found = await self._run(_all, "SELECT DISTINCT blob_key FROM records WHERE blob_key <> '' ORDER BY 1")
        return [row[0] for row in found]

    async def ask(self, unit: Unit[R]) -> R:
        """Run a reading unit."""
        answer: R = await self._reader.read(unit)
        return answer

    async def _run(self, fn: Callable[..., R], *args: Any) -> R:
        return await self._thread.run(with_mapped_errors, fn, self._connection, *args)


class SqliteTarget(SqliteSide):
    """A file that is written."""

    _mark = ""

    async def begin(self, source: str, run: str, tables: Sequence[MovedTable]) -> MoveState:
        """Mark the file as being made from a source, or go on with what was begun."""
        self._mark = run
        return await self._write(_begin, source, run, tables)

    async def add(self, table: MovedTable, rows: Sequence[MovedRow], place: str, tallies: Tallies) -> None:
        """Write rows, with how far they bring the move, in one transaction."""
        await self._write(partial(_add, place=place, tallies=tallies), self._mark, table, rows)

    async def complete(self, last_numbers: Mapping[str, int]) -> None:
        """Take the mark away."""
        await self._write(_complete, self._mark, last_numbers)

    async def _write(self, fn: Callable[..., R], *args: Any) -> R:
        return await self._run(_in_transaction, fn, *args)


@asynccontextmanager
async def open_source(path: Path, *, batch_rows: int = BATCH_ROWS) -> AsyncIterator[SqliteSide]:
    """Open a file to move its installation elsewhere; nothing is written to it.

    Raises:
        StorageUnavailable: It cannot be read, is of another schema, or itself an incomplete target.
    """
    async with on_thread(lambda: with_mapped_errors(_connect_reading, path)) as thread:
        await thread.run(with_mapped_errors, _check_source, thread.raw)
        yield SqliteSide(thread, batch_rows=batch_rows)


@asynccontextmanager
async def open_target(
    path: Path, *, restart: bool = False, batch_rows: int = BATCH_ROWS
) -> AsyncIterator[SqliteTarget]:
    """Open a file to move an installation to; it is made where there is none.

    Args:
        path: The file.
        restart: Whether to empty it first, where it is an incomplete target.
        batch_rows: Rows of a transaction at most.

    Raises:
        StorageUnavailable: It cannot be opened or written.
    """
    async with on_thread(lambda: connect_writer(path, busy_timeout_s=_BUSY_TIMEOUT_S)) as thread:
        with safe_from_other_processes(path):
            await thread.run(with_mapped_errors, _prepare, thread.raw, restart)
            yield SqliteTarget(thread, batch_rows=batch_rows)


def refuse_incomplete(connection: Any) -> None:
    """Check that a database is no target of a move that is not complete.

    Raises:
        StorageUnavailable: ``move_incomplete``.
    """
    if connection.execute("SELECT 1 FROM moves").fetchall():
        raise incomplete()


def _connect_reading(path: Path) -> Any:
    place = f"{path.absolute().as_uri()}?mode=ro"
    try:
        connection = _connect(place)
        connection.execute("SELECT 1 FROM sqlite_schema").fetchall()
    except library.Error:  # a folder that nobody may write: no log can be made there, and nobody else writes
        if path.with_name(f"{path.name}-wal").exists():
            raise
        connection = _connect(f"{place}&immutable=1")
    connection.execute("PRAGMA trusted_schema = 0")
    return connection


def _connect(uri: str) -> Any:
    return library.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)


def _check_source(connection: Any) -> None:
    check_schema(read_status(connection, load_migrations(DIALECT)))
    connection.execute(_WORDS)


def _prepare(connection: Any, restart: bool) -> None:
    known = load_migrations(DIALECT)
    if restart and read_status(connection, known).moving:
        migrate(connection, known, 0, _BUSY_TIMEOUT_S)
    migrate(connection, known, None, _BUSY_TIMEOUT_S)
    connection.execute(_WORDS)


def _all(connection: Any, query: str, params: Sequence[Any] = ()) -> list[Any]:
    found: list[Any] = connection.execute(query, params).fetchall()
    return found


def _in_transaction(connection: Any, fn: Callable[..., R], *args: Any) -> R:
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    retry_while_busy(lambda: connection.execute("BEGIN IMMEDIATE"), deadline)
    try:
        answer = fn(connection, *args)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return answer


# --- reading ---

_INDEXED: Final = "records_index_docsize t CROSS JOIN records r ON r.seq = t.id"


def _source_of(table: MovedTable) -> str:
    """Say where a table's rows are counted; rows of records whose record is gone are none."""
    if is_index(table):
        return _INDEXED
    return "record_access t CROSS JOIN records r ON r.seq = t.seq" if table.of_records else f"{table.name} t"


def _rows_of(connection: Any, table: MovedTable, after: Sequence[Any]) -> Iterator[MovedRow]:
    if is_index(table):
        return _index_rows(connection, after[0] if after else 0)
    columns = ", ".join("r.project_id" if table.of_records and not n else f"t.{c}" for n, c in enumerate(table.columns))
    order = ", ".join(f"t.{column}" for column in own_order(table))
    behind = f"WHERE ({order}) > ({', '.join('?' * len(after))})" if after else ""
    statement = f"SELECT {columns} FROM {_source_of(table)} {behind} ORDER BY {order}"  # noqa: S608 - names of the schema
    rows: Iterator[MovedRow] = iter(connection.execute(statement, after))
    return rows


def _index_rows(connection: Any, after: int) -> Iterator[MovedRow]:
    """Put together again what each record was indexed by: its words, in the order in which they stood.

    The index gives them word by word, and the engine sorts in memory: so a stretch of records at a time.
    """
    query = f"SELECT r.project_id, t.id, r.words FROM {_INDEXED} WHERE t.id > ? ORDER BY t.id"  # noqa: S608 - of the schema
    documents = connection.execute(query, (after,))
    words = _all(connection, "SELECT coalesce(sum(words), 0) FROM records")[0][0]
    words_max = max(_STRETCH_WORDS, words // _STRETCHES_MAX)
    while stretch := _next_stretch(documents, words_max):
        found = connection.execute(
            'SELECT doc, term FROM words WHERE doc BETWEEN ? AND ? ORDER BY doc, "offset"',
            (stretch[0][1], stretch[-1][1]),
        )
        texts = {seq: " ".join(term for _, term in terms) for seq, terms in groupby(found, key=itemgetter(0))}
        for project_id, seq in stretch:
            yield (project_id, seq, texts.get(seq, ""))


def _next_stretch(documents: Iterator[tuple[str, int, int]], words_max: int) -> list[tuple[str, int]]:
    stretch = []
    words = 0
    for project_id, seq, of_record in documents:
        stretch.append((project_id, seq))
        words += of_record + 1
        if words >= words_max:
            break
    return stretch


def _next_batch(rows: Iterator[MovedRow], rows_max: int) -> list[MovedRow]:
    batch: list[MovedRow] = []
    size = 0
    while len(batch) < rows_max and size < BATCH_BYTES:
        row = next(rows, None)
        if row is None:
            break
        batch.append(row)
        size += size_of(row)
    return batch


# --- writing ---


def _begin(connection: Any, source: str, run: str, tables: Sequence[MovedTable]) -> MoveState:
    found = _all(connection, "SELECT source, part, place FROM moves")
    if not found:
        for table in tables:
            name = "records_index_docsize" if is_index(table) else table.name
            if _all(connection, f"SELECT 1 FROM {name} LIMIT 1"):  # noqa: S608 - names of the schema
                raise not_empty()
        connection.execute("INSERT INTO moves (source, run, part, place) VALUES (?, ?, '', '')", (source, run))
        return MoveState()
    begun, part, place = found[0]
    if begun != source:
        raise other_source()
    connection.execute("UPDATE moves SET run = ?", (run,))
    tallies = _all(connection, "SELECT part, of_project, rows, digest FROM move_tallies")
    return MoveState(part, place, {row[:2]: Tally(*row[2:]) for row in tallies}, resumed=True)


def _add(
    connection: Any, run: str, table: MovedTable, rows: Sequence[MovedRow], *, place: str, tallies: Tallies
) -> None:
    moved = connection.execute("UPDATE moves SET part = ?, place = ? WHERE run = ?", (table.name, place, run))
    if moved.rowcount != 1:
        raise taken_over()
    if is_index(table):
        connection.executemany(
            "INSERT INTO records_index (rowid, content) VALUES (?, ?)", [(seq, content) for _, seq, content in rows]
        )
    else:
        columns = table.columns[1:] if table.of_records else table.columns
        values = [row[1:] for row in rows] if table.of_records else rows
        places = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - of the schema
        connection.executemany(statement, values)
    connection.executemany(
        "INSERT INTO move_tallies (part, of_project, rows, digest) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (part, of_project) DO UPDATE SET rows = excluded.rows, digest = excluded.digest",
        [(*key, tally.rows, tally.digest) for key, tally in tallies.items()],
    )


def _complete(connection: Any, run: str, last_numbers: Mapping[str, int]) -> None:
    if connection.execute("DELETE FROM moves WHERE run = ?", (run,)).rowcount != 1:
        raise taken_over()
    connection.execute("DELETE FROM move_tallies")
    for table in moved_tables():
        if table.counted and table.name != "records":
            number = last_numbers.get(table.name, 0)
            connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
            connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, number))
    # Here the number of the newest record is used again once it is purged: whatever takes it has its turn to come.
    connection.execute(
        "UPDATE embedding_spaces SET done_seq = (SELECT coalesce(max(seq), 0) FROM records) "
        "WHERE done_seq > (SELECT coalesce(max(seq), 0) FROM records)"
    )
