"""A PostgreSQL database as the side that an installation is moved from, or to."""

import json
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio

from contextdna.backends.migrations import load_migrations
from contextdna.backends.moving import (
    BATCH_BYTES,
    BATCH_ROWS,
    check_schema,
    in_use,
    not_empty,
    other_source,
    size_of,
    taken_over,
)
from contextdna.backends.postgres.database import read_once
from contextdna.backends.postgres.driver import DRIVER_ERRORS, Server, connect, mapped_error
from contextdna.backends.postgres.schema import migrate, read_status
from contextdna.backends.postgres.scopes import ALL_PROJECTS, DIALECT
from contextdna.errors import ContextDnaError
from contextdna.ports.database import Unit
from contextdna.values.move import MovedRow, MovedTable, MoveState, Tallies, Tally

R = TypeVar("R")

_NAME: Final = "contextdna storage migrate"
_FETCHED: Final = 32
_PROJECT: Final = "project_id"
_PLACES: Final = "record_places"  # numbers records; those of the other counted tables belong to a column


@dataclass(frozen=True, slots=True)
class _Way:
    """How rows of a table are read and written, by what the server says of its columns."""

    select: str
    insert: str
    truths: tuple[int, ...]
    lists: frozenset[str]


class PostgresSide:
    """A database that is read, by one connection."""

    engine = "postgresql"

    def __init__(self, connection: Any, server: Server, *, batch_rows: int = BATCH_ROWS) -> None:
        self._connection = connection
        self._server = server
        self._batch_rows = batch_rows
        self._ways: dict[str, _Way] = {}

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[None]:
        """See within one snapshot what follows."""
        await _mapped(self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        try:
            yield
        finally:
            if not self._connection.is_closed():
                with anyio.CancelScope(shield=True):
                    await _mapped(self._connection.execute("ROLLBACK"))

    async def batches(self, table: MovedTable, after: str = "") -> AsyncIterator[Sequence[MovedRow]]:
        """Read a table in the order of its key within each project, from behind a place on."""
        way = await self._way(table)
        order = ", ".join(f"t.{column}" for column in _order(table))
        place = json.loads(after) if after else []
        behind = f"({order}) > ({', '.join(f'${n}' for n, _ in enumerate(place, 1))})" if place else "true"
        query = f"{way.select} AND {behind} ORDER BY {order}"
        cursor = await _mapped(_open_cursor(self._connection, query, place))
        while batch := await _mapped(self._next_batch(cursor, way)):
            yield batch

    def place_of(self, table: MovedTable, row: MovedRow) -> str:
        """Write down where a row stands."""
        return json.dumps([row[table.columns.index(column)] for column in _order(table)])

    async def json_columns(self, table: MovedTable) -> frozenset[str]:
        """Name the columns that the server keeps as JSON, and not as it was written."""
        return (await self._way(table)).lists

    async def count(self, table: MovedTable) -> int:
        """Count the rows of a table."""
        query = f"SELECT count(*) FROM {_source_of(table)}"  # noqa: S608 - names of the schema
        return int(await _mapped(self._connection.fetchval(query)))

    async def last_numbers(self) -> Mapping[str, int]:
        """Give the last number that each counted table has given."""
        sequences = await _mapped(self._sequences())
        return {
            table: await _mapped(
                self._connection.fetchval(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}")  # noqa: S608
            )
            for table, sequence in sequences.items()
        }

    async def revision(self) -> int:
        """Give always the same: who reads it holds the lock of all who write."""
        return 0

    async def blob_keys(self) -> Sequence[str]:
        """List the blobs that records refer to, each once."""
        query = "SELECT DISTINCT blob_key FROM records WHERE blob_key <> '' ORDER BY 1"
        return [row[0] for row in await _mapped(self._connection.fetch(query))]

    async def ask(self, unit: Unit[R]) -> R:
        """Run a reading unit."""
        return await read_once(self._server, unit)

    async def _next_batch(self, cursor: Any, way: _Way) -> list[MovedRow]:
        batch: list[MovedRow] = []
        size = 0
        while len(batch) < self._batch_rows and size < BATCH_BYTES:
            wanted = min(_FETCHED, self._batch_rows - len(batch))
            rows = [_plain(row, way) for row in await cursor.fetch(wanted)]
            batch += rows
            size += sum(map(size_of, rows))
            if len(rows) < wanted:
                break
        return batch

    async def _way(self, table: MovedTable) -> _Way:
        if table.name not in self._ways:
            self._ways[table.name] = await _mapped(_find_way(self._connection, table))
        return self._ways[table.name]

    async def _sequences(self) -> Mapping[str, str]:
        found = await self._connection.fetch(
            "SELECT table_name::text, pg_get_serial_sequence(quote_ident(table_name), column_name) "
            "FROM information_schema.columns WHERE table_schema = current_schema() AND is_identity = 'YES'"
        )
        return {"records": _PLACES, **dict(map(tuple, found))}


class PostgresTarget(PostgresSide):
    """A database that is written."""

    _mark = ""

    async def begin(self, source: str, run: str, tables: Sequence[MovedTable]) -> MoveState:
        """Mark the database as being made from a source, or go on with what was begun."""
        self._mark = run
        return await _mapped(self._begin(source, run, tables))

    async def add(self, table: MovedTable, rows: Sequence[MovedRow], place: str, tallies: Tallies) -> None:
        """Write rows, with how far they bring the move, in one transaction."""
        way = await self._way(table)
        await _mapped(self._add(table, way, rows, place, tallies))

    async def complete(self, last_numbers: Mapping[str, int]) -> None:
        """Take the mark away, and let the server learn what the tables hold."""
        await _mapped(_put_off(self._connection, on=False))
        await _mapped(self._connection.execute("ANALYZE"))
        await _mapped(self._complete(last_numbers))

    async def _begin(self, source: str, run: str, tables: Sequence[MovedTable]) -> MoveState:
        connection = self._connection
        async with connection.transaction():
            # A server that opens this database now writes its keys before this or after it, and never beside it.
            await connection.execute(f"SELECT pg_advisory_xact_lock({ALL_PROJECTS})")
            found = await connection.fetchrow("SELECT source, part, place FROM moves FOR UPDATE")
            if found is None:
                for table in tables:
                    if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table.name})"):  # noqa: S608
                        raise not_empty()
                await connection.execute(
                    "INSERT INTO moves (source, run, part, place) VALUES ($1, $2, '', '')", source, run
                )
                await _put_off(connection, on=True)
                return MoveState()
            if found[0] != source:
                raise other_source()
            await connection.execute("UPDATE moves SET run = $1", run)
            tallies = await connection.fetch("SELECT part, of_project, rows, digest FROM move_tallies")
            return MoveState(
                found[1], found[2], {(row[0], row[1]): Tally(row[2], row[3]) for row in tallies}, resumed=True
            )

    async def _add(self, table: MovedTable, way: _Way, rows: Sequence[MovedRow], place: str, tallies: Tallies) -> None:
        connection = self._connection
        async with connection.transaction():
            moved = "UPDATE moves SET part = $1, place = $2 WHERE run = $3"
            if await connection.execute(moved, table.name, place, self._mark) != "UPDATE 1":
                raise taken_over()
            await connection.executemany(way.insert, [_fitted(row, way) for row in rows])
            await connection.executemany(
                "INSERT INTO move_tallies AS m (part, of_project, rows, digest) VALUES ($1, $2, $3, $4) "
                "ON CONFLICT (part, of_project) DO UPDATE SET rows = excluded.rows, digest = excluded.digest",
                [(*key, tally.rows, tally.digest) for key, tally in tallies.items()],
            )

    async def _complete(self, last_numbers: Mapping[str, int]) -> None:
        connection = self._connection
        async with connection.transaction():
            if await connection.execute("DELETE FROM moves WHERE run = $1", self._mark) != "DELETE 1":
                raise taken_over()
            await connection.execute("DELETE FROM move_tallies")
            for table, sequence in (await self._sequences()).items():
                if last_numbers.get(table):
                    await connection.fetchval("SELECT setval($1::text::regclass, $2)", sequence, last_numbers[table])


