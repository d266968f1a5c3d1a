"""Which writes of a slot are over, done or set aside, though one before them waits: noted beside the slot's log.

The log forgets from its beginning on only. By the note they are neither done again nor counted as waiting, by whatever
process looks next; one that is missing changes nothing of what is stored.
"""

from pathlib import Path
from typing import Final

import anyio.to_thread

from contextdna.backends.folders import write_whole
from contextdna.hub.own_writes import place_of
from contextdna.hub.writes_aside import storage_errors
from contextdna.values.log_entry import LogEntry

_FILE: Final = "ahead"
_KEPT_AFTER: Final = 32  # each time costs a flush to the disk, and writes all of them


class DoneAhead:
    """What is over in one slot, behind writes that wait.

    Args:
        folder: Of the slot.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._marks: set[str] = set()
        self._kept: set[str] = set()

    def __contains__(self, entry: LogEntry) -> bool:
        """Tell whether a write is over."""
        return place_of(entry) in self._marks

    def __len__(self) -> int:
        """Count them."""
        return len(self._marks)

    async def load(self, log_id: str, *, after: int, last: int) -> None:
        """Read what any process has noted, as far as it is of a log and between two places of it.

        Raises:
            StorageUnavailable: It cannot be read.
        """
        self._kept = await anyio.to_thread.run_sync(read_ahead, self._folder)
        self._marks = {mark for mark in self._marks | self._kept if _is_within(mark, log_id, after=after, last=last)}

    async def add(self, entry: LogEntry) -> None:
        """Note that a write is over; on the disk when some have come together.

        Raises:
            StorageUnavailable: It cannot be written.
        """
        self._marks.add(place_of(entry))
        if len(self._marks - self._kept) >= max(_KEPT_AFTER, len(self._kept) // 4):
            await self.keep()

    def discard(self, entry: LogEntry) -> None:
        """Forget a write that the log has forgotten."""
        self._marks.discard(place_of(entry))

    async def keep(self) -> None:
        """Have on the disk what is known.

        Raises:
            StorageUnavailable: It cannot be written.
        """
        if self._marks != self._kept:
            marks = set(self._marks)
            await anyio.to_thread.run_sync(_write, self._folder, marks)
            self._kept = marks


def count_ahead(marks: set[str], log_id: str, *, after: int, last: int) -> int:
    """Count what is over between two places of a log, of what ``read_ahead`` gave."""
    return sum(_is_within(mark, log_id, after=after, last=last) for mark in marks)


def read_ahead(folder: Path) -> set[str]:
    """Read what is noted in the folder of a slot, whoever owns it.

    Raises:
        StorageUnavailable: It cannot be read.
    """
    try:
        with storage_errors():
            return set((folder / _FILE).read_text("utf-8", "replace").splitlines())
    except FileNotFoundError:
        return set()


def _is_within(mark: str, log_id: str, *, after: int, last: int) -> bool:
    of_log, _, rest = mark.partition(".")
    seq = rest.partition(".")[0]
    return of_log == log_id and seq.isdecimal() and after < int(seq) <= last


def _write(folder: Path, marks: set[str]) -> None:
    with storage_errors():
        if marks:
            write_whole(folder / _FILE, "".join(f"{mark}\n" for mark in sorted(marks)).encode())
        else:
            (folder / _FILE).unlink(missing_ok=True)
