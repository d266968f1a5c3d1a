"""Moving an installation to another database, and its artifacts to another store."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import anyio

from contextdna.backends.local_files import LocalBlobStore
from contextdna.backends.sealing import RingSealer
from contextdna.backends.segmented_log import open_segmented_log
from contextdna.backends.sqlite import moving as sqlite_moving
from contextdna.backends.sqlite.shape import moved_tables
from contextdna.domain import audit, moving
from contextdna.domain.encryption import Vault
from contextdna.domain.moving import Told
from contextdna.errors import ContextDnaError, IntegrityFault, NotFound, SettingsInvalid, StorageUnavailable
from contextdna.hub.blob_stores import SPOOL_FOLDER as ARTIFACTS_SPOOL
from contextdna.hub.blob_stores import open_shelves
from contextdna.hub.opening import DATABASE_FILE, KEY_FILE, open_ring, require_driver
from contextdna.hub.spool import SPOOL_FOLDER
from contextdna.hub.writes_aside import ASIDE_FOLDER, WritesAside
from contextdna.ports.database import Transaction
from contextdna.ports.moving import MoveSide, MoveTarget
from contextdna.ports.storage import BlobStore, KeyRing
from contextdna.values.ids import INSTALLATION, ProjectId
from contextdna.values.key import KeyPurpose
from contextdna.values.move import MoveProgress, MoveReport
from contextdna.values.settings import HubSettings

_STATEMENT_S: Final = 600.0
_BLOBS_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where an installation is, or is to be."""

    folder: Path
    """The data folder: with the database, where it is SQLite, and with the key file and the artifacts."""
    url: str = field(default="", repr=False)
    """Of a PostgreSQL database; empty for SQLite in the folder."""
    artifacts: str = ""
    """``s3://bucket/prefix``; empty for a folder."""
    shelf: Path | None = None
    """The data folder with the artifacts, where it is another one."""

    def of_artifacts(self, settings: HubSettings) -> HubSettings:
        """Give settings that name the store of the artifacts."""
        return replace(settings, data_dir=self.shelf or self.folder, artifacts=self.artifacts)


def parse_place(text: str, settings: HubSettings, *, artifacts: str = "") -> Place:
    """Read ``sqlite:FOLDER``, ``postgresql://…``, or ``postgresql:`` for the database of the settings.

    Args:
        text: What to read.
        settings: Say where key and artifacts of a PostgreSQL database are, and in which bucket artifacts are.
        artifacts: ``s3://bucket/prefix``, or a data folder; empty: as the settings say, else the data folder.

    Raises:
        SettingsInvalid: ``place_invalid``.
    """
    folder = settings.data_dir or Path()
    url = text if text.startswith(("postgresql://", "postgres://")) else ""
    if text == "postgresql:":
        url = settings.database
    if text.startswith("sqlite:") and len(text) > len("sqlite:"):
        named = unquote(text.removeprefix("sqlite:"))
        folder = Path("/" + named.lstrip("/") if named.startswith("//") else named).expanduser()
        folder = folder.parent if folder.name == DATABASE_FILE else folder
    elif not url:
        raise SettingsInvalid(
            "a place is neither sqlite:FOLDER nor postgresql://…",
            code="place_invalid",
            hint="Such as sqlite:/var/lib/contextdna, the data folder, or postgresql: for what storage.database names.",
        )
    if artifacts and not artifacts.startswith("s3://"):
        return Place(folder, url, shelf=Path(artifacts).expanduser())
    return Place(folder, url, artifacts or settings.artifacts)


async def move_storage(
    settings: HubSettings,
    source: Place,
    target: Place,
    *,
    told: Told = lambda _: None,
    restart: bool = False,
    batch_rows: int = 500,
) -> MoveReport:
    """Move an installation. Cut off at any point it is run again, and goes on where it was.

    Args:
        settings: Where the master key is, and how databases and buckets are talked to.
        source: From where; nothing is written there.
        target: To where; it has to be empty, or begun from the same source. No server opens it before all is there.
        told: Is told of progress.
        restart: Whether to empty a target first that was begun.
        batch_rows: Rows of a transaction at most.

    Raises:
        IntegrityFault: ``wrong_key``, ``move_audit_broken``, or ``move_unequal``.
        Conflict: ``move_target_not_empty``, ``move_other_source``, ``move_source_changed`` or ``move_taken_over``.
        StorageUnavailable: ``no_installation``, ``move_source_in_use``, or a side cannot be read or written.
    """
    tables = moved_tables()
    async with _open_source(settings, source, batch_rows) as giving:
        name = await _installation(giving)
        await _check_key(settings, giving, source, target)
        await _require_nothing_waits(settings, source)
        left_aside = await _left_aside(settings, source, target)
        entries, chains = await _verify_audit(giving, settings, source, "the source")
        async with _open_target(settings, target, restart, batch_rows) as taking:
            lists = await moving.lists_of(tables, giving, taking)
            state = await taking.begin(name, secrets.token_hex(16), tables)
            copied = await moving.copy(giving, taking, tables, state, lists=lists, told=told)
            keys = await giving.blob_keys()
            fresh, lost = await _copy_artifacts(settings, source, target, keys, told)
            revision = await giving.revision()
            here = await moving.take_stock(giving, tables, lists=lists, told=told)
            there = await moving.take_stock(taking, tables, lists=lists, told=told)
            moving.compare(copied=copied, source=here, target=there)
            await _verify_audit(taking, settings, source, "the target")
            await _compare_heads(giving, taking)
            last_numbers = await giving.last_numbers()
            if await giving.revision() != revision:
                raise moving.source_changed("after its last reading")
            await taking.complete(last_numbers)
    rows = moving.rows_by_table(tables, there)
    return MoveReport(rows, rows["projects"], chains, entries, len(keys), fresh, tuple(lost), state.resumed, left_aside)


