"""How often a call is tried, and how long is waited in between."""

import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import anyio


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Exponential backoff with jitter, bounded in number and length.

    Attributes:
        attempts: Tries of one call, the first one included; 1 never repeats.
        delay_s: The wait after the first try; it doubles after each further one.
        delay_s_max: No wait is longer.
        pause_s: After all tries of a call failed, calls fail at once for so long, so that an agent which works
            without its memory is not slowed down by it. The end of a run does not wait for the pause to be over.
        jitter: Gives a number from 0 to 1; of every wait, half is fixed and half is multiplied by it.
        sleep: Waits for a number of seconds.
        clock: Gives the seconds that pauses are measured with.

    Raises:
        ValueError: A number is out of range.
    """

    attempts: int = 4
    delay_s: float = 0.2
    delay_s_max: float = 5.0
    pause_s: float = 5.0
    jitter: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = anyio.sleep
    clock: Callable[[], float] = anyio.current_time

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 20:
            raise ValueError("attempts is a number from 1 to 20")
        if not 0 <= self.delay_s <= self.delay_s_max <= 300:
            raise ValueError("0 <= delay_s <= delay_s_max <= 300")
        if not 0 <= self.pause_s <= 3600:
            raise ValueError("pause_s is a number from 0 to 3600")

    def delays(self) -> Iterator[float]:
        """Give the wait after each try but the last."""
        delay_s = self.delay_s
        for _ in range(self.attempts - 1):
            yield min(delay_s, self.delay_s_max) * (0.5 + 0.5 * self.jitter())
            delay_s *= 2


NO_RETRY = Retry(attempts=1)
"""Every call is tried once."""
