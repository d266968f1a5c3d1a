"""An installation whose largest tables are cut into partitions keeps what it has, its walls and its triggers."""

from pathlib import Path
from typing import Final

import asyncpg
import pytest

from contextdna.backends.postgres import Server, migrate_postgres, open_postgres
from contextdna.values.ids import RecordId
from tests.builders import NOW, OTHER_PROJECT, PROJECT, make_entry, make_head, make_indexed, make_reader
from tests.servers.postgres import EVERYWHERE, fresh_database_url

pytestmark = pytest.mark.anyio

SCRIPT: Final = (Path(__file__).parents[2] / "deploy" / "sql" / "partitions.sql").read_text()

INDEXES: Final = "SELECT indexname FROM pg_indexes WHERE schemaname = 'public' AND tablename !~ '_[0-9]+$' ORDER BY 1"
VIEWS: Final = "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1"
PARTS: Final = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'records'::regclass"


@pytest.mark.skipif(not EVERYWHERE, reason="makes hundreds of indexes; CONTEXTDNA_TEST_EVERYWHERE=1 runs it")
async def test_tables_are_cut_with_all_that_is_in_them_and_stands_before_them() -> None:
    url = fresh_database_url()
    async with open_postgres(url, pool_max=2) as whole:
        await whole.write(lambda tx: tx.records.insert([make_indexed("mem_1", tokens=["abc"])]))
        await whole.write(lambda tx: tx.records.insert([make_indexed("mem_2", project_id=OTHER_PROJECT)]))
        await whole.write(lambda tx: tx.audit.append([make_entry(1)], make_head(1)))
    connection = await asyncpg.connect(url)
    made = (
        "SELECT indexname, tablename FROM pg_indexes WHERE schemaname = 'public' AND tablename !~ '_[0-9]+$' ORDER BY 1"
    )
    views = "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1"
    before = [await connection.fetch(query) for query in (made, views)]
    await connection.execute(SCRIPT)
    assert [await connection.fetch(query) for query in (made, views)] == before
    parts = await connection.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'records'::regclass"
    )
    assert len(parts) == 16

    async with open_postgres(url, pool_max=2) as cut:
        seen = await cut.read(lambda tx: tx.records.read(make_reader(), [RecordId("mem_1")], now=NOW))
        assert [item.record.id for item in seen] == ["mem_1"]
        await cut.write(lambda tx: tx.records.insert([make_indexed("mem_3")]))
        assert await cut.write(lambda tx: tx.records.delete(PROJECT, [RecordId("mem_1")])) == 1
        await cut.shred_remains()

    for [part] in parts:
        assert not await connection.fetch(f"TABLE {part}"), "who names no project sees none"
    for table in ("audit_log", *(f"audit_log_{place}" for place in range(16))):
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute(f"TRUNCATE {table}")
    with pytest.raises(asyncpg.RaiseError):
        await connection.execute(SCRIPT)
    await connection.close()
    await migrate_postgres(Server(url, acquire_timeout_s=10, statement_timeout_s=30), target=0)
