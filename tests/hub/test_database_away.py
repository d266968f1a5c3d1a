"""While PostgreSQL is away: what is refused, what is queued, and what becomes of it when it is back."""

import errno
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import asyncpg
import pytest
from mcp_types import TextResourceContents

from contextdna import (
    AccessDenied,
    AgentId,
    Conflict,
    Hub,
    HubSettings,
    IntegrityFault,
    InvalidInput,
    Level,
    Memory,
    MemoryChange,
    MemoryDraft,
    ModeName,
    NotFound,
    OnDuplicate,
    RecordId,
    RegisterRequest,
    StorageUnavailable,
    StoredMemory,
    StoreStatus,
    TokenRequest,
    TurnDraft,
    open_hub,
)
from contextdna.backends.grouped_log import GroupedLog
from contextdna.backends.postgres.scopes import lock_key
from contextdna.hub.replay import Replay
from contextdna.values.audit import Outcome
from contextdna.values.settings import PostgresSettings
from tests.forked import Forked
from tests.hub.rig import (
    ALICE,
    BOB,
    DEFAULT,
    ROOT,
    audit_of,
    begin,
    public,
    refused,
    remember,
    settings_in,
    start_program,
)
from tests.servers.own_postgres import own_postgres
from tests.servers.postgres import EVERYWHERE, empty_database_url, fresh_database_url
from tests.servers.relay import Relay, relayed
from tests.tools.calling import calling

pytestmark = pytest.mark.anyio

LATE_S: Final = 30
CANARY: Final = "xylographer"
QUICK: Final = PostgresSettings(acquire_timeout_s=0.3, statement_timeout_s=0.3)


@dataclass(frozen=True)
class Rig:
    """A hub whose PostgreSQL is behind a relay."""

    relay: Relay
    settings: HubSettings
    hub: Hub

    async def back(self) -> None:
        await self.relay.open()
        await until_well(self.hub)


async def until_well(hub: Hub, *, but: tuple[ModeName, ...] = (), late_s: float = LATE_S) -> None:
    with anyio.fail_after(late_s):
        while any(mode.name not in but for mode in hub.modes):  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.005)


@pytest.fixture
async def place(anyio_backend: str, tmp_path: Path) -> AsyncIterator[tuple[Relay, HubSettings]]:
    async with relayed(empty_database_url()) as (relay, url):
        yield relay, settings_in(tmp_path / "data", database=url)


@pytest.fixture
async def rig(place: tuple[Relay, HubSettings]) -> AsyncIterator[Rig]:
    async with open_hub(place[1]) as hub:
        yield Rig(*place, hub)


async def opened(hub: Hub, *record_ids: RecordId) -> list[Memory]:
    return list((await hub.bind(ALICE).get_memories(record_ids))[0])


async def count_of(hub: Hub, kind: str = "memory") -> int:
    return dict((await hub.bind(ALICE).project_overview()).records_by_kind).get(kind, 0)


# --- what callers meet ---


async def test_a_disk_that_failed_once_ends_no_queueing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.relay.cut()
    first = await remember(rig.hub.bind(ALICE), "before the fault")
    with monkeypatch.context() as faulty:
        faulty.setattr("contextdna.backends.segmented_log.files.os.fsync", _no_space)
        await refused(remember(rig.hub.bind(ALICE), "the fault"), StorageUnavailable, "storage_outcome_unknown")
    second = await remember(rig.hub.bind(ALICE), "after the fault")
    await rig.back()
    assert [one.content for one in await opened(rig.hub, first, second)] == ["before the fault", "after the fault"]


def _no_space(_: int) -> None:
    raise OSError(errno.ENOSPC, "no space left on device")


async def test_another_master_key_is_refused_though_the_database_is_away(place: tuple[Relay, HubSettings]) -> None:
    relay, settings = place
    async with open_hub(settings):
        pass
    await relay.cut()
    with pytest.raises(IntegrityFault) as wrong:
        async with open_hub(replace(settings, master_key="ab" * 32)):
            pass
    assert wrong.value.code == "wrong_key"
    async with open_hub(settings) as hub:
        assert await remember(hub.bind(ALICE), "queued under the right one")


