"""Opening what holds the data, as the settings say: master keys, database, channel and artifacts."""

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from contextdna.backends.guarded_database import AWAY, GuardedDatabase
from contextdna.backends.in_process import InProcessChannel
from contextdna.backends.key_ring import KeyFileRing, MasterKeyRing, master_key_id, new_master_key, parse_master_key
from contextdna.backends.late_database import LateDatabase
from contextdna.backends.os_keyring import read_os_keyring
from contextdna.backends.sqlite import open_sqlite
from contextdna.errors import IntegrityFault, SettingsInvalid, StorageUnavailable
from contextdna.hub.artifacts_bucket import require_bucket
from contextdna.hub.blob_stores import Shelves, open_shelves
from contextdna.hub.spool import SPOOL_FOLDER
from contextdna.ports.database import Database
from contextdna.ports.storage import EventChannel, KeyRing
from contextdna.values.settings import HubSettings, WhenUnusable

logger = logging.getLogger(__name__)

DATABASE_FILE: Final = "contextdna.db"
MEMORY_FOLDER: Final = "memory"
"""Holds the write-ahead log of an in-memory database."""
KEY_FILE: Final = "master.key"


class Storage(NamedTuple):
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


async def open_usable(
    stack: AsyncExitStack, settings: HubSettings, clock: Callable[[], datetime]
) -> tuple[HubSettings, str, Storage]:
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


async def _open_storage(stack: AsyncExitStack, settings: HubSettings, clock: Callable[[], datetime]) -> Storage:
    folder = settings.data_dir
    channel: EventChannel = InProcessChannel()
    guarded: GuardedDatabase | None = None
    late: LateDatabase | None = None
    database: Database
    await require_bucket(settings)
    if settings.database:
        if folder is not None:
            _make_folder(folder)
        database, channel, late = await _open_postgres(stack, settings)
        database = guarded = GuardedDatabase(database)
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
    return Storage(database, channel, await open_shelves(stack, settings, clock), guarded, late=late)


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
