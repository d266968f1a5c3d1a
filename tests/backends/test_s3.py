"""What only the blob store in S3 does: conditions, parts, checksums, deadlines, and what it says when S3 fails."""

import hashlib
import logging
import os
import threading
import traceback
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import anyio
import pytest

from contextdna.backends.s3 import BLOBS, S3BlobStore, S3Objects, open_calls, reading
from contextdna.backends.s3.threads import Threads
from contextdna.errors import Conflict, IntegrityFault, LimitExceeded, NotFound, StorageUnavailable
from contextdna.values.object_place import ObjectPlace, ObjectStore
from contextdna.values.settings import S3Settings
from tests.servers.s3 import Faults, OwnServer, empty_store, is_ours, opened, raw_client

pytestmark = pytest.mark.anyio

MIB: Final = 1024 * 1024
DATA: Final = b"some bytes \x00\xff" * 100
KEY: Final = hashlib.sha256(DATA).hexdigest()
PART: Final = MIB // 4 if is_ours() else 5 * MIB
QUICK: Final = S3Settings(multipart_over_bytes=PART, part_bytes=PART)
LARGE: Final = os.urandom(2 * PART + 1)
LARGE_KEY: Final = hashlib.sha256(LARGE).hexdigest()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextdna.backends.s3.calls._PAUSE_S", (0, 0))


@pytest.fixture
def place() -> ObjectStore:
    return empty_store()


@pytest.fixture
async def store(place: ObjectStore, anyio_backend: str) -> AsyncIterator[S3BlobStore]:
    async with opened(place, QUICK) as calls:
        yield S3BlobStore(calls)


@pytest.fixture
def faults(place: ObjectStore) -> Iterator[Faults]:
    made = Faults(place)
    yield made
    made.clear()


def objects_of(place: ObjectStore) -> list[str]:
    found = raw_client().list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)
    return [entry["Key"].removeprefix(place.prefix) for entry in found.get("Contents", ())]


def uploads_of(place: ObjectStore) -> list[str]:
    found = raw_client().list_multipart_uploads(Bucket=place.bucket)
    return [entry["Key"] for entry in found.get("Uploads", ()) if entry["Key"].startswith(place.prefix)]


def head_of(place: ObjectStore, key: str) -> dict[str, Any]:
    found: dict[str, Any] = raw_client().head_object(Bucket=place.bucket, Key=f"{place.prefix}{BLOBS}{key}")
    return found


async def refusal(call: Any, code: str) -> StorageUnavailable:
    with pytest.raises(StorageUnavailable) as failed:
        await call
    assert failed.value.code == code
    assert failed.value.hint
    return failed.value


# --- objects ---


async def test_a_blob_is_one_object_named_by_its_digest(store: S3BlobStore, place: ObjectStore) -> None:
    await store.put(DATA)
    assert objects_of(place) == [f"{BLOBS}{KEY}"]


async def test_what_stands_is_not_written_again_while_it_is_young(
    store: S3BlobStore, place: ObjectStore, faults: Faults
) -> None:
    await store.put(DATA)
    await store.put(DATA)
    assert faults.requests() == ["PUT", "PUT", "HEAD"]  # the second was refused for its condition


async def test_what_stands_and_is_old_is_written_anew(place: ObjectStore, faults: Faults) -> None:
    async with opened(place, QUICK) as calls:
        store = S3BlobStore(calls, young=timedelta(0))
        await store.put(DATA)
        await store.put(DATA)
    assert faults.requests() == ["PUT", "PUT", "HEAD", "PUT"]


@pytest.mark.parametrize("damage", [DATA + b"x", DATA[:-1] + b"x", b""], ids=["longer", "other", "empty"])
async def test_changed_bytes_are_noticed_and_mended_by_the_next_put(
    store: S3BlobStore, place: ObjectStore, damage: bytes
) -> None:
    await store.put(DATA)
    raw_client().put_object(Bucket=place.bucket, Key=f"{place.prefix}{BLOBS}{KEY}", Body=damage)
    with pytest.raises(IntegrityFault) as fault:
        await store.get(KEY)
    assert fault.value.code == "blob_changed"
    await store.put(DATA)
    assert await store.get(KEY) == DATA


