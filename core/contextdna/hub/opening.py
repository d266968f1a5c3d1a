"""Opening a hub: the only place that builds objects from settings."""

import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio

from contextdna.backends.guarded_database import AWAY, GuardedDatabase
from contextdna.backends.in_process import InProcessChannel
from contextdna.backends.key_ring import KeyFileRing, MasterKeyRing, master_key_id, new_master_key, parse_master_key
from contextdna.backends.late_database import LateDatabase
from contextdna.backends.os_keyring import read_os_keyring
from contextdna.backends.sealing import RingSealer
from contextdna.backends.sqlite import open_sqlite
from contextdna.domain import projects
from contextdna.domain.access import Caller
from contextdna.domain.encryption import Vault
from contextdna.domain.recall import Recall
from contextdna.errors import IntegrityFault, SettingsInvalid, StorageUnavailable
from contextdna.hub.authentication import Authentication
from contextdna.hub.blob_stores import Shelves, open_shelves
from contextdna.hub.blobs import BlobRoom
from contextdna.hub.commons import open_commons
from contextdna.hub.counting import open_counter
from contextdna.hub.door import Door
from contextdna.hub.embedders import open_embedder
from contextdna.hub.known_actors import KnownActors
from contextdna.hub.modes import Modes
from contextdna.hub.remains import Remains
from contextdna.hub.semantics import Semantics
from contextdna.hub.spool import SPOOL_FOLDER, WriteSpool
from contextdna.hub.stream import EventStream
from contextdna.hub.upkeep import Upkeep
from contextdna.hub.workspace import Rooms, Workspace
from contextdna.ports.database import Database, Transaction
from contextdna.ports.embedder import Embedder
from contextdna.ports.storage import EventChannel, KeyRing
from contextdna.values.access_token import AccessToken
from contextdna.values.degraded import DegradedMode, Notices
from contextdna.values.ids import INSTALLATION, UPKEEP_AGENT, without_secrets
from contextdna.values.principal import Principal, Role
from contextdna.values.settings import HubSettings, WhenUnusable

logger = logging.getLogger(__name__)

DATABASE_FILE = "contextdna.db"
MEMORY_FOLDER = "memory"
"""Holds the write-ahead log of an in-memory database."""
KEY_FILE = "master.key"
_AUDITED_CHARS_MAX: Final = 64


class Hub:
    """An open installation. ``bind`` gives a caller its workspace; nothing else leads to the data."""

    def __init__(self, rooms: Rooms, authentication: Authentication) -> None:
        self._rooms = rooms
        self._modes = rooms.modes
        self._door = rooms.door
        self._authentication = authentication

    @property
    def settings(self) -> HubSettings:
        """What the hub was opened with."""
        return self._door.settings

    @property
    def modes(self) -> tuple[DegradedMode, ...]:
        """What the server does without at the moment; empty where all is well."""
        return self._modes.current()

    def bind(
        self,
        principal: Principal,
        *,
        session_id: str = "",
        project_id: str = "",
        request_id: str = "",
        trace_id: str = "",
        notices: Notices | None = None,
    ) -> Workspace:
        """Give a caller its workspace; nothing is checked until a method is called.

        Args:
            principal: The verified caller.
            session_id: A session handle: the call then acts as the session's agent.
            project_id: The project meant; empty for the session's, or the principal's only or default one.
            request_id: Names the request in the audit log; a long one by its beginning and a digest.
            trace_id: Names the trace in the audit log, likewise.
            notices: Where what the caller is to be told of degraded modes is collected.
        """
        caller = Caller(principal, session_id, project_id, _audited(request_id), _audited(trace_id))
        workspace = Workspace(self._rooms, caller, notices)
        self._modes.tell(workspace.notices)
        return workspace

    async def authenticate(self, token_text: str, *, request_id: str = "", trace_id: str = "") -> AccessToken:
        """Tell who bears an access token, from the database at every call: a revocation holds in every process at once.

        The refusal of a token that worked once is audited here, in the installation's log.

        Args:
            token_text: The whole token, as its maker was shown it; it is neither kept nor repeated.
            request_id: Names the request in the audit log, where it is refused.
            trace_id: Names the trace there.

        Raises:
            CredentialRefused: ``token_invalid``, ``token_expired`` or ``token_revoked``.
            StorageUnavailable: The engine cannot tell now.
        """
        return await self._authentication.bearer(
            token_text, request_id=_audited(request_id), trace_id=_audited(trace_id)
        )

    async def check(self) -> None:
        """Ask the database something small: whether calls can be served now.

        Raises:
            StorageUnavailable: They cannot.
        """

        async def unit(tx: Transaction) -> None:
            await tx.projects.get(INSTALLATION)

        await self._door.database.read(unit)

    def seal_text(self, text: str, purpose: str) -> str:
        """Encrypt a short text so that any server of this installation, and nobody else, opens it; it holds no data."""
        return self._door.vault.seal_text(text, purpose)

    def open_text(self, sealed: str, purpose: str) -> str:
        """Decrypt what ``seal_text`` gave, here or in another server of this installation.

        Raises:
            IntegrityFault: ``wrong_key``: it is not of this installation, not for this purpose, or was changed.
        """
        return self._door.vault.open_text(sealed, purpose)


