"""A PostgreSQL server of a test's own, which may be killed, stopped and started again."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

from tests.servers.kept import CannotRun, give_up
from tests.servers.postgres import run_elsewhere
from tests.servers.postgres_cluster import INITDB, SETTINGS, make_cluster

_ROLE: Final = "contextdna"
_SETTINGS: Final = {**SETTINGS, "synchronous_commit": "on", "full_page_writes": "on"}
"""What it has answered outlives it, though not the machine."""


class OwnPostgres:
    """One server; ``start`` after ``kill`` recovers as after a crash."""

    def __init__(self, folder: Path) -> None:
        self._cluster = make_cluster(folder)
        self._cluster.run("initdb", *INITDB)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where a database of the product's is."""
        return f"postgresql://{_ROLE}@/{_ROLE}?host={quote(str(self._cluster.folder))}"

    def prepare(self) -> None:
        """Make the role and the database."""
        script = [f"CREATE ROLE {_ROLE} LOGIN", f"CREATE DATABASE {_ROLE} OWNER {_ROLE}"]
        run_elsewhere(self._cluster.url, script)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = self._cluster.start(_SETTINGS)

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
        try:
            server = OwnPostgres(Path(folder))
            server.start()
        except CannotRun as why:
            give_up("PostgreSQL", why)
        try:
            server.prepare()
            yield server
        finally:
            server.wake()
            server.kill()
