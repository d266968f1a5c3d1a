"""Contract of ``BlobStore``, and what the folder of ``LocalBlobStore`` looks like."""

import errno
import hashlib
import os
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from contextdna.backends.in_memory.blobs import InMemoryBlobStore
from contextdna.backends.local_files import LEFTOVER_AGE_S, LocalBlobStore
from contextdna.backends.s3 import S3BlobStore
from contextdna.backends.spooled_blobs import SpooledBlobStore
from contextdna.errors import IntegrityFault, NotFound, StorageUnavailable
from contextdna.ports.storage import BlobStore
from tests.servers.s3 import empty_store, opened

pytestmark = pytest.mark.anyio

DATA: Final = b"some bytes \x00\xff"
KEY: Final = hashlib.sha256(DATA).hexdigest()
posix_only = pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")


@pytest.fixture(params=["in_memory", "local_files", "s3", "spooled"])
async def blobs(request: pytest.FixtureRequest, anyio_backend: str, tmp_path: Path) -> AsyncIterator[BlobStore]:
    """Give an empty store, once for each backend."""
    if request.param == "in_memory":
        yield InMemoryBlobStore()
    elif request.param == "local_files":
        yield LocalBlobStore(tmp_path / "deep" / "blobs")
    elif request.param == "spooled":
        yield SpooledBlobStore(InMemoryBlobStore(), LocalBlobStore(tmp_path / "spool"))
    else:
        async with opened(empty_store()) as calls:
            yield S3BlobStore(calls)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("data", [b"", DATA, bytes(range(256)) * 5000], ids=["empty", "short", "long"])
async def test_bytes_come_back_as_they_went_in(blobs: BlobStore, data: bytes) -> None:
    key = await blobs.put(data)
    assert key == hashlib.sha256(data).hexdigest()
    assert await blobs.get(key) == data


async def test_storing_twice_gives_the_same_key(blobs: BlobStore) -> None:
    assert await blobs.put(DATA) == await blobs.put(DATA) == KEY
    await blobs.delete(KEY)
    with pytest.raises(NotFound):
        await blobs.get(KEY)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("0" * 64, id="unknown"),
        pytest.param("", id="empty"),
        pytest.param("../../etc/passwd", id="path"),
        pytest.param("/" + "0" * 63, id="absolute"),
        pytest.param(KEY.upper(), id="upper-case"),
        pytest.param(KEY[:-1], id="short"),
        pytest.param(KEY + "\n", id="line-end"),
    ],
)
async def test_an_unknown_or_malformed_key_is_not_found(blobs: BlobStore, key: str) -> None:
    await blobs.put(DATA)
    with pytest.raises(NotFound) as missing:
        await blobs.get(key)
    assert missing.value.code == "blob_not_found"
    await blobs.delete(key)
    assert await blobs.get(KEY) == DATA


async def test_deleting_twice_is_no_error(blobs: BlobStore) -> None:
    await blobs.put(DATA)
    await blobs.put(b"other")
    await blobs.delete(KEY)
    await blobs.delete(KEY)
    with pytest.raises(NotFound):
        await blobs.get(KEY)
    assert await blobs.get(hashlib.sha256(b"other").hexdigest()) == b"other"


async def test_the_same_bytes_may_be_stored_by_many_at_once(blobs: BlobStore) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(blobs.put, DATA)
    assert await blobs.get(KEY) == DATA


async def test_what_is_there_is_told_without_reading(blobs: BlobStore) -> None:
    await blobs.put(DATA)
    assert await blobs.has(KEY)
    assert not await blobs.has("0" * 64)
    assert not await blobs.has("../../etc/passwd")
    await blobs.delete(KEY)
    assert not await blobs.has(KEY)


async def test_blobs_are_listed_by_age(blobs: BlobStore) -> None:
    keys = {await blobs.put(data) for data in (b"", DATA, b"other")}
    later, earlier = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) - timedelta(hours=1)
    assert {key async for key in blobs.keys_older_than(later)} == keys
    assert [key async for key in blobs.keys_older_than(earlier)] == []


async def test_progress_ends_with_all_bytes(blobs: BlobStore) -> None:
    told: list[tuple[int, int]] = []

    async def tell(done: int, total: int) -> None:
        told.append((done, total))

    await blobs.put(DATA, progress=tell)
    assert told[-1] == (len(DATA), len(DATA))


async def test_a_store_tells_that_it_is_well(blobs: BlobStore) -> None:
    await blobs.put(DATA)
    health = await blobs.health()
    assert (health.sound, health.problem) == (True, "")
    assert health.latency_ms >= 0


