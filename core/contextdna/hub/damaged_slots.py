"""Slots of the spool that cannot be opened: counted, told of once, read as far as they can be, and left as they are.

One is damaged, or its disk does not give it, or a newer version wrote it: none of these keeps the others waiting.
"""

import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import anyio.to_thread

from contextdna.backends.folders import flush_folder
from contextdna.backends.segmented_log import LogView, look_into_log
from contextdna.backends.segmented_log.files import disk_errors, write_all
from contextdna.errors import ContextDnaError, IntegrityFault
from contextdna.ports.write_ahead_log import Sealer
from contextdna.values.log_entry import LogEntry

logger = logging.getLogger(__name__)

_STORED: Final = "stored"
"""File of a damaged slot: which log of it was read up to its damage, and up to which entry all was done."""


class DamagedSlots:
    """The slots that were found damaged, or could not be read.

    Args:
        folder: Of all slots.
        sealer: Opens what can be read of them.
    """

    def __init__(self, folder: Path, sealer: Sealer) -> None:
        self._folder = folder
        self._sealer = sealer
        self._codes: dict[int, str] = {}

    @property
    def count(self) -> int:
        """How many there are, as far as is known."""
        return len(self._codes)

    @property
    def problem(self) -> str:
        """Code of what is wrong with one of them; empty where there is none."""
        return next(iter(self._codes.values()), "")

    def note(self, slot: int, fault: ContextDnaError) -> None:
        """Note that one cannot be opened; it is logged when that is new."""
        if self._codes.get(slot) == fault.code:
            return
        self._codes[slot] = fault.code
        text = "slot %d of the spool cannot be read: %s [%s]; it is left as it is, and looked at again"
        if isinstance(fault, IntegrityFault):
            text = "slot %d of the spool is damaged: %s [%s]; what can be read of it is stored, and it is left as it is"
        logger.error(text, slot, fault.message, fault.code)

    def clear(self, slot: int) -> None:
        """Note that one can be opened, or is gone."""
        self._codes.pop(slot, None)

    async def look(self, slot: int) -> LogView | None:
        """Look into a slot; None where it is not damaged, or all that can be read of it was done.

        Raises:
            StorageUnavailable: It cannot be read.
        """
        folder = self._folder / str(slot)
        view = await anyio.to_thread.run_sync(look_into_log, folder)
        if view.damage is None or await anyio.to_thread.run_sync(is_read_up, folder, view):
            return None
        return view

    async def readable(self, view: LogView) -> AsyncIterator[LogEntry]:
        """Give the entries before the damage, in order.

        Raises:
            IntegrityFault: ``wrong_key``.
            StorageUnavailable: It cannot be read.
        """
        for number in range(len(view.segments)):
            for entry in await anyio.to_thread.run_sync(view.page, number, self._sealer):
                yield entry

    async def all_stored(self, slot: int, view: LogView) -> None:
        """Note durably that all that can be read was done.

        Raises:
            StorageUnavailable: It cannot be written; then it is done again, which changes nothing.
        """
        await anyio.to_thread.run_sync(self._keep_mark, slot, _mark(view))

    def _keep_mark(self, slot: int, text: str) -> None:
        folder = self._folder / str(slot)
        with disk_errors():
            descriptor = os.open(folder / _STORED, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                write_all(descriptor, text.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            flush_folder(folder)


def is_read_up(folder: Path, view: LogView) -> bool:
    """Tell whether all that can be read of a damaged slot was done.

    Raises:
        StorageUnavailable: It cannot be read.
    """
    path = folder / _STORED
    with disk_errors():
        return path.exists() and path.read_text() == _mark(view)


def _mark(view: LogView) -> str:
    return f"{view.log_id.hex()}.{view.last_seq}"
