"""Where the sockets of an installation's servers are, and that they are its own.

What answers at such a socket is sent requests with their credentials. A path in a folder that others may write to can
be theirs: made before ours, or put in its place. So a socket counts only in a folder of this user that nobody else may
enter.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import Final

from contextdna import SettingsInvalid

FOLDER_MODE: Final = 0o700
_SOCKET_PATH_BYTES_MAX: Final = 104  # macOS has four fewer


def socket_path(folder: Path, server: str) -> Path:
    """Give a server's socket. In the data folder, unless its path is too long for a socket: then in a folder beside.

    Source: unix(7): a socket's path has at most 108 bytes with its end.
    """
    path = folder / f"{server}.sock"
    if len(str(path).encode()) < _SOCKET_PATH_BYTES_MAX:
        return path
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"contextdna-{digest}" / path.name


def make_private(folder: Path) -> None:
    """Make a folder that is this user's alone, or see that it is; one of this user's is closed to the others.

    Raises:
        SettingsInvalid: ``peer_folder_unsafe``.
    """
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        if _is_own_folder(folder.lstat()):
            folder.chmod(FOLDER_MODE)
    except OSError:
        pass  # it is judged by what is there
    if not is_private(folder):
        raise SettingsInvalid(
            "the folder for the sockets of this installation's servers is not of this user alone",
            code="peer_folder_unsafe",
            hint=f"Remove {folder}, or see who made it; a data folder with a shorter path needs none elsewhere.",
        )


def is_private(folder: Path) -> bool:
    """Tell whether a folder is this user's, and nobody else may enter it."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return _is_own_folder(status) and not status.st_mode & 0o077


def is_own_socket(path: Path) -> bool:
    """Tell whether a socket is this user's, in a folder of this user's alone."""
    if sys.platform == "win32" or not is_private(path.parent):
        return False
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid()


def _is_own_folder(status: os.stat_result) -> bool:
    return sys.platform != "win32" and stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
