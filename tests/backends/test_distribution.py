"""Every statement keeps to one project, and with it to one shard of a distributed PostgreSQL, or is named here.

Asked of the server: whether all rows that a statement's plan reads or writes are tied to a project that was given.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from contextdna.backends.postgres import Server, migrate_postgres
from contextdna.backends.relational.statements import load_statements
from tests.servers.postgres import fresh_database_url, postgres_url

pytestmark = pytest.mark.anyio

EVERYWHERE: Final = frozenset(
    {"projects", "access_tokens", "events", "histories", "moves", "move_tallies", "schema_migrations"}
)
"""Tables that a distributed installation does not cut into shards."""

BY_ID: Final = "found by an unguessable id alone; of sessions a server remembers the project once it has seen them"
JOB: Final = "a job of upkeep about all projects, by batches"
OPERATOR: Final = "asked by operators and at the start, of small tables"
EXCEPTIONS: Final = {
    "session_get": BY_ID,
    "sessions_below": BY_ID,
    "sessions_around": BY_ID,
    "delegation_get": BY_ID,
    "blob_use": "whether any project uses an artifact's bytes, before they are dropped; by an index of each shard",
    "answers_delete_before": JOB,
    "audit_chains": OPERATOR,
    "audit_heads": OPERATOR,
    "keys_all": OPERATOR,
}

_TYPES: Final = "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'looked_at'"
_TABLES: Final = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
STAND_INS: Final = """
    CREATE FUNCTION create_reference_table(regclass) RETURNS void LANGUAGE sql AS '';
    CREATE FUNCTION citus_add_local_table_to_metadata(regclass) RETURNS void LANGUAGE sql AS '';
    CREATE FUNCTION create_distributed_function(regprocedure) RETURNS void LANGUAGE sql AS '';
    CREATE FUNCTION create_distributed_table(regclass, text, colocate_with text) RETURNS void LANGUAGE sql AS '';
"""
"""In place of what Citus brings: all else in the file is run as it is."""
_PROJECT: Final = r"(?:(\w+)\.)?project_id"
_GIVEN: Final = re.compile(rf"{_PROJECT} = \(?\$\d+\)?(?:::text)?")
_SAME: Final = re.compile(rf"{_PROJECT} = {_PROJECT}")


@pytest.fixture
async def connection(anyio_backend: str) -> Any:
    """Connect past row-level security, which would put a project before every statement."""
    own, there = urlsplit(postgres_url()), urlsplit(fresh_database_url())
    url = urlunsplit((own.scheme, own.netloc, there.path, own.query, ""))
    await migrate_postgres(Server(url, acquire_timeout_s=10, statement_timeout_s=30))
    connection = await asyncpg.connect(url)
    await connection.execute("SET plan_cache_mode = force_generic_plan; SET row_security = off")
    yield connection
    await connection.close()


async def test_every_statement_is_tied_to_one_project_or_has_its_reason(connection: Any) -> None:
    texts = load_statements("postgres")
    loose = {name for name, text in texts.items() if not await is_tied(connection, text)}
    assert loose == set(EXCEPTIONS)


async def is_tied(connection: Any, text: str) -> bool:
    """Tell whether all rows of projects that a statement is about are of a project that is given."""
    await connection.execute(f"PREPARE looked_at AS {text}")
    try:
        types = await connection.fetchval(_TYPES)
        given = f"({', '.join('NULL' for _ in types)})" if types else ""
        told = await connection.fetchval(f"EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE looked_at{given}")
    finally:
        await connection.execute("DEALLOCATE looked_at")
    nodes = list(walk(json.loads(told)[0]["Plan"]))
    tied, pairs = set(), []
    for node in nodes:
        own = node.get("Alias", "")
        for condition in (value for name, value in node.items() if name.endswith(("Cond", "Filter"))):
            conditions = condition if isinstance(condition, list) else [condition]
            for one in map(str, conditions):
                tied |= {named or own for named in _GIVEN.findall(one)}
                pairs += [(first or own, second or own) for first, second in _SAME.findall(one)]
    for _ in pairs:
        tied |= {one for pair in pairs if tied & set(pair) for one in pair}
    return all(node["Alias"] in tied for node in nodes if is_of_projects(node, text))


def is_of_projects(node: dict[str, Any], text: str) -> bool:
    """Tell whether a node of a plan reads or writes rows that lie in shards."""
    if node.get("Relation Name", "") in EVERYWHERE | {""}:
        return False
    is_insert = node["Node Type"] == "ModifyTable" and node.get("Operation") == "Insert"
    return not (is_insert and re.match(r"INSERT INTO \w+ \([^)]*\bproject_id\b", text))


def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from walk(below)


async def test_the_file_for_citus_has_every_table_once(connection: Any) -> None:
    script = (Path(__file__).parents[2] / "deploy" / "sql" / "citus.sql").read_text()
    named = re.findall(r"(?:create_distributed_table|create_reference_table)\('(\w+)'", script)
    named += re.findall(r"citus_add_local_table_to_metadata\('(\w+)'", script)
    tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    assert sorted(named) == sorted(row[0] for row in tables)
    distributed = set(re.findall(r"create_distributed_table\('(\w+)', 'project_id'", script))
    assert distributed == {row[0] for row in tables} - EVERYWHERE
    await connection.execute(STAND_INS)
    await connection.execute(script.replace("CREATE EXTENSION IF NOT EXISTS citus;", ""))
    walls = await connection.fetch("SELECT relname FROM pg_class WHERE relrowsecurity OR relforcerowsecurity")
    assert walls == []


async def test_every_key_of_a_distributed_table_holds_the_project(connection: Any) -> None:
    """Otherwise no shard could tell that a key is there once."""
    keys = await connection.fetch("""
        SELECT of_table.relname, i.indexrelid::regclass::text, array_agg(a.attname::text)
        FROM pg_index i JOIN pg_class of_table ON of_table.oid = i.indrelid
        JOIN pg_attribute a ON a.attrelid = i.indexrelid
        WHERE i.indisunique AND of_table.relnamespace = 'public'::regnamespace GROUP BY 1, 2
    """)
    loose = {table for table, _, columns in keys if "project_id" not in columns}
    assert loose == EVERYWHERE - {"events"}
