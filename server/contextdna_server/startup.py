"""Starting: fast, as the garbage collector rests while modules are imported; and quiet when told to end meanwhile."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def collector_resting() -> Iterator[None]:
    """Do not look for garbage inside, nor ever again at what was made there.

    Importing the SDK makes some hundred thousand objects and hardly any garbage; going through them again and again
    took a fifth of a cold start.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


@contextmanager
def leaving_at_signals() -> Iterator[None]:
    """Let SIGTERM and SIGINT end the process at once with exit code 0, until an event loop takes them over.

    For as long as nothing is open that would have to be closed. An exception instead would surface anywhere in an
    import, which may swallow it. On Windows nothing is changed: there no event loop would take them over.
    """
    if sys.platform == "win32":
        yield
        return
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)
