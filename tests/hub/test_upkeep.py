"""Upkeep: sweeps that are due, what purges leave behind, blobs and their references."""

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from contextdna import (
    AgentId,
    Artifact,
    ArtifactDraft,
    Hub,
    HubSettings,
    Level,
    LimitExceeded,
    MemoryDraft,
    Principal,
    SignalDraft,
    StorageUnavailable,
    open_hub,
)
from contextdna.domain.access import Action
from contextdna.hub import upkeep
from contextdna.hub.blob_stores import ARTIFACTS_FOLDER
from contextdna.hub.upkeep import ORPHAN_AGE, Upkeep
from tests.hub.rig import (
    ALICE,
    BOB,
    DEFAULT,
    OTHER,
    PROJECTS,
    ROOT,
    Clock,
    audit_of,
    begin,
    public,
    refused,
    remember,
    stored,
)

pytestmark = pytest.mark.anyio

BYTES = b"the same bytes"
KEY = hashlib.sha256(BYTES).hexdigest()


def upkeep_of(hub: Hub) -> Upkeep:
    return Upkeep(
        hub._door,
        hub._rooms.blobs,
        hub._rooms.remains,
        lambda project_id: hub.bind(ROOT, project_id=project_id),
        hub._rooms.commons.locks,
    )


async def blobs_of(hub: Hub) -> set[str]:
    return {key async for key in hub._rooms.blobs._store.keys_older_than(datetime.max.replace(tzinfo=UTC))}


async def attach(hub: Hub, data: bytes = BYTES, **fields: Any) -> Artifact:
    return await hub.bind(ALICE).attach_artifact(ArtifactDraft("a.bin", data, level=Level.PROJECT, **fields))


async def fail(*args: Any) -> Any:
    raise StorageUnavailable("injected", code="storage_busy", hint="Wait.", retryable=True)


