"""Looking at an installation without touching it: for doctor, and for commands that must not make one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from contextdna.backends.migrations import SchemaStatus, load_migrations
from contextdna.backends.relational.statements import load_statements
from contextdna.backends.relational.transaction import tables_over
from contextdna.backends.sqlite.driver import library, mapped_error
from contextdna.backends.sqlite.schema import DIALECT, read_status
from contextdna.backends.sqlite.units import ReadingExecutor, drive
from contextdna.errors import StorageUnavailable
from contextdna.hub.blob_stores import artifacts_place, require_s3_driver
from contextdna.hub.commons import redis_place, require_redis_driver
from contextdna.hub.opening import DATABASE_FILE, MEMORY_FOLDER, require_driver
from contextdna.ports.database import Transaction, Unit
from contextdna.values.ids import INSTALLATION, ProjectId
from contextdna.values.key import WrappedKey
from contextdna_server.settings import Settings

if TYPE_CHECKING:
    from contextdna.backends.postgres import Server, ServerFacts
    from contextdna.backends.redis import RedisFacts

R = TypeVar("R")

BUSY_TIMEOUT_S: Final = 5.0


class View(Protocol):
    """A database opened for looking only."""

    def ask(self, unit: Unit[R]) -> R:
        """Run a reading unit on one snapshot."""
        ...

    def schema(self) -> SchemaStatus:
        """Compare the schema with the migrations of this version."""
        ...


@dataclass(frozen=True, slots=True)
class FileView:
    """An SQLite file."""

    connection: Any

    def ask(self, unit: Unit[R]) -> R:
        """Run a reading unit on one snapshot.

        Raises:
            ContextDnaError: What the engine's error means.
        """
        try:
            self.connection.execute("BEGIN")
            try:
                answer: R = drive(unit, tables_over(ReadingExecutor(self.connection, load_statements(DIALECT))))
                return answer
            finally:
                self.connection.execute("COMMIT")
        except library.Error as error:
            raise mapped_error(error) from error

    def value(self, query: str) -> Any:
        """Fetch the first column of the first row.

        Raises:
            ContextDnaError: What the engine's error means.
        """
        try:
            row = self.connection.execute(query).fetchone()
        except library.Error as error:
            raise mapped_error(error) from error
        return row[0] if row else None

    def schema(self) -> SchemaStatus:
        """Compare the schema with the migrations of this version.

        Raises:
            StorageUnavailable: ``schema_newer``.
            IntegrityFault: ``migration_changed``, or the file is damaged.
        """
        try:
            return read_status(self.connection, load_migrations(DIALECT))
        except library.Error as error:
            raise mapped_error(error) from error


@dataclass(frozen=True, slots=True)
class ServerView:
    """A PostgreSQL database. Each look is a connection, on a thread of its own: a loop may be running in this one."""

    server: Server

    def ask(self, unit: Unit[R]) -> R:
        """Run a reading unit on one snapshot.

        Raises:
            ContextDnaError: What the server's error means.
        """
        from contextdna.backends.postgres import read_once

        return _finished(read_once(self.server, unit))

    def schema(self) -> SchemaStatus:
        """Compare the schema with the migrations of this version.

        Raises:
            StorageUnavailable: ``schema_newer``, or the server is away.
            IntegrityFault: ``migration_changed``.
        """
        from contextdna.backends.postgres import postgres_schema_status

        return _finished(postgres_schema_status(self.server))


@dataclass(frozen=True, slots=True)
class MemoryView:
    """The in-memory database that a write-ahead log keeps, while no server has it open."""

    folder: Path

    def ask(self, unit: Unit[R]) -> R:
        """Run a reading unit on what the log holds.

        Raises:
            ContextDnaError: ``log_in_use``: a server has it open; or it cannot be read.
        """
        from contextdna.backends.memory_folder import open_memory_folder

        async def run() -> R:
            async with open_memory_folder(self.folder) as database:
                return await database.read(unit)

        return _finished(run())

    def schema(self) -> SchemaStatus:
        """Tell that there is one: rows in memory know no versions but the newest."""
        return SchemaStatus(1, 1, (), ())

    def size_bytes(self) -> int:
        """Read all of it, and give how much it is.

        Raises:
            ContextDnaError: ``log_in_use``, or it is not what was written.
        """
        from contextdna.backends.memory_folder import open_memory_folder

        async def run() -> int:
            async with open_memory_folder(self.folder) as database:
                return (await database.status()).size_bytes

        return _finished(run())


def _finished(answer: Coroutine[Any, Any, R]) -> R:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, answer).result()


def project_ids(view: View) -> tuple[ProjectId, ...]:
    """List the projects."""

    async def unit(tx: Transaction) -> tuple[ProjectId, ...]:
        return tuple(sorted(project.id for project in await tx.projects.all()))

    return view.ask(unit)


def wrapped_keys(view: View) -> list[WrappedKey]:
    """List the wrapped project keys."""

    async def unit(tx: Transaction) -> list[WrappedKey]:
        return await tx.keys.all()

    return view.ask(unit)


def newest_entry_at(view: View) -> datetime | None:
    """Give the time of the newest entry among the ends of all audit chains."""

    async def unit(tx: Transaction) -> datetime | None:
        ends = [
            await tx.audit.latest(chain, before_seq=2**62, limit=1, action="", agent_id="", record_id="")
            for chain in await tx.audit.chains()
        ]
        return max((entry.draft.at for end in ends for entry in end), default=None)

    return view.ask(unit)


def server_of(settings: Settings) -> Server:
    """Give the PostgreSQL server of the settings.

    Raises:
        SettingsInvalid: ``driver_missing``.
    """
    require_driver()
    from contextdna.backends.postgres import Server

    own = settings.storage.postgres
    return Server(settings.storage.postgres_url, own.acquire_timeout_s, own.statement_timeout_s)


def facts_of(settings: Settings) -> ServerFacts:
    """Ask the PostgreSQL server of the settings about itself.

    Raises:
        ContextDnaError: It cannot be asked.
    """
    server = server_of(settings)
    from contextdna.backends.postgres import server_facts

    return _finished(server_facts(server))


def replica_problems(settings: Settings) -> list[str]:
    """Give for each replica of the settings the code of what keeps it from answering; empty where nothing does.

    Raises:
        SettingsInvalid: ``driver_missing``.
    """
    primary = server_of(settings)
    from contextdna.backends.postgres import standby_problem

    urls = settings.storage.postgres.to_postgres_settings().replicas
    return [_finished(standby_problem(replace(primary, url=url), primary=primary)) for url in urls]


@dataclass(frozen=True, slots=True)
class BucketFacts:
    """What there is to know about the bucket of the artifacts."""

    place: str
    latency_ms: float
    keeps_versions: bool
    is_secure: bool


def bucket_facts(settings: Settings) -> BucketFacts:
    """Ask the S3 of the settings about the bucket.

    Raises:
        ContextDnaError: It cannot be asked, or not be used.
    """
    require_s3_driver()
    hub_settings = settings.to_hub_settings()
    place = artifacts_place(hub_settings)

    async def ask() -> BucketFacts:
        from contextdna.backends.s3 import S3BlobStore, open_calls

        async with open_calls(place, hub_settings.s3) as calls:
            store = S3BlobStore(calls)
            await store.check()  # makes the client, too
            health = await store.health()
            is_secure = not place.endpoint_url.startswith("http://")
            return BucketFacts(place.place, health.latency_ms, await store.keeps_versions(), is_secure)

    return _finished(ask())


def redis_facts_of(settings: Settings) -> RedisFacts:
    """Ask the Redis of the settings about itself.

    Raises:
        SettingsInvalid: ``driver_missing`` or ``redis_url_invalid``.
        StorageUnavailable: It is away, or refuses us.
    """
    require_redis_driver()
    from contextdna.backends.redis import redis_facts

    return _finished(redis_facts(redis_place(settings.to_hub_settings())))


@contextmanager
def look_at(settings: Settings) -> Iterator[View]:
    """Open the database of an installation for reading, leaving everything as it is.

    Raises:
        StorageUnavailable: ``no_installation``, or it cannot be read.
        IntegrityFault: ``not_a_database``.
    """
    if settings.storage.postgres_url:
        yield ServerView(server_of(settings))
        return
    if settings.storage.is_in_memory:
        yield look_into_memory(settings)
        return
    with look_into(settings) as file:
        yield file


def look_into_memory(settings: Settings) -> MemoryView:
    """Look at the in-memory database that the data folder's log keeps.

    Raises:
        StorageUnavailable: ``no_installation``: it has none, or none is kept.
    """
    if not is_installed(settings):
        raise no_installation(settings)
    return MemoryView(settings.data / MEMORY_FOLDER)


@contextmanager
def look_into(settings: Settings) -> Iterator[FileView]:
    """Open the database of the data folder for reading, leaving every file as it is.

    Raises:
        StorageUnavailable: ``no_installation``, or the file cannot be read.
        IntegrityFault: ``not_a_database``.
    """
    path = settings.data / DATABASE_FILE
    if not path.exists():
        raise no_installation(settings)
    try:
        connection = library.connect(_uri(path), uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)
    except library.Error as error:
        raise mapped_error(error) from error
    try:
        connection.execute("PRAGMA query_only = 1")
        yield FileView(connection)
    except library.Error as error:
        raise mapped_error(error) from error
    finally:
        connection.close()


def is_installed(settings: Settings) -> bool:
    """Tell whether there is an installation.

    Raises:
        ContextDnaError: Its database cannot be asked.
    """
    if settings.storage.postgres_url:
        return ServerView(server_of(settings)).schema().current > 0
    if settings.storage.is_in_memory:
        return settings.storage.write_ahead and (settings.data / MEMORY_FOLDER).exists()
    return (settings.data / DATABASE_FILE).exists()


def has_keys(settings: Settings) -> bool:
    """Tell whether there is an installation that was ever opened: its keys come with that, its tables before.

    Raises:
        ContextDnaError: Its database cannot be asked.
    """
    if not is_installed(settings):
        return False
    with look_at(settings) as view:
        return view.schema().current > 0 and view.ask(lambda tx: tx.keys.generation(INSTALLATION)) > 0


def require_installation(settings: Settings) -> None:
    """Check that there is an installation.

    Raises:
        StorageUnavailable: ``no_installation``.
    """
    if not is_installed(settings):
        raise no_installation(settings)


def no_installation(settings: Settings) -> StorageUnavailable:
    """Make the error for a database that is not there, or empty."""
    if settings.storage.postgres_url:
        return StorageUnavailable(
            "there is no installation in the database that storage.database names",
            code="no_installation",
            hint="Name another one; `contextdna serve` makes a new installation.",
        )
    return StorageUnavailable(
        f"there is no installation in {settings.data}",
        code="no_installation",
        hint="Name its folder with --data DIR; `contextdna serve` makes a new one.",
    )


def _uri(path: Path) -> str:
    """Without a write-ahead log nobody has the file open and it is complete: read so, nothing appears beside it."""
    complete = not path.with_name(path.name + "-wal").exists()
    return f"{path.absolute().as_uri()}?mode=ro" + ("&immutable=1" if complete else "")
