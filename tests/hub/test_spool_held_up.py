"""Queued writes that not all can be stored: a slot that is damaged, a project that cannot be written."""

import errno
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from contextdna import (
    DegradedMode,
    Hub,
    HubSettings,
    MemoryChange,
    MemoryDraft,
    ModeName,
    NotFound,
    StorageUnavailable,
    StoreStatus,
    open_hub,
)
from contextdna.backends.key_ring import MasterKeyRing
from contextdna.backends.sealing import RingSealer
from contextdna.backends.segmented_log import look_into_log, open_segmented_log
from contextdna.backends.segmented_log.files import disk_error
from contextdna.domain.queued_writes import unpacked
from contextdna.hub.replay import Replay
from contextdna.hub.slots import look_into_slots
from contextdna.hub.writes_aside import WritesAside
from contextdna.values.ids import RecordId
from tests.hub.rig import ALICE, DEFAULT, OTHER, ROOT, refused, remember, settings_in
from tests.servers.postgres import empty_database_url
from tests.servers.relay import Relay, relayed

pytestmark = pytest.mark.anyio

LATE_S: Final = 30
ANN: Final = replace(ALICE, project_ids=(DEFAULT, OTHER))


@pytest.fixture
async def place(anyio_backend: str, tmp_path: Path) -> AsyncIterator[tuple[Relay, HubSettings]]:
    async with relayed(empty_database_url()) as (relay, url):
        yield relay, settings_in(tmp_path / "data", database=url)


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(LATE_S):
        while not is_so():  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.005)


async def contents(hub: Hub, *record_ids: RecordId, project_id: str = DEFAULT) -> list[str]:
    return [one.content for one in (await hub.bind(ANN, project_id=project_id).get_memories(record_ids))[0]]


def waiting_in(settings: HubSettings) -> int:
    assert settings.data_dir is not None
    return sum(slot.waiting for slot in look_into_slots(settings.data_dir))


def damage(settings: HubSettings) -> Path:
    """Change a byte of the third of four writes that wait; gives the file."""
    assert settings.data_dir is not None
    [segment] = (settings.data_dir / "spool" / "0").glob("*.wal")
    with segment.open("r+b") as file:
        at = segment.stat().st_size * 5 // 8
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0xFF]))
    return segment


