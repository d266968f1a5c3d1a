"""Where the bytes of artifacts lie, as the settings say: a bucket, the data folder, or memory."""

import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from typing import Any, Final

from contextdna.backends.guarded_blobs import GuardedBlobStore
from contextdna.backends.local_files import LocalBlobStore
from contextdna.backends.spooled_blobs import SpooledBlobStore, tell_of_s3
from contextdna.errors import SettingsInvalid, StorageUnavailable
from contextdna.ports.storage import BlobStore, ObjectSource
from contextdna.values.object_place import ObjectStore, parse_object_store
from contextdna.values.settings import HubSettings

logger = logging.getLogger(__name__)

ARTIFACTS_FOLDER: Final = "artifacts"
SPOOL_FOLDER: Final = "artifacts-spool"
"""Where the bytes of artifacts wait for S3."""


@dataclass(frozen=True, slots=True)
class Shelves:
    """A blob store, and what objects artifacts may be made from, if any."""

    store: BlobStore
    objects: ObjectSource | None = None
    spool: SpooledBlobStore | None = None
    """The store, where it is one that bytes may wait for."""
    guarded: GuardedBlobStore | None = None
    """The store, where it is one that may be away, and that nothing waits for."""

    @property
    def jobs(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """To be run while the hub is open."""
        return tuple(store.run for store in (self.spool, self.guarded) if store)


async def open_shelves(stack: AsyncExitStack, settings: HubSettings, clock: Callable[[], datetime]) -> Shelves:
    """Open the store that the settings name, until the stack ends.

    A bucket that does not answer now is no reason not to start: what needs no artifact works without it.

    Raises:
        SettingsInvalid: ``driver_missing``, or no URL of a bucket.
        StorageUnavailable: The folder or the bucket cannot be used.
    """
    if settings.artifacts:
        return await _open_s3(stack, settings)
    if settings.data_dir is None:
        from contextdna.backends.in_memory import InMemoryBlobStore  # no start of a server needs it

        return Shelves(InMemoryBlobStore(clock))
    store = LocalBlobStore(settings.data_dir / ARTIFACTS_FOLDER)
    await store.open()
    return Shelves(store)


async def _open_s3(stack: AsyncExitStack, settings: HubSettings) -> Shelves:
    place = artifacts_place(settings)
    require_s3_driver()
    from contextdna.backends.s3 import S3BlobStore, S3Objects, open_calls

    calls = await stack.enter_async_context(open_calls(place, settings.s3))
    store = S3BlobStore(calls)
    try:
        await store.check()
    except StorageUnavailable as error:
        if not error.retryable:
            raise
        logger.warning("the bucket of the artifacts does not answer now: %s", error.code)
    if not settings.spool or settings.data_dir is None:
        guarded = GuardedBlobStore(store, on_change=tell_of_s3)
        return Shelves(guarded, S3Objects(calls), guarded=guarded)
    spool = SpooledBlobStore(store, LocalBlobStore(settings.data_dir / SPOOL_FOLDER))
    await spool.open()
    return Shelves(spool, S3Objects(calls), spool)


def artifacts_place(settings: HubSettings) -> ObjectStore:
    """Read the bucket that the settings name.

    Raises:
        SettingsInvalid: ``setting_invalid``.
    """
    try:
        return parse_object_store(settings.artifacts)
    except ValueError as error:
        raise SettingsInvalid(
            f"storage.artifacts: {error}", code="setting_invalid", hint="Correct it, or leave it empty."
        ) from None


def require_s3_driver() -> None:
    """Check that S3 can be talked to.

    Raises:
        SettingsInvalid: ``driver_missing``.
    """
    if find_spec("boto3") is None:
        raise SettingsInvalid(
            "storage.artifacts names S3, but the package boto3 is not installed",
            code="driver_missing",
            hint="Install contextdna[s3], or leave storage.artifacts empty.",
        )
