"""Folders that outlast a loss of power: the files of every installation lie in some."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

PART_SUFFIX: Final = ".part"
"""Of the name under which a file is written before it is whole."""


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter, durably; its parents as they come."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    flush_folder(folder.parent)


def flush_folder(folder: Path) -> None:
    """Make names in a folder durable. Windows has no such call, and needs none: it journals names."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read: whole and durable under its name, or not at all."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PART_SUFFIX}")
    try:
        with open(part, "xb", opener=_open_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    flush_folder(path.parent)


def _open_private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
