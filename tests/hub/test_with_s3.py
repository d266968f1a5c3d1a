"""Artifacts in S3, as callers meet them: through the door, by tools and resources, and while S3 is away."""

import base64
import hashlib
import json
import os
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from click.testing import CliRunner
from mcp_types import TextResourceContents

from contextdna import (
    AccessDenied,
    ArtifactDraft,
    Hub,
    HubSettings,
    IntegrityFault,
    Level,
    NotFound,
    RecordId,
    StorageUnavailable,
    open_hub,
)
from contextdna.backends.s3 import BLOBS
from contextdna.errors import SettingsInvalid
from contextdna.values.audit import Outcome
from contextdna.values.object_place import ObjectStore
from contextdna.values.settings import S3Settings
from contextdna_resources.contents import INLINE_BYTES_MAX
from contextdna_server.cli import main
from tests.hub.rig import ALICE, BOB, DEFAULT, ROOT, WRITER, Clock, refused, settings_in
from tests.servers.s3 import Faults, OwnServer, empty_store, raw_client, share_clients, store_url
from tests.tools.calling import calling

pytestmark = pytest.mark.anyio

DATA: Final = b"a report of what was found\n"
LARGE: Final = os.urandom(INLINE_BYTES_MAX + 1)
MIB: Final = 1024 * 1024


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextdna.backends.s3.calls._PAUSE_S", (0, 0))
    share_clients(monkeypatch)


@pytest.fixture
def place() -> ObjectStore:
    return empty_store()


def settings_of(place: ObjectStore, folder: Path | None = None, **changes: Any) -> HubSettings:
    own = S3Settings(
        import_prefix=f"{place.prefix}inbox", allowed_sources=(f"s3://{place.bucket}/{place.prefix}of/{{project_id}}/",)
    )
    return settings_in(folder, artifacts=store_url(place), s3=own, **changes)


@pytest.fixture
async def hub(place: ObjectStore, anyio_backend: str) -> AsyncIterator[Hub]:
    async with open_hub(settings_of(place)) as opened:
        yield opened


def objects_of(place: ObjectStore) -> dict[str, bytes]:
    client = raw_client()
    found = client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix).get("Contents", ())
    return {
        entry["Key"].removeprefix(place.prefix): client.get_object(Bucket=place.bucket, Key=entry["Key"])["Body"].read()
        for entry in found
    }


def put_object(place: ObjectStore, key: str, data: bytes) -> str:
    raw_client().put_object(Bucket=place.bucket, Key=f"{place.prefix}{key}", Body=data)
    return f"s3://{place.bucket}/{place.prefix}{key}"


async def fetched(url: str) -> bytes:
    def fetch() -> bytes:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - ours
            data: bytes = answer.read()
            return data

    return await anyio.to_thread.run_sync(fetch)


# --- kept, read, removed ---


@pytest.mark.parametrize("level", list(Level))
async def test_an_artifact_of_any_level_comes_back_and_lies_as_its_level_says(
    hub: Hub, place: ObjectStore, level: Level
) -> None:
    workspace = hub.bind(WRITER)
    artifact = await workspace.attach_artifact(ArtifactDraft("report.txt", DATA, level=level))
    assert (await workspace.read_artifact(artifact.record.id))[1] == DATA
    [(key, stored)] = objects_of(place).items()
    assert key == f"{BLOBS}{hashlib.sha256(stored).hexdigest()}"
    assert (stored == DATA) == (level in (Level.SWARM, Level.PROJECT))


async def test_what_is_purged_is_gone_from_the_bucket(hub: Hub, place: ObjectStore) -> None:
    workspace = hub.bind(ROOT)
    artifact = await workspace.attach_artifact(ArtifactDraft("report.txt", DATA))
    await workspace.forget_memories([artifact.record.id], purge=True)
    assert objects_of(place) == {}


async def test_changed_bytes_are_refused(hub: Hub, place: ObjectStore) -> None:
    artifact = await hub.bind(ALICE).attach_artifact(ArtifactDraft("report.txt", DATA))
    put_object(place, f"{BLOBS}{artifact.record.blob_key}", b"other")
    with pytest.raises(IntegrityFault):
        await hub.bind(ALICE).read_artifact(artifact.record.id)


