"""Keeping blobs and their references together: bytes come first and go last."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from contextdna.errors import IntegrityFault, NotFound
from contextdna.ports.database import Database, Transaction
from contextdna.ports.storage import BlobStore


class BlobRoom:
    """The blob store as the workspace uses it: a blob is never removed while a reference to it is on its way."""

    def __init__(self, store: BlobStore, database: Database) -> None:
        self._store = store
        self._database = database
        self._turn = anyio.Lock()

    @asynccontextmanager
    async def keeping(self, data: bytes) -> AsyncIterator[str]:
        """Store bytes and hold their place until the reference is written; gives the blob key.

        Bytes whose reference then fails stay behind until an orphan sweep; nothing refers to them.
        """
        async with self._turn:
            key = await self._store.put(data)
            yield key
            await self._store.put(data)  # another process may have discarded the same bytes in between

    async def get(self, key: str) -> bytes:
        """Fetch bytes.

        Raises:
            IntegrityFault: ``artifact_missing``: the reference stands but the bytes are gone, or were changed.
        """
        try:
            return await self._store.get(key)
        except NotFound as error:
            raise IntegrityFault(
                "the artifact's bytes are gone",
                code="artifact_missing",
                hint="Restore the artifacts folder from a backup.",
            ) from error

    async def discard(self, keys: Sequence[str]) -> None:
        """Remove blobs that no record refers to any more."""
        async with self._turn:
            for key in dict.fromkeys(keys):
                if not await self._in_use(key):
                    await self._store.delete(key)

    async def _in_use(self, key: str) -> bool:
        async def unit(tx: Transaction) -> bool:
            return await tx.records.blob_in_use(key)

        return await self._database.write(unit)
