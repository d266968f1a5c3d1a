"""The PostgreSQL database: opening, running units again that lost, health, closing."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Any, Final, TypeVar

import anyio

from contextdna.backends.migrations import load_migrations
from contextdna.backends.moving import incomplete
from contextdna.backends.postgres.driver import (
    DRIVER_ERRORS,
    READ_ONLY,
    Link,
    Server,
    connect,
    has_lost,
    is_cut_off,
    mapped_error,
    sqlstate_of,
    unavailable,
)
from contextdna.backends.postgres.links import Links
from contextdna.backends.postgres.schema import migrate
from contextdna.backends.postgres.scopes import DIALECT, Catalogue, load_catalogue
from contextdna.backends.postgres.units import Again, KnownSessions, ReadingExecutor, Scopes, Watched, WritingExecutor
from contextdna.errors import ContextDnaError
from contextdna.ports.database import DatabaseStatus, Unit

R = TypeVar("R")

_ATTEMPTS_MAX: Final = 8
_PAUSE_S: Final = 0.005
_PAUSE_MAX_S: Final = 0.5
_ROLLBACK_S: Final = 2.0
_PURGED_FROM: Final = ("records", "records_index", "embeddings", "record_access", "links", "grants")


class PostgresDatabase:
    """Fulfils ``ports.database.Database`` on a database that other processes use at the same time."""

    def __init__(self, links: Links, catalogue: Catalogue) -> None:
        self._links = links
        self._catalogue = catalogue
        self._sessions = KnownSessions()

    async def write(self, unit: Unit[R]) -> R:
        """Run a unit alone within its project and answer once it is durable.

        A caller that is cancelled before the commit leaves nothing; during it the outcome is open.

        Raises:
            StorageUnavailable: The server is away or busy past the deadline, or the database is closed. Nothing was
                written, but with ``storage_outcome_unknown``.
            Exception: Whatever the unit raised.
        """
        scopes: Scopes = frozenset()
        failures = 0
        while True:
            failure: BaseException
            async with self._links.take(writing=True) as link:
                executor = WritingExecutor(link, self._catalogue, self._sessions, scopes)
                try:
                    result: R = await self._run(unit, link, executor)
                    return result
                except Again as again:
                    scopes = again.scopes
                    continue
                except DRIVER_ERRORS as error:
                    failure = error
            failures += 1
            await self._get_over(failure, failures)

    async def read(self, unit: Unit[R]) -> R:
        """Run a unit on one consistent snapshot; writing in it is an error.

        Raises:
            StorageUnavailable: The server is away or busy past the deadline, or the database is closed.
            RuntimeError: The unit wrote.
            Exception: Whatever the unit raised.
        """
        failures = 0
        while True:
            failure: BaseException
            async with self._links.take() as link:
                executor = ReadingExecutor(link, self._catalogue, self._sessions)
                try:
                    result: R = await self._run(unit, link, executor)
                    return result
                except DRIVER_ERRORS as error:
                    failure = error
            if sqlstate_of(failure) == READ_ONLY:
                raise RuntimeError("a read unit may not write")
            failures += 1
            await self._get_over(failure, failures)

    async def revision(self) -> int:
        """Give a number that is another one after other connections, of any process, have committed.

        A snapshot names the transactions that are under way and the next one to come: it changes with every commit.

        Raises:
            StorageUnavailable: The server is away.
        """
        snapshot = await self._ask("SELECT pg_current_snapshot()::text")
        return int.from_bytes(blake2b(str(snapshot).encode(), digest_size=8).digest(), signed=True)

    async def status(self, *, deep: bool = False) -> DatabaseStatus:
        """Report on the server; ``deep`` also asks whether it has met damaged pages."""
        try:
            version = await self._ask("SHOW server_version")
            schema = await self._ask("SELECT coalesce(max(version), 0) FROM schema_migrations")
            size = await self._ask("SELECT pg_database_size(current_database())")
            faults = await self._ask(_FAULTS) if deep else 0
        except ContextDnaError as error:
            return DatabaseStatus("postgresql", "", 0, 0, sound=False, problem=error.message)
        problem = f"the server has met {faults} damaged pages in this database" if faults else ""
        return DatabaseStatus("postgresql", str(version).split()[0], schema, size, sound=not faults, problem=problem)

    async def shred_remains(self) -> None:
        """Drop what purged rows left in the tables.

        The server's own log and its backups keep what they have until they are recycled: see the documents.

        Raises:
            StorageUnavailable: The server is away or busy.
        """
        for table in _PURGED_FROM:
            await self._ask(f"VACUUM (TRUNCATE FALSE) {table}", answer=False)

    async def _run(self, unit: Unit[R], link: Link, executor: ReadingExecutor | WritingExecutor) -> R:
        """Run a unit on a connection, which is left without a transaction, or cut."""
        try:
            result: R = await Watched(unit, executor)
            if isinstance(executor, WritingExecutor):
                await executor.before_commit()
        except BaseException:
            await _roll_back(link, executor)
            raise
        await _commit(link, executor)
        return result

    async def _get_over(self, failure: BaseException, failures: int) -> None:
        """Pause before the next attempt where one makes sense.

        Raises:
            ContextDnaError: What the failure means, where it does not.
        """
        cut_off = is_cut_off(failure)
        if cut_off:
            self._links.forget_idle()
        is_gone = cut_off and not isinstance(failure, TimeoutError)  # one that hangs would hang again
        if failures < _ATTEMPTS_MAX and (has_lost(failure) or (is_gone and failures < 2)):
            pause_s = min(_PAUSE_S * 2**failures, _PAUSE_MAX_S)
            await anyio.sleep(random.uniform(0, pause_s))  # noqa: S311 - jitter, not a secret
            return
        raise mapped_error(failure) from None

    async def _ask(self, statement: str, *, answer: bool = True) -> Any:
        failure: ContextDnaError
        async with self._links.take() as link:
            try:
                if answer:
                    return await link.connection.fetchval(statement)
                return await link.script(statement)
            except DRIVER_ERRORS as error:
                if is_cut_off(error):
                    link.cut()
                failure = mapped_error(error)
        raise failure


_FAULTS: Final = (
    "SELECT coalesce(sum(checksum_failures), 0)::bigint FROM pg_stat_database WHERE datname = current_database()"
)


async def _commit(link: Link, executor: ReadingExecutor | WritingExecutor) -> None:
    if not executor.begun:
        return
    try:
        status = await link.script("COMMIT")
    except BaseException as error:
        link.cut()
        if isinstance(executor, WritingExecutor) and isinstance(error, DRIVER_ERRORS) and is_cut_off(error):
            raise unavailable(
                "storage_outcome_unknown", "the connection was lost while the change was committed"
            ) from None
        raise
    if status != "COMMIT":  # an error within the transaction that the unit has swallowed
        raise unavailable("storage_error", "PostgreSQL rolled the transaction back")


async def _roll_back(link: Link, executor: ReadingExecutor | WritingExecutor) -> None:
    """End a transaction that failed; a connection that does not even take that is cut."""
    if not executor.begun or not link.is_open:
        return
    with anyio.CancelScope(shield=True), anyio.move_on_after(_ROLLBACK_S):
        try:
            await link.script("ROLLBACK")
        except DRIVER_ERRORS:
            link.cut()
        return
    link.cut()


@asynccontextmanager
async def open_postgres(
    url: str,
    *,
    pool_min: int = 1,
    pool_max: int = 10,
    acquire_timeout_s: float = 30.0,
    statement_timeout_s: float = 30.0,
) -> AsyncIterator[PostgresDatabase]:
    """Open a database, its tables made and migrated where needed.

    Args:
        url: ``postgresql://user@host:5432/name``, with ``sslmode`` and the like as libpq has them.
        pool_min: Connections that stay open.
        pool_max: Connections at most.
        acquire_timeout_s: How long to wait for a connection in use; for a new one ten seconds at most.
        statement_timeout_s: How long a statement may take, waiting for locks included.

    Raises:
        StorageUnavailable: It cannot be reached, or is of a newer schema (``schema_newer``), too old
            (``engine_too_old``), or an installation is being moved into it (``move_incomplete``).
        IntegrityFault: A migration was changed.
    """
    server = Server(url, acquire_timeout_s, statement_timeout_s)
    catalogue = load_catalogue()

    async def open_link() -> Link:
        return Link(await connect(server), catalogue.texts)

    links = Links(open_link, least=pool_min, most=pool_max, acquire_timeout_s=acquire_timeout_s)
    try:
        await links.fill()
        async with links.take() as link:
            await _migrate(link)
        yield PostgresDatabase(links, catalogue)
    finally:
        with anyio.CancelScope(shield=True):
            await links.close()


async def read_once(server: Server, unit: Unit[R]) -> R:
    """Run a reading unit on a database as it is: nothing is made or migrated.

    Raises:
        StorageUnavailable: It cannot be reached, or has no such tables (``storage_error``).
        Exception: Whatever the unit raised.
    """
    catalogue = load_catalogue()

    async def open_link() -> Link:
        return Link(await connect(server), catalogue.texts)

    links = Links(open_link, least=0, most=1, acquire_timeout_s=server.acquire_timeout_s)
    try:
        return await PostgresDatabase(links, catalogue).read(unit)
    finally:
        await links.close()


async def _migrate(link: Link) -> None:
    try:
        await migrate(link.connection, load_migrations(DIALECT), None)
        moving = await link.connection.fetch("SELECT FROM moves")
    except DRIVER_ERRORS as error:
        raise mapped_error(error) from None
    if moving:
        raise incomplete()
