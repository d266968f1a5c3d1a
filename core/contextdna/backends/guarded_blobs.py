"""A blob store behind a circuit breaker: while it is away, callers are told at once."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Final, TypeVar

from contextdna.backends.breaker import Breaker
from contextdna.errors import StorageUnavailable
from contextdna.ports.storage import BlobStore, Progress
from contextdna.values.backend_health import BackendHealth

R = TypeVar("R")

AWAY: Final = frozenset({"storage_unreachable", "storage_timeout", "storage_busy"})
"""What a store that is away answers. What it refuses for good, such as credentials, is no reason to leave it alone."""

_HINT: Final = "Check that S3 runs and that storage.artifacts names it."


class GuardedBlobStore:
    """``BlobStore`` that does not let every caller wait for a store that is away.

    Args:
        far: The store.
        pause_s: How long to leave it alone after a failure, at first.
        on_change: Told when it went away, and when it is back.
    """

    def __init__(
        self,
        far: BlobStore,
        *,
        pause_s: float = 0.1,
        on_change: Callable[[StorageUnavailable | None], None] = lambda _: None,
    ) -> None:
        self._far = far
        self.breaker = Breaker(self._ask_health, pause_s=pause_s, on_change=on_change)

    @property
    def has_links(self) -> bool:
        """Whether blobs can be fetched by links."""
        return self._far.has_links

    @property
    def problem(self) -> str:
        """Code of what keeps the store away; empty while it is there, as far as is known."""
        return self.breaker.problem.code if self.breaker.problem else ""

    async def put(self, data: bytes, *, progress: Progress | None = None) -> str:
        """Store bytes durably and give their key.

        Raises:
            StorageUnavailable: The store is away, or refuses us. So do all the others.
        """
        return await self._ask(lambda: self._far.put(data, progress=progress))

    async def get(self, key: str) -> bytes:
        """Fetch bytes, checked against their key.

        Raises:
            NotFound: ``blob_not_found``.
            IntegrityFault: ``blob_changed``.
        """
        return await self._ask(lambda: self._far.get(key))

    async def has(self, key: str) -> bool:
        """Tell whether a blob is there, without reading it."""
        return await self._ask(lambda: self._far.has(key))

    async def waits(self, key: str) -> bool:  # noqa: ARG002 - the port's
        """Nothing waits: a blob is there, or nowhere."""
        return False

    async def delete(self, key: str) -> None:
        """Remove a blob."""
        await self._ask(lambda: self._far.delete(key))

    async def keys_older_than(self, at: datetime) -> AsyncIterator[str]:
        """Go through the keys of blobs that were last put before a time."""
        self.breaker.check()
        async for key in self._far.keys_older_than(at):
            yield key

    async def drop_unfinished(self, at: datetime) -> None:
        """Remove what was left half-written before a time."""
        await self._ask(lambda: self._far.drop_unfinished(at))

    async def link(self, key: str, *, name: str, media_type: str, valid_s: int) -> str:
        """Give a URL to a blob."""
        return await self._far.link(key, name=name, media_type=media_type, valid_s=valid_s)

    async def health(self) -> BackendHealth:
        """Ask the store something small, whatever is known of it."""
        return await self._far.health()

    async def run(self) -> None:
        """Find out when it is back, until cancelled."""
        await self.breaker.run()

    async def _ask(self, ask: Callable[[], Awaitable[R]]) -> R:
        self.breaker.check()
        try:
            return await ask()
        except StorageUnavailable as error:
            if error.code in AWAY:
                self.breaker.trip(error)
            raise

    async def _ask_health(self) -> None:
        told = await self._far.health()
        if not told.sound:
            raise StorageUnavailable("S3 is not there", code=told.problem, hint=_HINT, retryable=True)
