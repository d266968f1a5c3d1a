"""One hub for all the worlds of a module: each world is a project of its own."""

import asyncio
from collections.abc import Iterator
from typing import Final, TypeAlias, TypeVar

import pytest

from contextdna import Hub, ProjectId, open_hub
from tests.hub.rig import Clock, settings_in
from tests.servers.postgres import EVERYWHERE, empty_database_url

WORLDS: Final = 1000

Installation: TypeAlias = tuple[asyncio.Runner, Hub, Clock, Iterator[ProjectId]]
"""What runs a world, the hub, its clock, and projects that no world has used."""

R = TypeVar("R")


@pytest.fixture(scope="module", params=["in_memory", "sqlite", *(["postgres"] if EVERYWHERE else [])])
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Open one hub for all worlds of a backend."""
    folder = tmp_path_factory.mktemp("worlds") if request.param != "in_memory" else None
    database = empty_database_url() if request.param == "postgres" else ""
    projects = tuple(ProjectId(f"world{number}") for number in range(WORLDS))
    clock = Clock()
    with asyncio.Runner() as runner:
        opened: asyncio.Future[Hub] = runner.get_loop().create_future()
        close = asyncio.Event()

        async def hold() -> None:  # opens and closes in one task, as its task group asks
            async with open_hub(settings_in(folder, projects=projects, database=database), clock=clock) as hub:
                opened.set_result(hub)
                await close.wait()

        async def wait_for(waited: asyncio.Future[R]) -> R:
            return await waited

        holding = runner.get_loop().create_task(hold())
        yield runner, runner.run(wait_for(opened)), clock, iter(projects)
        close.set()
        runner.run(wait_for(holding))
