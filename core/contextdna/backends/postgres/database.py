"""The PostgreSQL database: opening, running units again that lost, health, closing."""

import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final, Self, TypeVar

import anyio

from contextdna.backends.migrations import load_migrations
from contextdna.backends.moving import incomplete
from contextdna.backends.postgres.begun import BegunUnit, Entrances
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
from contextdna.backends.postgres.lanes import Alone, Lanes
from contextdna.backends.postgres.links import Links
from contextdna.backends.postgres.places import BEGIN_HISTORY, PRIMARY_PLACE, Places, Written
from contextdna.backends.postgres.places import STATEMENTS as PLACES
from contextdna.backends.postgres.replicas import Replicas, open_replicas
from contextdna.backends.postgres.schema import migrate
from contextdna.backends.postgres.scopes import DIALECT, Catalogue, load_catalogue
from contextdna.backends.postgres.units import Again, KnownSessions, ReadingExecutor, Scopes, Watched, WritingExecutor
from contextdna.backends.relational.columns import json_list
from contextdna.backends.relational.statements import Row
from contextdna.errors import ContextDnaError
from contextdna.ports.database import DatabaseStatus, Unit
from contextdna.values.ids import ProjectId

R = TypeVar("R")

_ATTEMPTS_MAX: Final = 8
_PAUSE_S: Final = 0.005
_PAUSE_MAX_S: Final = 0.5
_ROLLBACK_S: Final = 2.0
_VACUUM_S: Final = 30.0
"""How long the VACUUM of one table may take: it reads indexes from end to end."""
_PURGED_FROM: Final = ("records", "records_index", "embeddings", "record_access", "links", "grants")


