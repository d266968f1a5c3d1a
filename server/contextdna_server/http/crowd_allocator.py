"""Where objects get their memory from while many streams are open: from the C library, which can give it back.

Python's own allocator is quicker, by 6 to 12 % of what a call computes, and keeps a whole MiB for the sake of one
object that is left in it: most of what a thousand streams took stays taken. The C library gives back every page that is
empty (``returned_memory``). So few streams are served with the one, and a crowd with the other, as all of a process
would be with ``PYTHONMALLOC=malloc``.

Source: docs/decisions/0034; https://docs.python.org/3/c-api/memory.html#customize-memory-allocators.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any, Final

CROWD_MIN: Final = 80
"""So many open streams are a crowd, and half of them no longer."""

# Of PyMemAllocatorDomain.
_RAW: Final = 0
_OBJECT_DOMAINS: Final = (1, 2)

Switch = Callable[[bool], None]


class CrowdAllocator:
    """Chooses the allocator by how many streams are open.

    Args:
        switch: Told to use the C library's, or Python's own again; None where the two cannot be exchanged.
    """

    def __init__(self, switch: Switch | None = None) -> None:
        self._switch = switch
        self._is_crowd = False

    def note(self, streams: int) -> None:
        """Take note of how many are open now."""
        if self._is_crowd:
            if streams < CROWD_MIN // 2:
                self._use(is_crowd=False)
        elif streams >= CROWD_MIN:
            self._use(is_crowd=True)

    def _use(self, *, is_crowd: bool) -> None:
        self._is_crowd = is_crowd
        if self._switch is not None:
            self._switch(is_crowd)


class _Allocator(ctypes.Structure):
    """PyMemAllocatorEx."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")]


def allocator_switch() -> Switch | None:
    """Give what exchanges the allocators of this process; None where nothing is gained, or it cannot be done.

    It is for Linux with glibc, and a Python with its usual allocator and lock: not with ``PYTHONMALLOC``, in
    development mode, or while ``tracemalloc`` traces.
    """
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        return None
    name = getattr(ctypes.pythonapi, "_PyMem_GetCurrentAllocatorName", None)
    if name is None:
        return None
    name.restype = ctypes.c_char_p
    if name() != b"pymalloc":
        return None
    raw, *own = (_allocator_of(domain) for domain in (_RAW, *_OBJECT_DOMAINS))
    # Blocks of either are resized and freed by Python's own, which knows its arenas and passes on the rest.
    mixed = [_Allocator(python.ctx, raw.malloc, raw.calloc, python.realloc, python.free) for python in own]

    def switch(is_crowd: bool) -> None:
        before, after = (own, mixed) if is_crowd else (mixed, own)
        for domain, old, new in zip(_OBJECT_DOMAINS, before, after, strict=True):
            if bytes(_allocator_of(domain)) == bytes(old):  # else tracemalloc has begun meanwhile
                ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(new))

    return switch


def _allocator_of(domain: int) -> Any:
    found = _Allocator()
    ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(found))
    return found