# --- links ---


async def test_a_large_artifact_is_described_with_a_link_that_opens_it(hub: Hub) -> None:
    artifact = await hub.bind(ALICE).attach_artifact(ArtifactDraft("scan.bin", LARGE))
    described = await description_of(hub, artifact.record.id)
    assert await fetched(described["link"]) == LARGE
    assert hashlib.sha256(LARGE).hexdigest() == described["sha256"]
    assert described["link_expires_at"] > described["created_at"]
    assert "fetch link" in described["note"]
    entries = await hub.bind(ROOT).query_audit(action="artifact.read", record_id=artifact.record.id)
    assert "link_valid_s" in entries[0].draft.details


@pytest.mark.parametrize("level", [Level.PRIVATE, Level.TEAM])
async def test_of_what_is_encrypted_there_is_no_link_but_parts(hub: Hub, level: Level) -> None:
    artifact = await hub.bind(ALICE).attach_artifact(ArtifactDraft("scan.bin", LARGE, level=level))
    described = await description_of(hub, artifact.record.id)
    assert "link" not in described
    assert described["next"]
    entries = await hub.bind(ROOT).query_audit(action="artifact.read", record_id=artifact.record.id)
    assert "link_valid_s" not in "".join(entry.draft.details for entry in entries)


async def test_who_may_not_read_gets_no_link(hub: Hub) -> None:
    artifact = await hub.bind(ALICE).attach_artifact(ArtifactDraft("scan.bin", DATA, level=Level.PRIVATE))
    await refused(hub.bind(BOB).artifacts.link(artifact.record.id), NotFound, "not_found")
    [entry] = await hub.bind(ROOT).query_audit(limit=1)
    assert (entry.draft.action, entry.draft.outcome) == ("artifact.read", Outcome.DENIED)


async def test_a_link_to_bytes_that_are_gone_is_not_given(place: ObjectStore) -> None:
    clock = Clock()
    async with open_hub(settings_of(place), clock=clock) as hub:
        artifact = await hub.bind(ALICE).attach_artifact(ArtifactDraft("scan.bin", DATA))
        raw_client().delete_object(Bucket=place.bucket, Key=f"{place.prefix}{BLOBS}{artifact.record.blob_key}")
        clock.advance(days=1)  # until then another server may hold them
        await refused(hub.bind(ALICE).artifacts.link(artifact.record.id), IntegrityFault, "artifact_missing")


async def test_the_data_folder_has_no_links(tmp_path: Path) -> None:
    async with open_hub(settings_in(tmp_path)) as hub:
        artifact = await hub.bind(ALICE).attach_artifact(ArtifactDraft("scan.bin", LARGE))
        assert (await hub.bind(ALICE).artifacts.link(artifact.record.id))[1] is None
        assert "link" not in await description_of(hub, artifact.record.id)


async def description_of(hub: Hub, record_id: RecordId) -> dict[str, Any]:
    async with calling(ALICE, "auto", hub=hub) as alice:
        [content] = (
            await alice.client.read_resource(f"contextdna://projects/{DEFAULT}/artifacts/{record_id}")
        ).contents
    assert isinstance(content, TextResourceContents)
    described: dict[str, Any] = json.loads(content.text)
    return described


# --- from objects ---


@pytest.mark.parametrize("folder", ["inbox/deep", f"of/{DEFAULT}"])
async def test_an_object_of_an_allowed_place_is_attached_as_a_copy(hub: Hub, place: ObjectStore, folder: str) -> None:
    url = put_object(place, f"{folder}/notes.md", DATA)
    async with calling(ALICE, "auto", hub=hub) as alice:
        answer = await alice.ok("attach_artifact", path=url)
    assert (answer["name"], answer["media_type"]) == ("notes.md", "text/markdown")
    assert (answer["size_bytes"], answer["sha256"]) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    put_object(place, f"{folder}/notes.md", b"changed afterwards")
    assert (await hub.bind(ALICE).read_artifact(RecordId(answer["id"])))[1] == DATA