async def test_queued_writes_are_not_left_behind_where_the_spool_is_turned_off(
    place: tuple[Relay, HubSettings],
) -> None:
    relay, settings = place
    async with open_hub(settings) as hub:
        await relay.cut()
        queued = await remember(hub.bind(ALICE), "queued")
    await relay.open()
    with pytest.raises(StorageUnavailable) as left:
        async with open_hub(replace(settings, spool=False)):
            pass
    assert left.value.code == "spool_not_empty"
    with pytest.raises(StorageUnavailable) as left:
        async with open_hub(replace(settings, database="")):
            pass
    assert left.value.code == "spool_not_empty"
    async with open_hub(settings) as hub:
        await until_well(hub)
        assert [one.content for one in await opened(hub, queued)] == ["queued"]
    async with open_hub(replace(settings, spool=False)):
        pass


async def test_what_waits_for_one_database_is_stored_in_no_other(place: tuple[Relay, HubSettings]) -> None:
    relay, settings = place
    async with open_hub(settings) as hub:
        await relay.cut()
        queued = await remember(hub.bind(ALICE), "queued")
    async with relayed(fresh_database_url()) as (away, url):
        elsewhere = replace(settings, database=url)
        await away.cut()
        async with open_hub(elsewhere) as hub:
            await away.open()
            with anyio.fail_after(LATE_S):
                while "another database" not in (await hub.bind(ALICE).health()).database.problem:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
                while hub.modes[0].problem != "spool_of_another":  # noqa: ASYNC110 - nothing tells of it
                    await anyio.sleep(0.01)
        with pytest.raises(StorageUnavailable) as refusal:
            async with open_hub(elsewhere):
                pass
        assert refusal.value.code == "spool_of_another"
        await relay.open()
        async with open_hub(settings) as hub:
            await until_well(hub)
            assert [one.content for one in await opened(hub, queued)] == ["queued"]
            with pytest.raises(StorageUnavailable):
                async with open_hub(elsewhere):
                    pass  # while the other one may queue
        async with open_hub(elsewhere):
            pass


async def test_nothing_is_queued_for_a_database_that_was_never_reached_from_the_folder(
    place: tuple[Relay, HubSettings],
) -> None:
    relay, settings = place
    async with open_hub(settings):
        await relay.cut()
    async with relayed(fresh_database_url()) as (away, url), open_hub(settings) as hub:
        assert (await hub.bind(ALICE).store_memories([MemoryDraft("x")]))[0].status is StoreStatus.QUEUED
        await away.cut()
        async with open_hub(replace(settings, database=url)) as other:
            meant = other.bind(ALICE).store_memories([MemoryDraft("not for the first", level=Level.PRIVATE)])
            error = await refused(meant, StorageUnavailable, "storage_unreachable")
            assert (error.retryable, "names it now" in error.message) == (True, True)
            assert other.modes[0].waiting == 0
    async with relayed(settings.database) as (later, url):
        await later.cut()
        async with open_hub(replace(settings, database=url)) as hub:  # the same one, by another name
            await refused(remember(hub.bind(ALICE), "too early"), StorageUnavailable, "storage_unreachable")
            await relay.open()
            await later.open()
            await until_well(hub)
            await later.cut()
            await remember(hub.bind(ALICE), "now it is known")
        async with open_hub(replace(settings, database=url)) as hub:
            assert (await hub.bind(ALICE).store_memories([MemoryDraft("y")]))[0].status is StoreStatus.QUEUED


async def test_a_new_master_key_is_known_at_the_next_start(place: tuple[Relay, HubSettings]) -> None:
    relay, settings = place
    old, new = "ab" * 32, "cd" * 32
    async with open_hub(replace(settings, master_key=old)):
        pass
    async with open_hub(replace(settings, master_key=f"{old},{new}")):
        await relay.cut()
    async with open_hub(replace(settings, master_key=new)) as hub:
        assert await remember(hub.bind(ALICE), "queued under the new one")


