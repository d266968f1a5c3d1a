"""Moving an installation to another database."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from contextdna import (
    ArtifactDraft,
    Conflict,
    ContextDnaError,
    IntegrityFault,
    StorageUnavailable,
    open_hub,
)
from contextdna.backends.key_ring import KeyFileRing, create_key_file
from contextdna.backends.local_files import LocalBlobStore
from contextdna.backends.sealing import RingSealer
from contextdna.backends.segmented_log import open_segmented_log
from contextdna.errors import SettingsInvalid
from contextdna.hub.moving import Place, missing_key_file, move_storage, parse_place
from contextdna.hub.opening import DATABASE_FILE, KEY_FILE
from contextdna.hub.spool import SPOOL_FOLDER
from contextdna.values.move import MoveProgress, MoveReport
from tests.hub.methods import Furnished
from tests.hub.moved_world import asked, build, copied, run_on, settings_of, tables_in
from tests.hub.rig import ALICE, refused, remember, settings_in, start_program
from tests.servers.postgres import fresh_database_url
from tests.servers.s3 import empty_store, raw_client, share_clients, store_url

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def in_small_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextdna.backends.sqlite.moving._STRETCH_WORDS", 100)


@dataclass(frozen=True)
class World:
    folder: Path
    furnished: Furnished


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Make an installation with rows in every table, once: each test copies it."""
    folder = tmp_path_factory.mktemp("world") / "data"
    return World(folder, asyncio.run(build(folder)))


@pytest.fixture
def source(world: World, tmp_path: Path) -> Place:
    return Place(copied(world.folder, tmp_path / "source"))


@pytest.fixture
def target(source: Place, tmp_path: Path) -> Place:
    """Give an empty folder that has the key."""
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / KEY_FILE).write_bytes((source.folder / KEY_FILE).read_bytes())
    (tmp_path / "target" / KEY_FILE).chmod(0o600)
    return Place(tmp_path / "target")


async def move(source: Place, target: Place, **options: Any) -> MoveReport:
    return await move_storage(settings_in(source.folder), source, target, **{"batch_rows": 50, **options})


class Cut(Exception):
    """The end of a run at some point."""


def cutting(after: int) -> Callable[[MoveProgress], None]:
    """Give what ends a run when it was told of so much progress."""
    left = [after]

    def told(_: MoveProgress) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Cut

    return told


async def test_all_of_it_arrives_on_postgresql_and_comes_back(
    world: World, source: Place, target: Place, tmp_path: Path
) -> None:
    before = tables_in(source.folder)
    assert {name for name, rows in before.items() if not rows} <= {"leases"}
    server = Place(source.folder, fresh_database_url())
    there = await move(source, server)
    back = await move(server, target)
    assert (there.resumed, there.rows, there.projects, there.artifacts_copied) == (False, back.rows, 2, 0)
    assert there.rows["records"] == len(before["records"])
    assert tables_in(source.folder) == before == tables_in(target.folder)
    expected = await asked(settings_in(copied(source.folder, tmp_path / "asked")), world.furnished)
    assert expected["audit"] == (True, 3)
    assert await asked(settings_of(server), world.furnished) == expected
    assert await asked(settings_of(target), world.furnished) == expected
    for place in (server, target):
        async with open_hub(settings_of(place)) as hub:
            new = await remember(hub.bind(ALICE), "as good as new")
            assert (await hub.bind(ALICE).get_memories([new]))[0]


async def test_a_move_goes_on_wherever_it_was_cut_and_writes_nothing_twice(source: Place, target: Place) -> None:
    before = tables_in(source.folder)
    for step in range(1, 60):
        try:
            report = await move(source, target, told=cutting(step * 3), batch_rows=80)
            break
        except Cut:
            await refused(_open(target), StorageUnavailable, "move_incomplete")
    assert report.resumed
    assert step > 5
    assert tables_in(target.folder) == before
    await _open(target)


async def _open(place: Place) -> None:
    async with open_hub(settings_of(place)):
        pass


async def test_a_process_that_is_killed_leaves_what_the_next_one_goes_on_with(source: Place) -> None:
    server = Place(source.folder, fresh_database_url())
    process = start_program("moving_process.py", source.folder, server.url, "records")
    assert (await asyncio.to_thread(process.communicate))[1] == ""
    assert process.returncode == -signal.SIGKILL
    await refused(_open(server), StorageUnavailable, "move_incomplete")
    before = run_on(server, "SELECT count(*) FROM records")[0][0]
    assert 0 < before < len(tables_in(source.folder)["records"])
    report = await move(source, server)
    assert report.resumed
    assert report.rows["records"] == run_on(server, "SELECT count(*) FROM records")[0][0]
    await _open(server)


