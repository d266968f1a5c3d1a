"""Gives memory back to the system when many connections have gone: the C library keeps what was freed for itself.

How much that is depends on Python's own allocator, which keeps whole arenas for the sake of one object in each; with
``PYTHONMALLOC=malloc`` in the environment all of it goes back.
"""

from __future__ import annotations

import ctypes
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
        count: Tells how many requests and sessions are open.
        give_back: Returns the memory; it may take some milliseconds, in a thread.
    """

    def __init__(self, count: Callable[[], int], *, give_back: Callable[[], None] | None = None) -> None:
        self._count = count
        self._give_back = give_back or _trim
        self._most = 0

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await anyio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Count once; return memory where many have gone since the count was highest."""
        now = self._count()
        if self._most - now >= GONE_MIN:
            await anyio.to_thread.run_sync(self._give_back)
            self._most = now
        self._most = max(self._most, now)


def _trim() -> None:
    """Return free pages of the heap. Source: malloc_trim(3); other systems than Linux with glibc have none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
