"""How soon a waiting agent wakes when it is signalled, and what waiting costs.

`uv run python -m benchmarks.signal_latency`

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

from benchmarks.progress import end_progress, show_progress
from benchmarks.timing import Summary, report
from contextdna import AgentId, Hub, HubSettings, Principal, ProjectId, SignalDraft, SignalId, open_hub

SENDER = Principal(AgentId("sender"), (ProjectId("default"),))
WAITER = Principal(AgentId("waiter"), (ProjectId("default"),))
DEADLINE_S = 600.0
SETTLE_S = 0.1
"""From the begin of a wait until the waiter certainly sleeps."""


async def receive(hub: Hub) -> tuple[float, SignalId]:
    """Wait for one signal and acknowledge it; give when it was there.

    Raises:
        RuntimeError: The wait ended without one.
    """
    signals = hub.bind(WAITER).signals
    found = await signals.wait_for(timeout_s=DEADLINE_S)
    woken = time.time()
    if found.signal is None:
        raise RuntimeError(f"the wait ended: {found.outcome}")
    await signals.acknowledge(found.signal.id)
    return woken, found.signal.id


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
        show_progress(f"same process: round {number + 1} of {rounds}")
    end_progress()
    return sends, wakes


@asynccontextmanager
async def waiting_process(folder: Path, rounds: int) -> AsyncIterator[Process]:
    command = (sys.executable, "-m", "benchmarks.signal_latency", "--wait-in", str(folder), "--rounds", str(rounds))
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
            show_progress(f"two processes: round {number + 1} of {rounds}")
    end_progress()
    return wakes


async def wait_in(folder: Path, rounds: int) -> None:
    """Be the other process: wait, and print when each signal was there."""
    async with open_hub(HubSettings(data_dir=folder)) as hub:
        for _ in range(rounds):
            print("waiting", flush=True)
            woken, _ = await receive(hub)
            print(repr(woken), flush=True)


async def cpu_share(hub: Hub, waiters: int, seconds: float) -> float:
    """Give the percentage of a core that the process uses while so many wait."""

    async def nothing(*_: object) -> None:
        """Take a report of progress."""

    async def wait(number: int) -> None:
        principal = Principal(AgentId(f"idle-{number}"), SENDER.project_ids)
        await hub.bind(principal).signals.wait_for(timeout_s=DEADLINE_S, on_progress=nothing)

    tasks = [asyncio.create_task(wait(number)) for number in range(waiters)]
    await asyncio.sleep(2)
    before, started = time.process_time(), time.perf_counter()
    show_progress(f"{waiters} waiting for {seconds:.0f} s")
    await asyncio.sleep(seconds)
    share = (time.process_time() - before) / (time.perf_counter() - started)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    end_progress()
    return round(100 * share, 2)


async def measure(options: argparse.Namespace, folder: Path) -> None:
    async with open_hub(HubSettings(data_dir=folder)) as hub:
        await in_one_process(hub, options.warmup)
        sends, wakes = await in_one_process(hub, options.rounds)
        others = await across_processes(hub, folder, options.warmup + options.rounds, seed=options.seed)
        extra: dict[str, float | str] = {
            f"cpu_percent_{options.waiters}_waiting": await cpu_share(hub, options.waiters, options.seconds),
            "cpu_percent_nobody_waiting": await cpu_share(hub, 0, options.seconds),
        }
    summaries = {
        "send_signal": Summary.of(sends),
        "wake, same process": Summary.of(wakes),
        "wake, other process": Summary.of(others[options.warmup :]),
    }
    report(summaries, floor="send_signal", as_json=options.json, extra=extra)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="measured signals of each kind (default 100)")
    parser.add_argument("--warmup", type=int, default=10, help="signals of each kind that are not counted (default 10)")
    parser.add_argument("--waiters", type=int, default=100, help="who wait while the CPU is measured (default 100)")
    parser.add_argument("--seconds", type=float, default=20, help="how long the CPU is measured (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the pauses (default 1)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--wait-in", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.wait_in:
        asyncio.run(wait_in(options.wait_in, options.rounds))
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(measure(options, Path(folder)))
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"signal_latency: {error}")


if __name__ == "__main__":
    main()