@pytest.mark.parametrize("on_server", [True, False])
async def test_a_changed_byte_is_found(source: Place, target: Place, on_server: bool) -> None:
    place = Place(source.folder, fresh_database_url()) if on_server else target
    changed: list[Any] = []

    def told(progress: MoveProgress) -> None:
        if progress.stage == "check" and not changed:
            changed.append(run_on(place, "UPDATE conflicts SET current_version = current_version + 1"))

    await refused(move(source, place, told=told), IntegrityFault, "move_unequal")
    await refused(_open(place), StorageUnavailable, "move_incomplete")
    if not on_server:
        assert not (await move(source, place, restart=True)).resumed
        await _open(place)


@pytest.mark.parametrize("at", [("copy", "records"), ("check", "sessions"), ("check", "conflicts")])
async def test_a_source_that_is_written_meanwhile_is_noticed(source: Place, target: Place, at: tuple[str, str]) -> None:
    def told(progress: MoveProgress) -> None:
        if (progress.stage, progress.part) == at:
            run_on(source, "UPDATE agents SET last_seen_at = last_seen_at + 1")

    await refused(move(source, target, told=told), Conflict, "move_source_changed")
    assert (await move(source, target, restart=True)).rows


async def test_records_whose_numbers_are_used_again_have_their_turn_to_be_embedded(
    source: Place, target: Place
) -> None:
    run_on(source, "UPDATE embedding_spaces SET done_seq = 1000000")  # as on a server, after the newest was purged
    await move(source, target)
    newest = run_on(target, "SELECT max(seq) FROM records")
    assert run_on(target, "SELECT DISTINCT done_seq FROM embedding_spaces") == newest


async def test_a_list_that_is_none_is_told_of(source: Place) -> None:
    run_on(source, "UPDATE sessions SET lineage = 'no JSON'")
    server = Place(source.folder, fresh_database_url())
    await refused(move(source, server), IntegrityFault, "database_corrupt")


async def test_a_source_that_is_not_at_rest_is_not_moved(source: Place, target: Place) -> None:
    server = Place(source.folder, fresh_database_url())
    async with open_hub(settings_of(server)):
        await refused(move(server, target), StorageUnavailable, "move_source_in_use")
    sealer = RingSealer(KeyFileRing(source.folder / KEY_FILE), "spool")
    async with open_segmented_log(source.folder / SPOOL_FOLDER / "0", sealer=sealer) as queued:
        unit = await queued.begin()
        await queued.write_entry(unit, b"a write that was promised")
        await queued.commit(unit)
    await refused(move(server, target), StorageUnavailable, "move_writes_wait")


async def test_a_target_that_holds_anything_is_refused(source: Place, target: Place) -> None:
    await _open(target)
    before = tables_in(target.folder)
    await refused(move(source, target), Conflict, "move_target_not_empty")
    await refused(move(source, target, restart=True), Conflict, "move_target_not_empty")
    await refused(move(source, source), Conflict, "move_target_not_empty")
    assert tables_in(target.folder) == before


async def test_two_sources_are_not_mixed(source: Place, target: Place, tmp_path: Path) -> None:
    with pytest.raises(Cut):
        await move(source, target, told=cutting(9))
    await refused(move(target, Place(tmp_path / "next")), StorageUnavailable, "move_incomplete")
    other = Place(tmp_path / "other")
    await _open(other)
    (target.folder / KEY_FILE).unlink()
    await refused(move(other, target), Conflict, "move_other_source")
    await move(other, target, restart=True)


async def test_a_run_that_another_one_has_overtaken_writes_no_more(source: Place, target: Place) -> None:
    def told(progress: MoveProgress) -> None:
        if progress.part == "records" and progress.done == 50:
            run_on(target, "UPDATE moves SET run = 'of another one'")

    await refused(move(source, target, told=told), Conflict, "move_taken_over")
    assert (await move(source, target)).resumed


async def test_nothing_is_moved_without_the_key_that_opens_it(source: Place, target: Place) -> None:
    (target.folder / KEY_FILE).unlink()
    create_key_file(target.folder / KEY_FILE)
    await refused(move(source, target), IntegrityFault, "wrong_key")
    (target.folder / KEY_FILE).unlink()
    settings = settings_in(source.folder)
    assert missing_key_file(settings, source, target) == (source.folder / KEY_FILE, target.folder / KEY_FILE)
    (source.folder / KEY_FILE).rename(target.folder / KEY_FILE)
    await refused(move(source, target), SettingsInvalid, "key_missing")
    assert os.listdir(target.folder) == [KEY_FILE]


async def test_a_broken_audit_trail_is_not_moved(source: Place, target: Place) -> None:
    run_on(source, "DROP TRIGGER audit_log_keeps_on_update")
    run_on(source, "UPDATE audit_log SET action = 'other' WHERE seq = 3")
    await refused(move(source, target), IntegrityFault, "move_audit_broken")


def blobs_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "artifacts").rglob("*") if path.is_file()}


