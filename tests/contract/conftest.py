"""Every backend of a port, for the suites that all of them must pass."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from contextdna.backends.in_memory import open_in_memory
from contextdna.backends.postgres import open_postgres
from contextdna.backends.sqlite import open_sqlite
from contextdna.ports.database import Database
from tests.servers.postgres import EVERYWHERE, WIPE, database_url
from tests.write_ahead_log.durable import open_durable_folder, rows

DATABASES: Final = ("in_memory", "in_memory_durable", "sqlite", "postgres")


@asynccontextmanager
async def open_database(name: str, folder: Path) -> AsyncIterator[Database]:
    """Open an empty database of a backend."""
    if name == "in_memory":
        async with open_in_memory() as in_memory:
            yield in_memory
    elif name == "in_memory_durable":
        async with open_durable_folder(folder / "memory") as durable:
            yield durable
            held = durable._committed
        async with open_durable_folder(folder / "memory") as again:
            assert rows(again._committed) == rows(held)
    elif name == "postgres":
        async with open_postgres(database_url(), pool_max=4) as postgres:
            async with postgres._links.take() as link:
                await link.script(WIPE)
            yield postgres
    else:
        async with open_sqlite(folder / "contextdna.db") as sqlite:
            yield sqlite


ON_A_LOG: Final = (
    "test_agents",
    "test_embeddings",
    "test_ledger",
    "test_sessions",
    "test_signals",
    "test_units",
    "test_work",
)
"""Modules that are run on the in-memory database with a log, too, in the default suite: all that write. With
``CONTEXTDNA_TEST_EVERYWHERE`` set all are; what reads is the same as without a log."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for a database once for each backend."""
    if "database" in metafunc.fixturenames:
        durable = EVERYWHERE or metafunc.module.__name__.endswith(ON_A_LOG)
        names = [name for name in DATABASES if durable or name != "in_memory_durable"]
        metafunc.parametrize("database", names, indirect=True)


@pytest.fixture
async def database(request: pytest.FixtureRequest, anyio_backend: str, tmp_path: Path) -> AsyncIterator[Database]:
    """Give an empty database, once for each backend."""
    async with open_database(request.param, tmp_path) as opened:
        yield opened
