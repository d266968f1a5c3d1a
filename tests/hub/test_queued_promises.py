"""What a queued write promises holds for whoever builds upon it, repeats it, or goes on with its session."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

import anyio
import pytest

from contextdna import (
    AccessDenied,
    AgentId,
    Conflict,
    Hub,
    HubSettings,
    MemoryChange,
    MemoryDraft,
    ModeName,
    NotFound,
    OnDuplicate,
    Principal,
    RecordId,
    RegisterRequest,
    StorageUnavailable,
    StoredMemory,
    StoreStatus,
    TurnDraft,
    open_hub,
)
from contextdna.hub.spool import SPOOL_FOLDER
from contextdna.values.ids import is_id
from tests.hub.rig import ALICE, BOB, DEFAULT, PETE, ROOT, Clock, begin, public, refused, remember
from tests.hub.test_database_away import LATE_S, Rig, count_of, empty_url_of, key_of, opened, place, rig, until_well
from tests.servers.relay import Relay

__all__ = ["place", "rig"]

pytestmark = pytest.mark.anyio

ASIDE: Final = (ModeName.WRITES_ASIDE,)


async def update(hub: Hub, principal: Principal, record_id: RecordId, content: str, version: int) -> None:
    stored = await hub.bind(principal).update_memory(record_id, MemoryChange(content=content), expected_version=version)
    assert (stored.status, stored.version) == (StoreStatus.QUEUED, version + 1)


async def test_an_update_upon_one_that_was_refused_does_not_hit_anothers(rig: Rig) -> None:
    hub = rig.hub
    memory = await remember(hub.bind(ALICE), "one")
    await rig.relay.cut()
    await update(hub, ALICE, memory, "of alice", 1)
    await update(hub, ROOT, memory, "of root", 1)
    await update(hub, ROOT, memory, "of root, on top", 2)
    await rig.relay.open()
    await until_well(hub, but=ASIDE)
    assert [(one.content, one.record.version) for one in await opened(hub, memory)] == [("of alice", 2)]
    root = hub.bind(ROOT, project_id=DEFAULT)
    aside = await root.queue.aside()
    assert [one.code for one in aside] == ["version_conflict"] * 2
    assert [one.expected_version for one in await root.conflicts()] == [2, 1]
    await refused(root.queue.retry(aside[1].id), Conflict, "version_conflict")
    # It is told once that what it was promised is not its own; then it has read the memory.
    again = MemoryChange(content="of root, again")
    await refused(root.update_memory(memory, again, expected_version=2), Conflict, "version_conflict")
    assert (await root.update_memory(memory, again, expected_version=2)).version == 3


async def test_an_update_upon_one_that_was_refused_is_known_after_a_restart_and_to_whoever_adopts_it(
    place: tuple[Relay, HubSettings],
) -> None:
    relay, settings = place
    async with open_hub(settings) as one:
        memory = await remember(one.bind(ALICE), "one")
        async with open_hub(settings) as other:
            await relay.cut()
            await update(one, ALICE, memory, "of alice", 1)
            await update(other, ROOT, memory, "of root", 1)
            await update(other, ROOT, memory, "of root, on top", 2)
    await relay.open()
    async with open_hub(settings) as hub:  # in the slot of the first, and adopts the other's
        with anyio.fail_after(LATE_S):
            while hub.modes != () and [mode.waiting for mode in hub.modes] != [2]:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            while len(await hub.bind(ROOT, project_id=DEFAULT).queue.aside()) < 2:  # noqa: ASYNC110
                await anyio.sleep(0.005)
        assert [one.content for one in await opened(hub, memory)] == ["of alice"]


async def test_updates_of_one_agent_at_two_servers_hit_nobody_elses(rig: Rig, tmp_path: Path) -> None:
    hub = rig.hub
    memory = await remember(hub.bind(ALICE), "one")
    elsewhere = replace(rig.settings, database=empty_url_of(rig), data_dir=tmp_path / "other", master_key=key_of(rig))
    async with open_hub(elsewhere) as other:
        await rig.relay.cut()
        await update(hub, ROOT, memory, "of root, on top of what another server took", 2)
        await other.bind(ALICE).update_memory(memory, MemoryChange(content="of alice"), expected_version=1)
    await rig.relay.open()
    await until_well(hub, but=ASIDE)
    assert [one.content for one in await opened(hub, memory)] == ["of alice"]


async def test_updates_of_one_agent_at_two_servers_are_stored_in_their_order(place: tuple[Relay, HubSettings]) -> None:
    relay, settings = place
    async with open_hub(settings) as one:
        memory = await remember(one.bind(ALICE), "one")
        async with open_hub(settings) as other:
            await relay.cut()
            await update(other, ALICE, memory, "two", 1)
            await update(one, ALICE, memory, "three", 2)
            fresh = await remember(other.bind(ALICE), "fresh")
            await update(one, ALICE, fresh, "changed", 1)
    await relay.open()
    async with open_hub(settings) as hub:  # in the slot of the first
        await until_both(hub, [(memory, "three", 3), (fresh, "changed", 2)])
        async with open_hub(settings) as other:
            await relay.cut()
            await update(other, ALICE, memory, "four", 3)
            await update(hub, ALICE, memory, "five", 4)
            await update(other, ALICE, fresh, "again", 2)
            await relay.open()
            await until_both(hub, [(memory, "five", 5), (fresh, "again", 3)])
            assert not await hub.bind(ROOT, project_id=DEFAULT).queue.aside()


async def test_what_an_agent_was_promised_at_two_servers_in_turn_is_stored(place: tuple[Relay, HubSettings]) -> None:
    relay, settings = place
    async with open_hub(settings) as one:
        memory, old = await remember(one.bind(ALICE), "one"), await remember(one.bind(ALICE), "old")
        async with open_hub(settings) as other:
            await relay.cut()
            for hub, content, version in ((one, "two", 1), (other, "three", 2), (one, "four", 3), (one, "five", 4)):
                await update(hub, ALICE, memory, content, version)
            again = one.bind(ALICE).update_memory(memory, MemoryChange(content="two"), expected_version=3)
            await refused(again, Conflict, "version_conflict")
            newer = await remember(other.bind(ALICE), "newer")
            about = MemoryDraft("about the newer", relates_to=(newer,))
            about_id = (await one.bind(ALICE).store_memories([about]))[0].id
            await update(one, ALICE, about_id, "about the newer, changed", 1)
            await one.bind(ALICE).update_memory(old, MemoryChange(superseded_by=newer), expected_version=1)
    await relay.open()
    async with open_hub(settings) as hub:  # in the slot of the first
        await until_both(hub, [(memory, "five", 5), (about_id, "about the newer, changed", 2), (old, "old", 2)])
        found = await opened(hub, about_id, old)
        assert [one.relates_to for one in found] == [(newer,), ()]
        assert found[1].record.superseded_by == newer
        assert not await hub.bind(ROOT, project_id=DEFAULT).queue.aside()


async def until_both(hub: Hub, expected: list[tuple[RecordId, str, int]]) -> None:
    with anyio.fail_after(LATE_S):
        while True:
            await until_well(hub)
            found = await hub.bind(ALICE).get_memories([one[0] for one in expected])
            if [(one.record.id, one.content, one.record.version) for one in found[0]] == expected:
                return
            await anyio.sleep(0.01)


async def keyed(hub: Hub, content: str = "keyed") -> tuple[StoredMemory, ...]:
    drafts = [MemoryDraft(content), MemoryDraft(f"{content}, too")]
    return await hub.bind(ALICE).store_memories(drafts, idempotency_key="k")


async def test_a_key_promises_the_same_ids_in_every_process(place: tuple[Relay, HubSettings], tmp_path: Path) -> None:
    relay, settings = place
    async with open_hub(settings) as one:
        await relay.cut()
        first = await keyed(one)
        assert [is_id(stored.id) for stored in first] == [True] * 2
        async with open_hub(settings) as other:  # which has not met the database
            async with open_hub(settings) as third:
                assert {one.id for one in await keyed(third, "else")}.isdisjoint(stored.id for stored in first)
            assert await keyed(other) == first
            await refused(keyed(other, "else"), Conflict, "idempotency_key_reused")
        async with open_hub(settings) as after:
            await refused(keyed(after, "else"), Conflict, "idempotency_key_reused")
        with anyio.fail_after(LATE_S):
            await relay.open()
            while [mode.name for mode in one.modes] != list(ASIDE):  # noqa: ASYNC110
                await anyio.sleep(0.005)
        aside = await one.bind(ROOT, project_id=DEFAULT).queue.aside()
        assert [one.code for one in aside] == ["idempotency_key_reused"]
        found = await opened(one, *[stored.id for stored in first])
        assert [memory.content for memory in found] == ["keyed", "keyed, too"]


async def test_a_repeat_after_a_restart_gets_the_first_ids(place: tuple[Relay, HubSettings]) -> None:
    relay, settings = place
    drafts = [MemoryDraft("once", metadata={"b": 1, "a": (1.5, None)}, tags=("t",))]
    async with open_hub(settings) as hub:
        memory = await remember(hub.bind(ALICE), "one")
        await relay.cut()
        first = await hub.bind(ALICE).store_memories(drafts)
        await update(hub, ALICE, memory, "two", 1)
    async with open_hub(settings) as hub:
        assert await hub.bind(ALICE).store_memories(drafts) == first
        await update(hub, ALICE, memory, "two", 1)
        other = hub.bind(ALICE).update_memory(memory, MemoryChange(content="else"), expected_version=1)
        await refused(other, Conflict, "version_conflict")
        await update(hub, ALICE, memory, "three", 2)
        assert hub.modes[0].waiting == 3
        await relay.open()
        await until_well(hub)
        assert [one.content for one in await opened(hub, memory, first[0].id)] == ["three", "once"]


async def test_who_was_ended_here_is_not_taken_while_the_database_is_away(place: tuple[Relay, HubSettings]) -> None:
    relay, settings = place
    clock = Clock()
    async with open_hub(settings, clock=clock) as hub:
        root = hub.bind(ROOT, project_id=DEFAULT)
        ended, short, lasting = [await begin(hub, ALICE, ttl_s=ttl_s) for ttl_s in (3600, 60, 3600)]
        for handle in (ended, short, lasting):
            await remember(hub.bind(ALICE, session_id=handle), f"of {public(handle)}")
        await remember(hub.bind(BOB), "of bob")
        await hub.bind(ALICE, session_id=ended).end_session(success=True)
        for name in ("bob", "pete"):
            await root.agents.register(RegisterRequest(AgentId(name)))
            await root.agents.retire(AgentId(name))
        await root.agents.register(RegisterRequest(AgentId("pete")))
        await relay.cut()
        clock.advance(seconds=61)
        drafts = [MemoryDraft("late")]
        for handle in (ended, short, "ses_nonsense"):
            call = hub.bind(ALICE, session_id=handle).store_memories(drafts)
            error = await refused(call, StorageUnavailable, "storage_unreachable")
            assert error.retryable
            assert "session_id" in error.message
        await refused(hub.bind(BOB).store_memories(drafts), AccessDenied, "agent_retired")
        assert hub.modes[0].waiting == 0
        for principal, handle in ((ALICE, lasting), (PETE, "")):
            [stored] = await hub.bind(principal, session_id=handle).store_memories(drafts)
            assert stored.status is StoreStatus.QUEUED
        turn = hub.bind(ALICE, session_id="ses_nonsense").log_turns([TurnDraft("user", "x")])
        assert "session_id" in (await refused(turn, StorageUnavailable, "storage_unreachable")).message


async def test_whether_something_is_there_already_waits_for_the_database(rig: Rig) -> None:
    await rig.relay.cut()
    for waiting in (0, 1):
        call = rig.hub.bind(ALICE).store_memories([MemoryDraft("one")], on_duplicate=OnDuplicate.ERROR)
        assert (await refused(call, StorageUnavailable, "storage_unreachable")).retryable
        assert rig.hub.modes[0].waiting == waiting
        await rig.hub.bind(ALICE).store_memories([MemoryDraft("one")])


async def test_what_is_older_than_what_is_remembered_does_not_come_back_by_itself(
    place: tuple[Relay, HubSettings], tmp_path: Path
) -> None:
    relay, settings = place
    assert settings.data_dir is not None
    clock = Clock()
    async with open_hub(settings, clock=clock) as hub:
        await relay.cut()
        queued = (await hub.bind(ALICE).store_memories([MemoryDraft("to be purged for good")]))[0].id
        shutil.copytree(settings.data_dir / SPOOL_FOLDER, tmp_path / "backup")
        await relay.open()
        await until_well(hub)
        await hub.bind(ROOT, project_id=DEFAULT).forget_memories([queued], purge=True)
        clock.advance(days=8)
        await hub.bind(ROOT, project_id=DEFAULT).sweep()
    shutil.rmtree(settings.data_dir / SPOOL_FOLDER)
    shutil.copytree(tmp_path / "backup", settings.data_dir / SPOOL_FOLDER)
    async with open_hub(settings, clock=clock) as hub:
        await until_well(hub, but=ASIDE)
        await refused(hub.bind(ALICE).get_memories([queued]), NotFound, "not_found")
        queue = hub.bind(ROOT, project_id=DEFAULT).queue
        [aside] = await queue.aside()
        assert (aside.code, aside.record_ids) == ("queued_too_old", (queued,))
        assert await queue.retry(aside.id) == (queued,)


async def test_what_is_queued_in_a_slot_that_was_put_back_is_no_write_that_was_stored_before(
    place: tuple[Relay, HubSettings], tmp_path: Path
) -> None:
    relay, settings = place
    assert settings.data_dir is not None
    slot = settings.data_dir / SPOOL_FOLDER / "0"
    async with open_hub(settings) as hub:
        await relay.cut()
        queued = [await remember(hub.bind(ALICE), "in the backup")]
    shutil.copytree(slot, tmp_path / "backup")
    async with open_hub(settings) as hub:
        queued.append(await remember(hub.bind(ALICE), "after it"))
        await relay.open()
        await until_well(hub)
    shutil.rmtree(slot)
    shutil.copytree(tmp_path / "backup", slot)
    async with open_hub(settings) as hub:
        await until_well(hub)
        await relay.cut()
        queued.append(await remember(hub.bind(ALICE), "after it was put back"))
        await relay.open()
        await until_well(hub)
        contents = ["in the backup", "after it", "after it was put back"]
        assert [one.content for one in await opened(hub, *queued)] == contents


async def test_a_write_that_is_known_as_done_with_other_records_stays_aside_whoever_retries_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def done(*_: object, **__: object) -> tuple[str, ...]:
        return ("mem_another",)

    hub = rig.hub
    await rig.relay.cut()
    await keyed(hub)
    monkeypatch.setattr("contextdna.domain.queued_writes.QueuedWrite.replay", done)
    await rig.relay.open()
    await until_well(hub, but=ASIDE)
    queue = hub.bind(ROOT, project_id=DEFAULT).queue
    for _ in range(2):
        [aside] = await queue.aside()
        assert aside.code == "stored_before"
        error = await refused(queue.retry(aside.id), Conflict, "stored_before")
        assert error.record_ids == ("mem_another",)


async def test_a_stored_request_that_is_repeated_while_the_database_is_away_is_promised_what_was_stored(
    rig: Rig,
) -> None:
    hub = rig.hub
    stored = await keyed(hub)
    assert {one.status for one in stored} == {StoreStatus.STORED}
    await rig.relay.cut()
    repeated = await keyed(hub)
    assert {one.status for one in repeated} == {StoreStatus.QUEUED}
    assert [one.id for one in repeated] == [one.id for one in stored]
    await update(hub, ALICE, repeated[0].id, "changed", 1)
    await rig.relay.open()
    await until_well(hub)
    found = await opened(hub, *[one.id for one in stored])
    assert [one.content for one in found] == ["changed", "keyed, too"]
    assert await count_of(hub) == 2


async def test_a_merged_request_that_is_repeated_while_the_database_is_away_is_stored_as_promised(rig: Rig) -> None:
    hub = rig.hub
    before = await remember(hub.bind(ALICE), "keyed")
    merged, fresh = await keyed(hub)
    assert (merged.id, merged.status) == (before, StoreStatus.MERGED)
    await rig.relay.cut()
    promised = await keyed(hub)
    assert promised[0].id != before
    assert promised[1].id == fresh.id
    await update(hub, ALICE, promised[0].id, "changed", 1)
    await rig.relay.open()
    await until_well(hub)
    found = await opened(hub, before, *[one.id for one in promised])
    assert [one.content for one in found] == ["keyed", "changed", "keyed, too"]


async def test_a_queued_repeat_of_what_was_forgotten_is_told_of(rig: Rig) -> None:
    hub = rig.hub
    await remember(hub.bind(ALICE), "keyed")
    await keyed(hub)  # the first of it is merged
    await rig.relay.cut()
    promised = await keyed(hub)
    await rig.relay.open()
    await until_well(hub)
    await hub.bind(ALICE).forget_memories([promised[0].id])
    await rig.relay.cut()
    assert await keyed(hub) == promised
    await rig.relay.open()
    await until_well(hub, but=ASIDE)
    [aside] = await hub.bind(ROOT, project_id=DEFAULT).queue.aside()
    assert (aside.code, aside.record_ids) == ("idempotent_result_gone", tuple(one.id for one in promised))


async def test_a_key_that_was_used_so_long_ago_that_it_is_forgotten_loses_nothing(
    place: tuple[Relay, HubSettings],
) -> None:
    relay, settings = place
    clock = Clock()
    async with open_hub(settings, clock=clock) as hub:
        drafts = [MemoryDraft("weekly")]

        async def again() -> RecordId:
            stored = await hub.bind(ALICE).store_memories(drafts, on_duplicate=OnDuplicate.NEW, idempotency_key="k")
            return stored[0].id

        first = await again()
        clock.advance(days=8)
        await hub.bind(ROOT, project_id=DEFAULT).sweep()
        second = await again()
        assert second != first
        assert len(await opened(hub, first, second)) == 2
        clock.advance(days=8)
        await hub.bind(ROOT, project_id=DEFAULT).sweep()
        await relay.cut()
        assert await again() == first
        await relay.open()
        await until_well(hub, but=ASIDE)
        [aside] = await hub.bind(ROOT, project_id=DEFAULT).queue.aside()
        assert (aside.code, aside.record_ids) == ("stored_before", (first,))


async def test_a_promise_that_was_broken_is_told_of_by_whichever_server_its_agent_comes_to(
    rig: Rig, tmp_path: Path
) -> None:
    hub = rig.hub
    memory = await remember(hub.bind(ALICE), "one")
    elsewhere = replace(rig.settings, database=empty_url_of(rig), data_dir=tmp_path / "other", master_key=key_of(rig))
    async with open_hub(elsewhere) as other:
        await rig.relay.cut()
        await update(hub, ROOT, memory, "of root", 1)
        await other.bind(ALICE).update_memory(memory, MemoryChange(content="of alice"), expected_version=1)
        await rig.relay.open()
        await until_well(hub, but=ASIDE)
        await rig.relay.cut()
        await update(hub, ROOT, memory, "of root, upon what it was promised", 2)
        await rig.relay.open()
        await until_well(hub, but=ASIDE)
        root = other.bind(ROOT, project_id=DEFAULT)
        assert [one.code for one in await hub.bind(ROOT, project_id=DEFAULT).queue.aside()] == ["version_conflict"] * 2
        again = MemoryChange(content="of root, again")
        await refused(root.update_memory(memory, again, expected_version=2), Conflict, "version_conflict")
        assert [one.content for one in await opened(other, memory)] == ["of alice"]
        assert (await root.update_memory(memory, again, expected_version=2)).version == 3
        assert (await root.update_memory(memory, again, expected_version=3)).version == 4


async def test_a_promise_that_was_broken_is_over_once_its_agent_leads_to_the_version_or_has_read_it(
    rig: Rig, tmp_path: Path
) -> None:
    hub, alice, root = rig.hub, rig.hub.bind(ALICE), rig.hub.bind(ROOT, project_id=DEFAULT)
    own, read = await remember(alice, "one"), await remember(alice, "one, too")
    elsewhere = replace(rig.settings, database=empty_url_of(rig), data_dir=tmp_path / "other", master_key=key_of(rig))
    async with open_hub(elsewhere) as other:
        await rig.relay.cut()
        nowhere = MemoryChange(superseded_by=RecordId("mem_01m80fnnmd7k6vcjk7kfrp"))
        await alice.update_memory(own, nowhere, expected_version=1)
        await update(hub, ROOT, read, "of root", 1)
        await other.bind(ALICE).update_memory(read, MemoryChange(content="of alice"), expected_version=1)
    await rig.relay.open()
    await until_well(hub, but=ASIDE)
    assert sorted(one.code for one in await root.queue.aside()) == ["not_found", "version_conflict"]
    assert (await alice.update_memory(own, MemoryChange(content="two"), expected_version=1)).version == 2
    [found] = (await root.get_memories([read]))[0]
    assert (found.content, found.record.version) == ("of alice", 2)
    await rig.relay.cut()
    await update(hub, ALICE, own, "three", 2)
    await update(hub, ROOT, read, "of alice and root", 2)
    await rig.relay.open()
    await until_well(hub, but=ASIDE)
    assert [one.content for one in await opened(hub, own, read)] == ["three", "of alice and root"]
    assert len(await root.queue.aside()) == 2
