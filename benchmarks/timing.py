"""Timing calls, from one caller or from many at once, and summarising the times."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Generic, TypeVar

from benchmarks.report import Row

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Summary:
    """Percentiles of one series of measurements."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @classmethod
    def of(cls, times_s: Sequence[float]) -> "Summary":
        """Summarise measurements; needs at least one."""
        several = times_s if len(times_s) > 1 else [*times_s, *times_s]
        cuts = statistics.quantiles(several, n=100, method="inclusive")
        p50, p95, p99 = (round(cuts[percent - 1] * 1000, 3) for percent in (50, 95, 99))
        return cls(len(times_s), p50_ms=p50, p95_ms=p95, p99_ms=p99)


def beside_floor(series: Mapping[str, Summary]) -> list[Row]:
    """Make a row of each series, with the ratio of its p50 to that of the first, the floor."""
    floor = next(iter(series.values()))
    return [
        {"call": name, **asdict(found), "p50_ratio": round(found.p50_ms / floor.p50_ms, 2)}
        for name, found in series.items()
    ]


@dataclass(slots=True)
class Series(Generic[Asked, Answer]):
    """One kind of call, the answers it gave and the times that it took."""

    call: Callable[[Asked], Awaitable[Answer]]
    times_s: list[float] = field(default_factory=list)
    answers: list[tuple[Asked, Answer]] = field(default_factory=list)
    elapsed_s: float = 0.0

    async def run(self, asked: Sequence[Asked], *, callers: int) -> None:
        """Make a call with each argument, from several callers at once."""
        waiting = iter(asked)

        async def caller() -> None:
            for one in waiting:
                started = time.perf_counter()
                answer = await self.call(one)
                self.times_s.append(time.perf_counter() - started)
                self.answers.append((one, answer))

        started = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        self.elapsed_s += time.perf_counter() - started

    def forget(self) -> None:
        """Begin anew: what was measured so far was the warm-up."""
        self.times_s, self.answers, self.elapsed_s = [], [], 0.0

    @property
    def per_second(self) -> float:
        """Calls a second."""
        return round(len(self.times_s) / self.elapsed_s, 1)
