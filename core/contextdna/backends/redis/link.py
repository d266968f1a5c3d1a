"""The one way to a server or cluster: every call has a deadline, and while it is away none is tried."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import anyio

from contextdna.backends.breaker import Breaker
from contextdna.backends.redis.driver import DRIVER_ERRORS, Place, is_away, mapped_error, open_client, open_listener
from contextdna.errors import StorageUnavailable
from contextdna.values.backend_health import BackendHealth

logger = logging.getLogger(__name__)

R = TypeVar("R")

_PING_KEPT_MS: Final = 1000


class RedisLink:
    """Calls through it are answered, or refused within the deadline; once one was, at once until Redis is back.

    Args:
        place: Where Redis is.
        pause_s: How long to leave it alone after a failure, at first.
        pause_s_max: And at last.
    """

    def __init__(self, place: Place, *, pause_s: float = 0.1, pause_s_max: float = 5.0) -> None:
        self.place = place
        self._client = open_client(place)
        self._seats = anyio.Semaphore(place.connections_max)  # in turn: the driver's own pool lets some wait forever
        self._breaker = Breaker(self._ping, pause_s=pause_s, pause_s_max=pause_s_max, on_change=_tell)

    @property
    def is_attached(self) -> bool:
        """Whether Redis is there, as far as is known."""
        return self._breaker.problem is None

    def problem(self) -> str:
        """Give the code of what keeps Redis away, as far as is known; empty while it is there."""
        return self._breaker.problem.code if self._breaker.problem else ""

    def key(self, name: str) -> str:
        """Give the name of one of our keys there."""
        return f"{self.place.key_prefix}:{name}"

    async def call(self, run: Callable[[Any], Awaitable[R]]) -> R:
        """Ask Redis something.

        A caller that is cancelled meanwhile waits for the answer, which comes soon or never: a connection that is left
        with half a question would answer the next one wrongly.

        Raises:
            StorageUnavailable: It is away, or refuses.
        """
        self._breaker.check()
        async with self._seats:
            self._breaker.check()  # it may have gone while one waited
            return await self._call(run)

    async def attach(self) -> None:
        """Find out whether Redis is there; that it is not is no error."""
        await self._breaker.probe()

    async def until_attached(self) -> None:
        """Wait until Redis is there."""
        await self._breaker.until_back()

    def listener(self) -> Any:
        """Make a client of one connection, to listen with."""
        return open_listener(self.place, self._client)

    async def run(self) -> None:
        """Find out when Redis is back, until cancelled."""
        await self._breaker.run()

    async def health(self) -> BackendHealth:
        """Ask Redis something small, within the deadline."""
        began = time.monotonic()
        await self._breaker.probe()
        latency_ms = (time.monotonic() - began) * 1000
        problem = self._breaker.problem
        return BackendHealth("redis", problem is None, latency_ms, problem.code if problem else "")

    async def close(self) -> None:
        """Close all connections."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(self.place.deadline_s):
            try:
                await self._client.aclose()
            except DRIVER_ERRORS:
                logger.debug("a connection to Redis could not be closed")

    async def _call(self, run: Callable[[Any], Awaitable[R]]) -> R:
        failure: StorageUnavailable
        try:
            with anyio.CancelScope(shield=True):
                async with asyncio.timeout(self.place.deadline_s):
                    return await run(self._client)
        except DRIVER_ERRORS as error:
            failure = mapped_error(error)
            if is_away(error):
                self._breaker.trip(failure)
        raise failure

    async def _ping(self) -> None:
        await self._call(lambda client: client.set(self.key("ping"), b"", px=_PING_KEPT_MS))  # it must take writes


def _tell(problem: StorageUnavailable | None) -> None:
    if problem is None:
        logger.warning("Redis is there again")
    else:
        logger.warning("%s [%s]; until it is back this process does without", problem.message, problem.code)
