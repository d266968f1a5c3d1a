"""What the cache costs and saves: in the process, in Redis, and beside reads of the database.

Without `--redis` only the cache in the process is measured; without `--database` only SQLite. Working state of 10 keys
is read as the process that wrote it reads it (near), as another one that finds it in Redis (far), and from the database
alone; and it is written, by 1 caller and by many. A memory is read through the door, and by parts: its row and body,
once and 11 times in one transaction, and what the same bytes take from Redis.
"""

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.report import Report, Row
from benchmarks.timing import Series, Summary
from contextdna import (
    AgentId,
    BeginRequest,
    Hub,
    HubSettings,
    Level,
    MemoryDraft,
    Principal,
    ProjectId,
    RecordId,
    open_hub,
)
from contextdna.backends.in_process import InProcessCache
from contextdna.domain.access import Caller
from contextdna.domain.operation import open_body
from contextdna.hub.commons import redis_place
from contextdna.hub.state import State
from contextdna.ports.database import Transaction
from contextdna.ports.storage import Cache
from contextdna.values.principal import Reader

_PROJECT = ProjectId("default")
_AGENT = Principal(AgentId("benchmark"), (_PROJECT,))
_READER = Reader(_PROJECT, _AGENT.agent_id)
_SETTINGS = HubSettings(projects=(_PROJECT,), master_key="c0" * 32)
_VALUE = bytes(1024)
_KEYS = 10
_TEN = [f"key{number}" for number in range(10)]
_TEXT = "The deployment of the checkout failed because the certificate of the payment gateway had expired. " * 6


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--redis", default="", metavar="URL", help="a Redis server; its keys of ours are removed")
    parser.add_argument("--database", default="", metavar="URL", help="an empty PostgreSQL database, besides SQLite")
    parser.add_argument("--calls", type=int, default=1000, help="calls of each kind (default 1000)")
    parser.add_argument("--callers", type=int, default=64, help="how many at once, besides 1 (default 64)")


def run(options: argparse.Namespace) -> Report:
    """Measure; of the URLs, which may hold passwords, the options keep afterwards no more than that they were given."""
    report = asyncio.run(_measure(options))
    options.redis, options.database = bool(options.redis), bool(options.database)
    return report


async def _measure(options: argparse.Namespace) -> Report:
    engines = {"sqlite": "", **({"postgresql": options.database} if options.database else {})}
    caches = {"in process": "", **({"redis": options.redis} if options.redis else {})}
    tables: dict[str, list[Row]] = {"cache": await _caches(options), "state": [], "memory": []}
    for engine, database in engines.items():
        for cache, url in caches.items():
            with tempfile.TemporaryDirectory() as folder:
                settings = replace(_SETTINGS, data_dir=Path(folder), database=database, cache=url)
                tables["state"] += await _states(settings, options, of={"database": engine, "cache": cache})
                if cache == list(caches)[-1]:
                    tables["memory"] += await _memories(settings, options, of={"database": engine})
    return Report(
        tables, ["cache: 1 KiB a value. state: 10 keys, of which one is written. memory: 600 characters, private."]
    )


