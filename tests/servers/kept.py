"""A server that one process of a run starts and all of them use: its keeper ends it when the last of them is gone."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest


class CannotRun(Exception):
    """No server can be had here, and why."""


def give_up(what: str, why: CannotRun) -> NoReturn:
    """Skip a test whose server cannot run, or let it fail with ``CI`` set."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} cannot run here: {why}")
    pytest.skip(f"{what} cannot run here, so nothing is known of it: {why}")


def folder_of_run(name: str) -> Path:
    """Name the folder of a server for all processes of this run."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{os.getpid()}"
    return Path(tempfile.gettempdir()) / f"contextdna-{name}-{os.getuid()}-{run}"


def started_once(folder: Path, start: Callable[[Path], str]) -> str:
    """Give the URL of a server, started in its folder by whoever comes first, and kept until this process ends."""
    _hold(folder.with_suffix(".users"))
    with _locked(folder.with_suffix(".start")):
        told = folder / "told"
        if not told.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            told.write_text(start(folder))
        return told.read_text()


def keep(folder: Path, command: Sequence[str | Path], *, user: str | None = None) -> None:
    """Run a server in the background; what it says of faults goes to ``log`` in its folder."""
    keeper = Path(__file__).with_name("keeper.py")
    with (folder / "log").open("w") as log:
        subprocess.run(
            [sys.executable, keeper, folder, user or "", folder.with_suffix(".users"), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            check=True,
        )


_HELD: list[IO[Any]] = []


def _hold(path: Path) -> None:
    """Hold a shared lock until this process ends, however it ends: the keeper of the server waits for that."""
    file = path.open("a")
    fcntl.flock(file, fcntl.LOCK_SH)
    _HELD.append(file)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
