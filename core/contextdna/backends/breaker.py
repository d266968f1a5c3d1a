"""A circuit breaker: what does not answer is not asked again by every caller, but by one, now and then."""

import random
from collections.abc import Awaitable, Callable
from copy import copy

import anyio

from contextdna.errors import ContextDnaError, StorageUnavailable


class Breaker:
    """Knows whether something outside is there, and finds out when it is back.

    Args:
        ask: Asks it something small, within a deadline of its own.
        pause_s: How long to leave it alone after a failure, at first; then twice as long each time.
        pause_s_max: The longest.
        on_change: Told when it went away, and when it is back.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[None]],
        *,
        pause_s: float = 0.1,
        pause_s_max: float = 5.0,
        on_change: Callable[[StorageUnavailable | None], None] = lambda _: None,
    ) -> None:
        self._ask = ask
        self._pause_s = pause_s
        self._pause_s_max = pause_s_max
        self._on_change = on_change
        self._problem: StorageUnavailable | None = None
        self._gone = anyio.Event()
        self._back = anyio.Event()
        self._back.set()

    @property
    def problem(self) -> StorageUnavailable | None:
        """What keeps it away; None while it is there, as far as is known."""
        return self._problem

    def check(self) -> None:
        """Refuse at once what would only wait.

        Raises:
            StorageUnavailable: It is away.
        """
        if self._problem is not None:
            raise copy(self._problem)

    def trip(self, problem: StorageUnavailable) -> None:
        """Note that it failed; until it is back ``check`` refuses."""
        if self._problem is None:
            self._back = anyio.Event()
            self._problem = problem
            self._on_change(problem)
            self._gone.set()
        else:
            self._problem = problem

    async def until_back(self) -> None:
        """Wait until it is there."""
        await self._back.wait()

    async def run(self) -> None:
        """Find out when it is back, until cancelled: by asking ever more rarely, at times of its own."""
        while True:
            await self._gone.wait()
            pause_s = self._pause_s
            while self._problem is not None:
                await anyio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                pause_s = min(2 * pause_s, self._pause_s_max)
                await self.probe()

    async def probe(self) -> None:
        """Ask it now."""
        try:
            await self._ask()
        except ContextDnaError as error:  # it may be back, and damaged
            self.trip(_problem(error))
            return
        if self._problem is not None:
            self._problem = None
            self._gone = anyio.Event()
            self._back.set()
            self._on_change(None)


def _problem(error: ContextDnaError) -> StorageUnavailable:
    if isinstance(error, StorageUnavailable):
        return error
    return StorageUnavailable(error.message, code=error.code, hint=error.hint, retryable=error.retryable)
