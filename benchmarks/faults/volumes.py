"""Small file systems of one's own, to be full for a while. Linux, and the right to mount."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BALLAST = "ballast"
_PIECES_BYTES = (1 << 20, 4096)


class Volume:
    """A folder that may be a file system of its own; only such a one is ever filled."""

    def __init__(self, folder: Path, *, is_own: bool) -> None:
        self.folder = folder
        self.is_own = is_own

    def fill(self) -> None:
        """Take all the space that is left.

        Raises:
            RuntimeError: The folder lies on a file system of others.
        """
        if not self.is_own:
            raise RuntimeError("a file system of others is not filled")
        with (self.folder / _BALLAST).open("ab", buffering=0) as ballast:
            for size in _PIECES_BYTES:
                with contextlib.suppress(OSError):
                    while ballast.write(bytes(size)) == size:
                        pass

    def empty(self) -> None:
        """Give the space back."""
        (self.folder / _BALLAST).unlink(missing_ok=True)


@contextmanager
def small_volume(size_mib: int) -> Iterator[Volume]:
    """Give a file system in memory, or where none may be mounted a plain folder."""
    folder = Path(tempfile.mkdtemp(prefix="cdna-faults-"))
    folder.chmod(0o755)
    is_own = _mounted(folder, size_mib)
    try:
        yield Volume(folder, is_own=is_own)
    finally:
        if is_own:
            subprocess.run(["umount", "--lazy", folder], check=False)  # noqa: S603, S607 - ours
        shutil.rmtree(folder, ignore_errors=True)


def _mounted(folder: Path, size_mib: int) -> bool:
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    command: list[str | Path] = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=755", "tmpfs", folder]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603 - ours
