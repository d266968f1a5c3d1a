"""Gives memory back to the system when many connections have gone, or the process has grown.

Some of it is in cycles, which wait for the collector, and what is freed the C library keeps for itself.

What Python's own allocator holds stays there, which is why a crowd is served without it (``crowd_allocator``).
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio

LOOK_S: Final = 10.0
"""How often the open requests and sessions are counted."""

GONE_MIN: Final = 100
"""So many fewer than there were are worth it: they took some 5 MB."""

GROWN_BYTES_MIN: Final = 64 * 1024 * 1024
"""So much more than it took once is worth it: a few large answers take that, too."""

PAUSE_LOOKS_MAX: Final = 64
"""Looks between two attempts, where what has grown is still needed."""

_STATM: Final = Path("/proc/self/statm")


class MemoryReturn:
    """Watches how much is open and what the process takes, and returns memory when much of it may be free.

    Args:
        most: Tells how many requests, sessions and calls on streams were open at the same time since it was asked last.
        give_back: Returns the memory; it may take some milliseconds.
        taken: Tells how many bytes the process takes; 0 where that is not known.
    """

    def __init__(
        self,
        most: Callable[[], int],
        *,
        give_back: Callable[[], None] | None = None,
        taken: Callable[[], int] | None = None,
    ) -> None:
        self._most = most
        self._give_back = give_back or _collect_and_trim
        self._taken = taken or _resident_bytes
        self._highest = 0
        self._least: int | None = None
        self._pause = self._looks = self._tried = 0

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await anyio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Ask once; return memory where many fewer are open than when it was returned last, or later, or it has grown.

        What has grown may still be needed, and go later: it is tried again, each time after twice as many looks, or
        when it has grown as much once more.
        """
        most = self._most()
        have_gone = self._highest - most >= GONE_MIN
        if self._has_grown() or have_gone:
            await anyio.to_thread.run_sync(self._give_back)
        if have_gone:
            self._highest = most
        self._highest = max(self._highest, most)

    def _has_grown(self) -> bool:
        taken = self._taken()
        self._least = taken if self._least is None else min(self._least, taken)
        if taken - self._least < GROWN_BYTES_MIN:
            self._pause = self._looks = 0
            return False
        if taken - self._tried >= GROWN_BYTES_MIN:
            self._pause = self._looks = 0
        self._looks += 1
        if self._looks <= self._pause:
            return False
        self._pause = min(max(2 * self._pause, 1), PAUSE_LOOKS_MAX)
        self._looks = 0
        self._tried = taken
        return True


def _resident_bytes() -> int:
    """Ask the system what the process takes. Source: proc_pid_statm(5)."""
    if sys.platform != "linux":
        return 0
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _collect_and_trim() -> None:
    """Return free pages of the heap. Source: malloc_trim(3); other systems than Linux with glibc have none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        gc.collect()
        trim(0)
