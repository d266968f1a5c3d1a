"""What calls cost over HTTP, one at a time and from many clients at once, on each transport.

The product (`contextdna serve --http`) and the floor, a trivial server on the same SDK over the same transports, are
processes of their own; this one is all the clients. A client is as lean as can be, or it would be what is measured, and
reads every answer: one that is an error counts as such.

One client: calls one at a time, in blocks that take turns. Load: many clients call all the time, stores and questions
as the dice fall, in rounds of some seconds that take turns with the floor's `echo` of the same texts; latencies there
are mostly waiting. `core_ms` is the server's time on a core, which other work on the machine moves less. Every store
that was acknowledged is looked for when the server has ended. Memory is read each second of load; its growth is what
comes after the first 10 s, and `rss_ratio` what was taken at the end of it to what was taken at its beginning, medians
of 5 s. Every text that is stored has a word of its own, of which the server remembers some (docs/remote.md, Memory):
with `--stores 0`, or after a longer time, nothing grows.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.callers import TRANSPORTS, Caller, Refused
from benchmarks.corpus import Fact, facts
from benchmarks.footprint import Watch, core_s_of, processes_of, slope
from benchmarks.http1 import Address
from benchmarks.http_servers import FLOOR, Running, fill, lost, product, serving, tokens
from benchmarks.progress import show_progress
from benchmarks.report import Report, Row
from benchmarks.servers import add_command_option, command_of
from benchmarks.timing import Summary

_BLOCK = 25
_ROUND_S = 5.0
_FLOOR_SHARE = 0.4
"""Of a round, for the floor: its figures settle sooner."""
_SETTLED_S = 10.0
_ENDS = 5
"""Looks at the beginning and the end of a time that are compared."""

Arguments = Mapping[str, Any]
MakeCaller = Callable[[Address, str], Caller]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--memories", type=int, default=10_000, help="stored before (default 10,000)")
    parser.add_argument("--clients", type=int, default=64, help="at once (default 64)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load on each transport (default 60)")
    parser.add_argument("--stores", type=float, default=0.5, help="share of calls that store (default 0.5)")
    parser.add_argument("--one-token", action="store_true", help="all clients are one agent, not each its own")
    parser.add_argument("--calls", type=int, default=300, help="of each kind, one at a time (default 300)")
    parser.add_argument("--warmup", type=int, default=25, help="of these, more that are not counted (default 25)")
    parser.add_argument("--transport", default="", help="only those whose name holds this, for example 2026 or SSE")
    parser.add_argument("--seed", type=int, default=1, help="of the corpus and the dice (default 1)")
    add_command_option(parser)


def run(options: argparse.Namespace) -> Report:
    """Measure all transports."""
    return asyncio.run(_measure(options))


async def _measure(options: argparse.Namespace) -> Report:
    tables: dict[str, list[Row]] = {"one client": [], "load": [], "under load": []}
    notes: list[str] = []
    for name, make in TRANSPORTS.items():
        if options.transport not in name:
            continue
        found = await _measure_transport(make, options)
        for title, rows in found.tables.items():
            tables[title] += [{"transport": name, **row} for row in rows]
        notes += [f"{name}: {note}" for note in found.notes]
    return Report(tables, notes)


async def _measure_transport(make: MakeCaller, options: argparse.Namespace) -> Report:
    """Measure one transport, on servers and a data folder of its own."""
    load = Load(facts(options.memories, seed=options.seed), options.stores, random.Random(options.seed))
    with tempfile.TemporaryDirectory() as data:
        folder = Path(data)
        given = await tokens(folder, 1 if options.one_token else options.clients)
        async with AsyncExitStack() as stack:
            floor = await stack.enter_async_context(serving(FLOOR))
            served = await stack.enter_async_context(serving(product(command_of(options), folder)))
            alone = await _one_client(make, floor, served, token=given[0], load=load, options=options)
            watch = Watch(processes_of(served.pid))
            kinds, elapsed_s = await _many_clients(
                make, floor, served, given=given, load=load, watch=watch, options=options
            )
        missing = await lost(folder, load.acknowledged)
    under = _under_load(load, kinds, elapsed_s, watch=watch, missing=missing)
    return Report({"one client": alone, "load": _beside_echo(kinds), "under load": [under]}, load.errors[:3])


# --- what is asked ---


@dataclass(slots=True)
class Load:
    """What clients send, and what became of it."""

    known: list[Fact]
    stores: float
    dice: random.Random
    acknowledged: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    found: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def draw(self) -> str:
        """Choose the next call of a mixed load."""
        return "store_memory" if self.dice.random() < self.stores else "retrieve_context"

    async def make(self, caller: Caller, tool: str) -> float:
        """Make a call and give the seconds that it took.

        Raises:
            Refused, OSError, ValueError: It failed.
        """
        fact = self.dice.choice(self.known)
        arguments = self._arguments(tool, fact)
        started = time.perf_counter()
        result = await caller.call(tool, arguments)
        took_s = time.perf_counter() - started
        if tool == "store_memory":
            self.acknowledged += [stored["id"] for stored in result["structuredContent"]["stored"]]
        elif tool == "retrieve_context":
            self.found += any(fact.statement in hit.get("content", "") for hit in result["structuredContent"]["hits"])
        return took_s

    def _arguments(self, tool: str, fact: Fact) -> Arguments:
        if tool == "retrieve_context":
            return {"query": fact.question}
        text = f"{fact.content} Entry {next(self._numbers)}."
        return {"text": text} if tool == "echo" else {"content": text}


# --- one client ---


async def _one_client(
    make: MakeCaller, floor: Running, served: Running, *, token: str, load: Load, options: argparse.Namespace
) -> list[Row]:
    """Measure calls one at a time; the store is filled first."""
    beside, caller = make(floor.address, token), make(served.address, token)
    for one in (beside, caller):
        await one.connect()
    await fill(caller, load.known)
    plan = {"echo": (beside, floor), "store_memory": (caller, served), "retrieve_context": (caller, served)}
    times: dict[str, list[float]] = {tool: [] for tool in plan}
    core_s = dict.fromkeys(plan, 0.0)
    for start in range(-options.warmup, options.calls, _BLOCK):
        for tool, (one, server) in plan.items():
            pids = processes_of(server.pid)
            before = core_s_of(pids)
            took = [await load.make(one, tool) for _ in range(_BLOCK)]
            if start >= 0:
                times[tool] += took
                core_s[tool] += core_s_of(pids) - before
        show_progress("calls of each kind", max(0, start + _BLOCK), options.calls)
    for one in (beside, caller):
        await one.leave()
    core_ms = [round(core_s[tool] * 1000 / len(taken), 3) for tool, taken in times.items()]
    return [{**row, "core_ms": spent} for row, spent in zip(_beside_echo(times), core_ms, strict=True)]


def _beside_echo(times: Mapping[str, list[float]]) -> list[Row]:
    """Make a row of each kind of call, with the ratio of its p50 to that of the floor's."""
    summaries = {tool: Summary.of(taken) for tool, taken in times.items() if taken}
    echo = summaries["echo"].p50_ms
    return [
        {"call": "floor echo" if tool == "echo" else tool, **asdict(found), "p50_ratio": round(found.p50_ms / echo, 2)}
        for tool, found in summaries.items()
    ]


