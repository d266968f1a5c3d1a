"""Blobs in a dict."""

import hashlib

from contextdna.errors import NotFound


class InMemoryBlobStore:
    """``BlobStore`` that is forgotten with the process."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    async def put(self, data: bytes) -> str:
        """Store bytes and give their key."""
        key = hashlib.sha256(data).hexdigest()
        self._blobs[key] = data
        return key

    async def get(self, key: str) -> bytes:
        """Fetch bytes.

        Raises:
            NotFound: No such blob.
        """
        try:
            return self._blobs[key]
        except KeyError as error:
            raise NotFound("no such blob", code="blob_not_found") from error

    async def delete(self, key: str) -> None:
        """Remove a blob."""
        self._blobs.pop(key, None)
