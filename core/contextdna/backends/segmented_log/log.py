"""Opening a log in a folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from contextdna.backends.grouped_log import GroupedLog, open_grouped
from contextdna.backends.segmented_log.segments import Segments
from contextdna.ports.write_ahead_log import Sealer

SEGMENT_BYTES: Final = 16 * 1024 * 1024


@asynccontextmanager
async def open_segmented_log(
    folder: Path,
    *,
    sealer: Sealer | None = None,
    segment_bytes: int = SEGMENT_BYTES,
    size_bytes_max: int = 0,
) -> AsyncIterator[GroupedLog]:
    """Open a log and own it; a new one is made in an empty folder, a torn tail of an old one is cut off.

    Args:
        folder: For the log alone; made with 0700, its files with 0600.
        sealer: Seals each entry; without one what the entries hold lies there as it is.
        segment_bytes: From this size on, a file is followed by the next.
        size_bytes_max: Commits that would make the log larger are refused with ``log_full``; 0 sets no bound.

    Raises:
        StorageUnavailable: ``log_in_use``, ``log_newer``, or the folder cannot be used.
        IntegrityFault: ``log_damaged``. Nothing was changed.
    """
    open_files = partial(Segments, folder, sealer=sealer, segment_bytes=segment_bytes, size_bytes_max=size_bytes_max)
    async with open_grouped(open_files) as log:
        yield log
