"""Keeping blobs and their references together: bytes come first and go last."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

import anyio

from contextdna.backends.guarded_blobs import GuardedBlobStore
from contextdna.backends.spooled_blobs import SpooledBlobStore
from contextdna.errors import ContextDnaError, IntegrityFault, InvalidInput, NotFound, StorageUnavailable
from contextdna.hub.refusals import Refusals
from contextdna.ports.database import Database, Transaction
from contextdna.ports.storage import BlobStore, ObjectSource, Progress
from contextdna.values.backend_health import BackendHealth
from contextdna.values.object_place import ObjectPlace

logger = logging.getLogger(__name__)

_ORPHANS_BATCH = 256
_WAITS_MAX = timedelta(days=1)
"""How long bytes that are nowhere may still wait at another server. Source: chosen."""


class BlobRoom:
    """The blob store as the workspace uses it: a blob is never removed while a reference to it is on its way.

    Whoever keeps or removes a blob has its turn at that blob; other blobs go on meanwhile. Between processes there are
    no turns: who removes looks for references again afterwards, who keeps looks for the bytes again, and whichever
    comes last puts them back.
    """

    def __init__(
        self,
        store: BlobStore,
        database: Database,
        objects: ObjectSource | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock = clock
        self._others_may_hold = isinstance(store, SpooledBlobStore | GuardedBlobStore)
        self.refusals = Refusals(clock)
        """Of the store, met by what was to be kept."""
        self._store = store
        self._objects = objects
        self._database = database
        self._turns: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def keeping(self, key: str, data: bytes, progress: Progress | None = None) -> AsyncIterator[None]:
        """Store bytes and hold their place until the reference is written; should that fail, they are removed again.

        Raises:
            StorageUnavailable: Full or read-only. Nothing was kept.
        """
        async with self._turn(key):
            await self._put(data, progress)
            try:
                yield
            except BaseException:
                with anyio.CancelScope(shield=True), suppress(ContextDnaError):  # else they are an orphan to sweep
                    await self._remove(key)
                raise
            with anyio.CancelScope(shield=True):
                await self._put_back(key, data)

    async def _put(self, data: bytes, progress: Progress | None) -> None:
        try:
            await self._store.put(data, progress=progress)
        except StorageUnavailable as error:
            self.refusals.note(error)
            raise
        self.refusals.clear()

    async def _put_back(self, key: str, data: bytes) -> None:
        """Put bytes back that another process has removed while the reference was written."""
        try:
            is_there = await self._store.has(key)
        except StorageUnavailable as error:  # the reference stands, so this refuses nothing: they were there just now
            logger.info("whether an artifact's bytes are still there cannot be told now: %s", error.code)
            return
        if not is_there:
            await self._store.put(data)

    async def get(self, key: str, *, since: datetime | None = None) -> bytes:
        """Fetch bytes.

        Args:
            key: Of the blob.
            since: When they were kept, where that is known.

        Raises:
            IntegrityFault: ``artifact_missing``: the reference stands but the bytes are gone, or were changed.
            StorageUnavailable: ``artifact_waits``: another server may hold them, until S3 takes them.
        """
        try:
            return await self._store.get(key)
        except NotFound as error:
            raise self._missing(since) from error

    async def waits(self, key: str) -> bool:
        """Tell whether bytes wait near the server for a store that is away."""
        return await self._store.waits(key)

    @property
    def has_links(self) -> bool:
        """Whether bytes can be fetched by links, past the server."""
        return self._store.has_links

    async def link(self, key: str, *, name: str, media_type: str, valid_s: int, since: datetime) -> str:
        """Give a link to bytes that are there; empty where none can be.

        Raises:
            IntegrityFault: ``artifact_missing``: the reference stands but the bytes are gone.
            StorageUnavailable: The store cannot tell; or ``artifact_waits``, as of ``get``.
        """
        if not await self._store.has(key):
            raise self._missing(since)
        return await self._store.link(key, name=name, media_type=media_type, valid_s=valid_s)

    def _missing(self, since: datetime | None) -> ContextDnaError:
        """Say why bytes are not there that were kept at a time."""
        if since and self._others_may_hold and self._clock() - since < _WAITS_MAX:
            return StorageUnavailable(
                "the artifact's bytes are not in S3 yet, and not at this server",
                code="artifact_waits",
                hint="Try again in a moment: the server that took them gives them to S3 as soon as it can.",
                retryable=True,
            )
        return IntegrityFault(
            "the artifact's bytes are gone", code="artifact_missing", hint="Restore the artifacts from a backup."
        )

    async def fetch(self, place: ObjectPlace, *, bytes_max: int) -> bytes:
        """Read an object that an artifact is to be made from.

        Raises:
            InvalidInput: ``object_unsupported``, or it is too large.
            NotFound: ``object_not_found``.
            Conflict: ``object_changed``.
            StorageUnavailable: The place is away, or refuses us.
        """
        if self._objects is None:
            raise InvalidInput("there is no store of objects", code="object_unsupported", hint="Send text or base64.")
        return await self._objects.fetch(place, bytes_max=bytes_max)

    async def health(self) -> BackendHealth:
        """Ask the store something small."""
        return await self._store.health()

    async def discard(self, keys: Sequence[str]) -> None:
        """Remove blobs that no record refers to any more; what cannot be removed now is an orphan to sweep."""
        for key in dict.fromkeys(keys):
            try:
                async with self._turn(key):
                    await self._remove(key)
            except ContextDnaError as error:
                logger.warning("the bytes of a purged artifact cannot be removed now: %s", error.code)

    async def sweep_orphans(self, *, older_than: datetime) -> None:
        """Remove blobs stored before a time that no record refers to, and what was left half-written before it.

        Raises:
            StorageUnavailable: The store cannot be read.
        """
        keys = []
        async for key in self._store.keys_older_than(older_than):
            keys.append(key)
            if len(keys) == _ORPHANS_BATCH:
                await self.discard(await self._unused(keys))
                keys.clear()
        await self.discard(await self._unused(keys))
        await self._store.drop_unfinished(older_than)

    @asynccontextmanager
    async def _turn(self, key: str) -> AsyncIterator[None]:
        lock = self._turns.get(key)
        if lock is None:
            lock = self._turns[key] = anyio.Lock()
        async with lock:
            yield

    async def _remove(self, key: str) -> None:
        if await self._in_use(key):
            return
        copy = await self._copy(key)
        await self._store.delete(key)
        if copy is not None and await self._in_use(key):
            await self._store.put(copy)

    async def _copy(self, key: str) -> bytes | None:
        try:
            return await self._store.get(key)
        except (NotFound, IntegrityFault):
            return None

    async def _in_use(self, key: str) -> bool:
        async def unit(tx: Transaction) -> bool:
            return await tx.records.blob_in_use(key)

        return await self._database.write(unit)  # behind a write whose caller has left, which may still commit

    async def _unused(self, keys: Sequence[str]) -> list[str]:
        async def unit(tx: Transaction) -> list[str]:
            return [key for key in keys if not await tx.records.blob_in_use(key)]

        return await self._database.read(unit)
