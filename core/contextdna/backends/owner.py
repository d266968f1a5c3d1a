"""Files that one process at a time has for itself."""

import os
from pathlib import Path


def own(path: Path) -> int:
    """Become the owner of a file, made where there is none; the system lets go when the process ends.

    Returns:
        A descriptor: closing it lets go.

    Raises:
        BlockingIOError: Another one owns it.
        OSError: It cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor)
    except OSError as error:
        os.close(descriptor)
        raise BlockingIOError(error.errno, "another process owns it") from error
    return descriptor


def _lock(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