async def test_a_private_copy_of_an_object_is_encrypted(hub: Hub, place: ObjectStore) -> None:
    source = put_object(place, "inbox/a.txt", DATA)
    await hub.bind(ALICE).attach_artifact(ArtifactDraft("a.txt", source=source, level=Level.PRIVATE))
    assert [key for key, data in objects_of(place).items() if data == DATA] == ["inbox/a.txt"]


@pytest.mark.parametrize(
    "key", ["elsewhere/a.txt", "inboxes/a.txt", "of/other/a.txt", "of/a.txt", "inbox/blobs/" + "0" * 64]
)
async def test_an_object_of_another_place_is_refused_unread_and_audited(hub: Hub, place: ObjectStore, key: str) -> None:
    url = put_object(place, key, DATA)
    await refused(hub.bind(ALICE).attach_artifact(ArtifactDraft("a", source=url)), AccessDenied, "object_not_allowed")
    [entry] = await hub.bind(ROOT).query_audit(limit=1)
    assert (entry.draft.action, entry.draft.outcome) == ("artifact.attach", Outcome.DENIED)
    assert place.bucket not in entry.draft.details


async def test_the_bytes_of_an_artifact_are_not_attached_by_their_digest(place: ObjectStore) -> None:
    whole = S3Settings(allowed_sources=(f"s3://{place.bucket}/",))
    async with open_hub(settings_in(None, artifacts=store_url(place), s3=whole)) as hub:
        artifact = await hub.bind(BOB).attach_artifact(ArtifactDraft("a.txt", DATA, level=Level.SWARM))
        url = f"s3://{place.bucket}/{place.prefix}{BLOBS}{artifact.record.blob_key}"
        await refused(
            hub.bind(ALICE).attach_artifact(ArtifactDraft("a", source=url)), AccessDenied, "object_not_allowed"
        )


@pytest.mark.parametrize(
    "rest", ["inbox/../secret", "inbox//a", "inbox/./a", "inbox/", "inbox/a\n", "inbox/a\\b", "inbox/" + "x" * 1025]
)
async def test_an_address_that_might_lead_elsewhere_is_no_address(hub: Hub, place: ObjectStore, rest: str) -> None:
    async with calling(ALICE, "auto", hub=hub) as alice:
        error = await alice.error("attach_artifact", path=f"s3://{place.bucket}/{place.prefix}{rest}", name="a")
    assert error["code"] == "object_invalid"


@pytest.mark.parametrize("bucket", ["169.254.169.254", "localhost:9000", "user@host", "arn:aws:s3:::x", "a..b", "UP"])
async def test_what_is_no_name_of_a_bucket_is_no_address(hub: Hub, bucket: str) -> None:
    async with calling(ALICE, "auto", hub=hub) as alice:
        assert (await alice.error("attach_artifact", path=f"s3://{bucket}/a"))["code"] == "object_invalid"


async def test_an_object_that_is_not_there_is_told_and_audited(hub: Hub, place: ObjectStore) -> None:
    async with calling(ALICE, "auto", hub=hub) as alice:
        url = f"s3://{place.bucket}/{place.prefix}inbox/none"
        assert (await alice.error("attach_artifact", path=url))["code"] == "object_not_found"
    [entry] = await hub.bind(ROOT).query_audit(limit=1)
    assert (entry.draft.action, entry.draft.outcome) == ("artifact.attach", Outcome.ABSENT)


async def test_without_s3_no_object_is_attached() -> None:
    async with open_hub(settings_in(None)) as hub, calling(ALICE, "auto", hub=hub) as alice:
        assert (await alice.error("attach_artifact", path="s3://bucket/a"))["code"] == "object_unsupported"
        assert (await alice.error("attach_artifact", path="https://host/a"))["code"] == "object_unsupported"


async def test_who_may_not_attach_reaches_no_object(hub: Hub, place: ObjectStore) -> None:
    url = put_object(place, "inbox/a.txt", DATA)
    faults = Faults(place)
    before = len(faults.requests())
    with pytest.raises(AccessDenied):
        await hub.bind(ALICE).attach_artifact(ArtifactDraft("a", source=url, level=Level.SYSTEM))
    assert len(faults.requests()) == before


