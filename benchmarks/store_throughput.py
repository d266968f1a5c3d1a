"""How many memories a second the hub stores in process: alone, from many callers at once, and in batches.

`uv run python -m benchmarks.store_throughput`. Two floors in the same run show what group commit brings:

- *one row a commit*: the same callers put one plain row each into a table through aiosqlite and commit each, with the
  same durability (WAL, synchronous=FULL), and do nothing else: no search index, no access check, no audit, no event.
- *one memory a commit*: the product itself with groups of one.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import aiosqlite
from pysqlite3 import dbapi2

from benchmarks.corpus import facts
from contextdna import AgentId, HubSettings, MemoryDraft, Principal, ProjectId, Role, Workspace, open_hub

ROW_SCHEMA = "CREATE TABLE memories (id INTEGER PRIMARY KEY, content TEXT NOT NULL)"
OPERATOR = Principal(AgentId("benchmark"), (ProjectId("default"),), role=Role.SYSTEM)


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
    connection = aiosqlite.Connection(lambda: dbapi2.connect(str(path), isolation_level=None), 64)
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


async def measure(folder: Path, calls: int, callers: int) -> dict[str, float]:
    """Measure floors and product, each on a database of its own."""
    texts = [fact.content for fact in facts(3 * calls + 10_000)]
    alone, together, batch = texts[:calls], texts[calls : 3 * calls], texts[3 * calls :]
    found = {"one row a commit": await rows_one_by_one(folder / "rows.db", alone, callers)}
    async with open_hub(HubSettings(data_dir=folder / "groups-of-one", sqlite_group_max=1)) as hub:
        found["one memory a commit"] = await memories_one_by_one(hub.bind(OPERATOR), alone, callers)
    async with open_hub(HubSettings(data_dir=folder / "groups")) as hub:
        workspace = hub.bind(OPERATOR)
        found["memories, 1 caller"] = await memories_one_by_one(workspace, alone, 1)
        found[f"memories, {callers} callers"] = await memories_one_by_one(workspace, together, callers)
        found["memories, batches of 100"] = await memories_in_batches(workspace, batch, 100)
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=3000, help="calls of each kind; twice as many from many callers")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder), options.calls, options.callers))
    together = found[f"memories, {options.callers} callers"]
    ratios = {name: together / found[name] for name in ("one row a commit", "one memory a commit")}
    if options.json:
        json.dump({"per_second": found, "group_commit_over": ratios}, sys.stdout, indent=2)
        print()
        return
    for name, per_second in found.items():
        print(f"{name:28}{per_second:10.0f}/s")
    for name, ratio in ratios.items():
        print(f"{options.callers} callers over {name:24}{ratio:6.2f}")


if __name__ == "__main__":
    main()
