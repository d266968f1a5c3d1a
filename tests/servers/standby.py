"""A streaming standby of the tests' own PostgreSQL server: one for all processes of a run, for one test at a time."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

import pytest

from tests.servers.postgres import (
    SETTINGS,
    URL_VARIABLE,
    CannotRun,
    hold,
    locked,
    postgres_url,
    run_elsewhere,
    unprivileged_user,
    usable_binaries,
    wait_until_ready,
)

_SETTINGS: Final = {
    **SETTINGS,
    "hot_standby": "on",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "50ms",
    "max_standby_streaming_delay": "200ms",
}


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
        if os.environ.get("CI"):
            pytest.fail(f"a PostgreSQL standby cannot run here: {why}")
        pytest.skip(f"a PostgreSQL standby cannot run here, so nothing is known of replicas: {why}")
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
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{os.getpid()}"
    return Path(tempfile.gettempdir()) / f"contextdna-standby-{os.getuid()}-{run}"


@cache
def _url() -> str:
    primary = postgres_url()
    folder = _folder()
    hold(folder.with_suffix(".users"))
    with locked(folder.with_suffix(".start")):
        ready = folder / "url"
        if not ready.exists():
            ready.write_text(_start(folder, Path(parse_qs(urlsplit(primary).query)["host"][0])))
        return ready.read_text()


def _start(folder: Path, primary: Path) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    user = unprivileged_user()
    binaries = usable_binaries(folder, user)
    if not (binaries / "pg_basebackup").exists():
        raise CannotRun("there is no pg_basebackup beside the server")
    if user:
        shutil.chown(folder, user)
    data = folder / "data"
    made = subprocess.run(
        [binaries / "pg_basebackup", "-h", primary, "-U", "postgres", "-D", data, "-R", "-c", "fast", "--no-sync"],
        user=user,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise CannotRun(f"pg_basebackup failed: {made.stderr.strip()[-300:]}")
    arguments = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
    keeper = Path(__file__).with_name("keeper.py")
    command = [str(binaries / "postgres"), "-D", str(data), "-k", str(folder), *arguments]
    with (folder / "log").open("w") as log:
        subprocess.run(  # it goes on in the background
            [sys.executable, keeper, folder, user or "", folder.with_suffix(".users"), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            check=True,
        )
    wait_until_ready(folder)
    return f"postgresql://postgres@/postgres?host={quote(str(folder))}"


class Pair:
    """A primary and its standby of one test's own, to be killed and started again.

    Args:
        folder: Where they lie; its path is short, for their sockets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._user = unprivileged_user()
        if self._user:
            shutil.chown(folder, self._user)
        self._binaries = usable_binaries(folder, self._user)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._make("initdb", "-D", self._data("one"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start("one")
        self._make("pg_basebackup", "-h", folder / "one", "-U", "postgres", "-D", self._data("two"), "-R", "-c", "fast")
        self.start("two")

    def url(self, *names: str) -> str:
        """Give the URL of one of them, or of whichever is the primary of several."""
        hosts = ",".join(str(self.folder / name) for name in names)
        finding = "&target_session_attrs=primary" if len(names) > 1 else ""
        return f"postgresql://postgres@/postgres?host={quote(hosts, safe='/,')}{finding}"

    def start(self, name: str) -> None:
        """Start one, and wait until it answers."""
        (self._data(name) / "postmaster.pid").unlink(missing_ok=True)
        arguments = [f"-c{setting}={value}" for setting, value in _SETTINGS.items()]
        with (self.folder / name / "log").open("w") as log:
            self._running[name] = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data(name), "-k", self.folder / name, *arguments],
                user=self._user,
                cwd=self.folder,
                stderr=log,
            )
        wait_until_ready(self.folder / name)

    def kill(self, name: str) -> None:
        """End one at once, with its connections."""
        self._running[name].send_signal(signal.SIGQUIT)
        self._running.pop(name).wait()

    def close(self) -> None:
        """End what runs."""
        for name in list(self._running):
            self.kill(name)

    def _data(self, name: str) -> Path:
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir(mode=0o755)
            if self._user:
                shutil.chown(folder, self._user)
        return folder / "data"

    def _make(self, program: str, *arguments: str | Path) -> None:
        command = [self._binaries / program, *arguments]
        subprocess.run(command, user=self._user, cwd=self.folder, capture_output=True, check=True)


@contextmanager
def own_pair() -> Iterator[Pair]:
    """Start a primary and a standby of one's own."""
    with tempfile.TemporaryDirectory(prefix="cdna-pair-") as folder:
        Path(folder).chmod(0o755)
        try:
            pair = Pair(Path(folder))
        except CannotRun as why:
            pytest.skip(f"PostgreSQL cannot run here, so nothing is known of replicas: {why}")
        try:
            yield pair
        finally:
            pair.close()
