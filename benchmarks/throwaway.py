"""Servers that a benchmark starts for itself where it is given none: as durable as by default, and gone afterwards."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.servers.kept import CannotRun
from tests.servers.postgres_cluster import unprivileged_user, usable_binaries
from tests.servers.redis import own_server

_START_S = 30.0
_ROLE = "benchmark"
_OPTIONS = {"listen_addresses": "", "shared_buffers": "256MB", "max_connections": "100"}


@dataclass(frozen=True, slots=True)
class Engine:
    """A database server."""

    url: str = ""
    pid: int = 0
    """Of the server's first process; 0 where it is not ours."""

    def cpu_s(self) -> float:
        """Give the CPU time that it has taken with all its processes; 0 where that cannot be told."""
        if not self.pid or not Path("/proc/self/stat").exists():
            return 0.0
        return sum(map(self._cpu_s_of, Path("/proc").glob("[0-9]*/stat"))) / os.sysconf("SC_CLK_TCK")

    def _cpu_s_of(self, stat: Path) -> int:
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return 0  # it has ended: the first process counts it
        if stat.parent.name == str(self.pid):
            return sum(map(int, fields[11:15]))
        return sum(map(int, fields[11:13])) if fields[1] == str(self.pid) else 0


@contextmanager
def postgresql(given: str) -> Iterator[Engine]:
    """Give an empty database: what was given, or that of a server of the block's own.

    Raises:
        RuntimeError: None can be started.
    """
    if given:
        yield Engine(given)
        return
    with tempfile.TemporaryDirectory(prefix="cdna-pg-") as name:  # short: a socket's path has at most 107 bytes
        folder = Path(name)
        folder.chmod(0o755)
        try:
            server = _started(folder)
        except (CannotRun, OSError, subprocess.SubprocessError) as error:
            raise RuntimeError(f"no PostgreSQL server can be started; name one with --database ({error})") from None
        try:
            yield Engine(f"postgresql://{_ROLE}@/{_ROLE}?host={quote(name)}", server.pid)
        finally:
            server.terminate()
            server.wait(_START_S)


@contextmanager
def redis(given: str) -> Iterator[str]:
    """Give the URL of a Redis server: what was given, or one of the block's own."""
    if given:
        yield given
        return
    with own_server() as server:
        yield server.url


def _started(folder: Path) -> subprocess.Popen[bytes]:
    user = unprivileged_user()
    binaries = usable_binaries(folder, user)
    data = folder / "data"
    data.mkdir(mode=0o700)
    if user:
        for owned in (folder, data):
            shutil.chown(owned, user)
    options = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    initdb = [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"]
    subprocess.run(initdb, check=True, **options)  # type: ignore[call-overload]  # noqa: S603 - ours
    settings = [f"-c{name}={value}" for name, value in _OPTIONS.items()]
    server: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]  # noqa: S603 - ours
        [binaries / "postgres", "-D", data, "-k", folder, *settings], **options
    )
    _make_database(folder)
    return server


def _make_database(folder: Path) -> None:
    """Make a role that is no superuser, and its database, as soon as the server answers."""
    import asyncpg

    async def make() -> None:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                connection = await asyncpg.connect(f"postgresql://postgres@/postgres?host={quote(str(folder))}")
                break
            except (OSError, asyncpg.PostgresError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)
        await connection.execute(f"CREATE ROLE {_ROLE} LOGIN")
        await connection.execute(f"CREATE DATABASE {_ROLE} OWNER {_ROLE} TEMPLATE template0 ENCODING 'UTF8'")
        await connection.close()

    asyncio.run(make())