async def test_what_stands_before_the_damage_of_a_slot_is_stored_and_the_mode_says_so_until_it_is_gone(
    place: tuple[Relay, HubSettings], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    relay, settings = place
    monkeypatch.setattr("contextdna.hub.spool._LOOK_S", 0.01)
    async with open_hub(settings) as hub:
        await relay.cut()
        drafts = [MemoryDraft(f"{number} {'x' * 300}") for number in range(4)]
        queued = [(await hub.bind(ANN).store_memories([draft]))[0].id for draft in drafts]
    segment = damage(settings)
    slot, data = segment.parent, segment.read_bytes()
    await relay.open()
    async with open_hub(settings) as hub:
        mark = slot / "stored"
        await until(mark.exists)
        assert hub.modes == (DegradedMode(ModeName.SPOOL_DAMAGED, "log_damaged", 1),)
        assert [text[0] for text in await contents(hub, *queued)] == ["0", "1"]
        assert (await hub.bind(ANN).store_memories([MemoryDraft("after")]))[0].status is StoreStatus.STORED
        await anyio.sleep(0.05)  # several looks
        told = [one for one in caplog.records if one.levelno >= logging.ERROR]
        assert [("slot 0" in one.getMessage(), "log_damaged" in one.getMessage()) for one in told] == [(True, True)]
        assert segment.read_bytes() == data
    monkeypatch.setattr("contextdna.hub.replay.Replay._replay", None)
    async with open_hub(settings) as hub:  # what was done is not done again
        assert hub.modes == (DegradedMode(ModeName.SPOOL_DAMAGED, "log_damaged", 1),)
        slot.rename(slot.with_name("kept-0"))
        await until(lambda: not hub.modes)


async def test_nothing_is_queued_behind_what_is_under_another_key(place: tuple[Relay, HubSettings]) -> None:
    relay, settings = place
    assert settings.data_dir is not None
    strange = RingSealer(MasterKeyRing({"mk_1": b"1" * 32}, "mk_1"), "spool")
    async with open_segmented_log(settings.data_dir / "spool" / "0", sealer=strange) as log:
        unit = await log.begin()
        await log.write_entry(unit, b"of another installation")
        await log.commit(unit)
    async with open_hub(settings) as hub:
        await relay.cut()
        queued = await remember(hub.bind(ALICE), "queued")
        await relay.open()
        await until(lambda: hub.modes == (DegradedMode(ModeName.SPOOL_DAMAGED, "wrong_key", 1),))
        assert await contents(hub, queued) == ["queued"]


async def test_a_slot_that_is_damaged_under_its_owner_queues_no_more_and_holds_up_nothing(
    place: tuple[Relay, HubSettings],
) -> None:
    relay, settings = place
    async with open_hub(settings) as hub:
        await relay.cut()
        drafts = [MemoryDraft(f"{number} {'x' * 300}") for number in range(4)]
        queued = [(await hub.bind(ANN).store_memories([draft]))[0].id for draft in drafts]
        damage(settings)
        await relay.open()
        await until(lambda: hub.modes == (DegradedMode(ModeName.SPOOL_DAMAGED, "log_damaged", 1),))
        assert [text[0] for text in await contents(hub, *queued)] == ["0", "1"]
        await hub.bind(ANN).forget_memories(queued[:1])
        await relay.cut()
        await refused(hub.bind(ANN).store_memories([MemoryDraft("x")]), StorageUnavailable, "log_closed")


async def test_a_slot_that_cannot_be_read_holds_up_no_other_and_all_that_waits_is_counted(
    place: tuple[Relay, HubSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    relay, settings = place
    async with open_hub(settings) as one, open_hub(settings) as two, open_hub(settings) as three:
        await relay.cut()
        queued = [await remember(hub.bind(ALICE), f"of {place}") for place, hub in enumerate((one, two, three))]
    assert settings.data_dir is not None
    spool = settings.data_dir / "spool"
    [segment] = (spool / "0").glob("*.wal")
    segment.rename(segment.with_suffix(".kept"))
    segment.mkdir()  # a read of it fails, as of a bad sector
    await relay.open()
    with monkeypatch.context() as locked:
        locked.setattr("contextdna.hub.replay.Replay._replay", _times_out)
        async with open_hub(settings) as hub:
            unread = DegradedMode(ModeName.SPOOL_DAMAGED, "storage_io_error", 1)
            held_up = DegradedMode(ModeName.DATABASE_REPLAY, "storage_timeout", 2)
            await until(lambda: hub.modes == (held_up, unread))
    monkeypatch.setattr("contextdna.hub.spool._LOOK_S", 0.01)
    async with open_hub(settings) as hub:
        await until(lambda: not any(look_into_log(spool / name).entries for name in ("1", "2")))
        await until(lambda: hub.modes == (unread,))
        assert await contents(hub, *queued[1:]) == ["of 1", "of 2"]
        segment.rmdir()
        segment.with_suffix(".kept").rename(segment)
        await until(lambda: not hub.modes)
        assert await contents(hub, queued[0]) == ["of 0"]


async def _times_out(*_: object) -> None:
    raise StorageUnavailable("injected", code="storage_timeout", retryable=True)


async def test_a_project_that_cannot_be_written_holds_up_no_other(
    place: tuple[Relay, HubSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    relay, settings = place
    held = {DEFAULT}
    through = Replay._replay

    async def locked(this: Any, entry: Any, before: Any) -> None:
        if unpacked(entry.data).project_id in held:
            raise StorageUnavailable("injected", code="storage_timeout", retryable=True)
        await through(this, entry, before)

    monkeypatch.setattr("contextdna.hub.replay.Replay._replay", locked)
    monkeypatch.setattr("contextdna.hub.spool._TURN_S", 0.05)
    monkeypatch.setattr("contextdna.hub.spool._PAUSE_MAX_S", 0.02)
    async with open_hub(settings) as hub:
        memory = await remember(hub.bind(ANN, project_id=DEFAULT), "one")
        await relay.cut()
        here, there = hub.bind(ANN, project_id=DEFAULT), hub.bind(ANN, project_id=OTHER)
        await here.update_memory(memory, MemoryChange(content="two"), expected_version=1)
        first = await there.store_memories([MemoryDraft("other's")])
        await here.update_memory(memory, MemoryChange(content="three"), expected_version=2)
    await relay.open()
    async with open_hub(settings) as hub:
        here, there = hub.bind(ANN, project_id=DEFAULT), hub.bind(ANN, project_id=OTHER)
        await until(lambda: hub.modes == (DegradedMode(ModeName.DATABASE_REPLAY, "storage_timeout", 2),))
        assert await contents(hub, first[0].id, project_id=OTHER) == ["other's"]
        assert (await there.store_memories([MemoryDraft("new")]))[0].status is StoreStatus.STORED
        await there.forget_memories([first[0].id])
        await refused(here.forget_memories([memory]), StorageUnavailable, "storage_busy")
        last = await here.update_memory(memory, MemoryChange(content="four"), expected_version=3)
        assert last.status is StoreStatus.QUEUED
        held.clear()
        await until(lambda: not hub.modes)
        assert await contents(hub, memory) == ["four"]
    monkeypatch.setattr("contextdna.hub.replay.Replay._replay", None)
    async with open_hub(settings) as hub:  # all is forgotten, what was done out of turn too
        assert not hub.modes


async def test_a_write_that_fails_for_a_fault_of_ours_is_told_of_by_its_place_and_never_by_its_text(
    place: tuple[Relay, HubSettings], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    relay, settings = place
    monkeypatch.setattr("contextdna.hub.spool._PAUSE_S", 0.001)
    monkeypatch.setattr("contextdna.hub.spool._PAUSE_MAX_S", 0.01)

    async def fails(*_: object, **__: object) -> None:
        raise ValueError("a secret")

    async with open_hub(settings) as hub:
        await relay.cut()
        await hub.bind(ANN).store_memories([MemoryDraft("one")])
        monkeypatch.setattr("contextdna.domain.queued_writes.QueuedWrite.replay", fails)
        await relay.open()
        await until(lambda: hub.modes == (DegradedMode(ModeName.WRITES_ASIDE, waiting=1),))
    told = [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]
    assert "ValueError at test_spool_held_up.py:" in told[0]
    assert "a secret" not in caplog.text


async def test_what_was_refused_and_dropped_behind_a_project_that_is_held_up_is_never_done(
    place: tuple[Relay, HubSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    relay, settings = place
    assert settings.data_dir is not None
    now = datetime.now(UTC)
    clock, late = partial(datetime.now, UTC), lambda: now + timedelta(days=8)
    through, held = Replay._replay, {DEFAULT}

    async def locked(this: Any, entry: Any, before: Any) -> None:
        if unpacked(entry.data).project_id in held:
            raise StorageUnavailable("injected", code="storage_timeout", retryable=True)
        await through(this, entry, before)

    monkeypatch.setattr("contextdna.hub.replay.Replay._replay", locked)
    monkeypatch.setattr("contextdna.hub.spool._PAUSE_MAX_S", 0.02)
    kept, refusals = WritesAside.put, [OSError(errno.ENOSPC, "no space")] * 3

    async def put(this: WritesAside, *args: Any, **named: Any) -> None:
        if refusals:
            raise disk_error(refusals.pop())
        await kept(this, *args, **named)

    monkeypatch.setattr(WritesAside, "put", put)
    async with open_hub(settings) as hub:
        await relay.cut()
        [first] = await hub.bind(ANN, project_id=DEFAULT).store_memories([MemoryDraft("held up")])
        [second] = await hub.bind(ANN, project_id=OTHER).store_memories([MemoryDraft("refused")])
    await relay.open()
    waits = DegradedMode(ModeName.DATABASE_REPLAY, "storage_timeout", 1)
    async with open_hub(settings, clock=late) as hub:  # it is too old then
        await until(lambda: hub.modes == (waits, DegradedMode(ModeName.WRITES_ASIDE, waiting=1)))
        audited = await hub.bind(ROOT, project_id=OTHER).query_audit(action="memory.store")
        assert ["queued_too_old" in entry.draft.details for entry in audited] == [True]  # the disk was full thrice
        await until(lambda: waiting_in(settings) == 1)
        async with open_hub(settings, clock=late) as another:
            queue = another.bind(ROOT, project_id=OTHER).queue
            [one] = await queue.aside()
            await queue.drop(one.id)
        await until(lambda: hub.modes == (waits,))
    ahead = settings.data_dir / "spool" / "0" / "ahead"
    for is_noted in (True, False):  # as by a process that was killed before it could
        if not is_noted:
            ahead.unlink()
        async with open_hub(settings, clock=clock) as hub:
            await until(lambda: hub.modes == (waits,) and ahead.exists())
            await refused(contents(hub, second.id, project_id=OTHER), NotFound, "not_found")
            assert waiting_in(settings) == 1
    held.clear()
    async with open_hub(settings, clock=clock) as hub:
        await until(lambda: not hub.modes)
        assert await contents(hub, first.id) == ["held up"]
        await refused(contents(hub, second.id, project_id=OTHER), NotFound, "not_found")
        await until(lambda: not ahead.exists())
