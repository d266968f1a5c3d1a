"""Fixtures for the tests of the client."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.client.rig import FaultyServer

PROGRAM = Path(__file__).with_name("faulty_server.py")


@pytest.fixture(scope="session")
def waiting() -> Iterator[Path]:
    """Keep a process from which servers are forked; give its socket."""
    with TemporaryDirectory() as folder:  # the path of a socket is short
        path = Path(folder) / "servers"
        command = [sys.executable, "-P", str(PROGRAM), str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == b"ready\n"
            yield path


@pytest.fixture
def server(tmp_path: Path, waiting: Path) -> FaultyServer:
    """Give a server on a folder of its own."""
    return FaultyServer(tmp_path, waiting)
