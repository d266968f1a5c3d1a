"""What agents meet when something fails under load, on real servers: a matrix of faults.

Starts two installations of its own, each with two processes of `contextdna serve --http`: one on SQLite and local
files, one on PostgreSQL, Redis and S3, each of these behind a relay. Agents store, update, read, ask, talk and attach
at a steady pace, with known keys, and repeat what was not answered. One fault after the other happens for some seconds
and is mended; once every call and the health are well again everything is read back: what was acknowledged and is not
there, what is there twice or was read older than it was told, and whether the audit trail is whole.

Deadlines are set shorter than they are by default, so that faults outlast them. Linux; full disks need root, to mount
small file systems.
"""

import argparse
import asyncio
import os
import random
import sys
import time
from pathlib import Path

from benchmarks.report import Report, Row, as_json

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "benchmarks" / "results" / "faults.json"
PAGE = ROOT / "docs" / "reliability.md"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--only", default="", metavar="NAMES", help="only faults whose names hold one, as redis:killed")
    parser.add_argument("--seed", type=int, default=1, help="of the agents and of where connections break (default 1)")
    parser.add_argument("--log", action="store_true", help="print what the servers said, too")
    parser.add_argument(
        "--write-docs", action="store_true", help=f"keep the result as {KEPT.name}, its table in docs/{PAGE.name}"
    )


def run(options: argparse.Namespace) -> Report:
    """Let the faults happen.

    Raises:
        RuntimeError: A server did not start, or the audit trail is not whole.
    """
    from benchmarks.faults.dependencies import S3_ENVIRONMENT
    from benchmarks.faults.tables import write_page

    os.environ.update(S3_ENVIRONMENT)
    rows, left_out = asyncio.run(_all(options))
    report = Report({"faults": rows}, left_out)
    if options.write_docs:
        KEPT.write_text(as_json("faults", {"seed": options.seed}, report), encoding="utf-8")
        write_page(PAGE, rows)
    return report


async def _all(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    from benchmarks.faults.cases import FAULTS, LeftOut
    from benchmarks.faults.site import SITES
    from benchmarks.faults.watching import watch

    names = [name for name in options.only.split(",") if name]
    chosen = [fault for fault in FAULTS if not names or any(name in fault.full_name for name in names)]
    dice = random.Random(options.seed)
    rows: list[Row] = []
    left_out: list[str] = []
    for kind, opened in SITES.items():
        faults = [fault for fault in chosen if fault.site == kind]
        if not faults:
            continue
        async with opened(dice) as site:
            agents = site.agents(dice)
            for agent in agents:
                await agent.begin()
            for number, fault in enumerate(faults, 1):
                began = time.monotonic()
                try:
                    rows.append(await watch(site, fault, agents, label=f"{kind}{number}"))
                except LeftOut as why:
                    left_out.append(f"{fault.full_name} is left out: {why}")
                print(f"{fault.full_name}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
            for agent in agents:
                await agent.leave()
            if options.log:
                for server in site.servers:
                    print(server.program.log, file=sys.stderr)
    return rows, left_out
