"""Gives memory back to the system when many connections have gone.

Some of it is in cycles, which wait for the collector, and what is freed the C library keeps for itself.

What Python's own allocator holds stays there, which is why a crowd is served without it (``crowd_allocator``).
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Final

import anyio

LOOK_S: Final = 10.0
"""How often the open requests and sessions are counted."""

GONE_MIN: Final = 100
"""So many fewer than there were are worth it: they took some 5 MB."""


class MemoryReturn:
    """Watches how much is open, and returns memory when much of it has gone.

    Args:
        most: Tells how many requests and sessions were open at the same time since it was asked last.
        give_back: Returns the memory; it may take some milliseconds.
    """

    def __init__(self, most: Callable[[], int], *, give_back: Callable[[], None] | None = None) -> None:
        self._most = most
        self._give_back = give_back or _collect_and_trim
        self._highest = 0

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await anyio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Ask once; return memory where there are many fewer than there were when it was returned last, or later."""
        most = self._most()
        if self._highest - most >= GONE_MIN:
            await anyio.to_thread.run_sync(self._give_back)
            self._highest = most
        self._highest = max(self._highest, most)


def _collect_and_trim() -> None:
    """Return free pages of the heap. Source: malloc_trim(3); other systems than Linux with glibc have none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        gc.collect()
        trim(0)