async def test_writes_that_keep_coming_do_not_outrun_the_replay(rig: Rig) -> None:
    await rig.relay.cut()
    for number in range(20):
        await remember(rig.hub.bind(ALICE), f"while away {number}")
    await rig.relay.open()
    await until_well(rig.hub, but=(ModeName.DATABASE_REPLAY,))
    statuses = Counter[StoreStatus]()

    async def keep_storing(writer: int) -> None:
        for number in range(30):
            [stored] = await rig.hub.bind(ALICE).store_memories([MemoryDraft(f"writer {writer}, {number}")])
            statuses[stored.status] += 1

    async with anyio.create_task_group() as tasks:
        for writer in range(4):
            tasks.start_soon(keep_storing, writer)
    assert statuses[StoreStatus.STORED] > 60
    await until_well(rig.hub)
    assert await count_of(rig.hub) == 140


async def test_reads_are_refused_and_writes_are_queued_and_stored_under_their_ids(rig: Rig) -> None:
    hub = rig.hub
    first = await remember(hub.bind(ALICE), "one")
    handle = await begin(hub, ALICE)
    await hub.bind(ALICE, session_id=handle).log_turns([TurnDraft("user", "before")])
    await rig.relay.cut()
    workspace = hub.bind(ALICE)
    stored = await workspace.store_memories([MemoryDraft("two"), MemoryDraft("three", level=Level.PRIVATE)])
    assert [one.status for one in stored] == [StoreStatus.QUEUED] * 2
    assert "queued" in workspace.notices.lines()[0]
    updated = await hub.bind(ALICE).update_memory(first, MemoryChange(content="one, again"), expected_version=1)
    assert (updated.status, updated.version) == (StoreStatus.QUEUED, 2)
    again = await hub.bind(ALICE).update_memory(stored[0].id, MemoryChange(content="two, again"), expected_version=1)
    assert (again.status, again.version) == (StoreStatus.QUEUED, 2)
    turns = await hub.bind(ALICE, session_id=handle).log_turns([TurnDraft("user", "away")])
    error = await refused(hub.bind(ALICE).get_memories([first]), StorageUnavailable, "storage_unreachable")
    assert error.retryable
    [mode] = hub.modes
    assert (mode.name, mode.problem, mode.waiting) == (ModeName.DATABASE_AWAY, "storage_unreachable", 4)
    await rig.back()
    found = await opened(hub, first, *[one.id for one in stored])
    assert [(one.content, one.record.version) for one in found] == [("one, again", 2), ("two, again", 2), ("three", 1)]
    kept = await hub.bind(ALICE).read_conversation(public(handle))
    assert [turn.content for turn in kept] == ["before", "away"]
    assert kept[-1].record.id == turns[0]
    entries = [entry.draft for entry in await audit_of(hub) if "queued_ms" in entry.draft.details]
    assert {entry.principal_id for entry in entries} == {"alice"}
    assert [entry.action for entry in entries] == ["memory.store", "memory.update", "memory.update", "turn.log"]
    assert (await hub.bind(ROOT).verify_audit()).intact


async def test_a_client_is_told_in_answers_errors_and_the_health(rig: Rig) -> None:
    async with calling(ALICE, "auto", hub=rig.hub) as alice:
        handle = (await alice.ok("begin_session"))["session_id"]
        await alice.ok("log_turn", session_id=handle, role="user", content="before")
        first = (await alice.ok("store_memory", content="one"))["stored"][0]
        assert "notice" not in await alice.ok("store_memory", content="one, too")
        await rig.relay.cut()
        answer = await alice.ok("store_memory", content="two")
        assert answer["stored"][0]["status"] == "queued"
        assert answer["notice"].startswith("database_away: ")
        for name, arguments in {
            "update_memory": {"id": first["id"], "expected_version": 1, "content": "one, again"},
            "log_turn": {"session_id": handle, "role": "user", "content": "away"},
        }.items():
            answer = await alice.ok(name, **arguments)
            assert (answer["status"], "notice" in answer) == ("queued", True)
        error = await alice.error("retrieve_context", query="one")
        assert (error["code"], error["retryable"]) == ("storage_unreachable", True)
        told = (await alice.client.read_resource("contextdna://health")).contents[0]
        assert isinstance(told, TextResourceContents)
        health = json.loads(told.text)
        assert (health["status"], health["database"]["sound"]) == ("degraded", False)
        assert health["modes"] == [{"name": "database_away", "problem": "storage_unreachable", "waiting": 3}]
        await rig.back()
        answer = await alice.ok("store_memory", content="three")
        assert (answer["stored"][0]["status"], "notice" in answer) == ("stored", False)


