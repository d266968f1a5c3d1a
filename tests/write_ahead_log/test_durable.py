"""The in-memory database over a log: what fails, fails alone; snapshots bound the log."""

from pathlib import Path

import anyio
import pytest

from contextdna.backends.in_memory import durable, open_durable
from contextdna.backends.segmented_log import SnapshotFolder, open_segmented_log
from contextdna.errors import ContextDnaError, IntegrityFault
from contextdna.ports.database import Transaction, Unit
from contextdna.values.lease import LeaseRow
from tests.backends.samples import PROJECT, T0
from tests.write_ahead_log.durable import open_durable_folder

pytestmark = pytest.mark.anyio


def put(name: str, *, holder: str = "") -> Unit[None]:
    async def unit(tx: Transaction) -> None:
        await tx.leases.put(LeaseRow(PROJECT, name, holder, 1, T0))
        if name == "bad":
            raise ValueError(name)

    return unit


async def has(tx: Transaction) -> list[str]:
    names = ("a", "b", "bad", "large", "c", "gone")
    return [name for name in names if await tx.leases.get(PROJECT, name)]


async def test_units_that_fail_or_are_too_large_fail_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_UNIT_BYTES_MAX", 1000)
    failed: dict[str, Exception] = {}

    async with open_durable_folder(tmp_path) as database:

        async def write(name: str, holder: str = "") -> None:
            try:
                await database.write(put(name, holder=holder))
            except (ValueError, ContextDnaError) as error:
                failed[name] = error

        async with anyio.create_task_group() as tasks:
            for name in ("a", "bad", "b"):
                tasks.start_soon(write, name)
            tasks.start_soon(write, "large", "x" * 2000)
            tasks.start_soon(write, "c")
    assert set(failed) == {"bad", "large"}
    async with open_durable_folder(tmp_path) as database:
        assert await database.read(has) == ["a", "b", "c"]


async def test_a_caller_that_is_gone_before_its_turn_leaves_nothing(tmp_path: Path) -> None:
    async with open_durable_folder(tmp_path) as database:
        async with anyio.create_task_group() as tasks:
            await database._writing.acquire()
            tasks.start_soon(database.write, put("gone"))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
            database._writing.release()
        await database.write(put("a"))
        assert await database.read(has) == ["a"]


async def test_the_log_stays_short_and_the_snapshot_holds_the_rest(tmp_path: Path) -> None:
    async with open_durable_folder(tmp_path, checkpoint_bytes=2000, segment_bytes=500) as database:
        for number in range(100):
            await database.write(put("a", holder=f"{number}" * 20))
            await anyio.wait_all_tasks_blocked()
        status = await database.status(deep=True)
        assert status.sound
        assert status.size_bytes < 10_000
    async with open_durable_folder(tmp_path) as database:
        lease = await database.read(lambda tx: tx.leases.get(PROJECT, "a"))
        assert lease is not None
        assert lease.holder == "99" * 20


async def test_a_snapshot_and_a_log_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        async with open_durable_folder(tmp_path / name) as database:
            await database.write(put("a"))
            await database.shred_remains()
    for snapshots in (SnapshotFolder(tmp_path / "two" / "snapshots"), SnapshotFolder(tmp_path / "none")):
        async with open_segmented_log(tmp_path / "one" / "log") as log:
            with pytest.raises(IntegrityFault) as refused:
                async with open_durable(log, snapshots):
                    pass
        assert refused.value.code == "log_damaged"
