"""Units of one project that wait share a transaction on PostgreSQL: each sees those before it, and fails alone."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import asyncpg
import pytest

from contextdna.backends.in_memory import open_in_memory
from contextdna.backends.postgres import PostgresDatabase, open_postgres
from contextdna.backends.postgres.driver import Link
from contextdna.backends.postgres.holding import HELD, REMEMBERED
from contextdna.backends.postgres.lanes import GROUP_MAX
from contextdna.backends.postgres.scopes import load_catalogue, lock_key
from contextdna.errors import Conflict, StorageUnavailable
from contextdna.ports.database import Database, Transaction
from contextdna.values.ids import AgentId, EventId, RecordId, SessionId
from tests.builders import (
    ALICE,
    NOW,
    OTHER_PROJECT,
    PROJECT,
    make_agent,
    make_answer,
    make_entry,
    make_event,
    make_head,
    make_indexed,
    make_reader,
    make_session,
)
from tests.servers.postgres import empty_database_url

pytestmark = pytest.mark.anyio

DEADLINE_S: Final = 30
Unit = Callable[[Transaction], Awaitable[Any]]


class Boom(Exception):
    """What a failing unit raises."""


@pytest.fixture
def url() -> str:
    return empty_database_url()


@pytest.fixture
async def opened(url: str, anyio_backend: str) -> AsyncIterator[PostgresDatabase]:
    async with open_postgres(url, pool_max=4) as one:
        yield one


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note what is sent without parameters."""
    sent: list[str] = []
    script = Link.script

    async def noting(link: Link, text: str) -> str:
        sent.append(text)
        return await script(link, text)

    monkeypatch.setattr(Link, "script", noting)
    return sent


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Hold the project's lock, so that what comes waits together; gives what waits until one is in the queue."""
    holder = await asyncpg.connect(url)
    await holder.execute(f"SELECT pg_advisory_lock({lock_key(PROJECT)})")

    async def queued() -> None:
        with anyio.fail_after(DEADLINE_S):
            while not await holder.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            ):
                await anyio.lowlevel.checkpoint()

    try:
        yield queued
    finally:
        await holder.close()


async def together(database: PostgresDatabase, url: str, units: Sequence[Unit]) -> list[Any]:
    """Have units wait for the lock together; gives what each gave or raised."""
    async with locked(url) as queued:
        calls = [asyncio.create_task(database.write(unit)) for unit in units]
        await queued()
    with anyio.fail_after(DEADLINE_S):
        return await asyncio.gather(*calls, return_exceptions=True)


def insert(name: str) -> Unit:
    async def unit(tx: Transaction) -> None:
        await tx.agents.is_retired(PROJECT, ALICE)  # as every call asks first, which tells its project
        await tx.records.insert([make_indexed(name)])

    return unit


async def ids(tx: Transaction) -> list[str]:
    found = await tx.records.read(make_reader(), [RecordId(f"mem_{number}") for number in range(20)], now=NOW)
    return [item.record.id for item in found]


async def test_what_waits_is_committed_together(opened: PostgresDatabase, url: str, scripts: list[str]) -> None:
    assert await together(opened, url, [insert(f"mem_{number}") for number in range(9)]) == [None] * 9
    assert scripts.count("COMMIT") == 1
    assert len(await opened.read(ids)) == 9


