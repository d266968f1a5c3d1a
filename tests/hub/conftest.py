"""A hub for each test, on every backend, whose clock the test turns."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contextdna import Hub, HubSettings, open_hub
from tests.hub.rig import Clock, settings_in


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["in_memory", "sqlite"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> HubSettings:
    """Give settings, once for each backend."""
    return settings_in(tmp_path / "data" if request.param == "sqlite" else None)


@pytest.fixture
async def hub(anyio_backend: str, settings: HubSettings, clock: Clock) -> AsyncIterator[Hub]:
    """Open a fresh installation."""
    async with open_hub(settings, clock=clock) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the data folder of the tests that are about files."""
    return tmp_path / "data"
