"""Blobs of a store that may be away: they wait in a folder, and go up when it is back."""

import logging
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import anyio

from contextdna.backends.guarded_blobs import AWAY, GuardedBlobStore
from contextdna.backends.local_files import LocalBlobStore, changed_blob
from contextdna.errors import ContextDnaError, IntegrityFault, NotFound, StorageUnavailable
from contextdna.ports.storage import BlobStore, Progress
from contextdna.values.backend_health import BackendHealth

logger = logging.getLogger(__name__)

R = TypeVar("R")

_PAUSE_S: Final = 0.1
_PAUSE_MAX_S: Final = 60.0
_LOOK_S: Final = 30.0
"""How often the folder is looked at for what other processes have left there."""
_CHANGED: Final = "blob_changed"
_AHEAD: Final = timedelta(days=1)  # files may be dated by a clock that is ahead of ours


class SpooledBlobStore:
    """``BlobStore`` that takes bytes while the store behind it is away, and gives them to it when it is back.

    The folder may be shared by several processes, and outlasts them: blobs are named by what they hold, so what two
    of them put or take up is the same. A copy is removed once the store has given the same bytes back. One that was
    changed on the disk is set aside, given to nobody, and told of until the same bytes come anew or nobody needs them.

    Args:
        store: The store.
        near: The folder where blobs wait.
        pause_s: How long to leave a store alone that failed, at first.
        pause_max_s: And at last, between two attempts to give it a blob.
    """

    def __init__(
        self, store: BlobStore, near: LocalBlobStore, *, pause_s: float = _PAUSE_S, pause_max_s: float = _PAUSE_MAX_S
    ) -> None:
        self._far = GuardedBlobStore(store, pause_s=pause_s, on_change=tell_of_s3)
        self._near = near
        self._pause_s = pause_s
        self._pause_max_s = pause_max_s
        self._next_pause_s = pause_s
        self._waiting: set[str] = set()
        self._damaged: set[str] = set()
        self._arrived = anyio.Event()
        self._uploading = ""
        self._upload = anyio.Lock()

    @property
    def has_links(self) -> bool:
        """Whether blobs can be fetched by links."""
        return self._far.has_links

    @property
    def problem(self) -> str:
        """Code of what keeps the store away, or ``blob_changed``; empty while all is well, as far as is known."""
        return self._far.problem or (_CHANGED if self._damaged else "")

    @property
    def waiting(self) -> int:
        """How many blobs wait, as far as this process knows."""
        return len(self._waiting)

    async def open(self) -> None:
        """Make the folder, and see what a process before this one has left.

        Raises:
            StorageUnavailable: The folder cannot be made or read.
        """
        await self._near.open()
        await self._look()

    async def put(self, data: bytes, *, progress: Progress | None = None) -> str:
        """Store bytes durably and give their key; in the folder while the store is away.

        Raises:
            StorageUnavailable: The store refuses us, or the folder cannot take them. Nothing was kept.
        """
        try:
            key = await self._far.put(data, progress=progress)
        except StorageUnavailable as error:
            if error.code not in AWAY:
                raise
            key = await self._near.put(data, progress=progress)
            self._waiting.add(key)
            self._arrived.set()
        await self._heal(key)
        return key

    async def get(self, key: str) -> bytes:
        """Fetch bytes, checked against their key, from where they are.

        Raises:
            NotFound: ``blob_not_found``.
            IntegrityFault: ``blob_changed``.
            StorageUnavailable: The store is away, and the folder has no copy.
        """
        try:
            return await self._near.get(key)
        except NotFound:
            if key not in self._damaged:
                return await self._far.get(key)
            changed = changed_blob()
        except IntegrityFault as error:
            await self._set_aside(key)
            changed = error
        try:
            data = await self._far.get(key)
        except (NotFound, StorageUnavailable):
            raise changed from None
        await self._heal(key)
        return data

    async def has(self, key: str) -> bool:
        """Tell whether a blob is there, without reading it.

        Raises:
            StorageUnavailable: The store is away, and the folder has no copy.
        """
        return await self._near.has(key) or await self._far.has(key)

    async def waits(self, key: str) -> bool:
        """Tell whether a blob waits for the store."""
        return await self._near.has(key)

    async def delete(self, key: str) -> None:
        """Remove a blob, here and there.

        Raises:
            StorageUnavailable: The store is away: what it has of the blob stays there, for a sweep.
        """
        if self._uploading == key:
            async with self._upload:
                await self._near.delete(key)
        else:
            await self._near.delete(key)
        self._waiting.discard(key)
        await self._near.drop_aside(key)
        self._damaged.discard(key)
        await self._far.delete(key)

    async def keys_older_than(self, at: datetime) -> AsyncIterator[str]:
        """Go through the keys of blobs that were last put before a time, here and there.

        Raises:
            StorageUnavailable: The store is away.
        """
        async for key in self._near.keys_older_than(at):
            yield key
        async for key in self._near.aside_older_than(at):
            yield key
        async for key in self._far.keys_older_than(at):
            yield key

    async def drop_unfinished(self, at: datetime) -> None:
        """Remove what was left half-written before a time, here and there.

        Raises:
            StorageUnavailable: The store is away.
        """
        await self._near.drop_unfinished(at)
        await self._far.drop_unfinished(at)

    async def link(self, key: str, *, name: str, media_type: str, valid_s: int) -> str:
        """Give a URL to a blob that the store has; none to one that waits: it is read through the server.

        Raises:
            StorageUnavailable: None can be made now.
        """
        if await self._near.has(key):
            return ""
        return await self._far.link(key, name=name, media_type=media_type, valid_s=valid_s)

    async def health(self) -> BackendHealth:
        """Ask the store something small, and tell how many blobs wait for it."""
        told = await self._far.health()
        problem = told.problem or (_CHANGED if self._damaged else "")
        return BackendHealth(told.engine, not problem, told.latency_ms, problem, self.waiting)

    async def run(self) -> None:
        """Give the store what waits, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._far.run)
            while True:
                await self._far.breaker.until_back()
                failed = await self.give_all()
                if failed:
                    continue
                with anyio.move_on_after(_LOOK_S * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter, not a secret
                    await self._arrived.wait()
                self._arrived = anyio.Event()

    async def give_all(self) -> bool:
        """Give the store what waits, one after the other; tells whether it could not take something now."""
        has_failed = False
        try:
            await self._look()
        except StorageUnavailable as error:
            logger.warning("the artifacts that wait for S3 cannot be looked at now: %s", error.code)
        for key in sorted(self._waiting):
            try:
                await self._give(key)
                self._next_pause_s = self._pause_s
            except ContextDnaError as error:
                has_failed = True
                logger.info("an artifact waits on for S3: %s", error.code)
                await anyio.sleep(self._next_pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                self._next_pause_s = min(2 * self._next_pause_s, self._pause_max_s)
                if error.code in AWAY:
                    break
        return has_failed

    async def _give(self, key: str) -> None:
        """Put a blob into the store, read it back, and only then remove the copy."""
        async with self._upload:
            self._uploading = key
            try:
                try:
                    data = await self._near.get(key)
                except NotFound:  # purged, or another process has given it
                    self._waiting.discard(key)
                    return
                except IntegrityFault:
                    await self._set_aside(key)
                    with suppress(NotFound, IntegrityFault):
                        await self._far.get(key)
                        await self._heal(key)
                    return
                await self._far.put(data)
                await self._far.get(key)
                await self._near.delete(key)
                self._waiting.discard(key)
            finally:
                self._uploading = ""

    async def _look(self) -> None:
        found = {key async for key in self._near.keys_older_than(datetime.now(UTC) + _AHEAD)}
        self._damaged = {key async for key in self._near.aside_older_than(datetime.now(UTC) + _AHEAD)}
        self._waiting = found

    async def _set_aside(self, key: str) -> None:
        """Let nobody be given a copy that was changed."""
        self._waiting.discard(key)
        try:
            if not await self._near.set_aside(key):
                return
        except StorageUnavailable as error:
            logger.warning("a damaged copy of an artifact cannot be set aside now: %s", error.code)
        self._damaged.add(key)
        logger.error("an artifact that waits for S3 was changed on the disk, and is set aside there")

    async def _heal(self, key: str) -> None:
        """Remove the damaged copy of a blob that is there whole."""
        if key not in self._damaged:
            return
        try:
            await self._near.drop_aside(key)
        except StorageUnavailable as error:
            logger.warning("a damaged copy of an artifact cannot be removed now: %s", error.code)
        self._damaged.discard(key)


def tell_of_s3(problem: StorageUnavailable | None) -> None:
    """Log that S3 went away, or that it is back."""
    if problem is None:
        logger.warning("S3 is there again")
    else:
        logger.warning("%s [%s]; it is asked again until it is back", problem.message, problem.code)
