"""How soon a waiting agent wakes when it is signalled, and what waiting costs.

Times run from the call that sends a signal to the moment in which the waiter has it, opened: the commit is in them. The
floor is the sending call alone. For the waiter in another process the sender pauses a random while before each signal,
so that no rhythm of its own helps. The share of a core is measured while many wait in one process, each with progress
once a second, beside the same process with nobody waiting.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.progress import show_progress
from benchmarks.report import Report
from benchmarks.signal_waiter import DEADLINE_S, WAITER, receive
from benchmarks.timing import Summary, beside_floor
from contextdna import AgentId, Hub, HubSettings, Principal, ProjectId, SignalDraft, open_hub

SENDER = Principal(AgentId("sender"), (ProjectId("default"),))
SETTLE_S = 0.1
"""From the begin of a wait until the waiter certainly sleeps."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rounds", type=int, default=100, help="measured signals of each kind (default 100)")
    parser.add_argument("--warmup", type=int, default=10, help="signals of each kind that are not counted (default 10)")
    parser.add_argument("--waiters", type=int, default=100, help="who wait while the CPU is measured (default 100)")
    parser.add_argument("--seconds", type=float, default=20, help="how long the CPU is measured (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the pauses (default 1)")


def run(options: argparse.Namespace) -> Report:
    """Measure the wakes, then what waiting costs."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(options, Path(folder)))


async def _measure(options: argparse.Namespace, folder: Path) -> Report:
    async with open_hub(HubSettings(data_dir=folder)) as hub:
        await in_one_process(hub, options.warmup)
        sends, wakes = await in_one_process(hub, options.rounds)
        others = await across_processes(hub, folder, options.warmup + options.rounds, seed=options.seed)
        shares = {waiters: await cpu_share(hub, waiters, options.seconds) for waiters in (options.waiters, 0)}
    summaries = {
        "send_signal": Summary.of(sends),
        "wake, same process": Summary.of(wakes),
        "wake, other process": Summary.of(others[options.warmup :]),
    }
    costs = [{"waiting": waiters, "percent_of_a_core": share} for waiters, share in shares.items()]
    return Report({"from the sending call": beside_floor(summaries), "cost of waiting": costs})


async def send(hub: Hub, number: int) -> tuple[float, float]:
    """Send one signal; give when the call began and how long it took."""
    began = time.time()
    started = time.perf_counter()
    await hub.bind(SENDER).signals.send(SignalDraft(f"round-{number}", (WAITER.agent_id,)))
    return began, time.perf_counter() - started


async def in_one_process(hub: Hub, rounds: int) -> tuple[list[float], list[float]]:
    """Give the times of the sending calls and of the wakes, waiter and sender being tasks of one process."""
    sends, wakes = [], []
    for number in range(rounds):
        waiting = asyncio.create_task(receive(hub))
        await asyncio.sleep(SETTLE_S)
        began, took = await send(hub, number)
        woken, _ = await waiting
        sends.append(took)
        wakes.append(woken - began)
        show_progress("same process", number + 1, rounds)
    return sends, wakes


@asynccontextmanager
async def waiting_process(folder: Path, rounds: int) -> AsyncIterator[Process]:
    command = (sys.executable, "-m", "benchmarks.signal_waiter", str(folder), str(rounds))
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def across_processes(hub: Hub, folder: Path, rounds: int, *, seed: int) -> list[float]:
    """Give the times of the wakes, the waiter being a process of its own.

    Raises:
        RuntimeError: The waiting process ended early.
    """
    rng, wakes = random.Random(seed), []
    async with waiting_process(folder, rounds) as process:
        if process.stdout is None:
            raise RuntimeError("a pipe is missing")
        for number in range(rounds):
            if await process.stdout.readline() != b"waiting\n":
                raise RuntimeError("the waiting process ended early")
            await asyncio.sleep(SETTLE_S + rng.random() * 0.1)
            began, _ = await send(hub, number)
            wakes.append(float(await process.stdout.readline()) - began)
            show_progress("two processes", number + 1, rounds)
    return wakes


async def cpu_share(hub: Hub, waiters: int, seconds: float) -> float:
    """Give the percentage of a core that the process uses while so many wait."""

    async def nothing(*_: object) -> None:
        """Take a report of progress."""

    async def wait(number: int) -> None:
        principal = Principal(AgentId(f"idle-{number}"), SENDER.project_ids)
        await hub.bind(principal).signals.wait_for(timeout_s=DEADLINE_S, on_progress=nothing)

    tasks = [asyncio.create_task(wait(number)) for number in range(waiters)]
    await asyncio.sleep(min(2.0, seconds))  # until all of them wait
    before, started = time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    share = (time.process_time() - before) / (time.perf_counter() - started)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    show_progress(f"{waiters} waiting", 1, 1)
    return round(100 * share, 2)