async def _caches(options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        caches: dict[str, Cache] = {"in process": InProcessCache()}
        if options.redis:
            caches["redis"] = await stack.enter_async_context(_redis(options.redis))
        for name, cache in caches.items():
            calls: dict[str, Callable[[str], Awaitable[Any]]] = {
                "set": lambda key, to=cache: to.set(key, _VALUE, ttl_s=60),  # type: ignore[misc]
                "get, a hit": lambda key, of=cache: of.get(key),  # type: ignore[misc]
                "mget of 10": lambda _, of=cache: of.mget(_TEN),  # type: ignore[misc]
            }
            for call, run_it in calls.items():
                for callers in (1, options.callers):
                    found = await _timed(run_it, list(islice(cycle(_TEN), options.calls)), callers=callers)
                    rows.append({"cache": name, "call": call, "callers": callers, **asdict(found)})
    return rows


@asynccontextmanager
async def _redis(url: str) -> AsyncIterator[Cache]:
    from contextdna.backends.redis import RedisCache, RedisLink

    link = RedisLink(replace(redis_place(HubSettings(cache=url)), timeout_s=10))
    cache = RedisCache(link)
    yield cache
    await cache.clear()
    await link.close()


class _NoCache(InProcessCache):
    """Holds nothing."""

    async def get(self, key: str) -> bytes | None:  # noqa: ARG002
        """Find nothing."""
        return None


@dataclass(frozen=True, slots=True)
class _Way:
    """How state is read or written."""

    name: str
    call: Callable[[int], Awaitable[Any]]


async def _states(settings: HubSettings, options: argparse.Namespace, *, of: Mapping[str, str]) -> list[Row]:
    rows: list[Row] = []
    async with open_hub(settings) as hub, AsyncExitStack() as stack:
        handles = [await _begun(hub) for _ in range(options.callers)]
        states = [hub.bind(_AGENT, session_id=handle).state for handle in handles]
        bare = State(hub._door, _NoCache(), Caller(_AGENT, handles[0]))
        ways = [
            _Way("write", lambda number: states[number % len(states)].set("key1", number)),
            _Way("read, near", lambda _: states[0].mget()),
            _Way("read, no cache", lambda _: bare.mget()),
        ]
        if settings.cache:
            far = await stack.enter_async_context(_redis(settings.cache))
            other = State(hub._door, far, Caller(_AGENT, handles[0]))
            ways.insert(2, _Way("read, far", lambda _: other.mget()))
        for way in ways:
            for callers in (1, options.callers):
                found = await _timed(way.call, range(options.calls), callers=callers)
                rows.append({**of, "call": way.name, "callers": callers, **asdict(found)})
    return rows


async def _begun(hub: Hub) -> str:
    handle = (await hub.bind(_AGENT).begin_session(BeginRequest(_AGENT.agent_id))).handle
    await hub.bind(_AGENT, session_id=handle).state.mset({f"key{number}": _TEXT[:100] for number in range(_KEYS)})
    return handle


async def _memories(settings: HubSettings, options: argparse.Namespace, *, of: Mapping[str, str]) -> list[Row]:
    async with open_hub(settings) as hub, AsyncExitStack() as stack:
        workspace = hub.bind(_AGENT)
        drafts = [MemoryDraft(f"{number} {_TEXT}", level=Level.PRIVATE) for number in range(100)]
        ids = [stored.id for stored in await workspace.store_memories(drafts)]
        calls: dict[str, Callable[[RecordId], Awaitable[Any]]] = {
            "get_memories, as ever": lambda record_id: workspace.get_memories([record_id]),
            "its row and body, in a unit": lambda record_id: hub._door.database.read(
                lambda tx: _row_and_body(hub, tx, record_id, times=1)
            ),
            "11 times row and body, in a unit": lambda record_id: hub._door.database.read(
                lambda tx: _row_and_body(hub, tx, record_id, times=11)
            ),
        }
        if settings.cache:
            cache = await stack.enter_async_context(_redis(settings.cache))
            await cache.mset({record_id: _TEXT.encode() for record_id in ids}, ttl_s=600)
            calls["its bytes from redis"] = cache.get
        asked = list(islice(cycle(ids), options.calls))
        return [
            {**of, "call": name, "callers": callers, **asdict(await _timed(call, asked, callers=callers))}
            for name, call in calls.items()
            for callers in (1, options.callers)
        ]


async def _row_and_body(hub: Hub, tx: Transaction, record_id: RecordId, *, times: int) -> None:
    keys, now = await hub._door.vault.keys(tx, _PROJECT), hub._door.clock()
    for _ in range(times):
        [found] = await tx.records.read(_READER, [record_id], now=now)
        open_body(keys, found.record)


async def _timed(call: Callable[[Any], Awaitable[Any]], asked: Sequence[Any], *, callers: int) -> Summary:
    series: Series[Any, Any] = Series(call)
    await series.run(asked[: len(asked) // 10 + 1], callers=callers)
    series.forget()
    await series.run(asked, callers=callers)
    return Summary.of(series.times_s)
