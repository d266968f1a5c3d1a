"""A streaming standby of the tests' own PostgreSQL server: one for all processes of a run, for one test at a time."""

import fcntl
import os
import shutil
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
