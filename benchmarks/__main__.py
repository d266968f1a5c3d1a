"""One command for all benchmarks: `uv run python -m benchmarks NAME [options]`."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from benchmarks.report import Report, as_json, print_report


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


COMMANDS = (
    Command("latency", "what a question costs in process, beside a bare full-text query"),
    Command("recall", "whether what answers a question is among the hits, over LoCoMo or LongMemEval"),
    Command("stdio", "what one tool call costs over stdio"),
    Command("throughput", "how many memories a second are stored"),
    Command("cold-start", "how long a host waits for a new server"),
    Command("signals", "how soon a waiting agent wakes"),
    Command("memory", "what a server takes in memory, and a memory on disk"),
    Command("plots", "draw the plots of docs/benchmarks.md from kept results"),
    Command("all", "run all of them and keep what they find"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one benchmark; its result goes to standard output and, with `--json`, to a file."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = next((command for command in COMMANDS if given[:1] == [command.name]), None)
    if command is None:
        _overview().parse_args(given)
        return
    module = command.module()
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {command.name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the result in FILE, too")
    options = parser.parse_args(given[1:])
    try:
        report = module.run(options)
        if options.json:
            options.json.write_text(as_json(command.name, _kept(options), report), encoding="utf-8")
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"{command.name}: {error}")
    except ExceptionGroup as group:  # from the task groups of a connection
        sys.exit(f"{command.name}: {_first(group)}")
    print_report(report)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """Give the first error in a group that a benchmark may end with; the group is raised where there are others.

    Raises:
        ExceptionGroup: There are others: a mistake in the benchmark or the product.
    """
    foreseen, others = group.split((OSError, RuntimeError, ValueError))
    if foreseen is None or others is not None:
        raise group
    error: Exception = foreseen
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _overview() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = parser.add_subparsers(required=True, metavar="NAME")
    for command in COMMANDS:
        names.add_parser(command.name, help=command.question)
    return parser


def _kept(options: argparse.Namespace) -> dict[str, Any]:
    """Give the options that tell what was measured; where files lie is not of them."""
    return {name: value for name, value in vars(options).items() if name not in ("json", "keep")}


if __name__ == "__main__":
    main()
