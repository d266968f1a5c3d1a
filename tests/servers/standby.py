"""A streaming standby of the tests' own PostgreSQL server: one for all processes of a run, for one test at a time."""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

import pytest

from tests.servers.kept import CannotRun, folder_of_run, give_up, started_once
from tests.servers.postgres import URL_VARIABLE, postgres_url, run_elsewhere
from tests.servers.postgres_cluster import INITDB, SETTINGS, make_cluster

_SETTINGS: Final = {
    **SETTINGS,
    "hot_standby": "on",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "50ms",
    "max_standby_streaming_delay": "200ms",
}
_COPY: Final = ("-U", "postgres", "-R", "-c", "fast", "--no-sync")


@contextmanager
def standby_url() -> Iterator[str]:
    """Give the URL of a standby that nobody else uses meanwhile, without the name of a database.

    Where none can run, the test is skipped, or fails with ``CI`` set.
    """
    if URL_VARIABLE in os.environ:
        pytest.skip("a standby is made of the tests' own PostgreSQL server only")
    try:
        url = _url()
    except CannotRun as why:
        give_up("a PostgreSQL standby", why)
    with (_folder() / "turn").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            yield url
        finally:
            run_elsewhere(url, ["SELECT pg_wal_replay_resume()"])


def at_standby(database_url: str, standby: str) -> str:
    """Give the URL of a database, with the role of another URL, at a standby."""
    there, place = urlsplit(database_url), urlsplit(standby)
    return urlunsplit((there.scheme, there.netloc, there.path, place.query, ""))


def _folder() -> Path:
    return folder_of_run("standby")


@cache
def _url() -> str:
    primary = Path(parse_qs(urlsplit(postgres_url()).query)["host"][0])

    def start(folder: Path) -> str:
        cluster = make_cluster(folder)
        cluster.run("pg_basebackup", "-h", primary, *_COPY)
        return cluster.start_kept(_SETTINGS)

    return started_once(_folder(), start)


class Pair:
    """A primary and its standby of one test's own, to be killed and started again.

    Args:
        folder: Where they lie; its path is short, for their sockets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        one = make_cluster(folder / "one")
        two = make_cluster(folder / "two", like=one)
        self._clusters = {"one": one, "two": two}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        one.run("initdb", *INITDB)
        self.start("one")
        two.run("pg_basebackup", "-h", one.folder, *_COPY)
        self.start("two")

    def add_standby(self, name: str) -> None:
        """Make and start another standby of the first."""
        one = self._clusters["one"]
        another = self._clusters[name] = make_cluster(self.folder / name, like=one)
        another.run("pg_basebackup", "-h", one.folder, *_COPY)
        self.start(name)

    def keep_copy(self, name: str) -> Path:
        """Copy the data of one that does not run."""
        copy = self.folder / f"copy of {name}"
        subprocess.run(["cp", "-a", self._clusters[name].data, copy], check=True)  # noqa: S607 - it keeps owners
        return copy

    def put_back(self, name: str, copy: Path) -> None:
        """Give one that does not run the data of a copy."""
        data = self._clusters[name].data
        shutil.rmtree(data)
        copy.rename(data)

    def url(self, *names: str) -> str:
        """Give the URL of one of them, or of whichever is the primary of several."""
        hosts = ",".join(str(self.folder / name) for name in names)
        finding = "&target_session_attrs=primary" if len(names) > 1 else ""
        return f"postgresql://postgres@/postgres?host={quote(hosts, safe='/,')}{finding}"

    def start(self, name: str) -> None:
        """Start one, and wait until it answers."""
        self._running[name] = self._clusters[name].start(_SETTINGS)

    def kill(self, name: str) -> None:
        """End one at once, with its connections."""
        self._running[name].send_signal(signal.SIGQUIT)
        self._running.pop(name).wait()

    def close(self) -> None:
        """End what runs."""
        for name in list(self._running):
            self.kill(name)


@contextmanager
def own_pair() -> Iterator[Pair]:
    """Start a primary and a standby of one's own; where none can run, the test is skipped, or fails with ``CI`` set."""
    with tempfile.TemporaryDirectory(prefix="cdna-pair-") as folder:
        Path(folder).chmod(0o755)
        try:
            pair = Pair(Path(folder))
        except CannotRun as why:
            give_up("a PostgreSQL standby", why)
        try:
            yield pair
        finally:
            pair.close()
