"""An installation with rows in every table, and what it answers: for the tests of moving."""

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import asyncpg

from contextdna import (
    AgentId,
    Conflict,
    ContextQuery,
    Hub,
    HubSettings,
    Level,
    MemoryChange,
    MemoryDraft,
    SignalDraft,
    TaskDraft,
    open_hub,
)
from contextdna.backends.sqlite.driver import library
from contextdna.backends.sqlite.shape import is_index, moved_tables
from contextdna.hub.moving import Place
from contextdna.hub.opening import DATABASE_FILE
from tests.doubles import LetterEmbedder
from tests.hub.methods import Furnished, furnish
from tests.hub.rig import ALICE, BOB, OTHER, ROOT, Clock, remember, settings_in

TOPICS: Final = (
    "the lift engine",
    "a parser for dates",
    "review of the parser",
    "engine tests",
    "übergröße, 日本語の記憶",
)
QUESTIONS: Final = ("parser dates", "engine", "private memory", "日本語")


async def build(folder: Path) -> Furnished:
    """Make an installation in a folder."""
    async with open_hub(settings_in(folder), clock=Clock(), embedder=LetterEmbedder()) as hub:
        furnished = await furnish(hub)
        alice, root = hub.bind(ALICE), hub.bind(ROOT)
        for number in range(24):
            drafts = [
                MemoryDraft(f"{topic} {number} {'x ' * (number % 7)}", level=Level(1 + number % 4), tags=("a", "ü"))
                for topic in TOPICS
            ]
            await alice.store_memories(drafts)
        first = await alice.store_memories(
            [MemoryDraft("of the one kind", tags=('with "quotes"',))], idempotency_key="once"
        )
        await alice.update_memory(first[0].id, MemoryChange(content="of another kind"), expected_version=1)
        with suppress(Conflict):
            await alice.update_memory(first[0].id, MemoryChange(importance=0.1), expected_version=1)
        purged = await remember(alice, "soon gone")
        await alice.forget_memories([purged])
        await root.documents.link(furnished.memory, [furnished.artifact])
        await root.signals.acknowledge(furnished.received, note="got it")
        await alice.signals.send(SignalDraft("stop", (BOB.agent_id,)))
        await root.agents.retire(AgentId("hank"))
        await root.rotate_keys()
        await hub.bind(ROOT, project_id=OTHER).store_memories([MemoryDraft("of the other project, an engine")])
        await root.reindex()
        await root.tasks.add(TaskDraft("mend the engine"))
        await answers_of(hub, furnished)
    return furnished


def copied(folder: Path, to: Path) -> Path:
    """Copy an installation."""
    shutil.copytree(folder, to)
    return to


async def answers_of(hub: Hub, furnished: Furnished) -> dict[str, Any]:
    """Ask an installation about everything."""
    alice, root = hub.bind(ALICE), hub.bind(ROOT)
    found = {
        (caller, question): [
            (hit.record.id, round(hit.score, 9), hit.content)
            for hit in (await workspace.retrieve_context(ContextQuery(question, limit=10))).hits
        ]
        for caller, workspace in (("alice", alice), ("root", root))
        for question in QUESTIONS
    }
    acting = hub.bind(ROOT, session_id=furnished.handle)
    audit = await root.verify_audit()
    others: dict[str, Any] = {
        "memory": await root.get_memories([furnished.memory]),
        "artifact": await root.read_artifact(furnished.artifact),
        "sessions": await root.sessions.list(),
        "state": await acting.state.mget(["cursor"]),
        "turns": await acting.read_conversation(furnished.conversation),
        "tasks": await root.tasks.list(),
        "events": await root.events.read(),
        "pending": await alice.signals.pending(),
        "history": await root.agents.history(),
        "conflicts": await root.conflicts(),
        "tokens": await root.access_tokens.list(),
    }
    return {"search": found, "audit": (audit.intact, audit.chains), **{name: repr(of) for name, of in others.items()}}


async def asked(settings: HubSettings, furnished: Furnished) -> dict[str, Any]:
    """Open an installation and ask it."""
    async with open_hub(settings, clock=Clock(), embedder=LetterEmbedder()) as hub:
        return await answers_of(hub, furnished)


def settings_of(place: Place) -> HubSettings:
    """Give the settings of a server at a place."""
    return replace(settings_in(place.folder), database=place.url)


def tables_in(folder: Path) -> dict[str, list[Any]]:
    """Read all tables of a file, and the words of its index."""
    with closing(library.connect(str(folder / DATABASE_FILE), isolation_level=None)) as connection:
        tables = {
            table.name: sorted(connection.execute(f"SELECT * FROM {table.name}").fetchall(), key=repr)  # noqa: S608 - of the schema
            for table in moved_tables()
            if not is_index(table)
        }
        connection.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab('main', 'records_index', 'instance')")
        tables["words"] = sorted(connection.execute('SELECT doc, "offset", term FROM words').fetchall())
        tables["numbers"] = sorted(connection.execute("SELECT * FROM sqlite_sequence").fetchall())
        return tables


def run_on(place: Place, statement: str) -> Any:
    """Run a statement at a place, as whoever got hold of it could."""
    if not place.url:
        with closing(library.connect(str(place.folder / DATABASE_FILE), isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    async def run() -> Any:
        connection = await asyncpg.connect(place.url)
        try:
            await connection.execute("SELECT set_config('contextdna.project', '*', false)")
            return await connection.fetch(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:  # an event loop may be running in this one
        return thread.submit(asyncio.run, run()).result()
