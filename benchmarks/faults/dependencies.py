"""What a server leans on, started here on ports of its own: to be killed, stopped, filled and started again."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import boto3
import redis

from benchmarks.faults.relay import HOST, free_port, is_open
from benchmarks.footprint import processes_of
from tests.servers.postgres import run_elsewhere
from tests.servers.postgres_cluster import unprivileged_user, usable_binaries
from tests.servers.redis import redis_binary

_START_S = 60.0
_STOP_S = 20.0
BUCKET = "memory"
S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-benchmarks",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class Dependency(Protocol):
    """One that can be mistreated. All of these take as long as they take."""

    port: int

    def start(self) -> None:
        """Start it, with what it had on disk, and wait until it answers."""

    def stop(self) -> None:
        """End it as its operator does."""

    def kill(self) -> None:
        """End it at once."""

    def hang(self) -> None:
        """Let it answer nothing from now on, its connections open."""

    def wake(self) -> None:
        """Let it go on."""


class Program:
    """A program that listens on a port.

    Args:
        command: What runs.
        folder: Where its log is.
        environment: More of what it finds in its environment.
        user: Who runs it; None: whoever runs this.
        stopping: The signal that it ends well on.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        stopping: int = signal.SIGTERM,
    ) -> None:
        self._command = command
        self._folder = folder
        self._environment = {"PYTHONPATH": str(Path(__file__).parents[2]), **S3_ENVIRONMENT, **(environment or {})}
        self._user = user
        self._stopping = stopping
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, is_ready: Callable[[], bool]) -> None:
        """Start it, and wait until it is ready.

        Raises:
            RuntimeError: It ended, or did not get ready.
        """
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - ours
                self._command,
                user=self._user,
                cwd=self._folder,
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_S
        while not is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{Path(self._command[0]).name} did not start: {self.log[-300:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it well."""
        if self._process is not None:
            self._process.send_signal(self._stopping)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
            self._process = None

    def kill(self) -> None:
        """End it and all below it at once."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    @property
    def is_running(self) -> bool:
        """Whether it runs, as far as it has not given up by itself."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process; 0 where there is none."""
        return self._process.pid if self._process else 0

    @property
    def log(self) -> str:
        """What it said so far."""
        return (self._folder / "log").read_text(errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal to it and all below it."""
        if self._process is not None and self._process.poll() is None:
            for pid in sorted(processes_of(self._process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)


class _Served:
    """What all of them have: a port and a program."""

    def __init__(self, program: Program, port: int) -> None:
        self.port = port
        self._program = program

    def start(self) -> None:
        self._program.start(self._is_ready)

    def stop(self) -> None:
        self._program.stop()

    def kill(self) -> None:
        self._program.kill()

    def revive(self) -> None:
        """Start it where it has given up."""
        if not self._program.is_running:
            self.start()

    def hang(self) -> None:
        self._program.signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._program.signal(signal.SIGCONT)

    def _is_ready(self) -> bool:
        return is_open(self.port)


class PostgresServer(_Served):
    """PostgreSQL, with every promise of durability kept, on a disk as small as it gets along with."""

    SETTINGS: Final = {
        "shared_buffers": "32MB",
        "max_connections": "60",
        "min_wal_size": "16MB",
        "max_wal_size": "48MB",
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "log_min_messages": "fatal",
        "restart_after_crash": "on",
        "autovacuum_naptime": "1s",
    }

    def __init__(self, folder: Path) -> None:
        user = unprivileged_user()
        binaries = usable_binaries(folder, user)
        self._data = folder / "data"
        self._data.mkdir(mode=0o700)
        if user:
            shutil.chown(self._data, user)
        made: list[str | Path] = [binaries / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust"]
        made += ["-E", "UTF8", "--no-locale", "--no-sync", "--wal-segsize=4"]
        subprocess.run(made, user=user, cwd="/", check=True, capture_output=True)  # noqa: S603 - ours
        port = free_port()
        arguments = [f"-c{name}={value}" for name, value in {**self.SETTINGS, "port": str(port)}.items()]
        command: list[str | Path] = [binaries / "postgres", "-D", self._data, *arguments]
        super().__init__(Program(command, folder, user=user, stopping=signal.SIGINT), port)

    def make_database(self) -> None:
        """Make the role and the database of the product; the role is no superuser."""
        owned = ["CREATE ROLE contextdna LOGIN", "CREATE DATABASE contextdna OWNER contextdna"]
        run_elsewhere(f"postgresql://postgres@{HOST}:{self.port}/postgres", owned)

    def end_connections(self) -> None:
        """Let the server end all connections of the product, whatever they are doing."""
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'contextdna'"
        run_elsewhere(f"postgresql://postgres@{HOST}:{self.port}/postgres", [ended])

    def url(self, port: int) -> str:
        """Give the URL of the database through a port."""
        return f"postgresql://contextdna@{HOST}:{port}/contextdna"

    def _is_ready(self) -> bool:
        state = self._data / "postmaster.pid"
        with contextlib.suppress(OSError):
            return state.read_text().rstrip().endswith("ready") and is_open(self.port)
        return False


class RedisServer(_Served):
    """Redis, which keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        options = ["--save", "", "--appendonly", "no", "--maxmemory", "64mb", "--loglevel", "warning"]
        super().__init__(Program([redis_binary(), "--bind", HOST, "--port", str(port), *options], folder), port)

    def url(self, port: int) -> str:
        """Give its URL through a port."""
        return f"redis://{HOST}:{port}/0"

    @contextlib.contextmanager
    def _asked(self) -> Iterator[Any]:
        with redis.Redis(HOST, self.port, socket_timeout=5) as client:
            yield client

    def fill(self) -> None:
        """Let it have no memory for anything that is new."""
        with self._asked() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")

    def empty(self) -> None:
        """Let it have memory again."""
        with self._asked() as client:
            client.config_set("maxmemory", "64mb")


class S3Server(_Served):
    """What speaks S3, with its objects on disk."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.faults.s3_server", str(port), str(folder / "journal")]
        super().__init__(Program(command, folder), port)

    def make_bucket(self) -> None:
        """Make the product's bucket."""
        given = {name.lower(): value for name, value in S3_ENVIRONMENT.items() if "KEY" in name}
        client = boto3.client("s3", endpoint_url=f"http://{HOST}:{self.port}", region_name="us-east-1", **given)
        client.create_bucket(Bucket=BUCKET)

    def url(self, port: int) -> str:
        """Give the place of the artifacts through a port."""
        return f"s3://{BUCKET}/a?endpoint_url=http://{HOST}:{port}&region=us-east-1"

    def refuse(self, status: int) -> None:
        """Let it refuse whatever is to be put, with a status of HTTP."""
        self._tell({"bucket": BUCKET, "method": "PUT", "status": status, "times": 10**9})

    def accept(self) -> None:
        """Let it refuse nothing."""
        self._tell({"bucket": BUCKET, "clear": True})

    def _tell(self, fault: dict[str, Any]) -> None:
        told = json.dumps(fault).encode()
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/-/faults", data=told, timeout=5):
            pass