async def test_what_cannot_be_right_is_refused_at_once(rig: Rig) -> None:
    hub = rig.hub
    handle = await begin(hub, ALICE)
    await rig.relay.cut()
    alone = replace(ALICE, team_id="", scopes=frozenset())
    drafts = [MemoryDraft("x")]
    await refused(hub.bind(ALICE).store_memories([MemoryDraft("")]), InvalidInput, "content_empty")
    await refused(hub.bind(ALICE, project_id="none").store_memories(drafts), NotFound, "project_not_found")
    with pytest.raises(AccessDenied, match="scope"):
        await hub.bind(alone).store_memories(drafts)
    await refused(
        hub.bind(ALICE).store_memories([MemoryDraft("x", level=Level.SYSTEM)]),
        AccessDenied,
        "role_required",
    )
    # Whom a handle stands for that this process has not met, only the database knows.
    await refused(
        hub.bind(ALICE, session_id=handle).log_turns([TurnDraft("user", "x")]),
        StorageUnavailable,
        "storage_unreachable",
    )
    assert hub.modes[0].waiting == 0


async def test_nothing_of_what_waits_can_be_read_in_the_data_folder(rig: Rig) -> None:
    await rig.relay.cut()
    secret = MemoryDraft(f"a {CANARY}", metadata={"word": CANARY}, tags=(CANARY,))
    await rig.hub.bind(ALICE).store_memories([secret])
    folder = rig.settings.data_dir
    assert folder is not None
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert CANARY.encode() not in everything
    assert b"alice" not in everything


async def test_the_same_request_again_means_the_first(rig: Rig) -> None:
    await rig.relay.cut()
    workspace = rig.hub.bind(ALICE)
    first = await workspace.store_memories([MemoryDraft("once")])
    assert await workspace.store_memories([MemoryDraft("once")]) == first

    async def keyed() -> tuple[StoredMemory, ...]:
        drafts = [MemoryDraft("k")]
        return await workspace.store_memories(drafts, idempotency_key="k", on_duplicate=OnDuplicate.NEW)

    under_key = await keyed()
    assert await keyed() == under_key
    apart = await workspace.store_memories([MemoryDraft("n")], on_duplicate=OnDuplicate.NEW)
    assert await workspace.store_memories([MemoryDraft("n")], on_duplicate=OnDuplicate.NEW) != apart
    await rig.back()
    assert await count_of(rig.hub) == 4
    assert (await keyed())[0].id == under_key[0].id


async def test_an_update_that_contradicts_one_that_waits_is_a_conflict(rig: Rig) -> None:
    memory = await remember(rig.hub.bind(ALICE), "one")
    await rig.relay.cut()
    workspace = rig.hub.bind(ALICE)
    await workspace.update_memory(memory, MemoryChange(content="two"), expected_version=1)
    lost = await refused(
        workspace.update_memory(memory, MemoryChange(content="three"), expected_version=1), Conflict, "version_conflict"
    )
    assert lost.current_version == 2


# --- what becomes of it ---