def _audited(name: str) -> str:
    """Bound a name that a client chose, and keep secrets out of it: the audit log is never swept."""
    name = without_secrets(name)
    if len(name) <= _AUDITED_CHARS_MAX:
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{name[: _AUDITED_CHARS_MAX - len(digest) - 1]}~{digest}"


@asynccontextmanager
async def open_hub(
    settings: HubSettings,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    embedder: Embedder | None = None,
) -> AsyncIterator[Hub]:
    """Open an installation, making and migrating what is not there yet; on exit all that waits is written.

    Args:
        settings: What to open, and how.
        clock: Tells the time, aware and in UTC.
        embedder: An embedder of one's own, in place of the one that the settings name.

    Raises:
        SettingsInvalid: The settings name something impossible.
        StorageUnavailable: The data folder cannot be used, or its schema is newer than this version.
        IntegrityFault: ``wrong_key``, or the database is damaged.
    """
    async with AsyncExitStack() as stack:
        settings, unusable, storage = await _open_usable(stack, settings, clock)
        database, channel, shelves, guarded, ring, late = storage
        ring = ring or open_ring(settings, has_database=late is not None or await _is_in_use(database))
        vault = Vault(ring)
        commons = await open_commons(stack, settings, clock, database=database, channel=channel)
        blobs = BlobRoom(shelves.store, database, shelves.objects, clock=clock)
        remains = Remains(database, blobs)
        chosen = embedder or await open_embedder(stack, settings.search)
        actors = KnownActors() if guarded else None
        doors = partial(
            Door,
            database=database,
            vault=vault,
            channel=commons.channel,
            settings=settings,
            clock=clock,
            remains=remains,
            recall=Recall(chosen.model) if chosen else None,
            count_tokens=await open_counter(settings.search),
        )
        door = doors(actors=actors)
        if late is None:
            await _prepare(database, vault, settings, clock)
        else:
            await stack.enter_async_context(late.opening(lambda opened: _prepare(opened, vault, settings, clock)))
        spool: WriteSpool | None = None
        if guarded is not None and actors is not None and settings.spool and settings.data_dir is not None:
            spool = WriteSpool(
                settings.data_dir / SPOOL_FOLDER,
                sealer=RingSealer(ring, "spool"),
                door=doors(),
                database=guarded,
                actors=actors,
                bytes_max=settings.spool_bytes_max,
            )
            await spool.open(stack)
            door.before_write = spool.in_turn
        modes = Modes(
            shelves=shelves,
            commons=commons,
            guarded=guarded,
            spool=spool,
            writing=door.refusals,
            keeping=blobs.refusals,
            unusable=unusable,
        )
        stream = EventStream(database, commons.channel)
        semantics = Semantics(door, chosen, commons.locks)
        authentication = Authentication(door)
        rooms = Rooms(door, blobs, remains, stream, commons, semantics, modes, spool)
        hub = Hub(rooms, authentication)
        keeper = Principal(UPKEEP_AGENT, settings.projects, role=Role.SYSTEM)
        upkeep = Upkeep(door, blobs, remains, lambda project_id: hub.bind(keeper, project_id=project_id), commons.locks)
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(door.reads.run)
            tasks.start_soon(upkeep.run)
            tasks.start_soon(stream.run)
            tasks.start_soon(semantics.run)
            tasks.start_soon(authentication.run)
            for job in (*commons.jobs, *shelves.jobs, *_jobs_of(guarded, spool)):
                tasks.start_soon(job)
            try:
                yield hub
            except Exception as error:  # noqa: BLE001 - raised again below, not wrapped into the task group's
                failure = error
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await door.reads.settle()
                    await authentication.settle()
        if failure is not None:
            raise failure


