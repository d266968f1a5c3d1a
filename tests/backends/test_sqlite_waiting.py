"""Who waits for whom on SQLite: a health check for no reads, and a server that ends for no lock of another process."""

import threading
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from contextdna import HubSettings, open_hub
from contextdna.backends.sqlite import open_sqlite
from contextdna.backends.sqlite.driver import library
from contextdna.ports.database import Transaction
from tests.backends.samples import PROJECT, indexed

pytestmark = pytest.mark.anyio


async def test_a_check_does_not_wait_behind_reads(tmp_path: Path) -> None:
    reading, go_on = threading.Semaphore(0), threading.Event()

    async def read(tx: Transaction) -> None:
        reading.release()
        assert go_on.wait(10)

    settings = HubSettings(projects=(PROJECT,), data_dir=tmp_path)
    async with open_hub(settings) as hub, anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(hub._door.database.read, read)
        for _ in range(3):
            await anyio.to_thread.run_sync(reading.acquire)
        with anyio.fail_after(5):
            await hub.check()
        go_on.set()


async def test_a_write_that_nobody_waits_for_any_more_waits_for_no_other_process(tmp_path: Path) -> None:
    path = tmp_path / "contextdna.db"
    with anyio.fail_after(10):  # it would be half a minute
        async with open_sqlite(path) as database:
            with closing(library.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(database.write, lambda tx: tx.records.insert([indexed("mem_a")]))
                    while not database._writer._contended_until:  # noqa: ASYNC110 - its thread has no event
                        await anyio.sleep(0.001)
                    tasks.cancel_scope.cancel()
                await database.close()
