"""The in-memory database of a data folder: its log and its snapshots lie in one folder there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from contextdna.backends.in_memory import DurableInMemoryDatabase, open_durable
from contextdna.backends.segmented_log import SnapshotFolder, open_segmented_log


@asynccontextmanager
async def open_memory_folder(folder: Path) -> AsyncIterator[DurableInMemoryDatabase]:
    """Open the in-memory database that a folder holds; a new one is made where there is none.

    Raises:
        StorageUnavailable: ``log_in_use``: another process has it open; or the folder cannot be used.
        IntegrityFault: ``log_damaged``.
    """
    snapshots = SnapshotFolder(folder / "snapshots")
    async with open_segmented_log(folder / "log") as log, open_durable(log, snapshots) as database:
        yield database
