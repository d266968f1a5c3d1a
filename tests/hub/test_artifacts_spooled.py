"""While S3 is away: artifacts wait in the data folder, can be read there, say so, and go up when it is back."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from mcp_types import TextResourceContents

from contextdna import (
    ArtifactDraft,
    DegradedMode,
    Hub,
    HubSettings,
    IntegrityFault,
    Level,
    ModeName,
    SettingsInvalid,
    StorageUnavailable,
    open_hub,
)
from contextdna.backends.local_files import LocalBlobStore
from contextdna.backends.s3 import BLOBS, S3BlobStore
from contextdna.backends.spooled_blobs import SpooledBlobStore
from contextdna.hub.artifacts_bucket import NOTE_FILE
from contextdna.hub.blob_stores import SPOOL_FOLDER
from contextdna.values.object_place import ObjectStore
from contextdna.values.settings import S3Settings
from tests.hub.rig import ALICE, ROOT, WRITER, Clock, refused, settings_in
from tests.servers.relay import silent_port
from tests.servers.s3 import Faults, empty_store, opened, raw_client, share_clients, store_url
from tests.tools.calling import calling

pytestmark = pytest.mark.anyio

LATE_S: Final = 30
DATA: Final = b"a report of what was found\n"
ALWAYS: Final = 1_000_000


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextdna.backends.s3.calls._PAUSE_S", (0, 0))
    monkeypatch.setattr("contextdna.backends.spooled_blobs._PAUSE_S", 0.01)
    share_clients(monkeypatch)


@pytest.fixture
def place() -> ObjectStore:
    return empty_store()


@pytest.fixture
def spooling(place: ObjectStore, tmp_path: Path) -> HubSettings:
    return settings_in(tmp_path / "data", artifacts=store_url(place))


class Away:
    """S3, which can be sent away: it answers that it is short of resources."""

    def __init__(self, place: ObjectStore) -> None:
        self._faults = Faults(place)

    def go(self) -> None:
        for method in ("GET", "PUT", "HEAD", "DELETE", "POST"):
            self._faults.add(method, status=503, code="SlowDown", times=ALWAYS)

    def come(self) -> None:
        self._faults.clear()


@pytest.fixture
def s3(place: ObjectStore) -> Away:
    return Away(place)


def keys_in(place: ObjectStore) -> set[str]:
    found = raw_client().list_objects_v2(Bucket=place.bucket, Prefix=f"{place.prefix}{BLOBS}").get("Contents", ())
    return {entry["Key"].rpartition("/")[2] for entry in found}


def spooled(spooling: HubSettings) -> dict[str, bytes]:
    assert spooling.data_dir is not None
    return files_in(spooling.data_dir / SPOOL_FOLDER)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != NOTE_FILE}


async def until_well(hub: Hub) -> None:
    with anyio.fail_after(LATE_S):
        while hub.modes:  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.005)


async def test_an_artifact_waits_is_read_meanwhile_and_goes_up(
    spooling: HubSettings, place: ObjectStore, s3: Away
) -> None:
    async with open_hub(spooling) as hub:
        before = await hub.bind(ALICE).attach_artifact(ArtifactDraft("before.txt", b"before"))
        assert before.held == ""
        s3.go()
        workspace = hub.bind(ALICE)
        held = await workspace.attach_artifact(ArtifactDraft("report.txt", DATA))
        assert held.held == "spool"
        assert "not in S3 yet" in workspace.notices.lines()[0]
        assert (await hub.bind(ALICE).read_artifact(held.record.id))[1] == DATA
        error = await refused(hub.bind(ALICE).read_artifact(before.record.id), StorageUnavailable, "storage_busy")
        assert error.retryable
        shown, link = await hub.bind(ALICE).artifacts.link(held.record.id)
        assert (shown.held, link) == ("spool", None)
        health = await hub.bind(ALICE).health()
        assert health.artifacts is not None
        assert (health.artifacts.sound, health.artifacts.waiting) == (False, 1)
        [mode] = health.modes
        assert (mode.name, mode.problem, mode.waiting) == (ModeName.ARTIFACTS_SPOOLED, "storage_busy", 1)
        s3.come()
        await until_well(hub)
        assert spooled(spooling) == {}
        assert held.record.blob_key in keys_in(place)
        assert (await hub.bind(ALICE).read_artifact(held.record.id))[1] == DATA
        shown, link = await hub.bind(ALICE).artifacts.link(held.record.id)
        assert (shown.held, link is None) == ("", False)


async def test_a_client_is_told(spooling: HubSettings, s3: Away) -> None:
    async with open_hub(spooling) as hub, calling(ALICE, "auto", hub=hub) as alice:
        s3.go()
        answer = await alice.ok("attach_artifact", name="report.txt", text="found")
        assert answer["held"] == "spool"
        assert answer["notice"].startswith("artifacts_spooled: ")
        told = (await alice.client.read_resource("contextdna://health")).contents[0]
        assert isinstance(told, TextResourceContents)
        health = json.loads(told.text)
        assert health["status"] == "degraded"
        assert health["modes"][0]["name"] == "artifacts_spooled"
        s3.come()
        await until_well(hub)
        assert "held" not in await alice.ok("attach_artifact", name="more.txt", text="more")


async def test_what_waits_outlasts_the_process_and_is_encrypted_as_its_level_says(
    spooling: HubSettings, place: ObjectStore, s3: Away
) -> None:
    s3.go()
    async with open_hub(spooling) as hub:
        private = await hub.bind(WRITER).attach_artifact(ArtifactDraft("a.txt", DATA, level=Level.PRIVATE))
        plain = await hub.bind(WRITER).attach_artifact(ArtifactDraft("b.txt", DATA))
    found = spooled(spooling)
    assert found[plain.record.blob_key] == DATA
    assert DATA not in found[private.record.blob_key]
    s3.come()
    async with open_hub(spooling) as hub:
        await until_well(hub)
        assert keys_in(place) == {private.record.blob_key, plain.record.blob_key}
        for artifact in (private, plain):
            assert (await hub.bind(WRITER).read_artifact(artifact.record.id))[1] == DATA


async def test_the_copy_stays_until_s3_gives_the_same_bytes_back(
    spooling: HubSettings, place: ObjectStore, s3: Away
) -> None:
    s3.go()
    async with open_hub(spooling) as hub:
        held = await hub.bind(ALICE).attach_artifact(ArtifactDraft("a.txt", DATA))
        Faults(place).add("GET", "blobs/", damage="answer", times=2)
        s3.come()
        Faults(place).add("GET", "blobs/", damage="answer", times=2)
        await until_well(hub)
        assert (await hub.bind(ALICE).read_artifact(held.record.id))[1] == DATA


async def test_what_is_purged_while_it_waits_is_gone_and_goes_nowhere(
    spooling: HubSettings, place: ObjectStore, s3: Away
) -> None:
    async with open_hub(spooling) as hub:
        s3.go()
        held = await hub.bind(ROOT).attach_artifact(ArtifactDraft("a.txt", DATA))
        await hub.bind(ROOT).forget_memories([held.record.id], purge=True)
        assert spooled(spooling) == {}
        s3.come()
        await until_well(hub)
        assert keys_in(place) == set()


async def test_a_copy_that_was_changed_on_the_disk_is_not_put_into_s3(
    spooling: HubSettings, place: ObjectStore, s3: Away
) -> None:
    s3.go()
    async with open_hub(spooling) as hub:
        held = await hub.bind(ALICE).attach_artifact(ArtifactDraft("a.txt", DATA))
        assert spooling.data_dir is not None
        [path] = [path for path in (spooling.data_dir / SPOOL_FOLDER).rglob("*/*/*") if path.is_file()]
        path.write_bytes(b"another")
        for _ in range(2):
            await refused(hub.bind(ALICE).read_artifact(held.record.id), IntegrityFault, "blob_changed")
        s3.come()
        await until_damage_is_all(hub)
        assert keys_in(place) == set()
        health = (await hub.bind(ALICE).health()).artifacts
        assert health is not None
        assert (health.sound, health.problem, health.waiting) == (False, "blob_changed", 0)
    async with open_hub(spooling) as hub:
        await until_damage_is_all(hub)
        await refused(hub.bind(ALICE).read_artifact(held.record.id), IntegrityFault, "blob_changed")
        again = await hub.bind(ALICE).attach_artifact(ArtifactDraft("b.txt", DATA))
        for artifact in (held, again):
            assert (await hub.bind(ALICE).read_artifact(artifact.record.id))[1] == DATA
        assert not hub.modes
        assert spooled(spooling) == {}


async def until_damage_is_all(hub: Hub) -> None:
    expected = (DegradedMode(ModeName.ARTIFACTS_SPOOLED, "blob_changed"),)
    with anyio.fail_after(LATE_S):
        while hub.modes != expected:  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.005)


@pytest.mark.parametrize("by", ["get", "give_all"])
async def test_a_damaged_copy_hides_none_that_is_whole(place: ObjectStore, tmp_path: Path, s3: Away, by: str) -> None:
    async with pair(place, tmp_path) as (store, far):
        s3.go()
        key = await store.put(DATA)
        (tmp_path / key[:2] / key[2:4] / key).write_bytes(b"another")
        s3.come()
        assert await far.put(DATA) == key
        await store._far.breaker.probe()
        await getattr(store, by)(*[key] * (by == "get"))
        assert await store.get(key) == DATA
        assert (store.problem, store.waiting) == ("", 0)
        assert files_in(tmp_path) == {}


async def test_a_damaged_copy_goes_when_its_artifact_is_purged(spooling: HubSettings, s3: Away) -> None:
    s3.go()
    async with open_hub(spooling) as hub:
        held = await hub.bind(ROOT).attach_artifact(ArtifactDraft("a.txt", DATA))
        assert spooling.data_dir is not None
        [path] = [path for path in (spooling.data_dir / SPOOL_FOLDER).rglob("*/*/*") if path.is_file()]
        path.write_bytes(b"another")
        s3.come()
        await until_damage_is_all(hub)
        await hub.bind(ROOT).forget_memories([held.record.id], purge=True)
        assert spooled(spooling) == {}
        assert not hub.modes


async def test_what_was_put_anew_meanwhile_is_not_set_aside(tmp_path: Path) -> None:
    store = LocalBlobStore(tmp_path)
    key = await store.put(DATA)
    assert not await store.set_aside(key)
    assert await store.get(key) == DATA


async def test_what_s3_refuses_for_good_is_told_and_not_spooled(spooling: HubSettings, place: ObjectStore) -> None:
    async with open_hub(spooling) as hub:
        Faults(place).add("PUT", status=403, code="AccessDenied", times=ALWAYS)
        attached = hub.bind(ALICE).attach_artifact(ArtifactDraft("a.txt", DATA))
        await refused(attached, StorageUnavailable, "storage_no_permission")
        assert spooled(spooling) == {}
        Faults(place).clear()


async def test_a_hung_s3_costs_one_deadline_and_then_nothing(tmp_path: Path) -> None:
    listening, port = silent_port()
    own = S3Settings(connect_timeout_s=0.2, read_timeout_s=0.2, deadline_s=0.5)
    place = ObjectStore("contextdna-hung", "", f"http://127.0.0.1:{port}")
    with listening:
        async with open_hub(settings_in(tmp_path / "data", artifacts=store_url(place), s3=own)) as hub:
            with anyio.fail_after(5):
                for number in range(5):
                    draft = ArtifactDraft(f"{number}.txt", DATA + bytes([number]))
                    assert (await hub.bind(ALICE).attach_artifact(draft)).held == "spool"


@asynccontextmanager
async def pair(place: ObjectStore, folder: Path) -> AsyncIterator[tuple[SpooledBlobStore, S3BlobStore]]:
    async with opened(place) as calls:
        far = S3BlobStore(calls)
        store = SpooledBlobStore(far, LocalBlobStore(folder), pause_s=0.01)
        await store.open()
        yield store, far


async def test_young_bytes_that_are_nowhere_may_wait_at_another_server(
    spooling: HubSettings, place: ObjectStore
) -> None:
    clock = Clock()
    async with open_hub(spooling, clock=clock) as hub:
        artifact = await hub.bind(ALICE).attach_artifact(ArtifactDraft("report.txt", DATA))
        raw_client().delete_object(Bucket=place.bucket, Key=f"{place.prefix}{BLOBS}{artifact.record.blob_key}")
        for asked in (hub.bind(ALICE).read_artifact, hub.bind(ALICE).artifacts.link):
            error = await refused(asked(artifact.record.id), StorageUnavailable, "artifact_waits")
            assert error.retryable
        clock.advance(days=1)
        await refused(hub.bind(ALICE).read_artifact(artifact.record.id), IntegrityFault, "artifact_missing")


@pytest.mark.parametrize("change", [{"spool": False}, {"artifacts": ""}, {"artifacts": "elsewhere"}], ids=str)
async def test_no_other_settings_leave_behind_what_waits(
    spooling: HubSettings, place: ObjectStore, s3: Away, change: dict[str, Any]
) -> None:
    if change.get("artifacts"):
        change = {"artifacts": store_url(replace(place, prefix=f"{place.prefix}elsewhere/"))}
    s3.go()
    async with open_hub(spooling) as hub:
        held = await hub.bind(ALICE).attach_artifact(ArtifactDraft("report.txt", DATA))
    with pytest.raises(SettingsInvalid) as raised:
        async with open_hub(replace(spooling, **change)):
            pass
    assert (raised.value.code, place.place in raised.value.message) == ("artifacts_waiting", True)
    s3.come()
    async with open_hub(spooling) as hub:
        await until_well(hub)
    async with open_hub(replace(spooling, **change)) as hub:
        if "spool" in change:
            assert (await hub.bind(ALICE).read_artifact(held.record.id))[1] == DATA


async def test_a_server_without_a_spool_knows_that_another_one_may_hold_the_bytes(
    spooling: HubSettings, place: ObjectStore
) -> None:
    async with open_hub(replace(spooling, spool=False)) as hub:
        artifact = await hub.bind(ALICE).attach_artifact(ArtifactDraft("report.txt", DATA))
        raw_client().delete_object(Bucket=place.bucket, Key=f"{place.prefix}{BLOBS}{artifact.record.blob_key}")
        await refused(hub.bind(ALICE).read_artifact(artifact.record.id), StorageUnavailable, "artifact_waits")


async def test_two_processes_may_give_the_same_blob(place: ObjectStore, tmp_path: Path, s3: Away) -> None:
    async with pair(place, tmp_path) as (one, far), pair(place, tmp_path) as (other, _):
        s3.go()
        key = await one.put(DATA)
        await other.put(DATA)
        s3.come()
        for store in (one, other):
            await store._far.breaker.probe()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.give_all)
            tasks.start_soon(other.give_all)
        assert await far.get(key) == DATA
        assert not await one.waits(key)