async def test_what_others_changed_or_forbade_meanwhile_is_set_aside_and_told(rig: Rig, tmp_path: Path) -> None:
    hub = rig.hub
    memory = await remember(hub.bind(ALICE), "one")
    elsewhere = replace(rig.settings, database=empty_url_of(rig), data_dir=tmp_path / "other", master_key=key_of(rig))
    async with open_hub(elsewhere) as other:
        await rig.relay.cut()
        await hub.bind(ALICE).update_memory(memory, MemoryChange(content="mine"), expected_version=1)
        queued = await hub.bind(BOB).store_memories([MemoryDraft("of bob")])
        kept = await hub.bind(ALICE).store_memories([MemoryDraft("kept")])
        await other.bind(ALICE).update_memory(memory, MemoryChange(content="theirs"), expected_version=1)
        await other.bind(ROOT, project_id=DEFAULT).agents.register(RegisterRequest(AgentId("bob")))
        await other.bind(ROOT, project_id=DEFAULT).agents.retire(AgentId("bob"))
    await rig.relay.open()
    await until_well(hub, but=(ModeName.WRITES_ASIDE,))
    assert [one.content for one in await opened(hub, memory, kept[0].id)] == ["theirs", "kept"]
    [mode] = hub.modes
    assert (mode.name, mode.waiting) == (ModeName.WRITES_ASIDE, 2)
    [conflict] = await hub.bind(ROOT, project_id=DEFAULT).conflicts()
    assert (conflict.record_id, conflict.expected_version, conflict.current_version) == (memory, 1, 2)
    outcomes = {entry.draft.outcome for entry in await audit_of(hub)}
    assert {Outcome.CONFLICT, Outcome.DENIED} <= outcomes
    queue = hub.bind(ROOT, project_id=DEFAULT).queue
    aside = await queue.aside()
    assert [(one.code, one.agent_id) for one in aside] == [("version_conflict", "alice"), ("agent_retired", "bob")]
    assert aside[1].record_ids == (queued[0].id,)
    await queue.drop(aside[0].id)
    await refused(queue.retry(aside[1].id), AccessDenied, "agent_retired")
    await hub.bind(ROOT, project_id=DEFAULT).agents.register(RegisterRequest(AgentId("bob")))
    assert await queue.retry(aside[1].id) == (queued[0].id,)
    assert hub.modes == ()


async def test_what_was_queued_with_a_token_that_was_revoked_meanwhile_is_refused(rig: Rig, tmp_path: Path) -> None:
    hub = rig.hub
    root = hub.bind(ROOT, project_id=DEFAULT)
    made = [await root.access_tokens.create(TokenRequest(AgentId(name), (DEFAULT,))) for name in ("ann", "bea")]
    bearers = [(await hub.authenticate(one.text)).principal for one in made]
    elsewhere = replace(rig.settings, database=empty_url_of(rig), data_dir=tmp_path / "other", master_key=key_of(rig))
    async with open_hub(elsewhere) as other:
        await rig.relay.cut()
        queued = [await hub.bind(bearer).store_memories([MemoryDraft(f"of {bearer.agent_id}")]) for bearer in bearers]
        await other.bind(ROOT, project_id=DEFAULT).access_tokens.revoke(made[0].token.id)
    await rig.relay.open()
    await until_well(hub, but=(ModeName.WRITES_ASIDE,))
    assert [(one.code, one.agent_id) for one in await root.queue.aside()] == [("token_revoked", "ann")]
    assert [one.content for one in await opened(hub, queued[1][0].id)] == ["of bea"]


def empty_url_of(rig: Rig) -> str:
    """Give the URL of the same database, past the relay."""
    from tests.servers.postgres import database_url

    return database_url()


def key_of(rig: Rig) -> str:
    assert rig.settings.data_dir is not None
    text = (rig.settings.data_dir / "master.key").read_text()
    return ",".join(line.split()[-1] for line in text.splitlines() if line and not line.startswith("#"))


async def test_a_process_that_ends_leaves_what_waits_to_the_next(place: tuple[Relay, HubSettings]) -> None:
    relay, settings = place
    async with open_hub(settings) as hub:
        await relay.cut()
        stored = await hub.bind(ALICE).store_memories([MemoryDraft(f"number {number}") for number in range(3)])
    await relay.open()
    async with open_hub(settings) as hub:
        await until_well(hub)
        assert len(await opened(hub, *[one.id for one in stored])) == 3


