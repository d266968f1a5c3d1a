"""Contract of ``Database``: units of work are atomic, isolated and durable in order."""

import asyncio
from collections.abc import Generator, Mapping
from typing import Any

import anyio
import pytest

from contextdna.errors import Conflict
from contextdna.ports.database import Database, Transaction
from contextdna.values.ids import DelegationId, EventId, GrantId, RecordId, SessionId
from contextdna.values.project import Project
from contextdna.values.search import Match, RecordFilter
from tests.builders import (
    ALICE,
    NOW,
    PROJECT,
    make_agent,
    make_answer,
    make_conflict,
    make_delegation,
    make_entry,
    make_event,
    make_grant,
    make_head,
    make_indexed,
    make_key,
    make_link,
    make_reader,
    make_record,
    make_session,
)

pytestmark = pytest.mark.anyio


class Boom(Exception):
    """What a failing unit raises."""


class Pause:
    """Something to wait for that is no table."""

    def __await__(self) -> Generator[None, None, None]:
        yield


async def _write_everywhere(tx: Transaction) -> None:
    await tx.projects.add(Project(PROJECT, NOW))
    await tx.projects.see_agent(make_agent())
    await tx.records.insert([make_indexed("mem_1", tokens=("word",)), make_indexed("mem_2", tokens=("word",))])
    await tx.records.add_links([make_link("mem_1", "mem_2")])
    await tx.records.touch(PROJECT, {RecordId("mem_1"): 2}, at=NOW)
    await tx.grants.add([make_grant()])
    await tx.sessions.add(make_session())
    await tx.sessions.add_delegation(make_delegation())
    await tx.audit.append([make_entry(1)], make_head(1))
    await tx.events.append([make_event()])
    await tx.keys.add(make_key())
    await tx.requests.keep_answer(make_answer())
    await tx.requests.add_conflict(make_conflict())


async def _see_everything(tx: Transaction) -> list[Any]:
    ids = [RecordId("mem_1"), RecordId("mem_2")]
    return [
        await tx.projects.all(),
        await tx.projects.agents(PROJECT),
        await tx.records.read(make_reader(), ids, now=NOW),
        await tx.records.search(make_reader(), RecordFilter(), Match((("word",),)), now=NOW, limit=9),
        (await tx.records.statistics(PROJECT, [("word",)])).counts,
        await tx.records.links_of(PROJECT, ids),
        await tx.grants.given(PROJECT, granted_by=ALICE, grantee_ids=[make_grant().grantee_id], now=NOW),
        await tx.sessions.get(SessionId("ses_1")),
        await tx.sessions.get_delegation(DelegationId("del_1")),
        await tx.audit.entries(PROJECT, after_seq=0, limit=9),
        await tx.audit.heads(),
        await tx.events.after(PROJECT, EventId(""), limit=9),
        await tx.keys.all(),
        await tx.requests.answer(PROJECT, ALICE, "once"),
        await tx.requests.conflicts(PROJECT, limit=9),
    ]


_NOTHING: list[Any] = [[], [], [], [], {("word",): 0}, [], [], None, None, [], [], [], [], None, []]


async def test_a_unit_gives_its_result(database: Database) -> None:
    async def unit(tx: Transaction) -> str:
        return f"{await tx.records.total(PROJECT)} records"

    assert await database.write(unit) == "0 records"
    assert await database.read(unit) == "0 records"


async def test_a_unit_that_raises_in_the_end_leaves_nothing(database: Database) -> None:
    async def unit(tx: Transaction) -> None:
        await _write_everywhere(tx)
        raise Boom

    with pytest.raises(Boom):
        await database.write(unit)
    assert await database.read(_see_everything) == _NOTHING


async def test_a_unit_that_a_table_refuses_leaves_nothing(database: Database) -> None:
    async def unit(tx: Transaction) -> None:
        await _write_everywhere(tx)
        await tx.audit.append([make_entry(1)], make_head(1))

    with pytest.raises(Conflict, match=r".") as refused:
        await database.write(unit)
    assert refused.value.code == "already_exists"
    assert await database.read(_see_everything) == _NOTHING


