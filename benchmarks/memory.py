"""What a server takes in memory, and a memory on disk.

Resident (RSS) and proportional (PSS) memory of a real server on stdio with so many memories in its database: when it
has listed its tools, and after some questions; beside a trivial server on the same SDK after as many calls. Linux only:
elsewhere that table stays empty.

On disk: the bytes of each table with its indexes, over the number of memories of 40 words. The full-text index is
`records_index`.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio

from benchmarks.databases import PROJECTS, Database, database, size
from benchmarks.progress import show_progress
from benchmarks.report import Report, Row
from benchmarks.servers import FLOOR, add_command_option, called, command_of, connected
from benchmarks.table_sizes import file_bytes, table_bytes
from benchmarks.zipf import LARGEST, natural_questions
from contextdna.hub.opening import DATABASE_FILE

_PROCESSES = Path("/proc")
_FIGURES = ("Rss", "Pss")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--size", default="10k", help="memories, for example 1m (default 10k)")
    parser.add_argument("--questions", type=int, default=500, help="asked before the second look (default 500)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the database here, and use a kept one")
    add_command_option(parser)


def run(options: argparse.Namespace) -> Report:
    """Measure the processes, then the file."""
    with database(size(options.size), keep=options.keep) as of_size:
        disk = _disk(of_size)
        processes = anyio.run(_processes, of_size, options) if (_PROCESSES / "self" / "smaps_rollup").exists() else []
    return Report(
        {f"memory of a server with {of_size.memories:,} memories": processes, "bytes on disk": disk},
        ["MB: a million bytes. A table's bytes are those of whole pages, its indexes' among them."],
    )


# --- memory ---


async def _processes(of_size: Database, options: argparse.Namespace) -> list[Row]:
    questions = natural_questions([of_size.sampled[at % len(of_size.sampled)] for at in range(options.questions)])
    projects = [word for project in PROJECTS for word in ("--project", project)]
    product = [*command_of(options), "--data", str(of_size.folder), *projects]
    asked = [{"query": question.text, "project_id": LARGEST} for question in questions]
    echoed = [{"text": question.about} for question in questions]
    floor_rows = await _looks("floor", FLOOR, "echo", echoed)
    return [*floor_rows, *await _looks("contextdna serve", product, "retrieve_context", asked)]


async def _looks(name: str, command: Sequence[str], tool: str, arguments: Sequence[dict[str, str]]) -> list[Row]:
    """Start a server and look at it before and after the calls."""
    others = set(descendants(os.getpid()))
    async with connected(command) as client:
        await client.list_tools()
        started = set(descendants(os.getpid())) - others
        rows: list[Row] = [{"server": name, "when": "started", **figures(started)}]
        for number, given in enumerate(arguments, start=1):
            await called(client, tool, given)
            show_progress(name, number, len(arguments))
        rows.append({"server": name, "when": f"after {len(arguments)} calls", **figures(started)})
    return rows


def descendants(pid: int) -> Iterator[int]:
    """Give the processes below one."""
    parents = {int(path.name): _parent(path) for path in _PROCESSES.iterdir() if path.name.isdecimal()}
    waiting = [pid]
    while waiting:
        above = waiting.pop()
        below = [child for child, parent in parents.items() if parent == above]
        yield from below
        waiting += below


def _parent(process: Path) -> int:
    """Give a process's parent; 0 when it has ended meanwhile. The name before it may hold anything but a newline."""
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def figures(pids: set[int]) -> dict[str, float]:
    """Sum up what some processes take."""
    kib = dict.fromkeys(_FIGURES, 0)
    for pid in pids:
        for line in (_PROCESSES / str(pid) / "smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in kib:
                kib[name] += int(value.split()[0])
    return {f"{name.lower()}_mb": round(amount * 1024 / 1e6, 1) for name, amount in kib.items()}


# --- disk ---


def _disk(of_size: Database) -> list[Row]:
    """Give what the file takes, its larger tables, and the floor's file over the same texts."""
    file = of_size.folder / DATABASE_FILE
    whole = file_bytes(file)
    larger = sorted(((used, name) for name, used in table_bytes(file).items() if used >= whole / 100), reverse=True)
    parts = [("whole file", whole), *((name, used) for used, name in larger)]
    return [
        {"part": name, "bytes": used, "bytes_a_memory": round(used / of_size.memories, 1)}
        for name, used in (*parts, ("floor: bare FTS5, whole file", file_bytes(of_size.floor)))
    ]