@asynccontextmanager
async def open_source(server: Server, *, batch_rows: int = BATCH_ROWS) -> AsyncIterator[PostgresSide]:
    """Open a database to move its installation elsewhere; nothing is written to it, and no server can meanwhile.

    Raises:
        StorageUnavailable: It cannot be read, is of another schema, itself an incomplete target, or in use
            (``move_source_in_use``).
    """
    async with _connected(server) as connection:
        check_schema(await _mapped(read_status(connection, load_migrations(DIALECT))))
        await _mapped(_keep_others_away(connection))
        yield PostgresSide(connection, server, batch_rows=batch_rows)


@asynccontextmanager
async def open_target(
    server: Server, *, restart: bool = False, batch_rows: int = BATCH_ROWS
) -> AsyncIterator[PostgresTarget]:
    """Open a database to move an installation to; its tables are made where there are none.

    Args:
        server: Where it is.
        restart: Whether to empty it first, where it is an incomplete target.
        batch_rows: Rows of a transaction at most.

    Raises:
        StorageUnavailable: It cannot be opened or written.
    """
    known = load_migrations(DIALECT)
    async with _connected(server) as connection:
        if restart and (await _mapped(read_status(connection, known))).moving:
            await _mapped(migrate(connection, known, 0))
        await _mapped(migrate(connection, known, None))
        yield PostgresTarget(connection, server, batch_rows=batch_rows)


