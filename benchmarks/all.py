"""Run every benchmark, each in a process of its own, and keep what they find as benchmarks/results/*.json.

The whole takes an hour or more on an idle machine, most of it with a million memories; `--quick` takes a minute or two
with small sizes. `recall` runs where its data are named; they are not part of this project.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Report, Row

RESULTS = Path(__file__).parent / "results"
_WAYS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("memories", ()),
    ("turns", ("--as", "turns")),
    ("memories-no-dates", ("--no-dates",)),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One result: the name of its file, and the command that finds it, in full and quickly."""

    name: str
    command: str
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()


_LATENCY_QUICK = ("--questions", "20", "--warmup", "2")
_ABANDONED_QUICK = ("--idle", "3", "--silence", "1", "--warmup", "10")
_STARTS_QUICK = ("--rounds", "2", "--warmup", "1")
STEPS = (
    Step("latency", "latency", ("--sizes", "1k,10k,100k,1m"), ("--sizes", "1k,2k", *_LATENCY_QUICK)),
    Step(
        "latency-writer",
        "latency",
        ("--sizes", "100k,1m", "--writer"),
        ("--sizes", "1k,2k", "--writer", *_LATENCY_QUICK),
    ),
    Step("memory", "memory", ("--size", "1m"), ("--size", "2k", "--questions", "20")),
    Step("stdio", "stdio", (), ("--memories", "500", "--calls", "20", "--warmup", "2")),
    Step("remote", "remote", (), ("--memories", "300", "--clients", "8", "--seconds", "2", "--calls", "25")),
    Step("abandoned", "abandoned", (), ("--sessions", "150", "--streams", "50", "--agents", "2", *_ABANDONED_QUICK)),
    Step("throughput", "throughput", (), ("--calls", "100", "--batched", "500")),
    Step("cold-start", "cold-start", (), _STARTS_QUICK),
    Step("cold-start-fresh-data", "cold-start", ("--fresh-data",), ("--fresh-data", *_STARTS_QUICK)),
    Step("wal", "wal", (), ("--calls", "20", "--callers", "4", "--turns", "2")),
    Step("cache", "cache", (), ("--calls", "50", "--callers", "8")),
    Step("engines", "engines", (), ("--size", "500", "--calls", "20", "--seconds", "1")),
    Step("shards", "shards", (), ("--projects", "300", "--rounds", "1")),
    Step("faults", "faults", (), ("--only", "small:sqlite:cut")),
    Step("signals", "signals", (), ("--rounds", "5", "--warmup", "1", "--waiters", "10", "--seconds", "1")),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that all works")
    parser.add_argument("--locomo", type=Path, metavar="FILE", help="run recall over LoCoMo, too")
    parser.add_argument("--longmemeval", type=Path, metavar="FILE", help="run recall over LongMemEval, too")
    parser.add_argument("--embedder", default="", help="run recall with this embedder, too")
    parser.add_argument("--only", default="", metavar="NAMES", help="only these results, for example latency,memory")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the large databases here, and use kept ones")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the JSON files go")


def run(options: argparse.Namespace) -> Report:
    """Run the steps; what one printed is followed by the next.

    Raises:
        RuntimeError: A step failed; the ones before it are kept.
    """
    options.results.mkdir(parents=True, exist_ok=True)
    done: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch)
        for step in steps(options):
            file = options.results / f"{step.name}.json"
            command = [*arguments(step, quick=options.quick, keep=keep), "--json", str(file)]
            print(f"\n== {step.name}", file=sys.stderr, flush=True)
            if subprocess.run([sys.executable, "-m", "benchmarks", *command], check=False).returncode:  # noqa: S603 - ours
                raise RuntimeError(f"{step.name} failed")
            done.append({"result": step.name, "file": file.name})
    return Report({"kept": done})


def steps(options: argparse.Namespace) -> Iterator[Step]:
    """Give the steps that the options ask for."""
    names = set(filter(None, options.only.split(",")))
    return (step for step in (*STEPS, *_recalls(options)) if not names or step.name in names)


def _recalls(options: argparse.Namespace) -> Iterator[Step]:
    """Give a step for each data set and each way through the product."""
    embedder = options.embedder
    ways = (*_WAYS, *([(f"memories-{embedder}", ("--embedder", embedder))] if embedder else []))
    for data in ("locomo", "longmemeval"):
        file = getattr(options, data)
        if file:
            for name, more in ways:
                given = (f"--{data}", str(file.resolve()), *more)
                yield Step(f"recall-{data}-{name}", "recall", given, (*given, "--conversations", "1"))


def arguments(step: Step, *, quick: bool, keep: Path) -> list[str]:
    """Give the words of a step's command; those that ask large databases share them."""
    shared = ("--keep", str(keep)) if step.command in ("latency", "memory") else ()
    return [step.command, *(step.quick if quick else step.full), *shared]