@pytest.fixture
def failing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Make a method of the database or of the blob store fail until the patch is undone."""

    def patch(part: Any, name: str) -> Any:
        monkeypatch.setattr(part, name, fail)
        return monkeypatch

    return patch


async def test_a_purge_whose_remains_cannot_be_shredded_now_succeeds_and_they_go_at_upkeep(
    hub: Hub, failing: Callable[..., Any]
) -> None:
    artifact = await attach(hub)
    patch = failing(hub._door.database, "shred_remains")
    report = await hub.bind(ALICE).forget_memories([artifact.record.id], purge=True)
    assert report.purged
    assert await blobs_of(hub) == set()
    assert hub._rooms.remains._pending
    patch.undo()
    await upkeep_of(hub).turn([DEFAULT])
    assert not hub._rooms.remains._pending


async def test_a_purge_whose_bytes_cannot_be_removed_now_succeeds_and_they_go_as_orphans(
    hub: Hub, failing: Callable[..., Any], clock: Clock
) -> None:
    artifact = await attach(hub)
    patch = failing(hub._rooms.blobs._store, "delete")
    assert (await hub.bind(ALICE).forget_memories([artifact.record.id], purge=True)).purged
    assert await blobs_of(hub) == {KEY}
    patch.undo()
    clock.advance(days=3650)
    await upkeep_of(hub).turn([DEFAULT])
    assert await blobs_of(hub) == set()


async def test_orphans_go_when_they_are_a_day_old_and_nothing_refers_to_them(hub: Hub, clock: Clock) -> None:
    folder = hub.settings.data_dir
    await attach(hub, b"in use")
    in_use = await blobs_of(hub)
    orphan = await hub._rooms.blobs._store.put(b"orphan")

    def date_all() -> None:
        for path in (folder / ARTIFACTS_FOLDER).rglob("*") if folder else ():
            os.utime(path, (clock().timestamp(),) * 2)

    date_all()
    in_s3 = bool(hub.settings.artifacts)
    if in_s3:  # its clock cannot be turned
        clock.now = datetime.now(UTC) - timedelta(minutes=1)
    clock.now += ORPHAN_AGE
    await upkeep_of(hub).turn([DEFAULT])
    assert await blobs_of(hub) == in_use | {orphan}
    clock.advance(seconds=120 if in_s3 else 1)
    await upkeep_of(hub).turn([DEFAULT])
    assert await blobs_of(hub) == in_use


async def test_bytes_whose_reference_is_refused_are_removed_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*args: Any) -> None:
        raise LimitExceeded("injected", code="limit_out_of_range", hint="Less.")

    kept = await attach(hub, b"kept")
    with monkeypatch.context() as patch:
        patch.setattr("contextdna.domain.artifacts.attach", refuse)
        for data in (BYTES, b"kept"):
            with pytest.raises(LimitExceeded):
                await attach(hub, data)
    assert await blobs_of(hub) == {kept.record.blob_key}


async def test_attaching_and_purging_the_same_bytes_at_once_never_loses_them(hub: Hub) -> None:
    async def attach_and_purge(number: int) -> None:
        artifact = await attach(hub)
        if number % 2:
            await hub.bind(ALICE).forget_memories([artifact.record.id], purge=True)
        else:
            assert (await hub.bind(ALICE).read_artifact(artifact.record.id))[1] == BYTES

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(attach_and_purge, number)
    kept = await hub.bind(ALICE).list_artifacts()
    assert len(kept) == 10
    for artifact in kept:
        assert (await hub.bind(ALICE).read_artifact(artifact.record.id))[1] == BYTES
    assert not hub._rooms.blobs._turns


async def test_bytes_that_another_process_removes_before_the_reference_stands_are_put_again(hub: Hub) -> None:
    async with hub._rooms.blobs.keeping(KEY, BYTES):
        await hub._rooms.blobs._store.delete(KEY)
    assert await hub._rooms.blobs.get(KEY) == BYTES


async def test_one_attachment_does_not_wait_for_another(hub: Hub) -> None:
    async with hub._rooms.blobs.keeping(KEY, BYTES):
        with anyio.fail_after(10):
            await attach(hub, b"other bytes")


async def test_large_bytes_come_back(hub: Hub) -> None:
    data = os.urandom(1024 * 1024)
    for level in (Level.PRIVATE, Level.PROJECT):
        artifact = await hub.bind(ALICE).attach_artifact(ArtifactDraft("big.bin", data, level=level))
        assert (await hub.bind(ALICE).read_artifact(artifact.record.id))[1] == data


async def test_every_purged_id_of_a_sweep_is_audited(hub: Hub, clock: Clock) -> None:
    for batch in range(3):
        drafts = [MemoryDraft(f"{batch} {number}", retention_days=1) for number in range(50)]
        await hub.bind(ALICE).store_memories(drafts)
    clock.advance(days=2)
    assert (await hub.bind(ROOT).sweep()).purged == 150
    entries = await audit_of(hub, action=Action.SWEEP)
    assert len({record_id for entry in entries for record_id in entry.draft.record_ids}) == 150


async def test_a_project_is_due_when_no_process_swept_it_for_an_interval(hub: Hub, clock: Clock) -> None:
    keeper = upkeep_of(hub)
    assert await keeper.due() == PROJECTS
    await keeper.turn([DEFAULT])
    assert await keeper.due() == (OTHER,)
    clock.advance(seconds=hub.settings.retention.sweep_interval_s)
    assert await keeper.due() == PROJECTS


@pytest.fixture
async def soon(settings: HubSettings, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    """Open a hub whose first upkeep is at once."""
    monkeypatch.setattr(upkeep, "_FIRST_AFTER_S", 0.0)
    async with open_hub(settings, clock=clock) as opened:
        yield opened


async def test_a_server_sweeps_soon_after_it_started(anyio_backend: str, soon: Hub) -> None:
    with anyio.fail_after(10):
        while len(await audit_of(soon, OTHER, action=Action.SWEEP)) < 1:
            await anyio.lowlevel.checkpoint()


async def test_a_failing_sweep_does_not_end_upkeep(hub: Hub, failing: Callable[..., Any], clock: Clock) -> None:
    memory = await remember(hub.bind(ALICE), "for a day", retention_days=1)
    clock.advance(days=2)
    patch = failing(hub._door.database, "write")
    await upkeep_of(hub).turn(PROJECTS)
    patch.undo()
    await upkeep_of(hub).turn(PROJECTS)
    assert memory in (await audit_of(hub, action=Action.SWEEP))[-1].draft.record_ids


@pytest.mark.parametrize("limit", [0, 1001])
async def test_lists_of_upkeep_are_bounded(hub: Hub, limit: int) -> None:
    await refused(hub.bind(ROOT).conflicts(limit=limit), LimitExceeded, "limit_out_of_range")
    await refused(hub.bind(ROOT).events.read(limit=limit), LimitExceeded, "limit_out_of_range")


async def test_overdue_sessions_are_closed_without_a_sweep_and_looks_in_vain_leave_no_trace(
    hub: Hub, clock: Clock
) -> None:
    handles = [await begin(hub, ROOT, f"agent{number}", ttl_s=60) for number in range(60)]
    keeper = upkeep_of(hub)
    await keeper.close_overdue()
    assert await audit_of(hub, action=Action.CLOSE_SESSIONS) == []
    clock.advance(seconds=60)
    await keeper.close_overdue()
    await keeper.close_overdue()
    assert len(await audit_of(hub, action=Action.CLOSE_SESSIONS)) == 2
    for handle in handles:
        assert (await hub.bind(ROOT).sessions.get(public(handle))).session.status == "expired"
    assert await keeper.due() == PROJECTS, "closing sessions is no sweep"


async def test_a_server_closes_overdue_sessions_soon(
    settings: HubSettings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_CLOSE_EVERY_S", 0.001)
    async with open_hub(settings, clock=clock) as hub:
        handle = await begin(hub, ROOT, ttl_s=60)
        clock.advance(seconds=60)
        with anyio.fail_after(10):
            while (await hub.bind(ROOT).sessions.get(public(handle))).session.status == "active":
                await anyio.lowlevel.checkpoint()


async def test_a_sweep_goes_on_until_every_expired_signal_is_gone(hub: Hub, clock: Clock) -> None:
    async def send(sender: Principal, target: AgentId) -> None:
        await hub.bind(sender).signals.send(SignalDraft("go", (target,), expires_in_s=60))

    async with anyio.create_task_group() as tasks:
        for number in range(1001):
            pair = (ALICE, BOB) if number % 2 else (BOB, ALICE)
            tasks.start_soon(send, pair[0], pair[1].agent_id)
    clock.advance(days=30)
    await hub.bind(ROOT).sweep()
    data = (await stored(hub)).data
    assert data["signals"] == []