async def test_other_objects_under_the_prefix_are_left_alone(store: S3BlobStore, place: ObjectStore) -> None:
    raw_client().put_object(Bucket=place.bucket, Key=f"{place.prefix}{BLOBS}readme.txt", Body=b"x")
    assert [key async for key in store.keys_older_than(datetime.now(UTC) + timedelta(hours=1))] == []


async def test_more_blobs_than_a_page_holds_are_listed(store: S3BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextdna.backends.s3.store._LISTED", 2)
    keys = {await store.put(bytes([number])) for number in range(5)}
    assert {key async for key in store.keys_older_than(datetime.now(UTC) + timedelta(hours=1))} == keys


async def test_a_server_that_knows_no_conditions_is_asked_for_one_once(
    store: S3BlobStore, place: ObjectStore, faults: Faults
) -> None:
    faults.add("PUT", status=501, code="NotImplemented")
    await store.put(DATA)
    assert await store.get(KEY) == DATA
    await store.put(b"more")
    assert faults.requests() == ["PUT", "HEAD", "PUT", "GET", "PUT"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (S3Settings(encryption="AES256"), ("AES256", None)),
        (S3Settings(encryption="aws:kms", kms_key_id="alias/memory"), ("aws:kms", "alias/memory")),
    ],
    ids=["aes", "kms"],
)
@pytest.mark.parametrize("data", [DATA, LARGE], ids=["whole", "parts"])
async def test_encryption_by_the_server_is_asked_for(
    place: ObjectStore, settings: S3Settings, expected: tuple[str, str | None], data: bytes
) -> None:
    async with opened(place, settings) as calls:
        calls.settings = S3Settings(
            encryption=settings.encryption, kms_key_id=settings.kms_key_id, multipart_over_bytes=PART
        )
        key = await S3BlobStore(calls).put(data)
    told = head_of(place, key)
    assert (told.get("ServerSideEncryption"), told.get("SSEKMSKeyId")) == expected


# --- parts ---


async def test_a_large_blob_goes_up_in_parts_and_tells_how_far_it_is(
    store: S3BlobStore, place: ObjectStore, faults: Faults
) -> None:
    told: list[tuple[int, int]] = []

    async def tell(done: int, total: int) -> None:
        told.append((done, total))

    assert await store.put(LARGE, progress=tell) == LARGE_KEY
    assert await store.get(LARGE_KEY) == LARGE
    assert [total for _, total in told] == [len(LARGE)] * 3
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (len(LARGE), len(LARGE))
    assert faults.requests()[:-1].count("PUT") == 3
    await store.put(LARGE)
    assert faults.requests().count("PUT") == 3, "what stands is not sent again"


@pytest.mark.parametrize("part", [1, 3])
async def test_an_upload_that_fails_half_way_leaves_nothing(
    store: S3BlobStore, place: ObjectStore, faults: Faults, part: int
) -> None:
    faults.add("PUT", f"partNumber={part}", status=503, code="SlowDown", times=2)
    await refusal(store.put(LARGE), "storage_busy")
    assert (objects_of(place), uploads_of(place)) == ([], [])
    assert await store.put(LARGE) == LARGE_KEY


async def test_a_part_that_fails_once_is_sent_again(store: S3BlobStore, faults: Faults) -> None:
    faults.add("PUT", "partNumber=2", status=500)
    await store.put(LARGE)
    assert await store.has(LARGE_KEY)


async def test_an_upload_whose_caller_leaves_is_aborted(store: S3BlobStore, place: ObjectStore) -> None:
    async with anyio.create_task_group() as tasks:

        async def leave(_done: int, _total: int) -> None:
            tasks.cancel_scope.cancel()

        tasks.start_soon(lambda: store.put(LARGE, progress=leave))
    assert (objects_of(place), uploads_of(place)) == ([], [])


async def test_what_could_not_be_aborted_is_dropped_at_upkeep(
    store: S3BlobStore, place: ObjectStore, faults: Faults
) -> None:
    faults.add("PUT", "partNumber=2", status=500, times=2)
    faults.add("DELETE", "uploadId=", status=503, times=2)
    await refusal(store.put(LARGE), "storage_busy")
    assert len(uploads_of(place)) == 1
    await store.drop_unfinished(datetime(2000, 1, 1, tzinfo=UTC))
    assert len(uploads_of(place)) == 1, "another server may be at it"
    await store.drop_unfinished(datetime.now(UTC) + timedelta(hours=1))
    assert uploads_of(place) == []