def missing_key_file(settings: HubSettings, source: Place, target: Place) -> tuple[Path, Path] | None:
    """Tell which key file a server of the target needs, and where, if it is not there yet."""
    if settings.master_key or settings.os_keyring:
        return None
    here, there = source.folder / KEY_FILE, target.folder / KEY_FILE
    return None if there.exists() else (here, there)


@asynccontextmanager
async def _open_source(settings: HubSettings, place: Place, batch_rows: int) -> AsyncIterator[MoveSide]:
    if not place.url:
        path = place.folder / DATABASE_FILE
        if not path.exists():
            raise StorageUnavailable(
                f"there is no installation in {place.folder}", code="no_installation", hint="Name its data folder."
            )
        async with sqlite_moving.open_source(path, batch_rows=batch_rows) as side:
            yield side
        return
    require_driver()
    from contextdna.backends.postgres import Server
    from contextdna.backends.postgres import moving as postgres_moving

    server = Server(place.url, settings.postgres.acquire_timeout_s, _STATEMENT_S, _named(settings, place, "--from"))
    async with postgres_moving.open_source(server, batch_rows=batch_rows) as side:
        yield side


@asynccontextmanager
async def _open_target(
    settings: HubSettings, place: Place, restart: bool, batch_rows: int
) -> AsyncIterator[MoveTarget]:
    if not place.url:
        path = place.folder / DATABASE_FILE
        async with sqlite_moving.open_target(path, restart=restart, batch_rows=batch_rows) as side:
            yield side
        return
    require_driver()
    from contextdna.backends.postgres import Server
    from contextdna.backends.postgres import moving as postgres_moving

    server = Server(place.url, settings.postgres.acquire_timeout_s, _STATEMENT_S, _named(settings, place, "--to"))
    async with postgres_moving.open_target(server, restart=restart, batch_rows=batch_rows) as side:
        yield side


def _named(settings: HubSettings, place: Place, option: str) -> str:
    """Tell what a message calls the URL of a place."""
    return "storage.database" if place.url == settings.database else option


async def _installation(source: MoveSide) -> str:
    """Name the installation of a source, so that no other one is mixed with it."""

    async def unit(tx: Transaction) -> list[str]:
        return [key.key_id for key in await tx.keys.all(INSTALLATION) if key.purpose is KeyPurpose.ROOT]

    roots = await source.ask(unit)
    if not roots:
        raise StorageUnavailable(
            "there is no installation in the source", code="no_installation", hint="Name another one with --from."
        )
    return f"{source.engine} {roots[0]}"


async def _check_key(settings: HubSettings, side: MoveSide, source: Place, target: Place) -> None:
    """Check that the master keys of both places open every key of the source.

    Raises:
        IntegrityFault: ``wrong_key``.
        SettingsInvalid: ``key_missing``.
    """
    places = [source] if missing_key_file(settings, source, target) else [source, target]
    for place in places:
        vault = _vault(settings, place)

        async def unit(tx: Transaction, vault: Vault = vault) -> None:
            for project_id in sorted({key.project_id for key in await tx.keys.all()}):
                await vault.keys(tx, ProjectId(project_id))

        await side.ask(unit)


async def _require_nothing_waits(settings: HubSettings, source: Place) -> None:
    """Check that no server of the source's data folder has left writes that are not in its database yet.

    Raises:
        StorageUnavailable: ``move_writes_wait``, or ``log_in_use``: a server runs.
    """
    slots = source.folder / SPOOL_FOLDER
    if not source.url or not slots.exists():
        return
    sealer = RingSealer(_ring(settings, source), "spool")
    for slot in sorted(folder for folder in slots.iterdir() if folder.name.isdecimal()):
        async with open_segmented_log(slot, sealer=sealer) as log:
            if waiting := (await log.status()).entries:
                raise StorageUnavailable(
                    f"{waiting} queued writes wait for the source's database",
                    code="move_writes_wait",
                    hint="Run `contextdna serve` on it until they are stored, stop it, then run this again.",
                )