async def test_a_server_that_starts_meanwhile_queues_too_where_one_has_run_before(
    place: tuple[Relay, HubSettings], tmp_path: Path
) -> None:
    relay, settings = place
    async with open_hub(settings) as hub:
        await relay.cut()
        stored = await hub.bind(ALICE).store_memories([MemoryDraft("before")])
    async with open_hub(settings) as hub:
        assert hub.modes[0].name is ModeName.DATABASE_AWAY
        stored += await hub.bind(ALICE).store_memories([MemoryDraft("after")])
        assert [one.status for one in stored] == [StoreStatus.QUEUED] * 2
        await refused(hub.bind(ALICE).get_memories([stored[0].id]), StorageUnavailable, "storage_unreachable")
        assert not (await hub.bind(ALICE).health()).database.sound
        await relay.open()
        await until_well(hub)
        assert [one.content for one in await opened(hub, *[one.id for one in stored])] == ["before", "after"]
    await relay.cut()
    with pytest.raises(StorageUnavailable):
        async with open_hub(replace(settings, data_dir=tmp_path / "new")):
            pass  # nothing tells that these settings were ever good


async def test_nothing_is_queued_for_a_database_that_is_there_and_refuses_the_login(
    place: tuple[Relay, HubSettings],
) -> None:
    relay, settings = place
    async with open_hub(settings):
        await relay.cut()
    parts = urlsplit(settings.database)
    async with open_hub(replace(settings, database=parts._replace(netloc="nobody@").geturl())) as hub:
        assert (await hub.bind(ALICE).store_memories([MemoryDraft("x")]))[0].status is StoreStatus.QUEUED
        await relay.open()
        with anyio.fail_after(LATE_S):
            while hub.modes[0].problem != "storage_login_refused":  # noqa: ASYNC110 - nothing tells of it
                await anyio.sleep(0.005)
        for agent in (ALICE, BOB):
            stored = hub.bind(agent).store_memories([MemoryDraft("y")])
            assert not (await refused(stored, StorageUnavailable, "storage_login_refused")).retryable
        assert hub.modes[0].waiting == 1


