"""What statements of SQLite cost, in steps of its machine: what is stored beside must not make them dearer."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contextdna.backends.relational.embeddings import Embeddings
from contextdna.backends.relational.records import Records
from contextdna.backends.relational.statements import load_statements
from contextdna.backends.sqlite import SqliteDatabase, open_sqlite
from contextdna.backends.sqlite.driver import connect_reader
from contextdna.backends.sqlite.schema import DIALECT
from contextdna.backends.sqlite.units import ReadingExecutor
from contextdna.ports.database import Transaction
from contextdna.values.embedding import Embedding, VectorCodec
from contextdna.values.ids import ProjectId, RecordId
from contextdna.values.project import Link
from contextdna.values.record import Kind
from contextdna.values.search import Match, RecordFilter, Stretch
from tests.backends.samples import ANNA, NOW, PROJECT, T0, indexed

pytestmark = pytest.mark.anyio

OTHER = ProjectId("other")
EMPTY = ProjectId("empty")
MANY = 3_000


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    async with open_sqlite(tmp_path / "contextdna.db") as opened:
        yield opened


async def steps(path: Path, ask: Callable[[ReadingExecutor], Awaitable[Any]]) -> int:
    """Count what the machine does for one question, on a connection of its own."""
    with closing(connect_reader(path / "contextdna.db", busy_timeout_s=1.0)) as connection:
        executor = ReadingExecutor(connection, load_statements(DIALECT))
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        connection.set_progress_handler(count, 10)
        await ask(executor)
        return counted * 10


async def many(database: SqliteDatabase, project_id: ProjectId, number: int = MANY, **changes: Any) -> None:
    items = [indexed(f"{project_id}_{n}", "word", project_id=project_id, **changes) for n in range(number)]
    await database.write(lambda tx: tx.records.insert(items))


async def test_looking_for_what_lacks_a_vector_costs_nothing_by_what_other_projects_hold(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    async def one(tx: Transaction) -> None:
        await tx.records.insert([indexed("mem_1")])
        await tx.embeddings.adopt(PROJECT, "model", 4)
        await tx.embeddings.put([Embedding(PROJECT, RecordId("mem_1"), 1, 1, VectorCodec.INT8, b"1234")])

    await database.write(one)
    await many(database, OTHER)

    async def look(executor: ReadingExecutor) -> None:
        for project_id in (PROJECT, EMPTY):
            await Embeddings(executor).missing(project_id, limit=64)
            await Embeddings(executor).backlog(project_id)

    assert await steps(tmp_path, look) < 1_000


async def test_a_record_that_much_is_linked_with_costs_no_more_than_its_newest_links(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    async def beside(records: Records) -> Sequence[Any]:
        return await records.neighbours(ANNA, RecordFilter(), [RecordId("mem_hub")], now=NOW, within_s=1.0)

    await database.write(lambda tx: tx.records.insert([indexed("mem_hub")]))
    await many(database, PROJECT)
    links = [
        Link(PROJECT, RecordId(f"{PROJECT}_{n}"), RecordId("mem_hub"), "relates_to", T0 + timedelta(seconds=n))
        for n in range(MANY)
    ]
    few, rest = links[-60:], links[:-60]
    await database.write(lambda tx: tx.records.add_links(few))
    before = await steps(tmp_path, lambda tx: beside(Records(tx)))
    await database.write(lambda tx: tx.records.add_links(rest))
    assert await steps(tmp_path, lambda tx: beside(Records(tx))) < before * 1.1


async def test_a_list_costs_nothing_by_what_is_older_or_newer_than_its_time(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    time = RecordFilter(types=("none",), since=T0, until=T0 + timedelta(seconds=1))

    async def look(executor: ReadingExecutor) -> None:
        await Records(executor).list_recent(ANNA, time, now=NOW, limit=10)
        await Records(executor).list_recent(ANNA, RecordFilter(kinds=(Kind.ARTIFACT,)), now=NOW, limit=10)
        await Records(executor).count_visible_tasks(ANNA, now=NOW)
        await Records(executor).count_visible(ANNA, now=NOW, since=T0 + timedelta(seconds=2))

    await many(database, PROJECT, created_at=T0 - timedelta(seconds=1))
    await many(database, OTHER, created_at=T0)
    assert await steps(tmp_path, look) < 1_000


async def test_a_search_costs_nothing_by_what_matches_outside_of_its_stretch(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    match, nothing = Match((("word",),)), RecordFilter(types=("none",))

    async def look(executor: ReadingExecutor) -> None:
        records = Records(executor)
        oldest = await records.arrival(PROJECT, match, place=100)
        await records.search(ANNA, nothing, match, now=NOW, limit=10, within=Stretch(oldest=oldest))

    await many(database, PROJECT, 200)
    before = await steps(tmp_path, look)
    await many(database, OTHER, 10)
    items = [indexed(f"more_{number}", "word") for number in range(MANY)]
    await database.write(lambda tx: tx.records.insert(items))
    assert await steps(tmp_path, look) < before * 1.1