async def test_a_group_has_a_bound(
    opened: PostgresDatabase, url: str, scripts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contextdna.backends.postgres.lanes.GROUP_MAX", 4)
    await together(opened, url, [insert(f"mem_{number}") for number in range(9)])
    assert scripts.count("COMMIT") == 3
    assert GROUP_MAX > 64


async def test_a_unit_that_fails_takes_back_its_own_alone(
    opened: PostgresDatabase, url: str, scripts: list[str]
) -> None:
    async def fail_late(tx: Transaction) -> None:
        assert not await tx.agents.is_retired(PROJECT, ALICE)
        await tx.records.insert([make_indexed("mem_7")])
        await tx.records.mark_deleted(PROJECT, [RecordId("mem_1")], deleted_at=NOW)
        await tx.audit.append([make_entry(1)], make_head(1))
        raise Boom

    async def fail_early(tx: Transaction) -> None:
        assert not await tx.agents.is_retired(PROJECT, ALICE)
        await tx.records.insert([make_indexed("mem_8")])
        raise Boom

    async def chain(tx: Transaction) -> int:
        head = await tx.audit.head(PROJECT)
        seq = head.seq + 1 if head else 1
        await tx.audit.append([make_entry(seq)], make_head(seq))
        return seq

    units = [insert("mem_1"), chain, fail_late, chain, fail_early, fail_late, insert("mem_2"), chain]
    found = await together(opened, url, units)
    assert [one if one is None or isinstance(one, int) else type(one) for one in found] == [
        None, 1, Boom, 2, Boom, Boom, None, 3,
    ]  # fmt: skip
    assert scripts.count("COMMIT") == 1
    assert await opened.read(ids) == ["mem_1", "mem_2"]
    assert [entry.seq for entry in await opened.read(lambda tx: tx.audit.entries(PROJECT, after_seq=0, limit=9))] == [
        1, 2, 3,
    ]  # fmt: skip


async def test_what_the_server_refuses_fails_alone(opened: PostgresDatabase, url: str) -> None:
    twice = [insert("mem_1"), insert("mem_2"), insert("mem_1"), insert("mem_3")]
    found = await together(opened, url, twice)
    assert [type(one) for one in found] == [type(None), type(None), Conflict, type(None)]
    assert await opened.read(ids) == ["mem_1", "mem_2", "mem_3"]


async def test_a_caller_that_is_cancelled_takes_no_other_with_it(opened: PostgresDatabase, url: str) -> None:
    async with locked(url) as queued:
        calls = [asyncio.create_task(opened.write(insert(f"mem_{number}"))) for number in range(3)]
        await queued()
        calls[1].cancel()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in found] == [type(None), asyncio.CancelledError, type(None)]
    assert await opened.read(ids) == ["mem_0", "mem_2"]


async def test_a_caller_that_is_cancelled_while_its_unit_runs_leaves_nothing(
    opened: PostgresDatabase, url: str
) -> None:
    async def cancel_itself(tx: Transaction) -> None:
        assert not await tx.agents.is_retired(PROJECT, ALICE)
        await tx.records.insert([make_indexed("mem_1")])
        calls[1].cancel()
        await tx.records.mark_deleted(PROJECT, [RecordId("mem_0")], deleted_at=NOW)

    async with locked(url) as queued:
        units = [insert("mem_0"), cancel_itself, insert("mem_2")]
        calls = [asyncio.create_task(opened.write(unit)) for unit in units]
        await queued()
    await asyncio.gather(*calls, return_exceptions=True)
    assert calls[1].cancelled()
    assert await opened.read(ids) == ["mem_0", "mem_2"]


async def test_a_unit_about_another_project_too_is_done_beside_the_group(opened: PostgresDatabase, url: str) -> None:
    async def both(tx: Transaction) -> int:
        assert not await tx.agents.is_retired(PROJECT, ALICE)
        await tx.records.insert([make_indexed("mem_1")])
        await tx.records.insert([make_indexed("mem_1", project_id=OTHER_PROJECT)])
        return await tx.records.total(PROJECT)

    assert await together(opened, url, [insert("mem_0"), both, insert("mem_2")]) == [None, 3, None]
    assert await opened.read(lambda tx: tx.records.total(OTHER_PROJECT)) == 1


