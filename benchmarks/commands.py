"""The benchmarks by name, and how one is run."""

import argparse
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from benchmarks.report import Report, as_json


class Benchmark(Protocol):
    """What a module of a benchmark has."""

    __doc__: str | None

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""

    def run(self, options: argparse.Namespace) -> Report:
        """Measure; an OSError, RuntimeError or ValueError says what keeps it from that."""


@dataclass(frozen=True, slots=True)
class Command:
    """A benchmark by name; its module is imported when it is asked for, so that it pays for no other."""

    name: str
    question: str

    def module(self) -> Benchmark:
        """Import the module of the same name."""
        return cast(Benchmark, importlib.import_module(f"benchmarks.{self.name.replace('-', '_')}"))

    def parser(self) -> argparse.ArgumentParser:
        """Make the parser of the options."""
        module = self.module()
        parser = argparse.ArgumentParser(
            prog=f"python -m benchmarks {self.name}",
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_options(parser)
        parser.add_argument("--json", type=Path, metavar="FILE", help="keep the result in FILE, too")
        return parser

    def run(self, arguments: Sequence[str]) -> Report:
        """Measure, and keep the result where `--json` says.

        Raises:
            OSError, RuntimeError, ValueError: What keeps it from that; perhaps in an ExceptionGroup.
        """
        options = self.parser().parse_args(arguments)
        report = self.module().run(options)
        if options.json:
            options.json.write_text(as_json(self.name, _kept(options), report), encoding="utf-8")
        return report


COMMANDS = (
    Command("latency", "what a question costs in process, beside a bare full-text query"),
    Command("recall", "whether what answers a question is among the hits, over LoCoMo or LongMemEval"),
    Command("stdio", "what one tool call costs over stdio"),
    Command("throughput", "how many memories a second are stored"),
    Command("remote", "what calls cost over HTTP, from one client and from many"),
    Command("abandoned", "what abandoned sessions and streams leave in a server"),
    Command("cold-start", "how long a host waits for a new server"),
    Command("signals", "how soon a waiting agent wakes"),
    Command("wal", "what the write-ahead log costs, beside writes in memory and in SQLite"),
    Command("cache", "what the cache costs and saves, in the process and in Redis"),
    Command("engines", "what calls cost on SQLite and on PostgreSQL, and what two processes reach"),
    Command("memory", "what a server takes in memory, and a memory on disk"),
    Command("shards", "how evenly projects lie on the shards of a distributed PostgreSQL"),
    Command("faults", "what agents meet, and what is lost, when something fails under load"),
    Command("plots", "draw the plots of docs/benchmarks.md from kept results"),
    Command("all", "run all of them and keep what they find"),
)


def command_named(name: str) -> Command | None:
    """Give the command of that name, or None."""
    return next((command for command in COMMANDS if command.name == name), None)


def _kept(options: argparse.Namespace) -> dict[str, Any]:
    """Give the options that tell what was measured; where files lie is not of them."""
    return {name: value for name, value in vars(options).items() if name not in ("json", "keep")}