class PostgresDatabase:
    """Fulfils ``ports.database.Database`` on a database that other processes use at the same time."""

    def __init__(
        self,
        links: Links,
        catalogue: Catalogue,
        *,
        written: Written | None = None,
        patient: Callable[[], AbstractAsyncContextManager[Link]] | None = None,
    ) -> None:
        self._links = links
        self._patient = patient or links.take
        self._written = written or Written()
        self._catalogue = catalogue
        self._sessions = KnownSessions()
        self._replicas: Replicas | None = None
        self._entrances = Entrances(catalogue, self._sessions)
        self._lanes = Lanes(self)

    async def write(self, unit: Unit[R]) -> R:
        """Run a unit alone within its project and answer once it is durable.

        Units of one project that wait are committed together; each fails alone. A caller that is cancelled before the
        commit leaves nothing; during it the outcome is open.

        Raises:
            StorageUnavailable: The server is away or busy past the deadline, or the database is closed. Nothing was
                written, but with ``storage_outcome_unknown``.
            Exception: Whatever the unit raised.
        """
        begun = BegunUnit(unit, self._entrances)
        if begun.asks is None:
            return begun.result  # type: ignore[no-any-return]
        outcome: Any = Alone()
        if isinstance(begun.asks.scope, str):
            outcome = await self._lanes.write(begun.asks.scope, begun)
            if not isinstance(outcome, Alone):
                return outcome  # type: ignore[no-any-return]
        begun.close()
        return await self._write_alone(unit, outcome)

    async def _write_alone(self, unit: Unit[R], known: Alone) -> R:
        """Run a unit in a transaction of its own."""
        scopes, failure, failures = known.scopes, known.failure, 0
        while True:
            if failure is not None:
                failures += 1
                await self.get_over(failure, failures)
            async with self.take() as link:
                executor = self.writing_on(link, scopes)
                try:
                    result: R = await self._run(unit, link, executor)
                    return result
                except Again as again:
                    scopes, failure = again.scopes, None
                except DRIVER_ERRORS as error:
                    failure = error

    async def read(
        self,
        unit: Unit[R],
        *,
        enough: Callable[[R], bool] | None = None,
        search_by: str = "",  # noqa: ARG002 - the server is what searches
    ) -> R:
        """Run a unit on one consistent snapshot; writing in it is an error.

        Args:
            unit: The unit.
            enough: When given, a replica may answer, where this says that its answer is enough.
            search_by: Who searches with the unit.

        Raises:
            StorageUnavailable: The server is away or busy past the deadline, or the database is closed.
            RuntimeError: The unit wrote.
            Exception: Whatever the unit raised.
        """
        if enough is not None and self._replicas is not None:
            answer = await self._replicas.read(unit)
            if answer is not None and enough(answer.value):
                return answer.value  # type: ignore[no-any-return]
        failures = 0
        while True:
            failure: BaseException
            async with self._links.take() as link:
                executor = ReadingExecutor(link, self._catalogue, self._sessions)
                try:
                    result: R = await self._run(unit, link, executor)
                    self._written(executor.heard)
                    return result
                except DRIVER_ERRORS as error:
                    failure = error
            if sqlstate_of(failure) == READ_ONLY:
                raise RuntimeError("a read unit may not write")
            failures += 1
            await self.get_over(failure, failures)

    async def places(self, projects: Iterable[ProjectId], *, anew: bool = False) -> list[Row]:
        """Ask how far this server is, what the mark of its history is, and those of the last changes of rights.

        Args:
            projects: Of which projects.
            anew: Whether another history begins first; it does, too, where the server was started since the last one.

        Raises:
            StorageUnavailable: It is away or busy.
        """
        failure: ContextDnaError
        async with self._links.take() as link:
            try:
                asked = (json_list(projects),)
                rows = [] if anew else await link.rows(PRIMARY_PLACE, asked)
                if not rows or not rows[0][2]:
                    await link.rows(BEGIN_HISTORY, ())
                    rows = await link.rows(PRIMARY_PLACE, asked)
                return rows
            except DRIVER_ERRORS as error:
                link.note(error)
                if is_cut_off(error):
                    link.cut()
                failure = mapped_error(error)
        raise failure

    @asynccontextmanager
    async def reading_from(self, replicas: Sequence[Server], *, lag_max_s: float, pool_max: int) -> AsyncIterator[Self]:
        """Let replicas answer reads for a while.

        Args:
            replicas: Where they are.
            lag_max_s: How old what others wrote may be.
            pool_max: Connections to each at most.
        """
        places = self._written.places = Places(self.places, lag_max_s=lag_max_s)
        with suppress(ContextDnaError):
            await places.refresh()
        opening = open_replicas(replicas, places, self._catalogue, sessions=self._sessions, pool_max=pool_max)
        async with opening as opened:
            self._replicas = opened
            try:
                yield self
            finally:
                self._replicas = self._written.places = None

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
        replicas = await self._replicas.status() if self._replicas is not None else ()
        sound = not faults
        return DatabaseStatus("postgresql", str(version).split()[0], schema, size, sound, problem, replicas)

    async def shred_remains(self) -> None:
        """Drop what purged rows left in the tables.

        The server's own log and its backups keep what they have until they are recycled: see the documents.

        Raises:
            StorageUnavailable: The server is away or busy.
        """
        failure: ContextDnaError
        async with self._patient() as link:
            try:
                for table in _PURGED_FROM:
                    await link.script(f"VACUUM (TRUNCATE FALSE) {table}")
            except DRIVER_ERRORS as error:
                link.cut()
                failure = mapped_error(error)
            else:
                return
        raise failure

    async def _run(self, unit: Unit[R], link: Link, executor: ReadingExecutor | WritingExecutor) -> R:
        """Run a unit on a connection, which is left without a transaction, or cut."""
        try:
            result: R = await Watched(unit, executor)
            if isinstance(executor, WritingExecutor):
                await executor.before_commit()
        except BaseException as error:
            link.note(error)
            await _roll_back(link, executor)
            raise
        await _commit(link, executor)
        return result

    def take(self) -> AbstractAsyncContextManager[Link]:
        """Give a connection to write on."""
        return self._links.take(writing=True)

    def writing_on(self, link: Link, scopes: Scopes) -> WritingExecutor:
        """Make what runs statements in a transaction about some projects."""
        return WritingExecutor(link, self._catalogue, self._sessions, scopes)

    async def commit(self, link: Link, executor: WritingExecutor) -> None:
        """Commit a transaction."""
        await _commit(link, executor)

    async def roll_back(self, link: Link, executor: WritingExecutor) -> None:
        """End a transaction that failed."""
        await _roll_back(link, executor)

    async def drain(self) -> None:
        """Wait until nothing is written any more."""
        await self._lanes.close()

    async def get_over(self, failure: BaseException, failures: int) -> None:
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

    async def _ask(self, statement: str) -> Any:
        failure: ContextDnaError
        async with self._links.take() as link:
            try:
                return await link.connection.fetchval(statement)
            except DRIVER_ERRORS as error:
                link.note(error)
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
        link.note(error)
        link.cut()
        if isinstance(executor, WritingExecutor) and isinstance(error, DRIVER_ERRORS) and is_cut_off(error):
            raise unavailable(
                "storage_outcome_unknown", "the connection was lost while the change was committed"
            ) from None
        raise
    finally:
        if isinstance(executor, WritingExecutor):
            link.tell_written(executor.projects)
    if status != "COMMIT":  # an error within the transaction that the unit has swallowed
        raise unavailable("storage_error", "PostgreSQL rolled the transaction back")