async def test_a_unit_that_raises_takes_back_changes_and_removals(database: Database) -> None:
    await database.write(_write_everywhere)
    before = await database.read(_see_everything)

    async def unit(tx: Transaction) -> None:
        changed = make_indexed("mem_1", version=2, tokens=("other",))
        assert await tx.records.replace(changed, expected_version=1, reindex=True)
        await tx.records.mark_deleted(PROJECT, [RecordId("mem_2")], deleted_at=NOW)
        await tx.grants.revoke(PROJECT, [GrantId("grt_1")], at=NOW)
        assert await tx.records.delete(PROJECT, [RecordId("mem_1")]) == 1
        await tx.events.delete_before(make_event().at.replace(year=2030), limit=9)
        raise Boom

    with pytest.raises(Boom):
        await database.write(unit)
    assert await database.read(_see_everything) == before


async def test_a_unit_sees_its_own_writes(database: Database) -> None:
    async def unit(tx: Transaction) -> list[Any]:
        await _write_everywhere(tx)
        return await _see_everything(tx)

    inside = await database.write(unit)
    assert inside == await database.read(_see_everything)
    assert all(inside)


async def test_units_that_wait_together_fail_alone(database: Database) -> None:
    async def insert(number: int) -> None:
        async def unit(tx: Transaction) -> None:
            await tx.records.insert([make_indexed(f"mem_{number}", tokens=("word",))])
            if number % 3 == 0:
                raise Boom

        if number % 3:
            await database.write(unit)
        else:
            with pytest.raises(Boom):
                await database.write(unit)

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(insert, number)

    async def count(tx: Transaction) -> tuple[int, Mapping[tuple[str, ...], int]]:
        return await tx.records.total(PROJECT), (await tx.records.statistics(PROJECT, [("word",)])).counts

    assert await database.read(count) == (20, {("word",): 20})


async def test_units_that_wait_together_see_each_other_in_turn(database: Database) -> None:
    await database.write(lambda tx: tx.records.insert([make_indexed()]))

    async def unit(tx: Transaction) -> bool:
        held = (await tx.records.take(PROJECT, [RecordId("mem_1")]))[0]
        following = make_indexed(version=held.version + 1)
        return await tx.records.replace(following, expected_version=held.version, reindex=False)

    assert await asyncio.gather(*(database.write(unit) for _ in range(20))) == [True] * 20
    [record] = await database.read(lambda tx: tx.records.take(PROJECT, [RecordId("mem_1")]))
    assert record.version == 21


