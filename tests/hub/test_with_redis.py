"""Hubs that share Redis: what one does the others find and hear; what it is away for costs nobody an answer."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from contextdna import (
    AgentId,
    BackendHealth,
    Hub,
    HubSettings,
    Level,
    MemoryDraft,
    ModeName,
    RedisSettings,
    SessionInvalid,
    SettingsInvalid,
    SignalDraft,
    StorageUnavailable,
    open_hub,
)
from contextdna.backends.redis.driver import open_client
from contextdna.hub.locks import one_job
from tests.doubles import LetterEmbedder
from tests.hub.rig import ALICE, BOB, DEFAULT, ROOT, begin, public, refused, remember, settings_in
from tests.servers.redis import OwnServer, own_server

pytestmark = pytest.mark.anyio

LATE_S = 30
NEVER_S = 3600.0
CANARY = "xylographer"


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as started:
        yield started


@pytest.fixture
def shared(folder: Path, server: OwnServer) -> HubSettings:
    return settings_in(folder, cache=server.url, redis=RedisSettings(timeout_s=5))


@asynccontextmanager
async def two_hubs(settings: HubSettings) -> AsyncIterator[tuple[Hub, Hub]]:
    async with open_hub(settings) as here, open_hub(settings) as there:
        yield here, there


async def contents(server: OwnServer) -> dict[str, bytes]:
    """Give all that lies in Redis."""
    client: Any = open_client(server_place(server))
    found = {key.decode(): await client.dump(key) for key in await client.keys("*")}
    await client.aclose()
    return found


def server_place(server: OwnServer) -> Any:
    from contextdna.backends.redis import Place

    return Place(server.url, timeout_s=5)


async def until_heard(*hubs: Hub) -> None:
    with anyio.fail_after(LATE_S):
        while not all(hub._rooms.commons.channel.hears_others for hub in hubs):  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.005)


async def state_of(hub: Hub, handle: str) -> dict[str, Any]:
    return {entry.key: entry.value for entry in await hub.bind(ALICE, session_id=handle).state.mget()}


async def test_another_process_reads_state_that_one_has_written_from_redis(
    shared: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_hubs(shared) as (here, there):
        handle = await begin(here, ALICE)
        await here.bind(ALICE, session_id=handle).state.mset({"a": 1, "list": [1, 2]})

        async def nothing(*_: object) -> Sequence[Any]:
            raise AssertionError("it is read from the database")

        monkeypatch.setattr("contextdna.backends.relational.states.States.of", nothing)
        assert await state_of(there, handle) == {"a": 1, "list": [1, 2]}
        assert await there.bind(ALICE, session_id=handle).state.get_range("list", -1) == (2,)


async def test_no_process_reads_older_state_than_was_committed(shared: HubSettings) -> None:
    async with two_hubs(shared) as (here, there):
        handle = await begin(here, ALICE)
        for number in range(6):
            writer, reader = (here, there) if number % 2 else (there, here)
            assert await writer.bind(ALICE, session_id=handle).state.append("list", [number]) == number + 1
            for hub in (reader, writer):
                assert (await state_of(hub, handle))["list"] == list(range(number + 1))


async def test_nothing_of_what_is_kept_can_be_read_in_redis(shared: HubSettings, server: OwnServer) -> None:
    async with two_hubs(shared) as (here, there):
        await until_heard(here, there)
        handle = await begin(here, ALICE, task=CANARY)
        acting = here.bind(ALICE, session_id=handle)
        await acting.state.mset({CANARY: CANARY, "more": {"word": CANARY}})
        await remember(acting, f"a private {CANARY}", level=Level.PRIVATE)
        await state_of(there, handle)
        found = await contents(server)
        assert f"contextdna:cache:state:{public(handle)}" in found
        assert all(name.startswith("contextdna:") for name in found)
        everything = repr(found)
        assert CANARY not in everything
        assert handle.partition(".")[2] not in everything
        assert "alice" not in everything
        await acting.end_session(success=True)
        assert f"contextdna:cache:state:{public(handle)}" not in await contents(server)


async def test_what_is_held_ends_with_the_state_and_large_state_is_not_held(
    shared: HubSettings, server: OwnServer
) -> None:
    async with open_hub(shared) as hub:
        handle = await begin(hub, ALICE)
        state = hub.bind(ALICE, session_id=handle).state
        await state.set("key", 1, ttl_s=1000)
        client: Any = open_client(server_place(server))
        name = f"contextdna:cache:state:{public(handle)}"
        assert 990_000 < await client.pttl(name) <= 1_000_000
        for key in "abc":
            await state.set(key, Random(key).randbytes(30_000).hex())  # noqa: S311
        assert not await client.exists(name)
        await client.aclose()


async def test_a_process_that_waits_is_woken_by_redis_alone(
    shared: HubSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contextdna.hub.stream.HEARING_POLL_S", NEVER_S)
    async with two_hubs(shared) as (here, there):
        await until_heard(here, there)
        got: list[str] = []

        async def wait() -> None:
            found = await there.bind(BOB).signals.wait_for(timeout_s=LATE_S)
            got.append(found.signal.name if found.signal else "")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(LATE_S):
                while not there._rooms.stream._listeners:  # noqa: ASYNC110 - nothing tells of it
                    await anyio.sleep(0.005)
            await here.bind(ALICE).signals.send(SignalDraft("go", (AgentId("bob"),)))
        assert got == ["go"]


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_while_redis_is_away_every_call_is_answered_and_nothing_is_lost(
    shared: HubSettings, server: OwnServer, how: str
) -> None:
    async with two_hubs(replace(shared, redis=RedisSettings(timeout_s=0.2))) as (here, there):
        await until_heard(here, there)
        handle = await begin(here, ALICE)
        state = here.bind(ALICE, session_id=handle).state
        await state.append("list", [0])
        if how == "killed":
            server.kill()
        else:
            server.hang()
        with anyio.fail_after(LATE_S):
            for number in range(1, 6):
                await state.append("list", [number])
                assert (await state_of(there, handle))["list"] == list(range(number + 1))
            await here.bind(ALICE).signals.send(SignalDraft("go", (AgentId("bob"),)))
            found = await there.bind(BOB).signals.wait_for(timeout_s=LATE_S)
            assert found.signal is not None
            health = (await here.bind(ROOT, project_id=DEFAULT).health()).cache
            assert health is not None
            assert (health.sound, health.problem) == (False, "redis_unreachable")
        if how == "killed":
            server.start()
        else:
            server.wake()
        await until_heard(here, there)
        await state.append("list", [6])
        assert (await state_of(there, handle))["list"] == list(range(7))
        with anyio.fail_after(LATE_S):
            while f"contextdna:cache:state:{public(handle)}" not in await contents(server):
                await state.set("more", 1)
            while not _is_sound((await there.bind(ROOT, project_id=DEFAULT).health()).cache):
                await anyio.lowlevel.checkpoint()


async def test_what_redis_held_when_it_went_is_never_served_when_it_is_back(
    shared: HubSettings, server: OwnServer
) -> None:
    settings = replace(shared, redis=RedisSettings(timeout_s=0.2))
    async with two_hubs(settings) as (here, there):
        await until_heard(here, there)
        handle, over = await begin(here, ALICE), await begin(here, ALICE)
        for one in (handle, over):
            await here.bind(ALICE, session_id=one).state.set("key", "old")
        server.hang()
        with anyio.fail_after(LATE_S):
            await here.bind(ALICE, session_id=handle).state.set("key", "new")
            await here.bind(ALICE, session_id=over).end_session(success=True)
            sent = await here.bind(ALICE).signals.send(SignalDraft("go", (AgentId("bob"),)))
        assert [mode.name for mode in here.modes] == [ModeName.CACHE_AWAY]
        server.wake()
        await until_heard(here, there)
        assert here.modes == ()
        assert f"contextdna:cache:state:{public(over)}" in await contents(server)  # it could not be told
        assert await state_of(there, handle) == {"key": "new"}
        await refused(there.bind(ALICE, session_id=over).state.mget(), SessionInvalid, "session_ended")
        with anyio.fail_after(LATE_S):
            found = await there.bind(BOB).signals.wait_for(timeout_s=LATE_S)
        assert found.signal is not None
        assert found.signal.id == sent.id


def _is_sound(health: BackendHealth | None) -> bool:
    return health is not None and health.sound


async def test_without_the_server_a_hub_opens_and_says_so(
    shared: HubSettings, server: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.kill()
    async with open_hub(shared) as hub:
        await remember(hub.bind(ALICE), "kept all the same")
        health = (await hub.bind(ALICE).health()).cache
        assert health is not None
        assert not health.sound
    assert "redis_unreachable" in caplog.text


async def test_hubs_do_not_embed_for_each_other_twice(shared: HubSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextdna.hub.semantics._FIRST_AFTER_S", NEVER_S)  # what the background does is asked for
    one, other = LetterEmbedder(), LetterEmbedder()
    async with open_hub(shared, embedder=one) as here, open_hub(shared, embedder=other) as there:
        await here.bind(ALICE).store_memories([MemoryDraft(f"number {number}") for number in range(5)])
        async with one_job(here._rooms.commons.locks, DEFAULT, "embed") as job:
            assert job is not None
            assert await there._rooms.semantics._embed_alone(DEFAULT) is None
        assert other.calls == 0
        assert await there._rooms.semantics._embed_alone(DEFAULT)
        embedded = other.calls
        assert embedded
        assert await here._rooms.semantics._embed_alone(DEFAULT)
        assert one.calls == 0


async def test_a_sweep_that_another_process_is_at_is_left_to_it(shared: HubSettings) -> None:
    async with two_hubs(shared) as (here, there):
        from tests.hub.test_upkeep import upkeep_of

        async def sweeps() -> int:
            return len(await here.bind(ROOT, project_id=DEFAULT).query_audit(action="retention.sweep"))

        async with one_job(here._rooms.commons.locks, DEFAULT, "sweep") as job:
            assert job is not None
            await upkeep_of(there).turn([DEFAULT])
            assert await sweeps() == 0
        await upkeep_of(there).turn([DEFAULT])
        assert await sweeps() == 1


async def test_a_sweep_that_has_lost_its_lease_changes_nothing_more(shared: HubSettings) -> None:
    async with two_hubs(shared) as (here, there):
        async with one_job(here._rooms.commons.locks, DEFAULT, "sweep") as earlier:
            assert earlier is not None
        async with one_job(there._rooms.commons.locks, DEFAULT, "sweep") as later:
            assert later is not None
            root = here.bind(ROOT, project_id=DEFAULT)
            await there.bind(ROOT, project_id=DEFAULT).sweep(job=later)
            with pytest.raises(StorageUnavailable) as caught:
                await root.sweep(job=earlier)
            assert caught.value.code == "lease_lost"
            assert len(await root.query_audit(action="retention.sweep")) == 1
        earlier._renewed_at -= NEVER_S
        with pytest.raises(StorageUnavailable):
            await earlier.go_on()


async def test_the_package_that_is_missing_is_named(shared: HubSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextdna.hub.commons.find_spec", lambda _: None)
    with pytest.raises(SettingsInvalid) as caught:
        async with open_hub(shared):
            pass
    assert caught.value.code == "driver_missing"
    assert "contextdna[redis]" in caught.value.hint
