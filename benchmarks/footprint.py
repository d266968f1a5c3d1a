"""What server processes take while they are watched: memory over time, and time on a core. Linux only."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.memory import descendants

_PROCESSES = Path("/proc")
_INTERVAL_S = 1.0
_FIGURES = ("Rss", "Pss")

Kib = Mapping[str, int]


def processes_of(pid: int) -> set[int]:
    """Give a process and those below it; none where this system does not tell."""
    return {pid, *descendants(pid)} if (_PROCESSES / "self" / "smaps_rollup").exists() else set()


def kib_of(pids: Iterable[int]) -> dict[str, int]:
    """Sum up what some processes take, in KiB, by ``Rss`` and ``Pss``."""
    kib = dict.fromkeys(_FIGURES, 0)
    for pid in pids:
        for line in (_PROCESSES / str(pid) / "smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in kib:
                kib[name] += int(value.split()[0])
    return kib


def core_s_of(pids: Iterable[int]) -> float:
    """Sum up the seconds that all threads of some processes were on a core. Source: proc(5), schedstat."""
    files = (file for pid in pids for file in (_PROCESSES / str(pid) / "task").glob("*/schedstat"))
    total_ns = 0
    for file in files:
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            total_ns += int(file.read_text().split()[0])
    return total_ns / 1e9


@dataclass(slots=True)
class Watch:
    """Memory of some processes, each second of the time that they were watched, and what they computed in it."""

    pids: set[int]
    at_s: list[float] = field(default_factory=list)
    taken: list[Kib] = field(default_factory=list)
    core_s: float = 0.0
    _watched_s: float = 0.0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch for the length of the block."""
        started, core_s = time.perf_counter(), core_s_of(self.pids)
        task = asyncio.create_task(self._look(started))
        try:
            yield
        finally:
            task.cancel()
            self.core_s += core_s_of(self.pids) - core_s
            self._watched_s += time.perf_counter() - started

    async def _look(self, started: float) -> None:
        while True:
            self.at_s.append(self._watched_s + time.perf_counter() - started)
            self.taken.append(kib_of(self.pids))
            await asyncio.sleep(_INTERVAL_S)

    def after(self, settled_s: float) -> tuple[list[float], list[Kib]]:
        """Give when it was looked, and what was seen, from a time on."""
        kept = [(at, kib) for at, kib in zip(self.at_s, self.taken, strict=True) if at >= settled_s]
        return [at for at, _ in kept], [kib for _, kib in kept]


def slope(at_s: Sequence[float], kib: Sequence[int]) -> float:
    """Give the growth in KiB a second, by least squares; 0 of fewer than two looks."""
    return round(statistics.linear_regression(at_s, kib).slope, 2) if len(set(at_s)) > 1 else 0.0