async def test_what_was_done_and_not_noted_is_not_done_again(
    place: tuple[Relay, HubSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the process is killed between the commit and the note of it."""
    relay, settings = place
    forget = GroupedLog.forget
    failures = 0

    async def fails(log: GroupedLog, seq: int) -> None:
        nonlocal failures
        failures += 1
        if failures <= 2:
            raise StorageUnavailable("injected", code="storage_io_error", retryable=True)
        await forget(log, seq)

    async with open_hub(settings) as hub:
        memory = await remember(hub.bind(ALICE), "one")
        await relay.cut()
        await hub.bind(ALICE).store_memories([MemoryDraft("two")])
        await hub.bind(ALICE).update_memory(memory, MemoryChange(content="one, again"), expected_version=1)
        monkeypatch.setattr(GroupedLog, "forget", fails)
        await relay.open()
        await until_well(hub)
        assert failures > 2
        assert await count_of(hub) == 2
        assert (await opened(hub, memory))[0].record.version == 2
        assert await hub.bind(ROOT, project_id=DEFAULT).queue.aside() == ()


async def test_what_comes_after_waits_behind(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order is kept: until what was queued is stored, what can be queued is, and all else waits or is told to."""
    hub = rig.hub
    monkeypatch.setattr("contextdna.hub.spool._TURN_S", 0.05)
    memory = await remember(hub.bind(ALICE), "one")
    await rig.relay.cut()
    await hub.bind(ALICE).update_memory(memory, MemoryChange(content="two"), expected_version=1)
    replay = anyio.Event()
    through = Replay._replay

    async def held(this: Any, entry: Any, before: Any) -> None:
        await replay.wait()
        await through(this, entry, before)

    monkeypatch.setattr("contextdna.hub.replay.Replay._replay", held)
    await rig.relay.open()
    with anyio.fail_after(LATE_S):
        while hub.modes[0].name is not ModeName.DATABASE_REPLAY:  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.005)
    third = await hub.bind(ALICE).update_memory(memory, MemoryChange(content="three"), expected_version=2)
    assert third.status is StoreStatus.QUEUED
    await refused(hub.bind(ALICE).forget_memories([memory]), StorageUnavailable, "storage_busy")
    assert (await opened(hub, memory))[0].content == "one"
    replay.set()
    await until_well(hub)
    assert (await opened(hub, memory))[0].content == "three"


async def test_without_a_spool_writes_are_refused(place: tuple[Relay, HubSettings]) -> None:
    relay, settings = place
    async with open_hub(replace(settings, spool=False)) as hub:
        await relay.cut()
        store = hub.bind(ALICE).store_memories([MemoryDraft("x")])
        assert (await refused(store, StorageUnavailable, "storage_unreachable")).retryable
        assert hub.modes[0].name is ModeName.DATABASE_AWAY


async def test_a_full_spool_says_so(place: tuple[Relay, HubSettings]) -> None:
    relay, settings = place
    async with open_hub(replace(settings, spool_bytes_max=20_000)) as hub:
        await relay.cut()
        await hub.bind(ALICE).store_memories([MemoryDraft("x" * 10_000)])
        await refused(hub.bind(ALICE).store_memories([MemoryDraft("y" * 10_000)]), StorageUnavailable, "log_full")
        await relay.open()
        await until_well(hub)
        assert await count_of(hub) == 1


async def test_two_processes_queue_apart_on_one_folder(place: tuple[Relay, HubSettings]) -> None:
    relay, settings = place
    async with open_hub(settings) as one:
        async with open_hub(settings) as other:
            await relay.cut()
            first = await one.bind(ALICE).store_memories([MemoryDraft("of one")])
            second = await other.bind(ALICE).store_memories([MemoryDraft("of the other")])
        await relay.open()  # the other is gone: the one does its writes, too
        with anyio.fail_after(LATE_S):
            while one.modes or await count_of(one) < 2:  # noqa: ASYNC110 - nothing tells of it
                await anyio.sleep(0.005)
        assert len(await opened(one, first[0].id, second[0].id)) == 2


# --- deadlines ---


async def test_a_server_starts_while_a_project_is_held_up(place: tuple[Relay, HubSettings]) -> None:
    _, settings = place
    async with open_hub(settings):
        pass
    other = await asyncpg.connect(settings.database)
    try:
        await other.execute(f"SELECT pg_advisory_lock({lock_key(DEFAULT)})")
        with anyio.fail_after(LATE_S):
            async with open_hub(replace(settings, postgres=QUICK)) as hub:
                assert (await hub.bind(ALICE).health()).database.sound
    finally:
        await other.close()


async def test_a_hung_server_costs_one_deadline_and_then_nothing(
    place: tuple[Relay, HubSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contextdna.backends.postgres.driver.SLACK_S", 0.1)
    relay, settings = place
    async with open_hub(replace(settings, postgres=QUICK)) as hub:
        relay.hang()
        with anyio.fail_after(5):
            stored = await hub.bind(ALICE).store_memories([MemoryDraft("x")])
        assert stored[0].status is StoreStatus.QUEUED
        with anyio.fail_after(5):
            with pytest.raises(StorageUnavailable):
                await hub.bind(ALICE).get_memories([stored[0].id])
            assert not (await hub.bind(ALICE).health()).database.sound
        await relay.open()
        await until_well(hub)
        assert len(await opened(hub, stored[0].id)) == 1


# --- real servers, killed and stopped; a process killed while it replays ---


@pytest.mark.skipif(not EVERYWHERE, reason="takes a server of its own, and longer")
@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_a_real_server_that_goes_under_load_loses_nothing(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contextdna.backends.postgres.driver.SLACK_S", 0.2)
    own = PostgresSettings(acquire_timeout_s=1, statement_timeout_s=1)
    answered: dict[RecordId, str] = {}
    with own_postgres() as server:
        async with open_hub(settings_in(tmp_path / "data", database=server.url, postgres=own)) as hub:
            deadline = anyio.current_time() + 8

            async def store(name: int) -> None:
                number = 0
                while anyio.current_time() < deadline:
                    content = f"memory {number} of {name}"
                    number += 1
                    with suppress(StorageUnavailable):
                        [one] = await hub.bind(ALICE).store_memories([MemoryDraft(content)])
                        answered[one.id] = content
                    await anyio.sleep(0.01)

            async def mistreat() -> None:
                await anyio.sleep(1)
                (server.kill if how == "killed" else server.hang)()
                await anyio.sleep(4)
                await anyio.to_thread.run_sync(server.start if how == "killed" else server.wake)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(mistreat)
                for name in range(8):
                    tasks.start_soon(store, name)
            await until_well(hub, late_s=120)
            assert len(answered) > 100
            for batch in batched(answered):
                found = {one.record.id: one.content for one in await opened(hub, *batch)}
                assert found == {record_id: answered[record_id] for record_id in batch}
            assert await hub.bind(ROOT, project_id=DEFAULT).queue.aside() == ()
            assert (await hub.bind(ROOT, project_id=DEFAULT).verify_audit()).intact
            contents = Counter(answered.values())
            assert max(contents.values()) == 1


def batched(items: Iterable[RecordId]) -> Iterator[list[RecordId]]:
    rest = list(items)
    for start in range(0, len(rest), 100):
        yield rest[start : start + 100]


@pytest.mark.parametrize("rounds", [1, pytest.param(12, marks=pytest.mark.skipif(not EVERYWHERE, reason="longer"))])
async def test_a_process_killed_while_it_replays_stores_each_write_once(
    place: tuple[Relay, HubSettings], rounds: int
) -> None:
    relay, settings = place
    count = 40 * rounds
    async with open_hub(settings) as hub:
        memory = await remember(hub.bind(ALICE), "0")
        await relay.cut()
        workspace = hub.bind(ALICE)
        stored: list[StoredMemory] = []
        for number in range(1, count + 1):
            drafts = [MemoryDraft(f"number {number}")]
            stored += await workspace.store_memories(drafts, on_duplicate=OnDuplicate.NEW)
            await workspace.update_memory(memory, MemoryChange(content=str(number)), expected_version=number)
    await relay.open()
    for delay in range(rounds):
        process = await anyio.to_thread.run_sync(replaying, settings)
        await anyio.sleep(0.03 * (delay + 1))  # somewhere in the midst of it
        with process:
            process.kill()
    async with open_hub(settings) as hub:
        await until_well(hub)
        assert await count_of(hub) == count + 1
        for batch in batched(one.id for one in stored):
            assert len(await opened(hub, *batch)) == len(batch)
        [last] = await opened(hub, memory)
        assert (last.content, last.record.version) == (str(count), count + 1)
        assert await hub.bind(ROOT, project_id=DEFAULT).queue.aside() == ()
        assert (await hub.bind(ROOT, project_id=DEFAULT).verify_audit()).intact


@pytest.mark.skipif(not EVERYWHERE, reason="longer")
async def test_what_a_killed_process_has_answered_is_stored_whatever_the_database_did(
    place: tuple[Relay, HubSettings],
) -> None:
    relay, settings = place
    answered: dict[RecordId, str] = {}
    for round_number in range(6):
        process = await anyio.to_thread.run_sync(replaying, settings, "store")
        for is_there in (False, True, False):
            await anyio.sleep(0.3 + 0.1 * round_number)
            await (relay.open() if is_there else relay.cut())
        await anyio.sleep(0.2)
        process.kill()
        printed, _ = await anyio.to_thread.run_sync(process.communicate)
        for line in printed.splitlines():
            record_id, _, status = line.partition(" ")
            if status in ("stored", "queued"):
                answered[RecordId(record_id)] = status
        await relay.open()
    assert set(answered.values()) == {"stored", "queued"}
    async with open_hub(settings) as hub:
        await until_well(hub, late_s=120)
        for batch in batched(answered):
            assert len(await opened(hub, *batch)) == len(batch)
        assert await hub.bind(ROOT, project_id=DEFAULT).queue.aside() == ()
        assert (await hub.bind(ROOT, project_id=DEFAULT).verify_audit()).intact


def replaying(settings: HubSettings, *arguments: str) -> Forked:
    """Start a process that opens the installation, and so replays what waits; it has begun when this returns."""
    process = start_program("replaying_process.py", settings.data_dir, settings.database, *arguments)
    assert process.stdout.readline() == "opened\n"
    return process
