"""A PostgreSQL server of a test's own, which may be killed, stopped and started again."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

from tests.servers.postgres import (
    SETTINGS,
    CannotRun,
    run_elsewhere,
    unprivileged_user,
    usable_binaries,
    wait_until_ready,
)

_ROLE: Final = "contextdna"
_SETTINGS: Final = {**SETTINGS, "synchronous_commit": "on", "full_page_writes": "on"}
"""What it has answered outlives it, though not the machine."""


class OwnPostgres:
    """One server; ``start`` after ``kill`` recovers as after a crash."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._user = unprivileged_user()
        self._binaries = usable_binaries(folder, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._data = folder / "data"
        self._data.mkdir(mode=0o700)
        if self._user:
            shutil.chown(folder, self._user)
            shutil.chown(self._data, self._user)
        arguments = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        made = subprocess.run(
            [self._binaries / "initdb", "-D", self._data, *arguments],
            user=self._user,
            cwd=folder,
            capture_output=True,
            check=False,
        )
        if made.returncode:
            raise CannotRun("initdb failed")

    @property
    def url(self) -> str:
        """Where a database of the product's is."""
        return f"postgresql://{_ROLE}@/{_ROLE}?host={quote(str(self._folder))}"

    def prepare(self) -> None:
        """Make the role and the database."""
        script = [f"CREATE ROLE {_ROLE} LOGIN", f"CREATE DATABASE {_ROLE} OWNER {_ROLE}"]
        run_elsewhere(f"postgresql://postgres@/postgres?host={quote(str(self._folder))}", script)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        arguments = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        self._process = subprocess.Popen(
            [self._binaries / "postgres", "-D", self._data, "-k", self._folder, *arguments],
            user=self._user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until_ready(self._folder)

    def kill(self) -> None:
        """End all of its processes at once."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def hang(self) -> None:
        """Stop all of its processes: connections stand, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        for pid in (self._process.pid, *_children(self._process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(path.parent.name))
    return found


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    """Give a running server; the test is skipped where none can run, or fails with ``CI`` set."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("the processes of a server are found in /proc only")
    with tempfile.TemporaryDirectory(prefix="contextdna-own-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        try:
            server = OwnPostgres(Path(folder))
            server.start()
        except CannotRun as why:
            if os.environ.get("CI"):
                pytest.fail(f"PostgreSQL cannot run here: {why}")
            pytest.skip(f"PostgreSQL cannot run here: {why}")
        try:
            server.prepare()
            yield server
        finally:
            server.wake()
            server.kill()
