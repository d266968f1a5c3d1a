"""One command for all benchmarks: `uv run python -m benchmarks NAME [options]`."""

import argparse
import sys
from collections.abc import Sequence

from benchmarks.commands import COMMANDS, command_named
from benchmarks.report import print_report


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one benchmark; its result goes to standard output and, with `--json`, to a file."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = command_named(given[0]) if given else None
    if command is None:
        _overview().parse_args(given)
        return
    try:
        report = command.run(given[1:])
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


if __name__ == "__main__":
    main()
