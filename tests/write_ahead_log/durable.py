"""In-memory databases over a log in files, and what is in them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from contextdna.backends.in_memory import DurableInMemoryDatabase, open_durable
from contextdna.backends.in_memory.sheets import Sheets
from contextdna.backends.segmented_log import SnapshotFolder, open_segmented_log


@asynccontextmanager
async def open_durable_folder(
    folder: Path, *, checkpoint_bytes: int = 20_000, segment_bytes: int = 8_000
) -> AsyncIterator[DurableInMemoryDatabase]:
    """Open the database that a folder holds; small bounds, so that a few units reach them."""
    snapshots = SnapshotFolder(folder / "snapshots")
    async with (
        open_segmented_log(folder / "log", segment_bytes=segment_bytes) as log,
        open_durable(log, snapshots, checkpoint_bytes=checkpoint_bytes) as database,
    ):
        yield database


def rows(sheets: Sheets) -> dict[str, list[Any]]:
    """Give all rows with their keys, in their order."""
    return {field.name: list(getattr(sheets, field.name).rows.items()) for field in fields(sheets)}
