"""Ports: blobs, cache, event channel, master keys."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

from contextdna.values.event import Event


class BlobStore(Protocol):
    """Bytes by content address (lower-case hex SHA-256 of the stored bytes)."""

    async def put(self, data: bytes) -> str:
        """Store bytes durably and give their key; storing the same bytes twice keeps one copy.

        Raises:
            StorageUnavailable: Full or read-only. Nothing was kept.
        """
        ...

    async def get(self, key: str) -> bytes:
        """Fetch bytes, checked against their key.

        Raises:
            NotFound: No such blob.
            IntegrityFault: The bytes are not what the key says.
        """
        ...

    async def has(self, key: str) -> bool:
        """Tell whether a blob is there, without reading it."""
        ...

    async def delete(self, key: str) -> None:
        """Remove a blob; one that is not there is no error."""
        ...

    def keys_older_than(self, at: datetime) -> AsyncIterator[str]:
        """Go through the keys of blobs that were last put before a time, in any order; a put makes a blob young."""
        ...


class Cache(Protocol):
    """A bounded cache with expiry. Never the only copy of anything."""

    async def get(self, key: str) -> Any | None:
        """Fetch a value, or None."""
        ...

    async def set(self, key: str, value: Any, *, ttl_s: float) -> None:
        """Keep a value for a while."""
        ...


class EventChannel(Protocol):
    """Fan-out of events after commit. A hint to read the outbox, never the truth itself."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Tell listeners; a slow listener loses the oldest events, never blocks the publisher."""
        ...

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Listen from now on."""
        ...


class KeyRing(Protocol):
    """Master keys: wrap and unwrap project keys."""

    @property
    def current_id(self) -> str:
        """Id of the master key that wraps new keys."""
        ...

    def wrap(self, key: bytes, associated: bytes) -> bytes:
        """Encrypt a key under the current master key."""
        ...

    def unwrap(self, master_id: str, wrapped: bytes, associated: bytes) -> bytes:
        """Decrypt a key.

        Raises:
            IntegrityFault: ``wrong_key``: this ring has no such master key, or the bytes were changed.
        """
        ...
