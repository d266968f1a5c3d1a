"""What one tool call costs over stdio, through the SDK's own client.

Sequential calls, in blocks that take turns so that all series meet the same machine: the floor's `echo` on the SDK's
transport and on ours, `store_memory` of one note of about 40 words, `retrieve_context` with natural questions about
notes that were stored before, and a floor that gives one answer of `retrieve_context` each time: what an answer of that
size costs client and SDK.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp.types import CallToolResult

from benchmarks.corpus import Fact, batches, facts
from benchmarks.progress import show_progress
from benchmarks.report import Report, Row
from benchmarks.servers import FLOOR, add_command_option, called, checked, command_of, connected
from benchmarks.timing import Series, Summary, beside_floor

_BATCH = 100
_BLOCK = 25

Arguments = Mapping[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--memories", type=int, default=10_000, help="stored before the questions (default 10,000)")
    parser.add_argument("--calls", type=int, default=500, help="measured calls of each kind (default 500)")
    parser.add_argument("--warmup", type=int, default=50, help="calls of each kind that are not counted (default 50)")
    parser.add_argument("--seed", type=int, default=1, help="of the corpus (default 1)")
    parser.add_argument("--floor-only", action="store_true", help="leave the product out")
    add_command_option(parser)


def run(options: argparse.Namespace) -> Report:
    """Measure all series."""
    with tempfile.TemporaryDirectory() as data:
        return anyio.run(_measure, options, data)


async def _measure(options: argparse.Namespace, data: str) -> Report:
    calls = options.calls + options.warmup
    stored = facts(options.memories + calls, seed=options.seed)
    known, new = stored[: options.memories], stored[options.memories :]
    notes = [{"content": fact.content} for fact in new]
    asked = known[:: max(1, len(known) // calls)]
    questions = [{"query": asked[number % len(asked)].question} for number in range(calls)]
    async with AsyncExitStack() as stack:
        default = await stack.enter_async_context(connected(FLOOR))
        own_pipes = await stack.enter_async_context(connected([*FLOOR, "--own-pipes"]))
        echoed = [{"text": fact.content} for fact in new]
        plan = {"floor echo": (_calls(default, "echo"), echoed)}
        plan["floor echo, own pipes"] = (_calls(own_pipes, "echo"), echoed)
        extra: list[Row] = []
        if not options.floor_only:
            client = await stack.enter_async_context(connected([*command_of(options), "--data", data]))
            per_s = round(len(known) / await _fill(client, known))
            extra.append({"figure": "memories stored a second", "value": per_s})
            plan["store_memory"] = (_calls(client, "store_memory"), notes)
            plan["retrieve_context"] = (_calls(client, "retrieve_context"), questions)
            answer = Path(data, "answer.json")
            given = await client.call_tool("retrieve_context", questions[0])
            answer.write_text(given.model_dump_json(by_alias=True))  # noqa: ASYNC240 - before anything is measured
            same = await stack.enter_async_context(connected([*FLOOR, "--answer", str(answer)]))
            plan["floor, an answer of retrieve_context"] = (_calls(same, "echo"), echoed)
        await _take_turns(plan, options.calls, warmup=options.warmup)
        if not options.floor_only:
            extra.append({"figure": "share of answers found", "value": await _share_found(client, asked[:500])})
    summaries = {name: Summary.of(series.times_s) for name, (series, _) in plan.items()}
    return Report({"calls": beside_floor(summaries)} | ({"beside": extra} if extra else {}))


def _calls(client: Client, tool: str) -> Series[Arguments, CallToolResult]:
    async def call(arguments: Arguments) -> CallToolResult:
        return checked(tool, await client.call_tool(tool, dict(arguments)))

    return Series(call)


async def _take_turns(
    plan: Mapping[str, tuple[Series[Arguments, CallToolResult], Sequence[Arguments]]], calls: int, *, warmup: int
) -> None:
    for series, arguments in plan.values():
        await series.run(arguments[:warmup], callers=1)
        series.forget()
    for start in range(warmup, warmup + calls, _BLOCK):
        end = min(start + _BLOCK, warmup + calls)
        for series, arguments in plan.values():
            await series.run(arguments[start:end], callers=1)
        show_progress("calls of each kind", end - warmup, calls)


async def _fill(client: Client, stored: Sequence[Fact]) -> float:
    """Store all facts in batches and give the seconds that it took."""
    started, done = time.perf_counter(), 0
    for batch in batches(stored, _BATCH):
        memories = [{"content": fact.content, "memory_type": "fact"} for fact in batch]
        await called(client, "store_memory", {"memories": memories})
        done += len(batch)
        show_progress("storing", done, len(stored))
    return time.perf_counter() - started


async def _share_found(client: Client, asked: Sequence[Fact]) -> float:
    """Give the share of questions whose answer is among the hits, so that a fast wrong answer shows."""
    found = 0
    for fact in asked:
        answer = await called(client, "retrieve_context", {"query": fact.question})
        found += any(fact.statement in json.dumps(hit, ensure_ascii=False) for hit in answer["hits"])
    return round(found / len(asked), 3)
