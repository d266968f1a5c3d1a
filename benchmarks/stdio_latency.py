"""What one tool call costs over stdio, through the SDK's own client: `uv run python -m benchmarks.stdio_latency`.

Sequential calls, in blocks that take turns so that all series meet the same machine: the floor's `echo` on the SDK's
transport and on ours, `store_memory` of one note of about 40 words, and `retrieve_context` with natural questions about
notes that were stored before.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, TextContent

from benchmarks.corpus import Fact, batches, facts
from benchmarks.progress import end_progress, show_progress
from benchmarks.timing import Summary, report

FLOOR = (sys.executable, "-m", "benchmarks.floor_server")
BATCH_SIZE = 100
BLOCK_SIZE = 25


@dataclass(slots=True)
class Series:
    """One kind of call: the client it goes through, its arguments in turn, and the times that it took."""

    client: Client
    tool: str
    arguments: Iterator[dict[str, Any]]
    times_s: list[float] = field(default_factory=list)

    async def run(self, count: int) -> None:
        """Make `count` calls, one after the other.

        Raises:
            RuntimeError: The tool answered with an error.
        """
        for _ in range(count):
            arguments = next(self.arguments)
            started = time.perf_counter()
            result = await self.client.call_tool(self.tool, arguments)
            self.times_s.append(time.perf_counter() - started)
            checked(self.tool, result)


def checked(tool: str, result: CallToolResult) -> CallToolResult:
    if result.is_error:
        raise RuntimeError(f"{tool}: {' '.join(part.text for part in result.content if isinstance(part, TextContent))}")
    return result


async def connect(stack: AsyncExitStack, command: Sequence[str]) -> Client:
    server = StdioServerParameters(command=command[0], args=list(command[1:]), env={**os.environ})
    return await stack.enter_async_context(Client(server))


async def fill(client: Client, stored: list[Fact]) -> float:
    """Store all facts in batches and return the seconds that it took."""
    started = time.perf_counter()
    for number, batch in enumerate(batches(stored, BATCH_SIZE), start=1):
        memories = [{"content": fact.content, "memory_type": "fact"} for fact in batch]
        checked("store_memory", await client.call_tool("store_memory", {"memories": memories}))
        show_progress(f"stored {number} batches")
    end_progress()
    return time.perf_counter() - started


async def take_turns(series: Sequence[Series], count: int, *, warmup: int) -> None:
    for one in series:
        await one.run(warmup)
        one.times_s.clear()
    for done in range(0, count, BLOCK_SIZE):
        for one in series:
            await one.run(min(BLOCK_SIZE, count - done))
        show_progress(f"measured {min(done + BLOCK_SIZE, count)} of {count} calls of each kind")
    end_progress()


async def share_found(client: Client, asked: Sequence[Fact]) -> float:
    """Return the share of questions whose answer is among the hits, so that a fast wrong answer shows."""
    found = 0
    for fact in asked:
        result = checked("retrieve_context", await client.call_tool("retrieve_context", {"query": fact.question}))
        hits: list[dict[str, Any]] = (result.structured_content or {}).get("hits", [])
        found += any(fact.statement in json.dumps(hit, ensure_ascii=False) for hit in hits)
    return round(found / len(asked), 3)


def floor_series(default: Client, own_pipes: Client, texts: Sequence[Fact]) -> dict[str, Series]:
    return {
        "floor echo": Series(default, "echo", cycle({"text": fact.content} for fact in texts)),
        "floor echo, own pipes": Series(own_pipes, "echo", cycle({"text": fact.content} for fact in texts)),
    }


def product_series(client: Client, new: Sequence[Fact], asked: Sequence[Fact]) -> dict[str, Series]:
    stores: Iterator[dict[str, Any]] = ({"content": fact.content, "memory_type": "fact"} for fact in new)
    questions = cycle({"query": fact.question} for fact in asked)
    return {
        "store_memory": Series(client, "store_memory", stores),
        "retrieve_context": Series(client, "retrieve_context", questions),
    }


async def measure(options: argparse.Namespace, data: str) -> None:
    calls = options.calls + options.warmup
    stored = facts(options.memories + calls, seed=options.seed)
    known, new = stored[: options.memories], stored[options.memories :]
    asked = known[:: max(1, len(known) // options.calls)][: options.calls]
    extra: dict[str, float | str] = {}
    async with AsyncExitStack() as stack:
        series = floor_series(await connect(stack, FLOOR), await connect(stack, (*FLOOR, "--own-pipes")), new)
        if not options.floor_only:
            client = await connect(stack, [*shlex.split(options.command, posix=os.name == "posix"), "--data", data])
            extra["fill_memories_per_s"] = round(len(known) / await fill(client, known), 1)
            series |= product_series(client, new, asked)
        await take_turns(list(series.values()), options.calls, warmup=options.warmup)
        if not options.floor_only:
            extra["share_found"] = await share_found(client, asked)
    summaries = {name: Summary.of(one.times_s) for name, one in series.items()}
    report(summaries, floor="floor echo", as_json=options.json, extra=extra)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memories", type=int, default=10_000, help="stored before the questions (default 10,000)")
    parser.add_argument("--calls", type=int, default=500, help="measured calls of each kind (default 500)")
    parser.add_argument("--warmup", type=int, default=50, help="calls of each kind that are not counted (default 50)")
    parser.add_argument("--seed", type=int, default=1, help="of the corpus (default 1)")
    parser.add_argument("--command", default="contextdna serve", help="the product; --data DIR is added to it")
    parser.add_argument("--floor-only", action="store_true", help="leave the product out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        anyio.run(measure, options, data)


if __name__ == "__main__":
    main()
