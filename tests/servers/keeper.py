"""Keeps a server of the tests for as long as a test process holds the lock on a file, and removes its folder."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path


def keep(folder: Path, user: str, users: Path, command: list[str]) -> None:
    """Run a server until nobody holds the lock on ``users`` any more."""
    with users.open("a") as lock:
        with subprocess.Popen(command, user=user or None, cwd=folder, stdin=subprocess.DEVNULL) as server:
            fcntl.flock(lock, fcntl.LOCK_EX)
            server.send_signal(signal.SIGQUIT)  # at once: what it holds is removed
        shutil.rmtree(folder, ignore_errors=True)
        for name in (users, users.with_suffix(".start")):
            name.unlink(missing_ok=True)


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # whoever started this need not wait
    keep(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
