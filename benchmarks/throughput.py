"""How many memories a second the hub stores in process: alone, from many callers at once, and in batches.

Two floors in the same run show what group commit brings:

- *one row a commit*: the same callers put one plain row each into a table through aiosqlite and commit each, with the
  same durability (WAL, synchronous=FULL), and do nothing else: no search index, no access check, no audit, no event.
- *one memory a commit*: the product itself with groups of one.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import aiosqlite

from benchmarks.corpus import facts
from benchmarks.progress import show_progress
from benchmarks.report import Report
from contextdna import AgentId, HubSettings, MemoryDraft, Principal, ProjectId, Role, Workspace, open_hub
from contextdna.backends.sqlite.driver import library

ROW_SCHEMA = "CREATE TABLE memories (id INTEGER PRIMARY KEY, content TEXT NOT NULL)"
OPERATOR = Principal(AgentId("benchmark"), (ProjectId("default"),), role=Role.SYSTEM)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--calls", type=int, default=3000, help="calls of each kind; twice as many from many callers")
    parser.add_argument("--callers", type=int, default=64, help="how many store at once (default 64)")
    parser.add_argument("--batched", type=int, default=10_000, help="memories in batches of 100 (default 10,000)")


def run(options: argparse.Namespace) -> Report:
    """Measure floors and product."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(_measure(Path(folder), options))
    together = found[f"memories, {options.callers} callers"]
    floors = ("one row a commit", "one memory a commit")
    return Report(
        {
            "memories a second": [{"stored": name, "per_s": round(rate, 1)} for name, rate in found.items()],
            f"{options.callers} callers": [
                {"over": name, "times_as_many": round(together / found[name], 2)} for name in floors
            ],
        }
    )


async def _measure(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Measure floors and product, each on a database of its own."""
    calls, callers = options.calls, options.callers
    texts = [fact.content for fact in facts(3 * calls + options.batched)]
    alone, together, batch = texts[:calls], texts[calls : 3 * calls], texts[3 * calls :]
    show_progress("storing", 0, 5)
    found = {"one row a commit": await rows_one_by_one(folder / "rows.db", alone, callers)}
    show_progress("storing", 1, 5)
    async with open_hub(HubSettings(data_dir=folder / "groups-of-one", sqlite_group_max=1)) as hub:
        found["one memory a commit"] = await memories_one_by_one(hub.bind(OPERATOR), alone, callers)
    show_progress("storing", 2, 5)
    async with open_hub(HubSettings(data_dir=folder / "groups")) as hub:
        workspace = hub.bind(OPERATOR)
        found["memories, 1 caller"] = await memories_one_by_one(workspace, alone, 1)
        show_progress("storing", 3, 5)
        found[f"memories, {callers} callers"] = await memories_one_by_one(workspace, together, callers)
        show_progress("storing", 4, 5)
        found["memories, batches of 100"] = await memories_in_batches(workspace, batch, 100)
    show_progress("storing", 5, 5)
    return found


async def rate(texts: Sequence[str], callers: int, store: Callable[[str], Awaitable[object]]) -> float:
    """Store every text once, from several callers at once, and give texts a second."""
    waiting: Iterator[str] = iter(texts)

    async def caller() -> None:
        for text in waiting:
            await store(text)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return len(texts) / (time.perf_counter() - started)


async def rows_one_by_one(path: Path, texts: Sequence[str], callers: int) -> float:
    """The floor: a plain row and a commit for every call."""
    connection = aiosqlite.Connection(lambda: library.connect(str(path), isolation_level=None), 64)
    turn = asyncio.Lock()
    async with connection:
        for setup in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", ROW_SCHEMA):
            await connection.execute_fetchall(setup)

        async def store(text: str) -> None:
            async with turn:
                await connection.execute_fetchall("BEGIN IMMEDIATE")
                await connection.execute_fetchall("INSERT INTO memories (content) VALUES (?)", (text,))
                await connection.execute_fetchall("COMMIT")

        return await rate(texts, callers, store)


async def memories_one_by_one(workspace: Workspace, texts: Sequence[str], callers: int) -> float:
    """The product: one memory a call."""
    return await rate(texts, callers, lambda text: workspace.store_memories([MemoryDraft(text)]))


async def memories_in_batches(workspace: Workspace, texts: Sequence[str], size: int) -> float:
    """The product: batches, one after the other."""
    started = time.perf_counter()
    for start in range(0, len(texts), size):
        await workspace.store_memories([MemoryDraft(text) for text in texts[start : start + size]])
    return len(texts) / (time.perf_counter() - started)
