"""A read whose caller is cancelled gives its connection back at once, and the next one there is not disturbed."""

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from contextdna.backends.relational.statements import load_statements
from contextdna.backends.sqlite import open_sqlite
from contextdna.backends.sqlite.driver import connect_reader, library, mapped_error, on_thread
from contextdna.backends.sqlite.schema import DIALECT
from contextdna.backends.sqlite.units import ReadingThread
from contextdna.errors import StorageUnavailable
from contextdna.ports.database import Transaction
from tests.backends.samples import PROJECT

pytestmark = pytest.mark.anyio

DEADLINE_S = 60
ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
STEPS = 2_000


@pytest.fixture
async def reader(anyio_backend: str, tmp_path: Path) -> AsyncIterator[ReadingThread]:
    path = tmp_path / "contextdna.db"
    async with open_sqlite(path), on_thread(lambda: connect_reader(path, busy_timeout_s=1)) as thread:
        yield ReadingThread(thread, {**load_statements(DIALECT), "endless": ENDLESS})


class Unit:
    """A unit that tells when it runs, and never ends by itself."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    async def __call__(self, tx: Transaction) -> Any:
        self.begun.set()
        records: Any = tx.records
        return await records._rows("endless")

    async def running(self) -> None:
        assert await anyio.to_thread.run_sync(self.begun.wait, DEADLINE_S)


async def total(tx: Transaction) -> int:
    return await tx.records.total(PROJECT)


async def test_a_cancelled_read_frees_its_connection(reader: ReadingThread) -> None:
    for _ in range(20):
        unit = Unit()
        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(reader.read, unit)
                await unit.running()
                tasks.cancel_scope.cancel()
            assert await reader.read(total) == 0


async def test_a_read_cancelled_while_it_waits_never_runs(reader: ReadingThread) -> None:
    first, second = Unit(), Unit()
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.read, first)
            await first.running()
            tasks.start_soon(reader.read, second)
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert await reader.read(total) == 0
    assert not second.begun.is_set()


async def test_reads_after_cancelled_ones_are_whole(reader: ReadingThread) -> None:
    """Many short reads, every other one cancelled at some moment of its life: none of the others is interrupted."""

    async def many(tx: Transaction) -> int:
        return sum([await tx.records.total(PROJECT) for _ in range(20)])

    with anyio.fail_after(DEADLINE_S):
        for number in range(STEPS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(reader.read, many)
                for _ in range(number % 4):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            assert await reader.read(many) == 0


async def test_an_interrupted_statement_is_told_as_such(reader: ReadingThread) -> None:
    timer = threading.Timer(0.05, reader.thread.raw.interrupt)
    timer.start()
    with pytest.raises(StorageUnavailable) as caught:
        await reader.read(Unit())
    assert (caught.value.code, caught.value.retryable) == ("storage_interrupted", True)
    assert await reader.read(total) == 0


def test_the_library_names_an_interrupt() -> None:
    error = library.OperationalError("interrupted")
    error.sqlite_errorcode = 9
    assert mapped_error(error).code == "storage_interrupted"


async def test_a_cancelled_read_of_many_statements_frees_its_seat(tmp_path: Path) -> None:
    begun = threading.Event()

    async def endless(tx: Transaction) -> None:
        while True:
            await tx.records.total(PROJECT)
            begun.set()

    with anyio.fail_after(DEADLINE_S):
        async with open_sqlite(tmp_path / "contextdna.db", readers=1) as database:
            for _ in range(5):
                begun.clear()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(database.read, endless)
                    assert await anyio.to_thread.run_sync(begun.wait, DEADLINE_S)
                    tasks.cancel_scope.cancel()
                assert await database.read(total) == 0