async def test_a_server_that_lists_no_uploads_is_left_alone(store: S3BlobStore, faults: Faults) -> None:
    faults.add("GET", "uploads", status=501, code="NotImplemented", times=2)
    await store.drop_unfinished(datetime.now(UTC))


async def test_an_upload_whose_end_is_answered_with_an_error_but_done_is_done(
    store: S3BlobStore, faults: Faults
) -> None:
    faults.add("POST", "uploadId=", status=404, code="NoSuchUpload")
    await refusal(store.put(LARGE), "storage_busy")  # S3 lost it, and nothing stands there
    await store.put(LARGE)
    assert await store.get(LARGE_KEY) == LARGE


# --- bytes changed on their way ---


async def test_bytes_damaged_on_their_way_up_are_sent_again(store: S3BlobStore, faults: Faults) -> None:
    faults.add("PUT", damage="request")
    await store.put(DATA)
    assert await store.get(KEY) == DATA


@pytest.mark.parametrize("data", [DATA, LARGE], ids=["whole", "parts"])
async def test_bytes_that_always_arrive_damaged_are_not_kept(
    store: S3BlobStore, place: ObjectStore, faults: Faults, data: bytes
) -> None:
    faults.add("PUT", damage="request", times=20)
    error = await refusal(store.put(data), "storage_garbled")
    assert error.retryable
    assert (objects_of(place), uploads_of(place)) == ([], [])


async def test_bytes_damaged_on_their_way_down_are_noticed(store: S3BlobStore, faults: Faults) -> None:
    await store.put(DATA)
    faults.add("GET", damage="answer")
    with pytest.raises(IntegrityFault):
        await store.get(KEY)
    assert await store.get(KEY) == DATA


async def test_an_answer_that_breaks_off_is_asked_for_again(store: S3BlobStore, faults: Faults) -> None:
    await store.put(DATA)
    faults.add("GET", damage="broken")
    assert await store.get(KEY) == DATA
    faults.add("GET", damage="broken", times=2)
    assert (await refusal(store.get(KEY), "storage_unreachable")).retryable


@pytest.mark.parametrize("data", [DATA, LARGE], ids=["whole", "parts"])
async def test_a_server_that_takes_no_sha256_is_served_with_md5(
    place: ObjectStore, faults: Faults, data: bytes
) -> None:
    for method in ("PUT", "POST", "HEAD", "GET"):
        faults.add(method, refuse="checksums", times=1000)
    async with opened(place, replace(QUICK, checksum="md5")) as calls:
        store = S3BlobStore(calls)
        key = await store.put(data)
        await store.put(data)
        assert await store.get(key) == data
        puts = faults.requests().count("PUT")
        assert puts == (2 if data is DATA else 3), "what stands is known by its ETag"
        faults.clear()
        faults.add("PUT", damage="request", times=20)
        await refusal(store.put(data + b"x"), "storage_garbled")
    assert len(objects_of(place)) == 1


# --- S3 fails ---

ANSWERS: Final = [
    pytest.param(503, "SlowDown", ("storage_busy", True), id="slow-down"),
    pytest.param(500, "InternalError", ("storage_busy", True), id="internal"),
    pytest.param(403, "AccessDenied", ("storage_no_permission", False), id="denied"),
    pytest.param(403, "SignatureDoesNotMatch", ("storage_login_refused", False), id="signature"),
    pytest.param(400, "ExpiredToken", ("storage_login_refused", False), id="expired"),
    pytest.param(404, "NoSuchBucket", ("storage_bucket_missing", False), id="no-bucket"),
    pytest.param(507, "XMinioStorageFull", ("storage_full", True), id="full"),
    pytest.param(501, "NotImplemented", ("storage_error", False), id="not-implemented"),
    pytest.param(418, "IAmATeapot", ("storage_error", False), id="unknown"),
]


@pytest.mark.parametrize(("status", "code", "expected"), ANSWERS)
async def test_what_s3_answers_is_told_in_our_words_and_no_other(
    store: S3BlobStore, faults: Faults, status: int, code: str, expected: tuple[str, bool]
) -> None:
    faults.add("PUT", status=status, code=code, times=3)
    error = await refusal(store.put(DATA), expected[0])
    assert error.retryable == expected[1]
    shown = "".join(traceback.format_exception(error))
    assert "AKIA" not in shown
    assert "secret" not in shown