async def test_a_group_whose_connection_is_lost_is_written_once(
    opened: PostgresDatabase, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_many = Link.run_many
    cut: list[str] = []

    async def cut_once(link: Link, name: str, params: Any) -> None:
        if not cut:
            cut.append(name)
            link.cut()
        await run_many(link, name, params)

    monkeypatch.setattr(Link, "run_many", cut_once)
    assert await together(opened, url, [insert(f"mem_{number}") for number in range(5)]) == [None] * 5
    assert cut
    assert len(await opened.read(ids)) == 5


async def test_a_commit_that_is_lost_leaves_the_outcome_open_for_all(
    opened: PostgresDatabase, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Link.script

    async def cut(link: Link, text: str) -> str:
        if text == "COMMIT":
            link.cut()
        return await script(link, text)

    async def fail(tx: Transaction) -> None:
        await tx.records.total(PROJECT)
        raise Boom

    monkeypatch.setattr(Link, "script", cut)
    stored, failed, other = await together(opened, url, [insert("mem_1"), fail, insert("mem_2")])
    assert isinstance(failed, Boom), "nothing of it was to be written"
    for one in (stored, other):
        assert isinstance(one, StorageUnavailable)
        assert one.code == "storage_outcome_unknown"
    assert stored is not other, "each adds where it was raised"


@pytest.mark.parametrize("hangs_at", ["SAVEPOINT unit", "COMMIT"])
async def test_a_server_that_hangs_is_waited_for_by_one_group(
    opened: PostgresDatabase, url: str, monkeypatch: pytest.MonkeyPatch, hangs_at: str
) -> None:
    """Those behind it are told at once, and nobody is given another connection that hangs as well."""
    script, hung, waited = Link.script, set[Link](), []
    behind: list[asyncio.Task[None]] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(opened.read, ids)
    hung.update(opened._links._idle)
    assert len(hung) == 2

    async def hang(link: Link, text: str) -> str:
        if link in hung and (text == hangs_at or behind):
            for number in range(7, 9) if not behind else ():
                behind.append(asyncio.create_task(opened.write(insert(f"mem_{number}"))))
            await anyio.lowlevel.checkpoint()  # they queue
            waited.extend([text] * (text != "ROLLBACK"))
            raise TimeoutError
        return await script(link, text)

    async def delete(tx: Transaction) -> None:
        await tx.agents.is_retired(PROJECT, ALICE)
        await tx.records.mark_deleted(PROJECT, [RecordId("mem_1")], deleted_at=NOW)

    monkeypatch.setattr(Link, "script", hang)
    found = await together(opened, url, [insert("mem_1"), delete])
    met = {"COMMIT": "storage_outcome_unknown"}.get(hangs_at, "storage_unreachable")
    assert [one.code for one in found] == [met] * 2
    with anyio.fail_after(DEADLINE_S):
        late = await asyncio.gather(*behind, return_exceptions=True)
    assert [(type(one), getattr(one, "code", "")) for one in late] == [(StorageUnavailable, "storage_unreachable")] * 2
    assert waited == [hangs_at]
    assert await opened.read(ids) == [], "on a new connection"
    assert waited == [hangs_at]


async def test_a_lock_that_is_not_to_be_had_is_told_to_all_who_wait(url: str) -> None:
    async with open_postgres(url, statement_timeout_s=0.2) as slow:
        async with locked(url):
            calls = [slow.write(insert(f"mem_{number}")) for number in range(3)]
            found = await asyncio.gather(*calls, return_exceptions=True)
        assert [one.code for one in found if isinstance(one, StorageUnavailable)] == ["storage_timeout"] * 3
        await slow.write(insert("mem_1"))


async def test_what_was_answered_ahead_is_asked_again_where_a_unit_before_has_changed_it(
    opened: PostgresDatabase, url: str
) -> None:
    runs: list[int] = []

    def store(number: int) -> Unit:
        async def unit(tx: Transaction) -> str:
            runs.append(number)
            assert not await tx.agents.is_retired(PROJECT, ALICE)
            twins = make_indexed(f"mem_{number}", content_hash=bytes([number % 2]))
            found = await tx.records.duplicates_of(twins.record, [twins.record.content_hash], now=NOW)
            if not found:
                await tx.records.insert([twins])
            return next((one.id for one in found.values()), "")

        return unit

    found = await together(opened, url, [store(number) for number in range(6)])
    assert found == ["", "", "mem_0", "mem_1", "mem_0", "mem_1"]
    assert sorted(runs) == [0, 1, 2, 2, 3, 3, 4, 4, 5, 5], "those that were told that there is none begin anew"
    assert await opened.read(ids) == ["mem_0", "mem_1"]


async def test_a_unit_that_asks_nothing_needs_no_server(opened: PostgresDatabase, scripts: list[str]) -> None:
    async def unit(_: Transaction) -> str:
        return "done"

    assert await opened.write(unit) == "done"
    assert scripts == []


def test_what_is_held_and_remembered_is_of_one_project() -> None:
    catalogue = load_catalogue()
    assert set(HELD) <= catalogue.changing
    assert not REMEMBERED & catalogue.changing
    assert all(catalogue.touched[name] for name in (*HELD, *REMEMBERED))
    assert HELD[-1] == "event_append", "its lock is for all projects"


# The same as one after the other


def _random_unit(seed: int) -> Unit:
    """Make a unit that reads what others wrote, and may fail."""

    async def unit(tx: Transaction) -> list[Any]:
        chance = random.Random(seed)  # noqa: S311 - no secret
        seen = [await chance.choice(_STEPS)(tx, chance) for _ in range(chance.randrange(1, 6))]
        if chance.random() < 0.25:
            raise Boom(repr(seen))
        return seen

    return unit


def _some(chance: random.Random, prefix: str) -> str:
    return f"{prefix}_{chance.randrange(4)}"


async def _store(tx: Transaction, chance: random.Random) -> Any:
    name = RecordId(_some(chance, "mem"))
    if await tx.records.refs(PROJECT, [name]):
        return "there"
    await tx.records.insert([make_indexed(name, tokens=("word", _some(chance, "w").replace("_", "")))])
    return "stored"


async def _replace(tx: Transaction, chance: random.Random) -> Any:
    version = chance.randrange(1, 4)
    new = make_indexed(_some(chance, "mem"), version=version + 1, tokens=("other",))
    return await tx.records.replace(new, expected_version=version, reindex=bool(chance.randrange(2)))


async def _twin(tx: Transaction, chance: random.Random) -> Any:
    record = make_indexed(_some(chance, "mem")).record
    return sorted((await tx.records.duplicates_of(record, [record.content_hash], now=NOW)).keys())


async def _delete(tx: Transaction, chance: random.Random) -> Any:
    return await tx.records.delete(PROJECT, [RecordId(_some(chance, "mem"))])


async def _count(tx: Transaction, _: random.Random) -> Any:
    found = await tx.records.statistics(PROJECT, [("word",), ("other",)])
    return found.records, found.words, found.counts


async def _move(tx: Transaction, chance: random.Random) -> Any:
    name = _some(chance, "ses")
    found = await tx.sessions.get(SessionId(name))
    if found is not None:
        await tx.sessions.replace(make_session(name, thoughts=found.thoughts + 1))
        return found.thoughts
    return None


async def _chain(tx: Transaction, _: random.Random) -> Any:
    head = await tx.audit.head(PROJECT)
    seq = head.seq + 1 if head else 1
    await tx.audit.append([make_entry(seq)], make_head(seq))
    return seq


async def _tell(tx: Transaction, chance: random.Random) -> Any:
    await tx.events.append([make_event(f"evt_{chance.randrange(10**9)}")])


async def _hear(tx: Transaction, _: random.Random) -> Any:
    return [event.id for event in await tx.events.after(PROJECT, EventId(""), limit=99)]


async def _answer(tx: Transaction, chance: random.Random) -> Any:
    key = _some(chance, "key")
    known = await tx.requests.answer(PROJECT, ALICE, key)
    if known is None:
        await tx.requests.keep_answer(make_answer(key))
    return known


async def _see(tx: Transaction, chance: random.Random) -> Any:
    if chance.randrange(2):
        await tx.projects.see_agent(make_agent())
    await tx.projects.touch_agent(PROJECT, AgentId(make_agent().id), at=NOW)
    return await tx.agents.is_retired(PROJECT, make_agent().id)


_STEPS: Final[Sequence[Callable[[Transaction, random.Random], Awaitable[Any]]]] = (
    _store, _replace, _twin, _delete, _count, _move, _chain, _tell, _hear, _answer, _see,
)  # fmt: skip


async def _everything(tx: Transaction) -> list[Any]:
    return [
        await ids(tx),
        await tx.records.total(PROJECT),
        (await tx.records.statistics(PROJECT, [("word",), ("other",)])).counts,
        [await tx.sessions.get(SessionId(f"ses_{number}")) for number in range(4)],
        await tx.audit.entries(PROJECT, after_seq=0, limit=999),
        await tx.audit.heads(),
        [event.id for event in await tx.events.after(PROJECT, EventId(""), limit=999)],
        await tx.projects.agents(PROJECT),
    ]


async def _one_by_one(database: Database, units: Sequence[Unit]) -> list[Any]:
    return [(await asyncio.gather(database.write(unit), return_exceptions=True))[0] for unit in units]


async def _begin(tx: Transaction) -> None:
    for number in range(4):
        await tx.sessions.add(make_session(f"ses_{number}"))


@pytest.mark.parametrize("seed", range(4))
async def test_a_group_gives_what_its_units_give_one_by_one(opened: PostgresDatabase, url: str, seed: int) -> None:
    units = [_random_unit(seed * 1000 + number) for number in range(40)]
    await opened.write(_begin)
    await opened.read(_everything)  # a session that it knows is of a project that it knows
    found = await together(opened, url, units)
    async with open_in_memory() as model:
        await model.write(_begin)
        expected = await _one_by_one(model, units)
        assert list(map(repr, found)) == list(map(repr, expected))
        assert await opened.read(_everything) == await model.read(_everything)
