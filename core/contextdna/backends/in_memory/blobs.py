"""Blobs in a dict."""

import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from contextdna.errors import NotFound
from contextdna.ports.storage import Progress
from contextdna.values.backend_health import BackendHealth


class InMemoryBlobStore:
    """``BlobStore`` that is forgotten with the process."""

    has_links = False

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._blobs: dict[str, tuple[bytes, datetime]] = {}

    async def put(self, data: bytes, *, progress: Progress | None = None) -> str:
        """Store bytes and give their key."""
        key = hashlib.sha256(data).hexdigest()
        self._blobs[key] = (data, self._clock())
        if progress is not None:
            await progress(len(data), len(data))
        return key

    async def get(self, key: str) -> bytes:
        """Fetch bytes.

        Raises:
            NotFound: No such blob.
        """
        try:
            return self._blobs[key][0]
        except KeyError as error:
            raise NotFound("no such blob", code="blob_not_found") from error

    async def has(self, key: str) -> bool:
        """Tell whether a blob is there."""
        return key in self._blobs

    async def waits(self, key: str) -> bool:  # noqa: ARG002 - the port's
        """Nothing waits: a blob is here, or nowhere."""
        return False

    async def delete(self, key: str) -> None:
        """Remove a blob."""
        self._blobs.pop(key, None)

    async def keys_older_than(self, at: datetime) -> AsyncIterator[str]:
        """Go through the keys of blobs that were last put before a time."""
        for key in [key for key, (_, put_at) in self._blobs.items() if put_at < at]:
            yield key

    async def drop_unfinished(self, at: datetime) -> None:
        """Do nothing: nothing is ever half-written."""

    async def link(self, key: str, *, name: str, media_type: str, valid_s: int) -> str:  # noqa: ARG002 - the port's
        """Give no link: there is nothing to fetch past the process."""
        return ""

    async def health(self) -> BackendHealth:
        """Tell that it is there."""
        return BackendHealth("memory", True, 0.0)