async def _roll_back(link: Link, executor: ReadingExecutor | WritingExecutor) -> None:
    if executor.begun:
        await link.roll_back(within_s=_ROLLBACK_S)


@asynccontextmanager
async def open_postgres(
    url: str,
    *,
    pool_min: int = 1,
    pool_max: int = 10,
    acquire_timeout_s: float = 10.0,
    statement_timeout_s: float = 15.0,
    replicas: Sequence[str] = (),
    replica_lag_max_s: float = 1.0,
) -> AsyncIterator[PostgresDatabase]:
    """Open a database, its tables made and migrated where needed.

    Args:
        url: ``postgresql://user@host:5432/name``, with ``sslmode`` and the like as libpq has them.
        pool_min: Connections that stay open.
        pool_max: Connections at most.
        acquire_timeout_s: How long to wait for a connection in use; for a new one ten seconds at most.
        statement_timeout_s: How long a statement may take, waiting for locks included.
        replicas: URLs of streaming standbys that may answer reads.
        replica_lag_max_s: How old what other processes wrote may be in such answers.

    Raises:
        StorageUnavailable: It cannot be reached, or is of a newer schema (``schema_newer``), too old
            (``engine_too_old``), or an installation is being moved into it (``move_incomplete``).
        IntegrityFault: A migration was changed.
    """
    server = Server(url, acquire_timeout_s, statement_timeout_s)
    catalogue = load_catalogue()

    texts = {**catalogue.texts, **PLACES}

    written = Written()

    async def open_link() -> Link:
        return Link(await connect(server), texts, written)

    links = Links(open_link, least=pool_min, most=pool_max, acquire_timeout_s=acquire_timeout_s)

    @asynccontextmanager
    async def patient() -> AsyncIterator[Link]:
        link = Link(await connect(replace(server, statement_timeout_s=max(_VACUUM_S, statement_timeout_s))), {})
        try:
            yield link
        except BaseException:
            link.cut()
            raise
        await link.close()

    database = PostgresDatabase(links, catalogue, written=written, patient=patient)
    try:
        await links.fill()
        async with links.take() as link:
            await _migrate(link)
        if not replicas:
            yield database
            return
        copies = [replace(server, url=one) for one in replicas]
        async with database.reading_from(copies, lag_max_s=replica_lag_max_s, pool_max=pool_max):
            yield database
    finally:
        with anyio.CancelScope(shield=True):
            await links.close()
            await database.drain()


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
