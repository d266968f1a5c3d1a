"""A hub for each test, on every backend, whose clock the test turns."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from contextdna import Hub, HubSettings, open_hub
from tests.hub.rig import Clock, settings_in
from tests.servers.postgres import EVERYWHERE, empty_database_url
from tests.servers.s3 import empty_store, store_url


@pytest.fixture
def clock() -> Clock:
    return Clock()


ON_A_SERVER: Final = ("test_grants", "test_memories")
"""Modules that are run on PostgreSQL, too. With ``CONTEXTDNA_TEST_EVERYWHERE`` set all are, their artifacts in S3; that
takes minutes."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for settings once for each backend."""
    if "settings" in metafunc.fixturenames:
        everywhere = EVERYWHERE or metafunc.module.__name__.endswith(ON_A_SERVER)
        more = [*(["postgres"] if everywhere else []), *(["in_memory_log"] if EVERYWHERE else [])]
        metafunc.parametrize("settings", ["in_memory", "sqlite", *more], indirect=True)


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> HubSettings:
    """Give settings of one of the backends."""
    if request.param == "postgres":
        artifacts = store_url(empty_store()) if EVERYWHERE else ""
        return settings_in(tmp_path / "data", database=empty_database_url(), artifacts=artifacts)
    in_folder = settings_in(None if request.param == "in_memory" else tmp_path / "data")
    return replace(in_folder, write_ahead=request.param == "in_memory_log")


@pytest.fixture
async def hub(anyio_backend: str, settings: HubSettings, clock: Clock) -> AsyncIterator[Hub]:
    """Open a fresh installation."""
    async with open_hub(settings, clock=clock) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the data folder of the tests that are about files."""
    return tmp_path / "data"
