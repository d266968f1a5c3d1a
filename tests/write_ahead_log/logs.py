"""Every write-ahead log, for the suites that all of them must pass."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from contextdna.backends.postgres.log import open_postgres_log
from contextdna.backends.segmented_log import open_segmented_log
from contextdna.backends.sqlite.log import open_sqlite_log
from contextdna.ports.write_ahead_log import Sealer, WriteAheadLog
from tests.servers.postgres import database_url

LOGS: Final = ("files", "sqlite", "postgres")


@asynccontextmanager
async def open_log(name: str, folder: Path, *, sealer: Sealer | None = None) -> AsyncIterator[WriteAheadLog]:
    """Open the log of a folder; small segments, so that a few entries fill some."""
    if name == "sqlite":
        async with open_sqlite_log(folder / "log.db", sealer=sealer) as sqlite:
            yield sqlite
        return
    if name == "postgres":
        async with open_postgres_log(
            database_url(), name=f"{folder.parent.name}/{folder.name}", sealer=sealer
        ) as postgres:
            yield postgres
        return
    async with open_segmented_log(folder / "log", sealer=sealer, segment_bytes=300) as files:
        yield files


async def commit(log: WriteAheadLog, *entries: bytes) -> int:
    """Commit entries as one unit."""
    unit = await log.begin()
    for entry in entries:
        await log.write_entry(unit, entry)
    return await log.commit(unit)


async def held(log: WriteAheadLog, *, after: int = 0) -> list[tuple[int, bytes]]:
    """List what a log would give back."""
    return [(entry.seq, entry.data) async for entry in log.recover(after=after)]