# --- S3 is away ---


async def test_without_a_spool_nothing_is_claimed_while_s3_is_away_and_all_else_works(tmp_path: Path) -> None:
    server = OwnServer()
    place = ObjectStore("contextdna-away", "", server.endpoint)
    raw_client(server.endpoint).create_bucket(Bucket=place.bucket)
    async with open_hub(settings_of(place, tmp_path, spool=False)) as hub:
        artifact = await hub.bind(ALICE).attach_artifact(ArtifactDraft("a.txt", DATA))
        assert not hub.modes
        server.kill()
        lost = await refused(
            hub.bind(ALICE).attach_artifact(ArtifactDraft("b.txt", b"b")), StorageUnavailable, "storage_unreachable"
        )
        assert lost.retryable
        assert [mode.name for mode in hub.modes] == ["artifacts_away"]
        await refused(hub.bind(ALICE).read_artifact(artifact.record.id), StorageUnavailable, "storage_unreachable")
        assert (await hub.bind(ALICE).describe_artifact(artifact.record.id)).name == "a.txt"
        assert [found.name for found in await hub.bind(ALICE).list_artifacts()] == ["a.txt"]
        health = (await hub.bind(ALICE).health()).artifacts
        assert health is not None
        assert (health.engine, health.sound, health.problem) == ("S3", False, "storage_unreachable")
    async with open_hub(settings_of(place, tmp_path, spool=False)) as hub:  # it is no reason not to start
        assert [found.name for found in await hub.bind(ALICE).list_artifacts()] == ["a.txt"]


async def test_a_bucket_that_is_not_there_is_told_at_the_start(place: ObjectStore) -> None:
    settings = settings_in(None, artifacts=f"s3://contextdna-none?endpoint_url={place.endpoint_url}")
    with pytest.raises(StorageUnavailable) as failed:
        async with open_hub(settings):
            pass
    assert failed.value.code == "storage_bucket_missing"


async def test_a_missing_driver_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextdna.hub.blob_stores.find_spec", lambda _: None)
    with pytest.raises(SettingsInvalid) as failed:
        async with open_hub(settings_in(None, artifacts="s3://bucket")):
            pass
    assert failed.value.code == "driver_missing"
    assert "contextdna[s3]" in failed.value.hint


# --- the operator ---


def doctor(folder: Path, place: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    monkeypatch.setenv("CONTEXTDNA_STORAGE__ARTIFACTS", store_url(place))
    result = CliRunner().invoke(main, ["doctor", "--data", str(folder), "--json"])
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


def test_doctor_tells_of_the_bucket_with_its_latency(
    place: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = doctor(tmp_path, place, monkeypatch)["s3"]
    assert check["status"] == "ok"
    assert f"s3://{place.bucket}/{place.prefix} answers in " in check["detail"]
    raw_client().put_bucket_versioning(Bucket=place.bucket, VersioningConfiguration={"Status": "Enabled"})
    try:
        assert doctor(tmp_path, place, monkeypatch)["s3"]["status"] == "warn"
    finally:
        raw_client().put_bucket_versioning(Bucket=place.bucket, VersioningConfiguration={"Status": "Suspended"})
    gone = doctor(tmp_path, ObjectStore("contextdna-none", "", place.endpoint_url), monkeypatch)["s3"]
    assert (gone["status"], "storage_bucket_missing" in gone["detail"]) == ("fail", True)


async def test_a_client_is_told_how_much_is_stored(place: ObjectStore) -> None:
    in_parts = S3Settings(multipart_over_bytes=MIB // 2, part_bytes=MIB // 2)
    told: list[tuple[float, float | None, str | None]] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with (
        open_hub(settings_in(None, artifacts=store_url(place), s3=in_parts)) as hub,
        calling(ALICE, "auto", hub=hub) as alice,
    ):
        arguments = {"name": "scan.bin", "base64": base64.b64encode(LARGE).decode()}
        await alice.client.call_tool("attach_artifact", arguments, progress_callback=tell)
    assert len(told) == 3
    assert told[-1] == (len(LARGE), len(LARGE), "bytes stored")
