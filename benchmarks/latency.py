"""What a question costs in process, beside a bare full-text query for the same words and project.

Each size of database is asked about texts of its largest project, in three words and in whole sentences, as an agent
(whose view the access rule narrows) and as the role system, by 1 caller and by many. Product and floor take turns, in
blocks. With `--writer`, memories are committed to the same project meanwhile. Storing one memory is measured last.

`--keep DIR` keeps the databases: a million memories take minutes to store. A run works on a copy.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, cycle, islice, product
from pathlib import Path

from benchmarks import zipf
from benchmarks.databases import AGENT, AUTHOR, SYSTEM, Database, database, settings_of, sizes
from benchmarks.fts_floor import fts_floor
from benchmarks.progress import show_progress
from benchmarks.report import Report, Row
from benchmarks.timing import Answer, Asked, Series, Summary
from benchmarks.zipf import LARGEST, Question
from contextdna import ContextQuery, Hub, MemoryDraft, Workspace, open_hub

_ROLES = {"agent": AGENT, "system": SYSTEM}
_BLOCK = 20
_WRITER_BATCH = 10
_WRITER_PAUSE_S = 0.02


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--sizes", default="1k,10k", help="memories, for example 1k,10k,100k,1m (default 1k,10k)")
    parser.add_argument("--callers", default="1,8,64", help="how many ask at once (default 1,8,64)")
    parser.add_argument("--roles", default="agent,system", help="who asks (default agent,system)")
    parser.add_argument("--questions", type=int, default=200, help="measured questions of each kind (default 200)")
    parser.add_argument("--warmup", type=int, default=20, help="questions that are not counted (default 20)")
    parser.add_argument("--writer", action="store_true", help="commit memories meanwhile")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the databases here, and use kept ones")


def run(options: argparse.Namespace) -> Report:
    """Measure every size."""
    asked: list[Row] = []
    stored: list[Row] = []
    for memories in sizes(options.sizes):
        with database(memories, keep=options.keep) as of_size:
            rows = asyncio.run(_measure(of_size, options))
            asked += rows[0]
            stored += rows[1]
    notes = [
        "ratio: retrieve_context to the bare FTS5 query; found: share of questions whose text is among the hits.",
        f"The largest of {len(zipf.SHARES)} projects, with {zipf.SHARES[LARGEST]:.0%} of the memories, is asked.",
    ]
    if options.writer:
        notes.append(f"Meanwhile {_WRITER_BATCH} memories at a time were committed to it; the floor's database rested.")
    return Report({"retrieve_context": asked, "store_memory": stored}, notes)


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks what: one row of the table."""

    role: str
    kind: str
    questions: Sequence[Question]
    callers: int


async def _measure(of_size: Database, options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    about = _spread(of_size.sampled, options.questions + options.warmup)
    kinds = {"three words": zipf.terse_questions(about), "sentence": zipf.natural_questions(about)}
    callers = [int(part) for part in options.callers.split(",")]
    combined = product(options.roles.split(","), kinds, callers)
    async with open_hub(settings_of(of_size.folder)) as hub, _writing(hub, active=options.writer):
        asked = [
            await _ask(hub, of_size, Asking(role, kind, kinds[kind], number), warmup=options.warmup)
            for role, kind, number in combined
        ]
        stored = [await _store(hub, of_size, callers=number, calls=options.questions) for number in callers]
    return asked, stored


async def _ask(hub: Hub, of_size: Database, asking: Asking, *, warmup: int) -> Row:
    """Measure one kind of question from some callers."""
    workspace, callers = hub.bind(_ROLES[asking.role], project_id=LARGEST), asking.callers

    async def ask(question: Question) -> bool:
        context = await workspace.retrieve_context(ContextQuery(text=question.text))
        return any(hit.content == question.about for hit in context.hits)

    with fts_floor(of_size.floor, LARGEST, connections=min(callers, hub.settings.sqlite_readers)) as floor:

        async def ask_floor(question: Question) -> bool:
            return question.about in await floor.ask(question.text)

        series = (Series(ask_floor), Series(ask))
        label = f"{of_size.memories:,} {asking.role} {asking.kind} x{callers}"
        await _take_turns(series, asking.questions, callers=callers, warmup=warmup, label=label)
    return {
        "memories": of_size.memories,
        "role": asking.role,
        "question": asking.kind,
        **_row(series[1], series[0], callers),
        "found": _share(series[1]),
        "floor_found": _share(series[0]),
    }


async def _store(hub: Hub, of_size: Database, *, callers: int, calls: int) -> Row:
    """Measure storing one memory a call; every text is new."""
    workspace = hub.bind(AUTHOR, project_id=LARGEST)
    new = list(zipf.texts(calls + callers, seed=1000 + callers))

    async def store(text: str) -> None:
        await workspace.store_memories([MemoryDraft(text)])

    with fts_floor(of_size.floor, LARGEST, connections=min(callers, hub.settings.sqlite_readers)) as floor:
        series = (Series(floor.store), Series(store))
        label = f"{of_size.memories:,} store x{callers}"
        await _take_turns(series, new, callers=callers, warmup=callers, label=label)
    return {"memories": of_size.memories} | _row(series[1], series[0], callers)


async def _take_turns(
    series: Sequence[Series[Asked, Answer]], asked: Sequence[Asked], *, callers: int, warmup: int, label: str
) -> None:
    """Run all series over the same arguments, block by block, after a warm-up with the first ones."""
    for one in series:
        await one.run(asked[:warmup], callers=callers)
        one.forget()
    counted, block = asked[warmup:], max(_BLOCK, 2 * callers)
    for start in range(0, len(counted), block):
        for one in series:
            await one.run(counted[start : start + block], callers=callers)
        show_progress(label, min(start + block, len(counted)), len(counted))


def _row(measured: Series[Asked, Answer], floor: Series[Asked, Answer], callers: int) -> dict[str, str | int | float]:
    found, least = Summary.of(measured.times_s), Summary.of(floor.times_s)
    return {
        "callers": callers,
        "count": found.count,
        "p50_ms": found.p50_ms,
        "p95_ms": found.p95_ms,
        "p99_ms": found.p99_ms,
        "per_s": measured.per_second,
        "floor_p50_ms": least.p50_ms,
        "floor_p95_ms": least.p95_ms,
        "floor_p99_ms": least.p99_ms,
        "p50_ratio": round(found.p50_ms / least.p50_ms, 2),
        "p95_ratio": round(found.p95_ms / least.p95_ms, 2),
    }


def _share(series: Series[Question, bool]) -> float:
    return round(sum(found for _, found in series.answers) / len(series.answers), 3)


def _spread(sampled: Sequence[str], wanted: int) -> list[str]:
    """Take texts from the whole of the sample; a small one is gone through again."""
    step = max(len(sampled) // wanted, 1)
    return list(islice(cycle(sampled[::step]), wanted))


@asynccontextmanager
async def _writing(hub: Hub, *, active: bool) -> AsyncIterator[None]:
    """Commit memories to the largest project until the end of the block."""
    if not active:
        yield
        return
    writer = asyncio.create_task(_write(hub.bind(AUTHOR, project_id=LARGEST)))
    try:
        yield
    finally:
        if writer.done():
            writer.result()
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


async def _write(workspace: Workspace) -> None:
    seed = count(5000)
    while True:
        await workspace.store_memories([MemoryDraft(text) for text in zipf.texts(_WRITER_BATCH, seed=next(seed))])
        await asyncio.sleep(_WRITER_PAUSE_S)
