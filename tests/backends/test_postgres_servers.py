"""Two servers on one PostgreSQL: nothing is stored twice, lost or forked, whichever of them is quicker."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import anyio
import pytest

from contextdna import AgentId, Hub, MemoryChange, MemoryDraft, ProjectId, SignalDraft, WaitOutcome, open_hub
from contextdna.errors import Conflict, ContextDnaError
from tests.hub.rig import ALICE, BOB, DEFAULT, OTHER, ROOT, remember, settings_in
from tests.servers.postgres import empty_database_url

pytestmark = pytest.mark.anyio

DEADLINE_S: Final = 60


@pytest.fixture
async def hubs(anyio_backend: str, tmp_path: Path) -> AsyncIterator[tuple[Hub, Hub]]:
    """Open an installation twice, as two server processes do."""
    settings = settings_in(tmp_path / "data", database=empty_database_url())
    async with open_hub(settings) as one, open_hub(settings) as other:
        yield one, other


async def assert_intact(hub: Hub) -> None:
    for project_id in (DEFAULT, OTHER):
        assert (await hub.bind(ROOT, project_id=project_id).verify_audit()).intact


async def test_two_that_open_a_new_installation_make_one(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data", database=empty_database_url(), master_key="11" * 32)

    async def stored_by(name: str) -> int:
        async with open_hub(settings) as hub:
            await remember(hub.bind(ALICE), f"a memory of server {name}")
            return len(await hub.bind(ROOT).query_audit(limit=100, action="project.create"))

    assert await asyncio.gather(*(stored_by(str(number)) for number in range(3))) == [1, 1, 1]
    async with open_hub(settings) as hub:
        await assert_intact(hub)


async def test_a_store_that_is_repeated_on_another_server_gives_the_first_answer(hubs: tuple[Hub, Hub]) -> None:
    async def store(hub: Hub) -> tuple[str, ...]:
        drafts = [MemoryDraft("once and no more")]
        return tuple(one.id for one in await hub.bind(ALICE).store_memories(drafts, idempotency_key="key"))

    answers = await asyncio.gather(*(store(hubs[number % 2]) for number in range(8)))
    assert len(set(answers)) == 1
    assert dict((await hubs[0].bind(ALICE).project_overview()).records_by_kind) == {"memory": 1}
    await assert_intact(hubs[1])


async def test_of_updates_to_one_version_one_wins_and_the_others_are_told_which_stands(hubs: tuple[Hub, Hub]) -> None:
    memory = await remember(hubs[0].bind(ALICE), "version one")

    async def update(number: int) -> int:
        workspace = hubs[number % 2].bind(ALICE)
        try:
            await workspace.update_memory(memory, MemoryChange(content=f"by {number}"), expected_version=1)
        except Conflict as lost:
            return lost.current_version
        return 0

    assert sorted(await asyncio.gather(*(update(number) for number in range(8)))) == [0] + [2] * 7
    assert len(await hubs[0].bind(ROOT).conflicts()) == 7
    await assert_intact(hubs[0])


async def test_a_signal_wakes_who_waits_on_another_server(hubs: tuple[Hub, Hub]) -> None:
    waiting = asyncio.create_task(hubs[1].bind(BOB).signals.wait_for(name="go", timeout_s=DEADLINE_S))
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    sent = await hubs[0].bind(ALICE).signals.send(SignalDraft("go", (BOB.agent_id,)))
    with anyio.fail_after(DEADLINE_S):
        found = await waiting
    assert found.outcome is WaitOutcome.SIGNALLED
    assert found.signal is not None
    assert found.signal.id == sent.id


async def test_denials_and_writes_of_two_servers_stand_in_one_chain(hubs: tuple[Hub, Hub]) -> None:
    private = await remember(hubs[0].bind(ALICE), "mine alone")

    async def work(number: int) -> None:
        hub = hubs[number % 2]
        await remember(hub.bind(ALICE), f"memory {number} of its own words w{number}")
        with pytest.raises(ContextDnaError):
            await hub.bind(BOB).share_memories([AgentId("carol")], [private])

    await asyncio.gather(*(work(number) for number in range(10)))
    await assert_intact(hubs[0])
    assert ProjectId("default") in (await hubs[1].bind(ROOT).list_projects())