async def test_a_read_unit_sees_one_snapshot_while_others_write(database: Database) -> None:
    async def write(number: int) -> None:
        async def unit(tx: Transaction) -> None:
            await tx.records.insert([make_indexed(f"mem_{number}", tokens=("word",))])
            await tx.events.append([make_event(f"evt_{number}")])

        await database.write(unit)

    async def look(tx: Transaction) -> set[int]:
        seen = set()
        for _ in range(20):
            seen.add(await tx.records.total(PROJECT))
            seen.add(len(await tx.events.after(PROJECT, EventId(""), limit=999)))
            seen.add((await tx.records.statistics(PROJECT, [("word",)])).counts["word",])
        return seen

    async def check() -> None:
        assert len(await database.read(look)) == 1

    async with anyio.create_task_group() as tasks:
        for number in range(60):
            tasks.start_soon(write, number)
            tasks.start_soon(check)
    assert await database.read(look) == {60}


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda tx: tx.records.insert([make_indexed("mem_9")]), id="insert"),
        pytest.param(
            lambda tx: tx.records.replace(make_indexed(version=2), expected_version=1, reindex=True), id="replace"
        ),
        pytest.param(lambda tx: tx.records.delete(PROJECT, [RecordId("mem_1")]), id="delete"),
        pytest.param(lambda tx: tx.records.mark_deleted(PROJECT, ["mem_1"], deleted_at=NOW), id="mark_deleted"),
        pytest.param(lambda tx: tx.records.touch(PROJECT, {"mem_1": 1}, at=NOW), id="touch"),
        pytest.param(lambda tx: tx.records.reseal([make_record()]), id="reseal"),
        pytest.param(lambda tx: tx.records.add_links([make_link("mem_2", "mem_1")]), id="add_links"),
        pytest.param(lambda tx: tx.projects.add(Project(PROJECT, NOW)), id="projects.add"),
        pytest.param(lambda tx: tx.projects.see_agent(make_agent()), id="see_agent"),
        pytest.param(lambda tx: tx.sessions.add(make_session("ses_9")), id="sessions.add"),
        pytest.param(lambda tx: tx.sessions.replace(make_session()), id="sessions.replace"),
        pytest.param(lambda tx: tx.sessions.add_delegation(make_delegation("del_9")), id="add_delegation"),
        pytest.param(lambda tx: tx.sessions.replace_delegation(make_delegation()), id="replace_delegation"),
        pytest.param(lambda tx: tx.grants.add([make_grant("grt_9")]), id="grants.add"),
        pytest.param(lambda tx: tx.grants.revoke(PROJECT, ["grt_1"], at=NOW), id="revoke"),
        pytest.param(lambda tx: tx.grants.revoke_delegation(PROJECT, "del_1", at=NOW), id="revoke_delegation"),
        pytest.param(lambda tx: tx.audit.append([make_entry(2)], make_head(2)), id="audit.append"),
        pytest.param(lambda tx: tx.events.append([make_event("evt_9")]), id="events.append"),
        pytest.param(lambda tx: tx.events.delete_before(NOW, limit=1), id="events.delete_before"),
        pytest.param(lambda tx: tx.keys.add(make_key("key_9")), id="keys.add"),
        pytest.param(lambda tx: tx.keys.rewrap(make_key()), id="rewrap"),
        pytest.param(lambda tx: tx.requests.keep_answer(make_answer("twice")), id="keep_answer"),
        pytest.param(lambda tx: tx.requests.forget_answer(PROJECT, ALICE, "once"), id="forget_answer"),
        pytest.param(lambda tx: tx.requests.delete_answers_before(NOW, limit=1), id="delete_answers_before"),
        pytest.param(lambda tx: tx.requests.add_conflict(make_conflict("cfl_9")), id="add_conflict"),
    ],
)
async def test_a_read_unit_cannot_write(database: Database, write: Any) -> None:
    await database.write(_write_everywhere)
    before = await database.read(_see_everything)

    with pytest.raises(RuntimeError):
        await database.read(write)
    assert await database.read(_see_everything) == before


async def test_a_failed_read_unit_leaves_the_database_usable(database: Database) -> None:
    async def unit(tx: Transaction) -> None:
        raise Boom

    for _ in range(5):
        with pytest.raises(Boom):
            await database.read(unit)
    assert await database.read(lambda tx: tx.records.total(PROJECT)) == 0


async def test_a_unit_that_waits_for_something_else_is_refused(database: Database) -> None:
    async def unit(tx: Transaction) -> None:
        await tx.records.insert([make_indexed()])
        await Pause()

    with pytest.raises(RuntimeError):
        await database.write(unit)
    assert await database.read(lambda tx: tx.records.total(PROJECT)) == 0


async def test_status_tells_that_the_database_is_sound(database: Database) -> None:
    await database.write(_write_everywhere)
    for deep in (False, True):
        status = await database.status(deep=deep)
        assert status.sound
        assert status.engine


async def test_shredding_keeps_what_is_there(database: Database) -> None:
    await database.write(_write_everywhere)
    before = await database.read(_see_everything)
    await database.write(lambda tx: tx.records.insert([make_indexed("mem_3")]))
    await database.write(lambda tx: tx.records.delete(PROJECT, [RecordId("mem_3")]))
    await database.shred_remains()
    after = await database.read(_see_everything)
    assert after == before
