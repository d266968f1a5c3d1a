"""Calls of S3 by boto3: on threads of their own, each with a deadline, and repeated once where that helps."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import anyio
import boto3
from botocore.config import Config

from contextdna.backends.s3.checksums import CHECKSUMS
from contextdna.backends.s3.errors import DRIVER_ERRORS, REPEATED, mapped_error, unavailable
from contextdna.backends.s3.threads import Threads
from contextdna.errors import ContextDnaError
from contextdna.values.object_place import ObjectStore
from contextdna.values.settings import S3Settings

R = TypeVar("R")

_PAUSE_S: Final = (0.05, 0.25)
_RATE_MIN_BYTES_S: Final = 1024 * 1024
_CHATTY: Final = ("boto3", "botocore", "urllib3")


class S3Calls:
    """A client of one endpoint. ``run`` is the only way to it.

    Args:
        store: Which endpoint, and how buckets are named there.
        settings: Deadlines, and how many calls go at the same time.
    """

    def __init__(self, store: ObjectStore, settings: S3Settings) -> None:
        self.store = store
        self.settings = settings
        self.checksums = CHECKSUMS[settings.checksum]
        self._threads = Threads(settings.threads_max)
        self._client: Any = None
        self._signer: Any = None
        self._making = asyncio.Lock()

    async def run(self, work: Callable[[Any], R], *, size_bytes: int = 0, deadline_s: float = 0) -> R:
        """Give a client to blocking work on a thread.

        Args:
            work: What asks S3, once; a second time where S3 was busy, cut off, or silent.
            size_bytes: What it moves, for the deadline.
            deadline_s: The deadline, where it is not that of the settings.

        Raises:
            StorageUnavailable: What the driver's error means.
        """
        return await self._within(self._twice(work), size_bytes, deadline_s)

    async def ask(
        self, method: str, request: Mapping[str, Any], *, size_bytes: int = 0, deadline_s: float = 0
    ) -> dict[str, Any]:
        """Ask S3 one thing, by the client's method of that name.

        Raises:
            StorageUnavailable: What the driver's error means.
        """

        def work(client: Any) -> dict[str, Any]:
            answer: dict[str, Any] = getattr(client, method)(**request)
            return answer

        return await self.run(work, size_bytes=size_bytes, deadline_s=deadline_s)

    async def sign(self, method: str, request: Mapping[str, Any], *, valid_s: int) -> str:
        """Make a URL that does one thing for whoever has it, at the address that clients know S3 by.

        Raises:
            StorageUnavailable: There are no credentials to sign with.
        """
        public_url = self.settings.link_endpoint_url

        def work(client: Any) -> str:
            if public_url and self._signer is None:
                self._signer = self._make(public_url)
            signer = self._signer if public_url else client
            url: str = signer.generate_presigned_url(method, Params=dict(request), ExpiresIn=valid_s)
            return url

        return await self.run(work)

    async def once(self, work: Callable[[Any], R], *, size_bytes: int = 0) -> R:
        """Give a client to blocking work that cannot be begun again.

        Raises:
            StorageUnavailable: What the driver's error means.
        """
        return await self._within(self._attempt(lambda: work(self._client)), size_bytes, 0)

    async def _within(self, answer: Coroutine[Any, Any, R], size_bytes: int, deadline_s: float) -> R:
        try:
            with anyio.fail_after(deadline_s or self.settings.deadline_s + size_bytes / _RATE_MIN_BYTES_S):
                return await answer
        except TimeoutError:
            pass
        raise unavailable("storage_timeout", "S3 did not answer in time (deadline)")

    async def _twice(self, work: Callable[[Any], R]) -> R:
        client = self._client or await self._made()
        try:
            return await self._attempt(lambda: work(client))
        except ContextDnaError as error:
            if error.code not in REPEATED:
                raise
        await anyio.sleep(random.uniform(*_PAUSE_S))  # noqa: S311 - spreads callers, hides nothing
        return await self._attempt(lambda: work(client))

    async def apart(self, work: Callable[[], R]) -> R:
        """Run blocking work that needs no client, such as hashing, on one of these threads."""
        return await self._threads.run(work)

    async def _attempt(self, work: Callable[[], R]) -> R:
        failure: ContextDnaError
        try:
            return await self._threads.run(work)
        except DRIVER_ERRORS as error:
            failure = mapped_error(error)
        raise failure  # outside of the except: the driver's text is no cause of it

    async def _made(self) -> Any:
        async with self._making:
            if self._client is None:
                self._client = await self._attempt(lambda: self._make(self.store.endpoint_url))
            return self._client

    def _make(self, endpoint_url: str) -> Any:
        _keep_quiet()
        store, own = self.store, self.settings
        by_path = bool(store.endpoint_url) if store.path_style is None else store.path_style
        config = Config(
            connect_timeout=own.connect_timeout_s,
            read_timeout=own.read_timeout_s,
            retries={"total_max_attempts": 1},  # this module repeats, within the deadline
            max_pool_connections=own.threads_max,
            signature_version="s3v4",
            s3={"addressing_style": "path" if by_path else "auto"},
            # We name SHA-256 ourselves; what the SDK adds by default not every S3-compatible server takes.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent_extra="contextdna",
        )
        return boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint_url or None,
            region_name=store.region or ("us-east-1" if store.endpoint_url else None),
            config=config,
        )

    async def close(self) -> None:
        """Let go of idle connections."""
        if self._client is not None:
            with contextlib.suppress(*DRIVER_ERRORS):
                self._client.close()


@asynccontextmanager
async def open_calls(store: ObjectStore, settings: S3Settings) -> AsyncIterator[S3Calls]:
    """Open a client for as long as the context is."""
    calls = S3Calls(store, settings)
    try:
        yield calls
    finally:
        await calls.close()


def _keep_quiet() -> None:
    """Keep the driver from logging requests: at DEBUG it writes signatures and session tokens."""
    for name in _CHATTY:
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.WARNING:
            logger.setLevel(logging.WARNING)
