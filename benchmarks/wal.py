"""What the write-ahead log costs: on the way of a write through the hub, and by itself.

A memory is stored through the door by 1 caller and by many: in memory without a log; in memory with the log written but
never flushed, which is what the log costs without the disk; in memory with the log, flushed before each answer; and in
SQLite. All take turns, a few calls each, so that a machine that is slow for a while is slow for all. `overhead` is what
a way takes longer than memory without a log, as a share of that: the median over turns. `cpu_ms` is the processor's
time of the whole process, `fsyncs` how often the disk was waited for, each for a call.

By themselves the logs take entries about as large as what one stored memory writes.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Final
from unittest import mock

from benchmarks.report import Report, Row
from benchmarks.timing import Series, Summary
from contextdna import AgentId, Hub, HubSettings, Level, MemoryDraft, Principal, ProjectId, open_hub
from contextdna.backends.segmented_log import open_segmented_log
from contextdna.backends.sqlite.log import open_sqlite_log
from contextdna.ports.write_ahead_log import WriteAheadLog

_PROJECT: Final = ProjectId("default")
_AGENT: Final = Principal(AgentId("benchmark"), (_PROJECT,))
_SETTINGS: Final = HubSettings(projects=(_PROJECT,), master_key="c0" * 32)
_TEXT: Final = "The deployment of the checkout failed because the certificate of the payment gateway had expired. " * 6
_ENTRY: Final = os.urandom(4096)
_NUMBERS: Final = count()
_NOTE: Final = (
    "store: 600 characters, level private; fsyncs are those of the log, SQLite does its own. "
    "log: entries of 4 KiB, one a unit."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--database", default="", metavar="URL", help="a PostgreSQL database, for a log that lies there"
    )
    parser.add_argument("--calls", type=int, default=1500, help="calls of each kind (default 1500)")
    parser.add_argument("--callers", type=int, default=64, help="how many at once, besides 1 (default 64)")
    parser.add_argument("--turns", type=int, default=15, help="in how many turns they are made (default 15)")
    parser.add_argument("--folder", type=Path, help="on the disk that is meant (default: that of temporary files)")


def run(options: argparse.Namespace) -> Report:
    """Measure; of the URL, which may hold a password, the options keep no more than that it was given."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report = asyncio.run(_measure(options, Path(folder)))
    options.database = bool(options.database)
    return report


async def _measure(options: argparse.Namespace, folder: Path) -> Report:
    tables = {"store": await _stores(options, folder), "log": await _logs(options, folder)}
    return Report(tables, [_NOTE])


class _Disk:
    """Counts flushes, and leaves them out where they are not wanted."""

    def __init__(self) -> None:
        self.flushes = 0

    @contextmanager
    def watched(self, *, flushing: bool) -> Iterator[None]:
        """Count for a while."""
        flush = os.fsync

        def counted(descriptor: int) -> None:
            self.flushes += 1
            if flushing:
                flush(descriptor)

        with mock.patch.object(os, "fsync", counted):
            yield


class _Way:
    """One way of storing, and what it took."""

    def __init__(self, name: str, hub: Hub, *, flushing: bool = True) -> None:
        self.name = name
        self.series: Series[int, object] = Series(lambda _: _store(hub))
        self.flushing = flushing
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what was measured: it was the warm-up."""
        self.series.forget()
        self.disk = _Disk()
        self.cpu_s = 0.0
        self.turns_s: list[float] = []

    async def take_turn(self, calls: int, *, callers: int) -> None:
        """Store some memories."""
        cpu_s, elapsed_s = time.process_time(), self.series.elapsed_s
        with self.disk.watched(flushing=self.flushing):
            await self.series.run(range(calls), callers=callers)
        self.cpu_s += time.process_time() - cpu_s
        self.turns_s.append(self.series.elapsed_s - elapsed_s)

    def row(self, floor: "_Way", callers: int) -> Row:
        """Give what was found."""
        calls = len(self.series.times_s)
        shares = [own / least - 1 for own, least in zip(self.turns_s, floor.turns_s, strict=True)]
        return {
            "way": self.name,
            "callers": callers,
            **asdict(Summary.of(self.series.times_s)),
            "per_second": self.series.per_second,
            "overhead": round(statistics.median(shares), 3),
            "cpu_ms": round(self.cpu_s / calls * 1000, 3),
            "fsyncs": round(self.disk.flushes / calls, 3),
        }


async def _store(hub: Hub) -> object:
    draft = MemoryDraft(f"{_TEXT} {next(_NUMBERS)}", level=Level.PRIVATE)
    return await hub.bind(_AGENT).store_memories([draft])


async def _stores(options: argparse.Namespace, folder: Path) -> list[Row]:
    rows: list[Row] = []
    for callers in (1, options.callers):
        async with _opened_ways(folder / f"store-{callers}") as ways:
            for _ in range(options.turns):
                for way in ways:
                    await way.take_turn(max(callers, options.calls // options.turns), callers=callers)
            rows += [way.row(ways[0], callers) for way in ways]
    return rows


@asynccontextmanager
async def _opened_ways(folder: Path) -> AsyncIterator[list[_Way]]:
    def kept(name: str, *, write_ahead: bool) -> HubSettings:
        return replace(_SETTINGS, data_dir=folder / name, write_ahead=write_ahead)

    async with AsyncExitStack() as stack:

        async def opened(settings: HubSettings) -> Hub:
            return await stack.enter_async_context(open_hub(settings))

        ways = [
            _Way("in memory", await opened(_SETTINGS)),
            _Way("in memory, log unflushed", await opened(kept("unflushed", write_ahead=True)), flushing=False),
            _Way("in memory, log", await opened(kept("log", write_ahead=True))),
            _Way("sqlite", await opened(kept("sqlite", write_ahead=False))),
        ]
        for way in ways:
            await way.take_turn(50, callers=1)
            way.begin_anew()
        yield ways


def _committing(log: WriteAheadLog) -> Callable[[int], Awaitable[int]]:
    async def commit(_: int) -> int:
        unit = await log.begin()
        await log.write_entry(unit, _ENTRY)
        return await log.commit(unit)

    return commit


async def _logs(options: argparse.Namespace, folder: Path) -> list[Row]:
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        logs: dict[str, WriteAheadLog] = {
            "files": await stack.enter_async_context(open_segmented_log(folder / "log")),
            "sqlite": await stack.enter_async_context(open_sqlite_log(folder / "log.db")),
        }
        if options.database:
            from contextdna.backends.postgres.log import open_postgres_log

            name = f"benchmark {os.getpid()}"
            logs["postgresql"] = await stack.enter_async_context(open_postgres_log(options.database, name=name))
        for callers in (1, options.callers):
            for name, log in logs.items():
                series: Series[int, int] = Series(_committing(log))
                await series.run(range(options.calls), callers=callers)
                found = asdict(Summary.of(series.times_s))
                rows.append({"log": name, "callers": callers, **found, "per_second": series.per_second})
    return rows
