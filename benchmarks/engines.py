"""What calls cost on SQLite and on PostgreSQL, with the targets that a database of 100,000 memories is held to.

*calls*: storing, reading, changing and searching by 1 caller and by a few, in the largest of five projects. *dual
write*: one key of a session's state, written to the database and to the cache, by many callers at once. *batch*:
memories a second one by one and in batches of 100, by 1 caller. *processes*: memories a second that one and two server
processes store on one PostgreSQL, in one project and in a project each.

Without `--database` and `--redis` servers are started for the run, durable as they are by default (fsync).
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

from benchmarks import throwaway, zipf
from benchmarks.databases import AGENT, AUTHOR, PROJECTS, size
from benchmarks.progress import show_progress
from benchmarks.report import Report, Row
from benchmarks.storing_process import Storing, stored_by
from benchmarks.timing import Series, Summary
from benchmarks.zipf import LARGEST
from contextdna import (
    BeginRequest,
    ContextQuery,
    Hub,
    HubSettings,
    MemoryChange,
    MemoryDraft,
    RecordId,
    StoredMemory,
    Workspace,
    open_hub,
)

_KEY = "c0" * 32
_BATCH = 100
_KEYS = 10
_TEXT = "a value of some hundred characters " * 3
TARGETS_MS = {"store": 50, "read": 10, "update": 25, "search, three words": 100, "search, sentence": 100}
_DUAL_MS = 60


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--engines", default="sqlite,postgresql", help="which ones (default sqlite,postgresql)")
    parser.add_argument(
        "--database", default="", metavar="URL", help="an empty PostgreSQL database (default: a server)"
    )
    parser.add_argument("--redis", default="", metavar="URL", help="a Redis server (default: one is started)")
    parser.add_argument("--size", default="100k", help="memories beforehand (default 100k)")
    parser.add_argument("--calls", type=int, default=400, help="calls of each kind (default 400)")
    parser.add_argument("--few", type=int, default=8, help="how many callers besides 1 (default 8)")
    parser.add_argument("--callers", type=int, default=64, help="how many callers of dual writes (default 64)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long processes store (default 5; 0: none do)")


def run(options: argparse.Namespace) -> Report:
    """Measure; of the URLs, which may hold passwords, the options keep afterwards no more than that they were given."""
    load = f"{os.getloadavg()[0]:.1f}"
    tables: dict[str, list[Row]] = {"calls": [], "dual write": [], "batch": [], "processes": []}
    with ExitStack() as stack:
        redis = stack.enter_context(throwaway.redis(options.redis))
        for engine in options.engines.split(","):
            server = throwaway.Engine()
            if engine == "postgresql":
                server = stack.enter_context(throwaway.postgresql(options.database))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            settings = HubSettings(projects=PROJECTS, master_key=_KEY, data_dir=folder, database=server.url)
            measured = _Measured(engine, server, options)
            asyncio.run(measured.run(settings, redis=redis, tables=tables))
            if server.url and options.seconds:
                tables["processes"] += _processes(server.url, folder, options)
    options.redis, options.database = bool(options.redis), bool(options.database)
    notes = [
        f"calls: {options.size} memories in {len(PROJECTS)} projects, {zipf.SHARES[LARGEST]:.0%} in the one asked.",
        "cpu_ms: CPU time of a call here, and in the server where that is ours; it moves less than times do.",
        f"Load of the machine before: {load}, after: {os.getloadavg()[0]:.1f}.",
    ]
    return Report({name: rows for name, rows in tables.items() if rows}, notes)


class _Measured:
    """An engine, and how it is measured."""

    def __init__(self, name: str, server: throwaway.Engine, options: argparse.Namespace) -> None:
        self.options = options
        self._name = name
        self._server = server

    async def run(self, settings: HubSettings, *, redis: str, tables: Mapping[str, list[Row]]) -> None:
        """Measure all that needs one process."""
        async with open_hub(settings) as hub:
            sampled = await _fill(hub, size(self.options.size))
            tables["batch"].append({"database": self._name, **await _batches(hub, self.options)})
        if settings.database:
            await _gather_statistics(settings.database)
        async with open_hub(settings) as hub:
            for callers in (1, self.options.few):
                for kind, (call, asked) in (await _kinds(hub, sampled, self.options, callers=callers)).items():
                    row = await self._timed(call, asked, callers=callers)
                    named = {"database": self._name, "call": kind}
                    tables["calls"].append({**named, **row, "target_p95_ms": TARGETS_MS[kind]})
                    show_progress(f"{self._name} x{callers}: {kind}", 1, 1)
        for name, cache in {"in process": "", "redis": redis}.items():
            async with open_hub(replace(settings, cache=cache)) as hub:
                row = await self._dual_write(hub)
                tables["dual write"].append({"database": self._name, "cache": name, **row})

    async def _dual_write(self, hub: Hub) -> Row:
        callers = self.options.callers
        states = []
        for _ in range(callers):
            handle = (await hub.bind(AUTHOR, project_id=LARGEST).begin_session(BeginRequest(AUTHOR.agent_id))).handle
            states.append(hub.bind(AUTHOR, session_id=handle).state)
            await states[-1].mset({f"key{number}": _TEXT for number in range(_KEYS)})
        calls = range(callers * 2 + max(self.options.calls, callers) * 4)
        row = await self._timed(lambda number: states[number % callers].set("key1", number), calls, callers=callers)
        return {**row, "target_p95_ms": _DUAL_MS}

    async def _timed(self, call: Callable[[Any], Awaitable[Any]], asked: Sequence[Any], *, callers: int) -> Row:
        """Call with each argument, the first ones as a warm-up; gives times, and the CPU time of a call."""
        series: Series[Any, Any] = Series(call)
        await series.run(asked[:callers], callers=callers)
        series.forget()
        here, there = time.process_time(), self._server.cpu_s()
        await series.run(asked[callers:], callers=callers)
        here, there = time.process_time() - here, self._server.cpu_s() - there
        made = len(series.times_s)
        cpu = {"cpu_ms": round(here * 1000 / made, 3), "server_cpu_ms": round(there * 1000 / made, 3)}
        return {"callers": callers, **asdict(Summary.of(series.times_s)), "per_s": series.per_second, **cpu}


async def _fill(hub: Hub, memories: int) -> list[tuple[RecordId, str]]:
    """Store the corpus in batches; gives ids and texts of the largest project."""
    waiting: dict[str, list[str]] = defaultdict(list)
    kept: list[tuple[RecordId, str]] = []

    async def store(project: str, texts: Sequence[str]) -> None:
        workspace = hub.bind(AUTHOR, project_id=project)
        stored = await workspace.store_memories([MemoryDraft(text) for text in texts])
        if project == LARGEST:
            kept.extend(zip([one.id for one in stored], texts, strict=True))

    for number, (project, text) in enumerate(zipf.placed_texts(memories), start=1):
        waiting[project].append(text)
        if len(waiting[project]) == _BATCH:
            await store(project, waiting.pop(project))
            show_progress("storing", number, memories)
    for project, texts in waiting.items():
        await store(project, texts)
    return kept


async def _gather_statistics(url: str) -> None:
    """Do what autovacuum would have done by the time that a database is this large."""
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


async def _batches(hub: Hub, options: argparse.Namespace) -> Row:
    workspace = hub.bind(AUTHOR, project_id=LARGEST)
    texts = list(zipf.texts(options.calls + _BATCH * max(options.calls // 20, 2), seed=77))
    single, batched = texts[: options.calls], texts[options.calls :]
    started = time.perf_counter()
    for text in single:
        await workspace.store_memories([MemoryDraft(text)])
    one_by_one = len(single) / (time.perf_counter() - started)
    started = time.perf_counter()
    for at in range(0, len(batched), _BATCH):
        await workspace.store_memories([MemoryDraft(text) for text in batched[at : at + _BATCH]])
    in_batches = len(batched) / (time.perf_counter() - started)
    figures = {"single_per_s": round(one_by_one, 1), "batch_per_s": round(in_batches, 1)}
    return {**figures, "times_as_many": round(in_batches / one_by_one, 2), "target": 1.3}


_Kind = tuple[Callable[[Any], Awaitable[Any]], Sequence[Any]]


async def _kinds(
    hub: Hub, sampled: Sequence[tuple[RecordId, str]], options: argparse.Namespace, *, callers: int
) -> dict[str, _Kind]:
    """Give each kind of call with what it is called with."""
    author, reader = hub.bind(AUTHOR, project_id=LARGEST), hub.bind(AGENT, project_id=LARGEST)
    step = max(len(sampled) // options.calls, 1)
    chosen = list(islice(cycle(sampled[::step]), options.calls + callers))
    about = [text for _, text in chosen]
    return {
        "read": (lambda item: reader.get_memories([item[0]]), chosen),
        "search, three words": (lambda one: _ask(reader, one), zipf.terse_questions(about)),
        "search, sentence": (lambda one: _ask(reader, one), zipf.natural_questions(about)),
        "store": (
            lambda text: author.store_memories([MemoryDraft(text)]),
            list(zipf.texts(len(chosen), seed=500 + callers)),
        ),
        "update": (await _updating(author, callers), range(len(chosen))),
    }


async def _ask(reader: Workspace, question: zipf.Question) -> bool:
    context = await reader.retrieve_context(ContextQuery(text=question.text))
    return any(hit.content == question.about for hit in context.hits)


async def _updating(author: Workspace, callers: int) -> Callable[[int], Awaitable[StoredMemory]]:
    """Give what changes memories, each by one caller at a time."""
    fresh = [MemoryDraft(text) for text in zipf.texts(callers, seed=600 + callers)]
    free = [(stored.id, stored.version) for stored in await author.store_memories(fresh)]
    words = count()

    async def update(_: int) -> StoredMemory:
        record_id, version = free.pop()
        text = f"changed to {next(words)} {next(zipf.texts(1, seed=next(words)))}"
        stored = await author.update_memory(record_id, MemoryChange(content=text), expected_version=version)
        free.append((record_id, stored.version))
        return stored

    return update


def _processes(url: str, folder: Path, options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for where, projects in {"one project": (LARGEST, LARGEST), "a project each": (LARGEST, "second")}.items():
        shape = Storing(folder, options.seconds, options.few)
        rates = [stored_by(url, shape, projects[:number]) for number in (1, 2)]
        figures = {"one_per_s": round(rates[0], 1), "two_per_s": round(rates[1], 1)}
        rows.append({"in": where, **figures, "times_as_many": round(rates[1] / rates[0], 2), "target": 1.5})
    return rows