async def test_who_answers_that_nothing_is_there_and_is_not_s3_is_not_believed(
    store: S3BlobStore, faults: Faults
) -> None:
    await store.put(DATA)
    faults.add("GET", status=404, code="")
    await refusal(store.get(KEY), "storage_error")
    assert await store.get(KEY) == DATA


async def test_one_failure_is_got_over(store: S3BlobStore, faults: Faults) -> None:
    for method, call in (("PUT", lambda: store.put(DATA)), ("GET", lambda: store.get(KEY))):
        faults.add(method, status=503, code="SlowDown")
        await call()
    faults.add("HEAD", status=500)
    assert await store.has(KEY)
    faults.add("DELETE", status=500)
    await store.delete(KEY)
    assert not await store.has(KEY)


async def test_a_slow_answer_is_waited_for_only_so_long(place: ObjectStore, faults: Faults) -> None:
    async with opened(place, S3Settings(read_timeout_s=0.1)) as calls:
        store = S3BlobStore(calls)
        faults.add("HEAD", pause_s=0.3)
        assert not await store.has(KEY), "the second request is answered"
        faults.add("HEAD", pause_s=0.3, times=2)
        assert (await refusal(store.has(KEY), "storage_timeout")).retryable


async def test_missing_credentials_are_told(place: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    async with open_calls(place, QUICK) as calls:
        await refusal(S3BlobStore(calls).put(DATA), "storage_login_refused")


async def test_a_missing_bucket_is_told(place: ObjectStore) -> None:
    async with opened(ObjectStore("contextdna-no-such-bucket", "", place.endpoint_url), QUICK) as calls:
        store = S3BlobStore(calls)
        await refusal(store.check(), "storage_bucket_missing")
        health = await store.health()
    assert (health.sound, health.problem) == (False, "storage_bucket_missing")


async def test_the_driver_logs_no_requests(
    store: S3BlobStore, caplog: pytest.LogCaptureFixture, place: ObjectStore
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with open_calls(place, QUICK) as calls:
            await S3BlobStore(calls).put(DATA)
    assert not [record for record in caplog.records if record.name.startswith(("boto", "urllib3"))]


# --- S3 hangs, and dies ---


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    server = OwnServer()
    yield server
    server.kill()


async def test_a_server_that_hangs_holds_nobody_and_one_that_dies_is_told(own_server: OwnServer) -> None:
    place = ObjectStore("contextdna-own", "", own_server.endpoint)
    raw_client(own_server.endpoint).create_bucket(Bucket=place.bucket)
    impatient = S3Settings(read_timeout_s=0.1, deadline_s=0.3, threads_max=2)
    async with opened(place) as patient_calls, opened(place, impatient) as calls:
        store, patient = S3BlobStore(calls), S3BlobStore(patient_calls)
        await patient.put(DATA)
        await calls._made()
        with own_server.hung(), anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(6):  # three times as many as there are threads
                    tasks.start_soon(refusal, store.get(KEY), "storage_timeout")
            await anyio.to_thread.run_sync(lambda: None)  # nobody else's threads are taken
        assert await patient.get(KEY) == DATA
        own_server.kill()
        with anyio.fail_after(10):
            error = await refusal(patient.put(b"more"), "storage_unreachable")
            assert error.retryable
            await refusal(patient.get(KEY), "storage_unreachable")
            health = await patient.health()
        assert (health.engine, health.sound, health.problem) == ("S3", False, "storage_unreachable")
        assert own_server.endpoint not in error.message + error.hint


async def test_a_thread_that_nobody_waits_for_keeps_its_place_until_it_ends() -> None:
    threads = Threads(1)
    gate = anyio.Event()
    held = threading.Event()
    with anyio.move_on_after(0.01):
        await threads.run(held.wait)
    async with anyio.create_task_group() as tasks:

        async def second() -> None:
            await threads.run(lambda: None)
            gate.set()

        tasks.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        assert not gate.is_set()
        held.set()
        with anyio.fail_after(5):
            await gate.wait()


# --- links ---


async def test_a_link_opens_the_blob_for_whoever_has_it_and_is_saved_by_its_name(store: S3BlobStore) -> None:
    key = await store.put(DATA)
    link = await store.link(key, name='Übersicht "1"\r\n.html', media_type="text/html", valid_s=77)
    assert "X-Amz-Expires=77" in link
    assert "the-secret-of-the-tests" not in link

    def fetch() -> tuple[bytes, str]:
        with urllib.request.urlopen(link, timeout=10) as answer:  # noqa: S310 - ours
            return answer.read(), answer.headers["Content-Disposition"]

    data, disposition = await anyio.to_thread.run_sync(fetch)
    assert data == DATA
    assert disposition == "attachment; filename*=UTF-8''%C3%9Cbersicht%20%221%22%0D%0A.html"


async def test_a_link_names_the_address_that_clients_know(place: ObjectStore) -> None:
    async with opened(place, replace(QUICK, link_endpoint_url="https://files.example.org")) as calls:
        link = await S3BlobStore(calls).link(KEY, name="a", media_type="text/plain", valid_s=60)
    assert link.startswith(f"https://files.example.org/{place.bucket}/{place.prefix}{BLOBS}{KEY}?")


# --- objects to make artifacts from ---


@pytest.fixture
async def objects(place: ObjectStore, anyio_backend: str) -> AsyncIterator[S3Objects]:
    async with opened(place, QUICK) as calls:
        yield S3Objects(calls)


@pytest.fixture
def source(place: ObjectStore) -> ObjectPlace:
    found = ObjectPlace(place.bucket, f"{place.prefix}inbox/report.txt")
    raw_client().put_object(Bucket=found.bucket, Key=found.key, Body=DATA, ChecksumAlgorithm="SHA256")
    return found


async def test_an_object_is_fetched_whole(objects: S3Objects, source: ObjectPlace) -> None:
    assert await objects.fetch(source, bytes_max=len(DATA)) == DATA


async def test_an_object_that_is_too_large_is_not_read(objects: S3Objects, source: ObjectPlace) -> None:
    with pytest.raises(LimitExceeded) as refused:
        await objects.fetch(source, bytes_max=len(DATA) - 1)
    assert refused.value.code == "artifact_too_large"


@pytest.mark.parametrize("change", [{"key": "no/such"}, {"bucket": "contextdna-no-such-bucket"}])
async def test_an_object_that_is_not_there_is_not_found(
    objects: S3Objects, source: ObjectPlace, change: dict[str, str]
) -> None:
    with pytest.raises(NotFound) as missing:
        await objects.fetch(ObjectPlace(**{"bucket": source.bucket, "key": source.key, **change}), bytes_max=MIB)
    assert missing.value.code == "object_not_found"


async def test_an_object_that_changes_while_it_is_read_is_not_mixed(
    objects: S3Objects, source: ObjectPlace, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults.add("GET", damage="broken")
    pin = reading._pin

    def meanwhile(answer: Any) -> Any:
        raw_client().put_object(Bucket=source.bucket, Key=source.key, Body=b"other")
        return pin(answer)

    monkeypatch.setattr(reading, "_pin", meanwhile)
    with pytest.raises(Conflict) as changed:
        await objects.fetch(source, bytes_max=MIB)
    assert changed.value.code == "object_changed"


async def test_a_version_that_was_begun_is_the_one_that_is_read(
    objects: S3Objects, place: ObjectStore, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = raw_client()
    bucket = f"{place.bucket}-v"
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    client.put_object(Bucket=bucket, Key="a", Body=DATA)
    Faults(ObjectStore(bucket, "", place.endpoint_url)).add("GET", damage="broken")
    pin = reading._pin

    def meanwhile(answer: Any) -> Any:
        client.put_object(Bucket=bucket, Key="a", Body=b"other")
        return pin(answer)

    monkeypatch.setattr(reading, "_pin", meanwhile)
    assert await objects.fetch(ObjectPlace(bucket, "a"), bytes_max=MIB) == DATA


async def test_an_object_whose_bytes_are_not_those_of_its_checksum_is_refused(
    objects: S3Objects, source: ObjectPlace, faults: Faults
) -> None:
    faults.add("GET", damage="answer", times=2)
    await refusal(objects.fetch(source, bytes_max=MIB), "storage_garbled")