async def _left_aside(settings: HubSettings, source: Place, target: Place) -> int:
    """Count the writes that were set aside in a data folder that the target's server does not have."""
    if not source.url or (target.url and _is_one_folder(source.folder, target.folder)):
        return 0
    aside = WritesAside(source.folder / SPOOL_FOLDER / ASIDE_FOLDER, RingSealer(_ring(settings, source), "spool"))
    await aside.open()
    return aside.count


def _ring(settings: HubSettings, place: Place) -> KeyRing:
    return open_ring(replace(settings, data_dir=place.folder, database=place.url), has_database=True)


def _vault(settings: HubSettings, place: Place) -> Vault:
    return Vault(_ring(settings, place))


async def _verify_audit(side: MoveSide, settings: HubSettings, source: Place, which: str) -> tuple[int, int]:
    """Check the audit chains of a side; gives (entries, chains)."""
    vault = _vault(settings, source)

    async def unit(tx: Transaction) -> tuple[int, int, int]:
        entries, chains, faults = await audit.verify_all(tx, vault)
        return entries, chains, len(faults)

    entries, chains, faults = await side.ask(unit)
    if faults:
        raise IntegrityFault(
            f"the audit trail of {which} has {faults} faults",
            code="move_audit_broken",
            hint="Run `contextdna audit verify` on it, and restore it from a backup.",
        )
    return entries, chains


async def _compare_heads(source: MoveSide, target: MoveSide) -> None:
    async def unit(tx: Transaction) -> list[tuple[str, int, bytes, bytes]]:
        return sorted((head.project_id, head.seq, head.mac, head.signature) for head in await tx.audit.heads())

    if await source.ask(unit) != await target.ask(unit):
        raise IntegrityFault(
            "the audit chains of the target do not end as those of the source",
            code="move_unequal",
            hint="Move it again with --restart; the source is as it was.",
        )


# --- artifacts ---


async def _copy_artifacts(
    settings: HubSettings, source: Place, target: Place, keys: Sequence[str], told: Told
) -> tuple[int, list[str]]:
    """Copy the blobs that are not there yet; gives how many, and which the source does not have, or not whole."""
    here = replace(source.of_artifacts(settings), spool=True)  # what waits in its folder belongs to it, too
    there = target.of_artifacts(settings)
    if there.artifacts:
        there = replace(there, data_dir=None)  # a bucket takes them now, or the move waits: no folder does
    if _is_same_shelf(here, there):
        keys = [] if _is_one_folder(source.folder, target.folder) else await _waiting(here, keys)
    if not keys:
        return 0, []
    copied, lost = 0, list[str]()
    room = anyio.CapacityLimiter(_BLOBS_AT_ONCE)
    failures: list[ContextDnaError] = []

    async with AsyncExitStack() as stack:
        giving = (await open_shelves(stack, here, lambda: datetime.now(UTC))).store
        taking = (await open_shelves(stack, there, lambda: datetime.now(UTC))).store

        async def carry(key: str) -> None:
            nonlocal copied
            try:
                if await _carry(giving, taking, key):
                    copied += 1  # others have counted during the wait
            except (NotFound, IntegrityFault):
                lost.append(key)
            except ContextDnaError as error:
                failures.append(error)
            finally:
                room.release_on_behalf_of(key)

        async with anyio.create_task_group() as tasks:
            for done, key in enumerate(keys):
                await room.acquire_on_behalf_of(key)
                if failures:
                    room.release_on_behalf_of(key)
                    break
                tasks.start_soon(carry, key)
                told(MoveProgress("artifacts", "", done, len(keys)))
    if failures:
        raise failures[0]
    told(MoveProgress("artifacts", "", len(keys), len(keys)))
    return copied, sorted(lost)


async def _carry(giving: BlobStore, taking: BlobStore, key: str) -> bool:
    with suppress(NotFound, IntegrityFault):
        await taking.get(key)  # that something lies under its name does not say that it is whole
        return False
    await taking.put(await giving.get(key))  # read and written by the digest that is its key
    return True


async def _waiting(here: HubSettings, keys: Sequence[str]) -> list[str]:
    """Pick the blobs that wait in the data folder for the bucket."""
    if here.data_dir is None or not (folder := here.data_dir / ARTIFACTS_SPOOL).exists():
        return []
    near = LocalBlobStore(folder)
    return [key for key in keys if await near.has(key)]


def _is_one_folder(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _is_same_shelf(one: HubSettings, other: HubSettings) -> bool:
    if one.artifacts or other.artifacts:
        return one.artifacts == other.artifacts
    return _is_one_folder(one.data_dir or Path(), other.data_dir or Path())
