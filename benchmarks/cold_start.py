"""How long a host waits for a new server: from the start of the process to the answer to `initialize`.

`uv run python -m benchmarks.cold_start`. The product and the floor are started in turn, so that both meet the same
machine. The data directory exists after the warm-up, as on every start but the first; `--fresh-data` measures that one.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.progress import end_progress, show_progress
from benchmarks.timing import Summary, report

FLOOR = (sys.executable, "-m", "benchmarks.floor_server")
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


def time_to_answer(command: Sequence[str]) -> float:
    """Start a server, ask it to initialize, and return the seconds until its answer was read.

    Raises:
        RuntimeError: It answered something else, or nothing.
    """
    started = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - ours
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


def measure(product: Sequence[str], root: Path, *, rounds: int, warmup: int, fresh_data: bool) -> dict[str, Summary]:
    """Start each server `warmup` + `rounds` times in turn and summarise the rounds."""
    floor_s: list[float] = []
    product_s: list[float] = []
    for number in range(warmup + rounds):
        show_progress(f"round {number + 1} of {warmup + rounds}")
        data = root / (f"data-{number}" if fresh_data else "data")
        floor_s.append(time_to_answer(FLOOR))
        product_s.append(time_to_answer([*product, "--data", str(data)]))
    end_progress()
    return {"floor": Summary.of(floor_s[warmup:]), "contextdna serve": Summary.of(product_s[warmup:])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="measured starts of each server (default 20)")
    parser.add_argument("--warmup", type=int, default=3, help="starts of each server that are not counted (default 3)")
    parser.add_argument("--fresh-data", action="store_true", help="a new data directory for every start")
    parser.add_argument("--command", default="contextdna serve", help="the product; --data DIR is added to it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    product = shlex.split(options.command, posix=os.name == "posix")
    times = {"rounds": options.rounds, "warmup": options.warmup}
    try:
        with tempfile.TemporaryDirectory() as root:
            series = measure(product, Path(root), **times, fresh_data=options.fresh_data)
    except (OSError, RuntimeError) as error:
        sys.exit(f"cold_start: {error}")
    report(series, floor="floor", as_json=options.json)


if __name__ == "__main__":
    main()