# --- many clients ---


async def _many_clients(
    make: MakeCaller,
    floor: Running,
    served: Running,
    *,
    given: list[str],
    load: Load,
    watch: Watch,
    options: argparse.Namespace,
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Load both servers in turns; give the times of each kind of call, and the seconds of each server."""
    named = [given[number % len(given)] for number in range(options.clients)]
    beside, callers = ([make(server.address, token) for token in named] for server in (floor, served))
    for one in (*beside, *callers):
        await one.connect()
    times: dict[str, list[float]] = {"echo": [], "store_memory": [], "retrieve_context": []}
    elapsed_s = {"floor": 0.0, "product": 0.0}
    load.found = 0
    while elapsed_s["product"] < options.seconds:
        round_s = min(_ROUND_S, options.seconds - elapsed_s["product"])
        elapsed_s["floor"] += await _round(beside, load, lambda: "echo", times=times, seconds=round_s * _FLOOR_SHARE)
        async with watch.watching():
            elapsed_s["product"] += await _round(callers, load, load.draw, times=times, seconds=round_s)
        show_progress("seconds of load", int(elapsed_s["product"]), int(options.seconds))
    for one in (*beside, *callers):
        await one.leave()
    return times, elapsed_s


async def _round(
    callers: list[Caller], load: Load, draw: Callable[[], str], *, times: dict[str, list[float]], seconds: float
) -> float:
    """Let all clients call until the time is over, and give the seconds that it took."""
    started = time.perf_counter()

    async def call_on(caller: Caller) -> None:
        while time.perf_counter() - started < seconds:
            tool = draw()
            try:
                times[tool].append(await load.make(caller, tool))
            except (Refused, OSError, ValueError) as error:
                load.errors.append(f"{tool}: {type(error).__name__}: {error}")
                await caller.connect()

    await asyncio.gather(*map(call_on, callers))
    return time.perf_counter() - started


def _under_load(
    load: Load, times: Mapping[str, list[float]], elapsed_s: Mapping[str, float], *, watch: Watch, missing: int
) -> Row:
    """Sum up a load: calls a second, what went wrong, and what the server took."""
    stores, questions = len(times["store_memory"]), len(times["retrieve_context"])
    row: dict[str, str | int | float] = {
        "calls_per_s": round((stores + questions) / elapsed_s["product"], 1),
        "floor_calls_per_s": round(len(times["echo"]) / elapsed_s["floor"], 1),
        "core_ms_a_call": round(watch.core_s * 1000 / max(1, stores + questions), 3),
        "found": round(load.found / max(1, questions), 3),
        "errors": len(load.errors),
        "lost_writes": missing,
    }
    at_s, taken = watch.after(min(_SETTLED_S, elapsed_s["product"] / 2))
    for figure in ("Rss", "Pss"):
        kib = [look[figure] for look in taken] or [0]
        name = figure.lower()
        row |= {f"{name}_mib": round(kib[-1] / 1024, 1), f"{name}_range_kib": max(kib) - min(kib)}
        row |= {f"{name}_kib_per_s": slope(at_s, kib)}
        if figure == "Rss":
            row["rss_ratio"] = round(statistics.median(kib[-_ENDS:]) / max(1, statistics.median(kib[:_ENDS])), 3)
    return row