async def test_dropping_what_is_unfinished_leaves_what_is_finished(blobs: BlobStore) -> None:
    await blobs.put(DATA)
    await blobs.drop_unfinished(datetime.now(UTC) + timedelta(hours=1))
    assert await blobs.get(KEY) == DATA


async def test_a_link_is_given_where_there_are_links(blobs: BlobStore) -> None:
    key = await blobs.put(DATA)
    link = await blobs.link(key, name="a b.txt", media_type="text/plain", valid_s=60)
    assert bool(link) == blobs.has_links


# The folder


async def test_one_copy_lies_two_levels_deep(folder: Path) -> None:
    store = LocalBlobStore(folder)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(store.put, DATA)
    assert files_in(folder) == [folder / KEY[:2] / KEY[2:4] / KEY]


@posix_only
async def test_only_the_owner_may_look(folder: Path) -> None:
    await LocalBlobStore(folder).put(DATA)
    [file] = files_in(folder)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for path in (folder, file.parent, file.parent.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


async def test_two_stores_share_a_folder(folder: Path) -> None:
    await LocalBlobStore(folder).put(DATA)
    assert await LocalBlobStore(folder).get(KEY) == DATA


@pytest.mark.parametrize("damage", [DATA + b"x", DATA[:-1], b""], ids=["longer", "shorter", "empty"])
async def test_changed_bytes_are_noticed_and_mended_by_the_next_put(folder: Path, damage: bytes) -> None:
    store = LocalBlobStore(folder)
    await store.put(DATA)
    files_in(folder)[0].write_bytes(damage)
    with pytest.raises(IntegrityFault) as fault:
        await store.get(KEY)
    assert fault.value.code == "blob_changed"
    await store.put(DATA)
    assert await store.get(KEY) == DATA


async def test_a_blob_that_is_put_again_is_young_again(folder: Path) -> None:
    store = LocalBlobStore(folder)
    await store.put(DATA)
    [blob] = files_in(folder)
    blob.with_name("x.old.part").write_bytes(b"half")
    limit = datetime.fromtimestamp(blob.stat().st_mtime, UTC) - timedelta(hours=1)
    for path in files_in(folder):
        os.utime(path, (0, 0))
    assert [key async for key in store.keys_older_than(limit)] == [KEY]
    await store.put(DATA)
    assert [key async for key in store.keys_older_than(limit)] == []


async def test_opening_removes_old_leftovers_only(folder: Path) -> None:
    store = LocalBlobStore(folder)
    await store.open()
    await store.put(DATA)
    [blob] = files_in(folder)
    old, young = blob.with_name("x.old.part"), blob.with_name("x.young.part")
    for path in (old, young):
        path.write_bytes(b"half")
    long_ago = young.stat().st_mtime - 2 * LEFTOVER_AGE_S
    for path in (old, blob):
        os.utime(path, (long_ago, long_ago))
    await store.open()
    assert sorted(files_in(folder)) == sorted([blob, young])


FAULTS = [
    pytest.param(errno.ENOSPC, ("storage_full", True), id="full"),
    pytest.param(errno.EROFS, ("storage_read_only", False), id="read-only"),
    pytest.param(errno.EACCES, ("storage_denied", False), id="denied"),
    pytest.param(errno.EIO, ("storage_unavailable", True), id="broken"),
]


@pytest.mark.parametrize(("number", "expected"), FAULTS)
@pytest.mark.parametrize("call", ["fsync", "open"])
async def test_a_failing_disk_keeps_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, expected: tuple[str, bool]
) -> None:
    store = LocalBlobStore(folder)
    await store.put(b"makes the folders")
    before = sorted(files_in(folder))

    def fail(*args: Any) -> int:
        raise OSError(number, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageUnavailable) as failed:
            await store.put(DATA)
    assert (failed.value.code, failed.value.retryable) == expected
    assert str(folder) not in failed.value.message + failed.value.hint
    assert sorted(files_in(folder)) == before
    await store.put(DATA)
    assert await store.get(KEY) == DATA


async def test_a_file_where_the_folder_should_be_is_a_storage_error(folder: Path) -> None:
    folder.write_bytes(b"")  # noqa: ASYNC240  # the test's own set-up
    with pytest.raises(StorageUnavailable):
        await LocalBlobStore(folder).open()
    with pytest.raises(StorageUnavailable):
        await LocalBlobStore(folder).put(DATA)
