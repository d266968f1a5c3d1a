"""When the disk fails: a clear coded error, nothing half-written, and work goes on once it is mended."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from contextdna import (
    ArtifactDraft,
    BeginRequest,
    Hub,
    IntegrityFault,
    MemoryDraft,
    StorageUnavailable,
    open_hub,
)
from contextdna.hub.blob_stores import ARTIFACTS_FOLDER
from contextdna.hub.opening import DATABASE_FILE, KEY_FILE
from tests.hub.rig import ALICE, ROOT, Clock, raw_database, refused, remember, settings_in, start_program, stored

pytestmark = pytest.mark.anyio

MIB: Final = 1024 * 1024


@pytest.fixture
async def hub(anyio_backend: str, folder: Path, clock: Clock) -> AsyncIterator[Hub]:
    """Open an installation on disk: these tests are about its disk."""
    async with open_hub(settings_in(folder), clock=clock) as opened:
        yield opened


async def writer_pragma(hub: Hub, pragma: str) -> int:
    """Set or read a pragma of the writing connection, which is the one that a limit must hold for."""
    database: Any = hub._door.database
    rows: list[Any] = await database._writer.alone(lambda: database._writer.thread.raw.execute(pragma).fetchall())
    return int(rows[0][0])


async def open_and_close(folder: Path) -> None:
    async with open_hub(settings_in(folder)):
        pass


WRITES: dict[str, Callable[[Hub], Awaitable[Any]]] = {
    "a memory": lambda hub: hub.bind(ALICE).store_memories([MemoryDraft(os.urandom(MIB).hex())]),
    "a batch": lambda hub: hub.bind(ALICE).store_memories(
        [MemoryDraft(os.urandom(MIB // 20).hex()) for _ in range(40)]
    ),
    "a session": lambda hub: hub.bind(ALICE).begin_session(BeginRequest(ALICE.agent_id, os.urandom(32_000).hex())),
}


@pytest.mark.parametrize("write", WRITES)
async def test_a_full_disk_refuses_whole_writes_and_goes_on_when_there_is_room(hub: Hub, write: str) -> None:
    kept = await remember(hub.bind(ALICE), "kept")
    before = await stored(hub)
    pages = await writer_pragma(hub, "PRAGMA page_count")
    await writer_pragma(hub, f"PRAGMA max_page_count = {pages}")
    error = await refused(WRITES[write](hub), StorageUnavailable, "storage_full")
    assert error.retryable
    after = await stored(hub)
    assert (after.data, after.audit) == (before.data, before.audit)
    await writer_pragma(hub, "PRAGMA max_page_count = 1000000")
    await WRITES[write](hub)
    [[opened], _] = await hub.bind(ALICE).get_memories([kept])
    assert opened.content == "kept"
    assert (await hub.bind(ROOT).verify_audit()).intact
    assert (await hub.bind(ROOT).health(deep=True)).database.sound


async def test_artifacts_on_a_full_disk_leave_no_reference(hub: Hub) -> None:
    before = await stored(hub)
    pages = await writer_pragma(hub, "PRAGMA page_count")
    await writer_pragma(hub, f"PRAGMA max_page_count = {pages}")
    big = {"k": os.urandom(30_000).hex()}
    call = hub.bind(ALICE).attach_artifact(ArtifactDraft("a.bin", b"bytes", metadata=big))
    await refused(call, StorageUnavailable, "storage_full")
    assert (await stored(hub)).data == before.data
    await writer_pragma(hub, "PRAGMA max_page_count = 1000000")
    artifact = await hub.bind(ALICE).attach_artifact(ArtifactDraft("a.bin", b"bytes", metadata=big))
    assert (await hub.bind(ALICE).read_artifact(artifact.record.id))[1] == b"bytes"


async def test_a_limit_on_file_sizes_is_a_full_disk(folder: Path) -> None:
    await open_and_close(folder)
    out, err = start_program("filling_process.py", folder).communicate(timeout=60)
    assert out, err
    number, code = out.split()
    assert code in ("storage_full", "storage_io_error")
    assert int(number) > 0
    async with open_hub(settings_in(folder)) as hub:
        counts = dict((await hub.bind(ALICE).project_overview()).records_by_kind)
        assert counts == {"memory": int(number)}
        await remember(hub.bind(ALICE), "there is room again")
        assert (await hub.bind(ROOT).verify_audit()).intact


async def test_a_read_only_database_is_refused_and_works_again_when_writable(hub: Hub, folder: Path) -> None:
    await remember(hub.bind(ALICE), "kept")
    before = await stored(hub)
    database: Any = hub._door.database
    raw = database._writer.thread.raw
    await database._writer.alone(lambda: raw.execute("PRAGMA query_only = 1"))
    await refused(hub.bind(ALICE).store_memories([MemoryDraft("x")]), StorageUnavailable, "storage_read_only")
    assert (await stored(hub)).data == before.data
    await database._writer.alone(lambda: raw.execute("PRAGMA query_only = 0"))
    await remember(hub.bind(ALICE), "more")
    assert (await hub.bind(ROOT).verify_audit()).intact


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write to a read-only folder")
async def test_a_read_only_folder_is_refused_and_works_again_when_writable(folder: Path) -> None:
    await open_and_close(folder)
    for file in (folder / DATABASE_FILE, folder):
        file.chmod(file.stat().st_mode & 0o555)
    with pytest.raises(StorageUnavailable) as caught:
        await open_and_close(folder)
    assert caught.value.hint
    for file in (folder, folder / DATABASE_FILE):
        file.chmod(file.stat().st_mode | 0o200)
    await open_and_close(folder)


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    await refused(open_and_close(tmp_path / "file" / "data"), StorageUnavailable, "storage_cannot_open")


async def test_a_database_of_a_newer_version_is_refused_untouched(folder: Path) -> None:
    await open_and_close(folder)
    with raw_database(folder) as run:
        run("INSERT INTO schema_migrations VALUES (99, 'later', 'x', 0)")
    before = (folder / DATABASE_FILE).read_bytes()
    error = await refused(open_and_close(folder), StorageUnavailable, "schema_newer")
    assert "pgrade" in error.hint
    assert (folder / DATABASE_FILE).read_bytes() == before
    with raw_database(folder) as run:
        run("DELETE FROM schema_migrations WHERE version = 99")
    await open_and_close(folder)


async def test_what_is_no_database_is_refused_untouched(folder: Path) -> None:
    await open_and_close(folder)
    whole = (folder / DATABASE_FILE).read_bytes()
    (folder / DATABASE_FILE).write_bytes(b"not a database" * 1000)
    await refused(open_and_close(folder), IntegrityFault, "not_a_database")
    assert (folder / DATABASE_FILE).read_bytes() == b"not a database" * 1000
    (folder / DATABASE_FILE).write_bytes(whole)
    await open_and_close(folder)
    assert (folder / KEY_FILE).exists()


async def test_an_artifacts_folder_that_is_none_is_refused(folder: Path) -> None:
    await open_and_close(folder)
    (folder / ARTIFACTS_FOLDER).rmdir()
    (folder / ARTIFACTS_FOLDER).write_text("no folder")
    with pytest.raises(StorageUnavailable) as caught:
        await open_and_close(folder)
    assert caught.value.hint
    (folder / ARTIFACTS_FOLDER).unlink()
    await open_and_close(folder)