async def _put_off(connection: Any, *, on: bool) -> None:
    """Let the index of words take many rows at once while it is filled: singly they take three times as long."""
    was, becomes = ("off", "on") if on else ("on", "off")
    indexes = await connection.fetch(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_am a ON a.oid = c.relam "
        "WHERE a.amname = 'gin' AND c.relnamespace = current_schema()::regnamespace AND $1 = ANY (c.reloptions)",
        f"fastupdate={was}",
    )
    for (index,) in indexes:
        await connection.execute(f"ALTER INDEX {index} SET (fastupdate = {becomes})")
        if not on:
            await connection.fetchval("SELECT gin_clean_pending_list($1::text::regclass)", index)


async def _keep_others_away(connection: Any) -> None:
    """Check that no server uses the database, and let none that comes later write."""
    others = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'contextdna'"
    )
    held = await connection.fetchval(f"SELECT pg_try_advisory_lock({ALL_PROJECTS})")
    if others or not held:
        raise in_use(max(1, others))


@asynccontextmanager
async def _connected(server: Server) -> AsyncIterator[Any]:
    connection = await connect(server)
    try:
        await _mapped(
            connection.execute(
                f"SET application_name = '{_NAME}'; SET idle_in_transaction_session_timeout = 0; "
                "SET gin_pending_list_limit = '64MB'; "
                "SELECT set_config('contextdna.project', '*', false)"
            )
        )
        yield connection
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(_GOODBYE_S):
            await connection.close()


_GOODBYE_S: Final = 2.0


def _order(table: MovedTable) -> tuple[str, ...]:
    return (_PROJECT, *table.key) if table.is_of_projects else table.key


def _source_of(table: MovedTable) -> str:
    """Say where a table's rows are; rows of records whose record is gone are none."""
    record = "EXISTS (SELECT FROM records r WHERE r.project_id = t.project_id AND r.seq = t.seq)"
    return f"{table.name} t WHERE {record if table.of_records else 'true'}"


async def _find_way(connection: Any, table: MovedTable) -> _Way:
    columns = ", ".join(f"t.{column}" for column in table.columns)
    select = f"SELECT {columns} FROM {_source_of(table)}"  # noqa: S608 - names of the schema
    types = [attribute.type.name for attribute in (await connection.prepare(select)).get_attributes()]
    await connection.execute("SELECT")  # ends what the driver leaves open: a snapshot may have to begin next
    places = ", ".join(f"${number}" for number, _ in enumerate(types, 1))
    return _Way(
        select,
        f"INSERT INTO {table.name} ({', '.join(table.columns)}) OVERRIDING SYSTEM VALUE VALUES ({places})",  # noqa: S608
        tuple(place for place, kind in enumerate(types) if kind == "bool"),
        frozenset(column for column, kind in zip(table.columns, types, strict=True) if kind in {"json", "jsonb"}),
    )


async def _open_cursor(connection: Any, query: str, params: Sequence[Any]) -> Any:
    return await connection.cursor(query, *params)


def _plain(row: Sequence[Any], way: _Way) -> MovedRow:
    """Write truths as 0 and 1."""
    if not way.truths:
        return tuple(row)
    plain = list(row)
    for place in way.truths:
        plain[place] = None if plain[place] is None else int(plain[place])
    return tuple(plain)


def _fitted(row: MovedRow, way: _Way) -> Sequence[Any]:
    """Make truths of 0 and 1."""
    if not way.truths:
        return row
    fitted = list(row)
    for place in way.truths:
        fitted[place] = None if fitted[place] is None else bool(fitted[place])
    return fitted


async def _mapped(answer: Awaitable[R]) -> R:
    failure: ContextDnaError
    try:
        return await answer
    except DRIVER_ERRORS as error:
        failure = mapped_error(error)
    raise failure