def open_ring(settings: HubSettings, *, has_database: bool | None = None) -> KeyRing:
    """Open the master key: from the settings, the OS keyring, or the key file (made with a new installation).

    Args:
        settings: Where the key is.
        has_database: Whether there is an installation, which no new key opens; by default, whether the data folder
            holds a database.

    Raises:
        SettingsInvalid: The key or its file cannot be used.
        StorageUnavailable: The data folder cannot be made.
    """
    if settings.master_key:
        return parse_master_key(settings.master_key)
    folder = settings.data_dir
    if has_database is None:
        place = MEMORY_FOLDER if settings.write_ahead else DATABASE_FILE
        has_database = folder is not None and (folder / place).exists()
    where = "the database is in use" if settings.database else "the data folder holds a database"
    if settings.os_keyring:
        return _keyring_ring(where, has_database=has_database)
    if folder is None:
        key = new_master_key()
        return MasterKeyRing({master_key_id(key): key}, master_key_id(key))
    _make_folder(folder)
    path = folder / KEY_FILE
    if not path.exists() and has_database:
        raise SettingsInvalid(
            f"{where} but its key file {KEY_FILE} is gone",
            code="key_missing",
            hint=f"Put {KEY_FILE} back from a backup, or set CONTEXTDNA_MASTER_KEY.",
        )
    return KeyFileRing(path)


def _keyring_ring(where: str, *, has_database: bool) -> KeyRing:
    try:
        return read_os_keyring(create=not has_database)
    except SettingsInvalid as error:
        if error.code != "keyring_empty":
            raise
        raise SettingsInvalid(
            f"{where} but the operating system's keyring holds no master key",
            code="key_missing",
            hint="Restore the keyring from a backup, or set CONTEXTDNA_MASTER_KEY.",
        ) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageUnavailable(
            f"the data folder {folder} cannot be made: {error.strerror}",
            code="storage_cannot_open",
            hint="Choose another folder with --data DIR, or mend its permissions.",
        ) from error


def _jobs_of(
    guarded: GuardedDatabase | None, spool: WriteSpool | None
) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
    return (*((guarded.run,) if guarded else ()), *((spool.run,) if spool else ()))


class _Storage(NamedTuple):
    """What holds the data."""

    database: Database
    channel: EventChannel
    shelves: Shelves
    guarded: GuardedDatabase | None = None
    """The database, where it is one that may be away."""
    ring: KeyRing | None = None
    """The master keys, where they had to be there first."""
    late: LateDatabase | None = None
    """The database, where it is away and was not opened yet."""


async def _open_usable(
    stack: AsyncExitStack, settings: HubSettings, clock: Callable[[], datetime]
) -> tuple[HubSettings, str, _Storage]:
    """Open what the settings name, or memory in its place where they allow that.

    Gives the settings in force, the code of what is unusable, and the storage.

    Raises:
        ContextDnaError: It cannot be opened.
    """
    may_forget = settings.when_unusable is WhenUnusable.MEMORY and not settings.database
    try:
        async with AsyncExitStack() as attempt:
            ring = None if settings.database else open_ring(settings)
            storage = await _open_storage(attempt, settings, clock)
            stack.push_async_exit(attempt.pop_all())
            return settings, "", storage._replace(ring=ring)
    except (StorageUnavailable, IntegrityFault) as error:
        if not may_forget or error.code == "wrong_key":
            raise
        problem = error
    logger.warning("%s", _BANNER.format(message=problem.message, code=problem.code, hint=problem.hint))
    forgetful = replace(settings, data_dir=None, artifacts="", os_keyring=False)
    ring = open_ring(forgetful)
    return forgetful, problem.code, (await _open_storage(stack, forgetful, clock))._replace(ring=ring)