async def test_artifacts_go_along(source: Place, target: Place) -> None:
    blobs = blobs_in(source.folder)
    report = await move(source, target)
    assert (report.artifacts, report.artifacts_copied, report.artifacts_lost) == (len(blobs), len(blobs), ())
    assert blobs_in(target.folder) == blobs


async def test_each_artifact_is_counted_however_many_are_copied_at_a_time(source: Place, target: Place) -> None:
    async with open_hub(settings_in(source.folder)) as hub:
        for number in range(8):
            await hub.bind(ALICE).attach_artifact(ArtifactDraft(f"{number}.txt", f"of number {number}".encode()))
    report = await move(source, target)
    assert report.artifacts == report.artifacts_copied == len(blobs_in(source.folder)) >= 8


async def test_a_place_that_cannot_be_reached_is_called_by_its_option(source: Place, target: Place) -> None:
    nowhere = Place(source.folder, "postgresql://user@/none?host=/nowhere")
    for error in (
        await refused(move(source, nowhere), StorageUnavailable, "storage_unreachable"),
        await refused(move(nowhere, target), StorageUnavailable, "storage_unreachable"),
    ):
        assert "storage.database" not in error.hint


async def test_artifacts_that_are_lost_already_are_named(source: Place, target: Place) -> None:
    lost = [path for path in (source.folder / "artifacts").rglob("*") if path.is_file()]
    lost[0].unlink()
    assert (await move(source, target)).artifacts_lost


async def test_artifacts_go_to_a_bucket_and_come_back(
    source: Place, target: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_clients(monkeypatch)
    bucket = Place(target.folder, artifacts=store_url(empty_store()))
    there = await move(source, bucket)
    back = await move(bucket, Place(tmp_path / "back"))
    assert there.artifacts == there.artifacts_copied == back.artifacts_copied
    assert blobs_in(tmp_path / "back") == blobs_in(source.folder)
    assert not (target.folder / "artifacts").exists()


def test_places_are_read(tmp_path: Path) -> None:
    settings = replace(settings_in(tmp_path), artifacts="s3://bucket/here")
    assert parse_place("sqlite:///srv/data/contextdna.db", settings) == Place(Path("/srv/data"), "", "s3://bucket/here")
    assert parse_place("sqlite:data", settings, artifacts="elsewhere").shelf == Path("elsewhere")
    server = parse_place("postgresql://bob:secret@db/name", settings, artifacts="s3://other")
    assert (server.folder, server.artifacts) == (tmp_path, "s3://other")
    assert "secret" not in repr(server)
    assert parse_place("postgresql:", replace(settings, database="postgresql://db/one")).url == "postgresql://db/one"
    for wrong in ("sqlite:", "mysql://db", "postgresql:", ""):
        with pytest.raises(ContextDnaError) as raised:
            parse_place(wrong, settings)
        assert raised.value.code == "place_invalid"


async def test_an_artifact_that_waits_for_the_bucket_of_both_sides_arrives_there(
    target: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_clients(monkeypatch)
    bucket = empty_store()
    settings = settings_in(tmp_path / "waiting", artifacts=store_url(bucket))
    async with open_hub(settings) as hub:
        artifact = (await hub.bind(ALICE).attach_artifact(ArtifactDraft("a.txt", b"the only copy"))).record
    assert artifact.blob_key is not None
    s3 = raw_client()
    [stored] = s3.list_objects_v2(Bucket=bucket.bucket, Prefix=bucket.prefix)["Contents"]
    await LocalBlobStore(tmp_path / "waiting" / "artifacts-spool").put(
        s3.get_object(Bucket=bucket.bucket, Key=stored["Key"])["Body"].read()
    )
    s3.delete_object(Bucket=bucket.bucket, Key=stored["Key"])
    (target.folder / KEY_FILE).write_bytes((tmp_path / "waiting" / KEY_FILE).read_bytes())
    source, there = (Place(folder, artifacts=settings.artifacts) for folder in (tmp_path / "waiting", target.folder))
    for spool in (False, True):  # the second time it is there already
        report = await move_storage(replace(settings, spool=spool), source, there)
        assert (report.artifacts, report.artifacts_copied, report.artifacts_lost) == (1, 0 if spool else 1, ())
        (target.folder / DATABASE_FILE).unlink()
    found = s3.list_objects_v2(Bucket=bucket.bucket, Prefix=bucket.prefix)["Contents"]
    assert [entry["Key"] for entry in found] == [stored["Key"]]


async def test_what_lies_damaged_at_the_target_is_written_anew(source: Place, target: Place) -> None:
    blobs = blobs_in(source.folder)
    shutil.copytree(source.folder / "artifacts", target.folder / "artifacts")
    damaged = next(path for path in (target.folder / "artifacts").rglob("*") if path.is_file())
    damaged.write_bytes(b"garbage")
    report = await move(source, target)
    assert (report.artifacts_copied, report.artifacts_lost) == (1, ())
    assert blobs_in(target.folder) == blobs
