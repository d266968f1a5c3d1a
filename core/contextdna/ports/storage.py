"""Ports: blobs, cache, event channel, locks, master keys."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from contextdna.values.backend_health import BackendHealth
from contextdna.values.event import Event
from contextdna.values.ids import ProjectId
from contextdna.values.lease import Lease
from contextdna.values.object_place import ObjectPlace

Progress = Callable[[int, int], Awaitable[None]]
"""Told how many bytes are stored so far, of how many."""


class BlobStore(Protocol):
    """Bytes by content address (lower-case hex SHA-256 of the stored bytes).

    A store may be wrapped by another that keeps bytes elsewhere while it is away: nothing asks what class it is.
    """

    @property
    def has_links(self) -> bool:
        """Whether blobs can be fetched by links, past the server."""
        ...

    async def put(self, data: bytes, *, progress: Progress | None = None) -> str:
        """Store bytes durably and give their key; storing the same bytes twice keeps one copy.

        Raises:
            StorageUnavailable: Away, full or read-only. Nothing was kept.
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

    async def waits(self, key: str) -> bool:
        """Tell whether a blob is not where it belongs yet, but waits near the server for a store that is away."""
        ...

    async def delete(self, key: str) -> None:
        """Remove a blob; one that is not there is no error."""
        ...

    def keys_older_than(self, at: datetime) -> AsyncIterator[str]:
        """Go through the keys of blobs that were last put before a time, in any order; a put makes a blob young."""
        ...

    async def drop_unfinished(self, at: datetime) -> None:
        """Remove what writers that died before a time have left half-written."""
        ...

    async def link(self, key: str, *, name: str, media_type: str, valid_s: int) -> str:
        """Give a URL by which whoever holds it may fetch a blob, for so many seconds at most; empty where none can be.

        Raises:
            StorageUnavailable: None can be made now.
        """
        ...

    async def health(self) -> BackendHealth:
        """Ask the store something small, within a few seconds."""
        ...


class ObjectSource(Protocol):
    """Objects that lie elsewhere, from which artifacts may be made."""

    async def fetch(self, place: ObjectPlace, *, bytes_max: int) -> bytes:
        """Read one version of an object.

        Raises:
            NotFound: ``object_not_found``.
            LimitExceeded: ``artifact_too_large``; nothing of it was read.
            Conflict: ``object_changed``: it was written while it was read.
            StorageUnavailable: The place is away, or refuses us.
        """
        ...


class Cache(Protocol):
    """Bytes under keys for a while, some or all of which may be forgotten at any time. Never the only copy of anything.

    What it gives may be older than what was set last by another process: who needs the newest binds a value to its
    version. What must not be read by others is sealed before it comes here.
    """

    async def get(self, key: str) -> bytes | None:
        """Fetch a value, or None.

        Raises:
            StorageUnavailable: The cache is away. So do all the others.
        """
        ...

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Keep a value for a while, over what stands there; a ``ttl_s`` of 0 or less forgets it."""
        ...

    async def delete(self, keys: Sequence[str]) -> int:
        """Forget keys; gives how many were there."""
        ...

    async def mget(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Fetch several values; keys that are not there are left out."""
        ...

    async def mset(self, values: Mapping[str, bytes], *, ttl_s: float) -> None:
        """Keep several values for a while."""
        ...

    async def exists(self, keys: Sequence[str]) -> int:
        """Tell how many of some keys are there."""
        ...

    async def clear(self) -> int:
        """Forget all keys; gives how many there were. Keys of others, where an engine has such, stay."""
        ...

    async def keys(self, pattern: str = "*") -> list[str]:
        """List keys in order; in the pattern ``*`` is any text and ``?`` one character, and all else means itself."""
        ...


class EventChannel(Protocol):
    """Fan-out of events after commit. A hint to read the outbox, never the truth itself."""

    @property
    def hears_others(self) -> bool:
        """Whether it tells of what other processes commit, as far as is known. Until it does, one has to look."""
        ...

    async def publish(self, events: Sequence[Event]) -> None:
        """Tell listeners that events were committed; a slow one never blocks the publisher.

        Nothing is raised when other processes cannot be told: they look for themselves.
        """
        ...

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        """Be told from now on: once for any number of events that have come since one was told last.

        One is told, too, where something may have been missed: read the outbox from where you are.
        """
        ...


class Locks(Protocol):
    """Locks between processes, for jobs that one of them does for all.

    A lease may be over while its holder still believes in it: its process was stopped for a while. What such a holder
    would write is refused by its fencing number, in the transaction that would write it.
    """

    async def acquire(self, project_id: ProjectId, name: str, *, ttl_s: float) -> Lease | None:
        """Take a lock; None while another one has it.

        Raises:
            StorageUnavailable: Nobody can tell now. So do all the others.
        """
        ...

    async def renew(self, lease: Lease, *, ttl_s: float) -> bool:
        """Keep a lock for longer; False when it is over."""
        ...

    async def release(self, lease: Lease) -> bool:
        """Give a lock back; False when it was over, or another one's."""
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

    def digest(self, data: bytes) -> bytes:
        """Give 32 bytes that follow from data and the current master key, and that nobody without that can tell."""
        ...
