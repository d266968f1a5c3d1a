"""Writers that meet on PostgreSQL: deadlocks are got over, and of what two change at once nothing gets lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import anyio
import asyncpg
import pytest

from contextdna import ArtifactDraft, Hub, MemoryDraft, open_hub
from contextdna.backends.postgres import open_postgres
from contextdna.domain.agents import RegisterRequest
from contextdna.errors import Conflict, LimitExceeded
from contextdna.ports.database import Transaction
from contextdna.values.agent import AgentChange, AgentHistoryFilter
from contextdna.values.ids import RecordId
from contextdna.values.settings import Limits
from contextdna.values.task import TaskChange, TaskDraft
from tests.builders import NOW, PROJECT, make_indexed
from tests.hub.rig import ALICE, ROOT, begin, settings_in
from tests.servers.postgres import URL_VARIABLE, empty_database_url, postgres_url

pytestmark = pytest.mark.anyio

DEADLINE_S: Final = 30
CALLS: Final = 6


async def test_a_deadlock_is_got_over_and_the_unit_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody with an SQL shell holds what the unit wants, and wants what it holds."""
    url = empty_database_url()
    runs = 0
    async with open_postgres(url, pool_max=4) as database:
        await database.write(lambda tx: tx.records.insert([make_indexed("mem_1"), make_indexed("mem_2")]))
        outsider = await _patient_outsider(url)
        await outsider.execute("BEGIN; UPDATE records SET importance = 0.9 WHERE id = 'mem_2'")
        has_one, is_waiting = anyio.Event(), anyio.Event()

        async def unit(tx: Transaction) -> None:
            nonlocal runs
            runs += 1
            await tx.records.mark_deleted(PROJECT, [RecordId("mem_1")], deleted_at=NOW)
            has_one.set()
            looks = 0
            while runs == 1 and not is_waiting.is_set():
                looks += 1
                await tx.records.refs(PROJECT, [RecordId(f"mem_{looks}")])
            await tx.records.mark_deleted(PROJECT, [RecordId("mem_2")], deleted_at=NOW)

        async def be_in_the_way() -> None:
            await has_one.wait()
            update = asyncio.create_task(outsider.execute("UPDATE records SET importance = 0.9 WHERE id = 'mem_1'"))
            while not await database._ask("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype <> 'advisory'"):
                await anyio.lowlevel.checkpoint()
            is_waiting.set()
            await update
            await outsider.execute("COMMIT")

        with anyio.fail_after(DEADLINE_S):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(database.write(unit))
                tasks.create_task(be_in_the_way())
        await outsider.close()
        assert runs == 2
        kept = await database.read(lambda tx: tx.records.take(PROJECT, [RecordId("mem_1"), RecordId("mem_2")]))
        assert {(one.deleted_at, one.importance) for one in kept} == {(NOW, 0.9)}


async def _patient_outsider(url: str) -> Any:
    """Connect as one who does not look for deadlocks so soon that it would be the one to give way."""
    own, there = urlsplit(postgres_url()), urlsplit(url)
    connection = await asyncpg.connect(urlunsplit((own.scheme, own.netloc, there.path, own.query, "")))
    if not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        pytest.skip(f"the role of {URL_VARIABLE} may not choose who gives way")
    await connection.execute("SET deadlock_timeout = '60s'")
    return connection


@pytest.fixture
async def hubs(anyio_backend: str, tmp_path: Path) -> AsyncIterator[tuple[Hub, Hub]]:
    """Open an installation twice, as two server processes do."""
    settings = settings_in(tmp_path / "data", database=empty_database_url(), limits=replace(Limits(), batch_max=5))
    async with open_hub(settings) as one, open_hub(settings) as other:
        yield one, other


async def at_once(hubs: tuple[Hub, Hub], call: Callable[[Hub, int], Awaitable[Any]]) -> list[Any]:
    """Make the same call several times at once on both servers."""
    return await asyncio.gather(*(call(hubs[number % 2], number) for number in range(CALLS)))


async def test_of_updates_to_one_version_of_a_task_one_wins_and_the_others_are_recorded(hubs: tuple[Hub, Hub]) -> None:
    task = await hubs[0].bind(ALICE).tasks.add(TaskDraft("mend the lift"))

    async def update(hub: Hub, number: int) -> int:
        try:
            await hub.bind(ALICE).tasks.update(task.id, TaskChange(title=f"by {number}"), expected_version=1)
        except Conflict as lost:
            return lost.current_version
        return 0

    assert sorted(await at_once(hubs, update)) == [0] + [2] * (CALLS - 1)
    found = await hubs[0].bind(ROOT).conflicts()
    assert [(one.record_id, one.expected_version, one.current_version) for one in found] == [(task.id, 1, 2)] * (
        CALLS - 1
    )


async def test_artifacts_of_one_name_become_versions_and_none_replaces_another(hubs: tuple[Hub, Hub]) -> None:
    async def attach(hub: Hub, number: int) -> int:
        artifact = await hub.bind(ALICE).attach_artifact(ArtifactDraft("plan.txt", f"plan {number}".encode()))
        return artifact.record.position

    assert sorted(await at_once(hubs, attach)) == list(range(1, CALLS + 1))
    alice = hubs[0].bind(ALICE)
    kept = {(await alice.artifacts.read("plan.txt", version=number + 1))[1] for number in range(CALLS)}
    assert kept == {f"plan {number}".encode() for number in range(CALLS)}


async def test_what_a_session_counts_and_appends_at_once_is_all_there(hubs: tuple[Hub, Hub]) -> None:
    handle = await begin(hubs[0], ALICE)

    async def work(hub: Hub, number: int) -> int:
        bound = hub.bind(ALICE, session_id=handle)
        await bound.state.append("seen", [number])
        view = await bound.sessions.progress(thoughts=1)
        return view.session.thoughts

    assert sorted(await at_once(hubs, work)) == list(range(1, CALLS + 1))
    assert sorted(await hubs[1].bind(ALICE, session_id=handle).state.get_range("seen")) == list(range(CALLS))


async def test_every_change_of_an_agent_is_in_its_history_and_the_last_one_stands(hubs: tuple[Hub, Hub]) -> None:
    await hubs[0].bind(ALICE).agents.register(RegisterRequest(agent_type="coder"))

    async def rate(hub: Hub, number: int) -> float:
        await hub.bind(ALICE).agents.set_confidence(number / 10)
        return number / 10

    given = await at_once(hubs, rate)
    rated = AgentHistoryFilter(ALICE.agent_id, (AgentChange.CONFIDENCE_CHANGED,))
    history = await hubs[0].bind(ALICE).agents.history(rated)
    assert sorted(entry.confidence or 0.0 for entry in history.entries) == sorted(given)
    assert (await hubs[1].bind(ROOT).agents.set_confidence(1.0, ALICE.agent_id)).confidence == 1.0


async def test_a_batch_is_stored_whole_or_not_at_all_and_is_as_large_as_the_settings_say(hubs: tuple[Hub, Hub]) -> None:
    alice = hubs[0].bind(ALICE)
    with pytest.raises(LimitExceeded):
        await alice.store_memories([*(MemoryDraft(f"fact {number}") for number in range(4)), MemoryDraft("x" * 2**24)])
    with pytest.raises(LimitExceeded) as refused:
        await alice.store_memories([MemoryDraft(f"fact {number}") for number in range(6)])
    assert refused.value.code == "memories_out_of_range"
    assert dict((await alice.project_overview()).records_by_kind) == {}
    assert len(await alice.store_memories([MemoryDraft(f"fact {number}") for number in range(5)])) == 5
