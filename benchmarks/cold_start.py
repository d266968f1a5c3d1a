"""How long a host waits for a new server: from the start of the process to the answer to `initialize`.

The product and the floor, a trivial server on the same SDK, are started in turn, so that both meet the same machine.
The data directory exists after the warm-up, as on every start but the first; `--fresh-data` measures that one. Both
keep their bytecode, whatever the environment says: without it each start would compile all sources again.
"""

import argparse
import json
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.progress import show_progress
from benchmarks.report import Report
from benchmarks.servers import FLOOR, add_command_option, command_of
from benchmarks.timing import Summary, beside_floor

EXIT_S_MAX = 30
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "cold-start", "version": "0"},
    },
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rounds", type=int, default=20, help="measured starts of each server (default 20)")
    parser.add_argument("--warmup", type=int, default=3, help="starts of each server that are not counted (default 3)")
    parser.add_argument("--fresh-data", action="store_true", help="a new data directory for every start")
    add_command_option(parser)


def run(options: argparse.Namespace) -> Report:
    """Start both servers again and again."""
    floor_s: list[float] = []
    product_s: list[float] = []
    rounds = options.warmup + options.rounds
    with tempfile.TemporaryDirectory() as root:
        for number in range(rounds):
            data = Path(root) / (f"data-{number}" if options.fresh_data else "data")
            floor_s.append(time_to_answer(FLOOR))
            product_s.append(time_to_answer([*command_of(options), "--data", str(data)]))
            show_progress("starting", number + 1, rounds)
    series = {"floor": floor_s[options.warmup :], "contextdna serve": product_s[options.warmup :]}
    rows = beside_floor({name: Summary.of(times_s) for name, times_s in series.items()})
    return Report({"time to the answer to initialize": rows})


def time_to_answer(command: Sequence[str]) -> float:
    """Start a server, ask it to initialize, and return the seconds until its answer was read.

    Raises:
        RuntimeError: It answered something else, or nothing.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - ours
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a pipe is missing")
        process.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        elapsed = time.perf_counter() - started
        process.stdin.close()
        process.wait(EXIT_S_MAX)
    if b'"result"' not in answer:
        raise RuntimeError(f"{shlex.join(command)} answered {answer!r}")
    return elapsed