_BANNER: Final = """

  *** NOTHING WILL BE KEPT: the memory is empty, and gone when this server ends ***
  The database cannot be used: {message} [{code}]. {hint}
  storage.when_unusable is "memory"; set it to "refuse", and the server will not start like this.
"""


async def _open_storage(stack: AsyncExitStack, settings: HubSettings, clock: Callable[[], datetime]) -> _Storage:
    folder = settings.data_dir
    channel: EventChannel = InProcessChannel()
    guarded: GuardedDatabase | None = None
    late: LateDatabase | None = None
    database: Database
    if settings.database:
        if folder is not None:
            _make_folder(folder)
        database, channel, late = await _open_postgres(stack, settings)
        database = guarded = GuardedDatabase(database, has_replicas=bool(settings.postgres.replicas))
        if late is not None:
            guarded.away(late.problem)
    elif folder is None:
        from contextdna.backends.in_memory import open_in_memory  # no start of a server needs it

        database = await stack.enter_async_context(open_in_memory())
    elif settings.write_ahead:
        from contextdna.backends.memory_folder import open_memory_folder

        database = await stack.enter_async_context(open_memory_folder(folder / MEMORY_FOLDER))
    else:
        database = await stack.enter_async_context(
            open_sqlite(
                folder / DATABASE_FILE,
                readers=settings.sqlite_readers,
                group_max=settings.sqlite_group_max,
                busy_timeout_s=settings.sqlite_busy_timeout_s,
            )
        )
    return _Storage(database, channel, await open_shelves(stack, settings, clock), guarded, late=late)


async def _open_postgres(
    stack: AsyncExitStack, settings: HubSettings
) -> tuple[Database, EventChannel, LateDatabase | None]:
    """Open a database; where it is away, and was served from this data folder before, it is opened later."""
    require_driver()
    from contextdna.backends.postgres import Server, open_channel, open_postgres

    own = settings.postgres
    opened = partial(
        open_postgres,
        settings.database,
        pool_min=own.pool_min,
        pool_max=own.pool_max,
        acquire_timeout_s=own.acquire_timeout_s,
        statement_timeout_s=own.statement_timeout_s,
        replicas=own.replicas,
        replica_lag_max_s=own.replica_lag_max_s,
    )
    late: LateDatabase | None = None
    database: Database
    try:
        database = await stack.enter_async_context(opened())
    except StorageUnavailable as error:
        if error.code != AWAY or not _has_served(settings):
            raise
        database = late = LateDatabase(opened, error)
    if settings.cache:
        return database, InProcessChannel(), late  # Redis tells of events
    server = Server(settings.database, own.acquire_timeout_s, own.statement_timeout_s)
    return database, await stack.enter_async_context(open_channel(server)), late


def _has_served(settings: HubSettings) -> bool:
    """Tell whether a server has run on this data folder with a spool: the settings were good then."""
    return settings.spool and settings.data_dir is not None and (settings.data_dir / SPOOL_FOLDER).is_dir()


def require_driver() -> None:
    """Check that PostgreSQL can be talked to.

    Raises:
        SettingsInvalid: ``driver_missing``.
    """
    if find_spec("asyncpg") is None:
        raise SettingsInvalid(
            "storage.database names PostgreSQL, but the package asyncpg is not installed",
            code="driver_missing",
            hint="Install contextdna[postgres], or leave storage.database empty.",
        )


async def _is_in_use(database: Database) -> bool:
    """Tell whether a database holds an installation: its keys come with the first opening."""
    return await database.read(lambda tx: tx.keys.generation(INSTALLATION)) > 0


async def _prepare(database: Database, vault: Vault, settings: HubSettings, clock: Callable[[], datetime]) -> None:
    async def unit(tx: Transaction) -> None:
        await projects.ensure(tx, vault, settings.projects, now=clock())

    await database.write(unit)
