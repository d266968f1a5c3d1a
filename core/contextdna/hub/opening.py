"""Opening a hub: the only place that builds objects from settings."""

import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio

from contextdna.backends.background import running
from contextdna.backends.guarded_database import GuardedDatabase
from contextdna.backends.sealing import RingSealer
from contextdna.domain import projects
from contextdna.domain.access import Caller
from contextdna.domain.encryption import Vault
from contextdna.domain.recall import Recall
from contextdna.errors import StorageUnavailable
from contextdna.hub.authentication import Authentication
from contextdna.hub.blobs import BlobRoom
from contextdna.hub.commons import open_commons
from contextdna.hub.counting import open_counter
from contextdna.hub.door import Door
from contextdna.hub.embedders import open_embedder
from contextdna.hub.known_actors import KnownActors
from contextdna.hub.modes import Modes
from contextdna.hub.remains import Remains
from contextdna.hub.semantics import Semantics
from contextdna.hub.slots import look_into_slots
from contextdna.hub.spool import SPOOL_FOLDER, WriteSpool
from contextdna.hub.spool_key import note_key, require_key, root_key_id
from contextdna.hub.storages import (
    DATABASE_FILE,
    KEY_FILE,
    MEMORY_FOLDER,
    Storage,
    open_ring,
    open_usable,
    require_driver,
)
from contextdna.hub.stream import EventStream
from contextdna.hub.upkeep import Upkeep
from contextdna.hub.workspace import Rooms, Workspace
from contextdna.ports.database import Database, Transaction
from contextdna.ports.embedder import Embedder
from contextdna.ports.storage import KeyRing
from contextdna.values.access_token import AccessToken
from contextdna.values.degraded import DegradedMode, Notices
from contextdna.values.ids import INSTALLATION, UPKEEP_AGENT, without_secrets
from contextdna.values.principal import Principal, Role
from contextdna.values.settings import HubSettings

__all__ = ["DATABASE_FILE", "KEY_FILE", "MEMORY_FOLDER", "Hub", "open_hub", "open_ring", "require_driver"]

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

    @property
    def queues_writes(self) -> bool:
        """Whether writes are taken and kept near the server while the database is away."""
        return self._rooms.spool is not None

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
        """Ask the database something small: whether calls can be served now. On SQLite it does not wait behind reads.

        Raises:
            StorageUnavailable: They cannot.
        """
        await self._door.database.revision()

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
        settings, unusable, storage = await open_usable(stack, settings, clock)
        database, channel, shelves, guarded = storage.database, storage.channel, storage.shelves, storage.guarded
        ring = storage.ring or open_ring(settings, has_database=storage.late is not None or await _is_in_use(database))
        vault = Vault(ring)
        commons = await open_commons(stack, settings, clock, database=database, channel=channel)
        blobs = BlobRoom(shelves.store, database, shelves.objects, clock=clock)
        remains = Remains(database, blobs)
        chosen = embedder or await open_embedder(stack, settings.search)
        actors = KnownActors(clock) if guarded else None
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
        preparing = partial(_prepare, vault=vault, settings=settings, clock=clock)
        spool = await _open_spool(stack, settings, storage, ring, preparing, door=doors(), actors=actors)
        if spool is not None:
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
        jobs = (door.reads.run, upkeep.run, stream.run, semantics.run, authentication.run)
        async with running(*jobs, *commons.jobs, *shelves.jobs, *_jobs_of(guarded, spool)) as tasks:
            try:
                yield hub
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await door.reads.settle()
                    await authentication.settle()


async def _open_spool(
    stack: AsyncExitStack,
    settings: HubSettings,
    storage: Storage,
    ring: KeyRing,
    prepare: Callable[[Database], Coroutine[Any, Any, None]],
    *,
    door: Door,
    actors: KnownActors | None,
) -> WriteSpool | None:
    """Prepare the database, or have it prepared when it is there, and open the spool of writes that wait for it.

    Raises:
        IntegrityFault: ``wrong_key``: the database is away, and what waits for it is under another key.
        StorageUnavailable: ``spool_not_empty``, ``spool_of_another``, or what opening the spool raises.
    """
    sealer = RingSealer(ring, "spool")
    guarded, late = storage.guarded, storage.late
    queued_in = settings.data_dir / SPOOL_FOLDER if guarded and settings.spool and settings.data_dir else None
    if settings.data_dir and queued_in is None:
        await anyio.to_thread.run_sync(_require_nothing_waits, settings.data_dir)

    confirmed = anyio.Event()

    async def prepare_both(database: Database) -> None:
        await prepare(database)
        if queued_in is not None:
            root = await database.write(root_key_id)  # a replica may not have it yet
            await anyio.to_thread.run_sync(partial(note_key, queued_in, sealer, root, url=settings.database))
        confirmed.set()

    if late is not None:
        if queued_in is not None and await anyio.to_thread.run_sync(
            partial(require_key, queued_in, sealer, url=settings.database)
        ):
            confirmed.set()
        await stack.enter_async_context(late.opening(prepare_both))
    else:
        await prepare_both(storage.database)
    if guarded is None or actors is None or queued_in is None:
        return None
    spool = WriteSpool(
        queued_in,
        sealer=sealer,
        door=door,
        database=guarded,
        actors=actors,
        bytes_max=settings.spool_bytes_max,
        confirmed=confirmed,
    )
    await spool.open(stack)
    return spool


def _require_nothing_waits(data_dir: Path) -> None:
    """Refuse to leave queued writes behind that were promised to be stored."""
    slots = look_into_slots(data_dir)
    for slot in slots:
        if not slot.is_readable:
            raise StorageUnavailable(
                f"slot {slot.number} of the spool may hold queued writes, and cannot be read: {slot.message}",
                code=slot.problem,
                hint="Check the disk and the rights of the folder `spool`; `contextdna doctor` tells more.",
            )
    waiting = sum(slot.waiting for slot in slots)
    if waiting:
        raise StorageUnavailable(
            f"{waiting} queued writes wait in the data folder for PostgreSQL, and this server would not store them",
            code="spool_not_empty",
            hint="Start one with storage.database as it was and storage.spool on, until contextdna doctor finds none.",
        )


def _jobs_of(
    guarded: GuardedDatabase | None, spool: WriteSpool | None
) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
    return (*((guarded.run,) if guarded else ()), *((spool.run,) if spool else ()))


async def _is_in_use(database: Database) -> bool:
    """Tell whether a database holds an installation: its keys come with the first opening."""
    return await database.read(lambda tx: tx.keys.generation(INSTALLATION)) > 0


async def _prepare(database: Database, *, vault: Vault, settings: HubSettings, clock: Callable[[], datetime]) -> None:
    async def unit(tx: Transaction) -> None:
        await projects.ensure(tx, vault, settings.projects, now=clock())

    if not await database.read(lambda tx: projects.are_there(tx, vault, settings.projects)):
        await database.write(unit)
