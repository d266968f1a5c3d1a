"""The files of a segmented log: names, the owner's lock, durable writes, errors of the disk."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from contextdna.backends import owner
from contextdna.backends.folders import flush_folder, make_folder
from contextdna.backends.log_entries import damaged, in_use
from contextdna.errors import StorageUnavailable

_SUFFIX: Final = ".wal"
_DIGITS: Final = 20
_NEW: Final = ".new"
_OWNER: Final = "owner"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM})
_BINARY: Final = getattr(os, "O_BINARY", 0)  # Windows would else change line ends


def own(folder: Path) -> int:
    """Make a log's folder and become its one owner; the system lets go when the process ends.

    Raises:
        StorageUnavailable: ``log_in_use``, or the folder cannot be made.
    """
    with disk_errors():
        make_folder(folder)
        try:
            return owner.own(folder / _OWNER)
        except BlockingIOError as error:
            raise in_use() from error


def segments_in(folder: Path) -> dict[int, Path]:
    """Find the segments, by the number of the first entry that each may hold, in order.

    Raises:
        IntegrityFault: ``log_damaged``: a name is none of ours.
    """
    found = {}
    with disk_errors():
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            if not path.stem.isdecimal() or len(path.stem) != _DIGITS:
                raise damaged(f"the file {path.name} is no segment")
            found[int(path.stem)] = path
    return found


def drop_unfinished(folder: Path) -> None:
    """Remove segments whose making was cut short; nothing was ever written to them."""
    with disk_errors():
        for path in folder.glob(f"*{_NEW}"):
            path.unlink()


def create_segment(folder: Path, first_seq: int, head: bytes) -> tuple[Path, int]:
    """Make a segment durably, whole or not at all, and open it for writing."""
    path = folder / f"{first_seq:0{_DIGITS}}{_SUFFIX}"
    unfinished = path.with_suffix(_NEW)
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC | _BINARY, 0o600)
    try:
        write_all(descriptor, head)
        os.fsync(descriptor)
        if os.name == "nt":  # an open file has no other name there
            os.close(descriptor)
            unfinished.replace(path)
            descriptor = open_segment(path, len(head))
        else:
            unfinished.replace(path)
        flush_folder(folder)
    except BaseException:
        os.close(descriptor)
        raise
    return path, descriptor


def open_segment(path: Path, size: int) -> int:
    """Open a segment to write on behind its good part, now durable; what lies behind that is cut off."""
    descriptor = os.open(path, os.O_RDWR | _BINARY)
    try:
        if os.fstat(descriptor).st_size != size:
            os.ftruncate(descriptor, size)
        os.fsync(descriptor)  # what is there and good may have been written but not flushed
        os.lseek(descriptor, size, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_all(descriptor: int, data: bytes) -> None:
    """Write on, all of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def remove(paths: list[Path], folder: Path) -> None:
    """Remove segments, the oldest first, so that what is left never has a gap."""
    for path in paths:
        path.unlink(missing_ok=True)
    if paths:
        flush_folder(folder)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raise in our tree what an error of the disk means."""
    try:
        yield
    except OSError as error:
        raise disk_error(error) from error


def disk_error(error: OSError, *, of: str = "write-ahead log") -> StorageUnavailable:
    """Say in our tree what an error of the disk means. The message names no path: it may reach an agent."""
    if error.errno in _FULL:
        return StorageUnavailable(
            f"the disk of the {of} is full",
            code="storage_full",
            hint="Free some space, then retry.",
            retryable=True,
        )
    if error.errno == errno.EROFS:
        return StorageUnavailable(f"the disk of the {of} is read-only", code="storage_read_only", hint="Remount it.")
    if error.errno in _DENIED:
        return StorageUnavailable(
            f"the folder of the {of} denies access",
            code="storage_denied",
            hint="Give the user that runs the server read and write access to the folder.",
        )
    return StorageUnavailable(
        f"the disk of the {of} failed ({errno.errorcode.get(error.errno or 0, 'unknown error')})",
        code="storage_io_error",
        hint="Check the disk and the system log, then start the server again.",
    )
