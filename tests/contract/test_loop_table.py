"""Loop records by time and their links: every backend gives the same, and only what the reader may see."""

from typing import Any

import pytest

from contextdna.ports.database import Database
from contextdna.values.ids import AgentId, RecordId
from contextdna.values.level import Level
from contextdna.values.loop import RESTS_ON, SUPERSEDES
from contextdna.values.record import Kind
from tests.builders import (
    BOB,
    NOW,
    OTHER_PROJECT,
    PROJECT,
    make_grant,
    make_indexed,
    make_link,
    make_reader,
    minutes,
)

pytestmark = pytest.mark.anyio


async def furnish(database: Database) -> None:
    loop: dict[str, Any] = {"kind": Kind.LOOP, "subject": "p1", "type": "decision", "created_at": minutes(-5)}
    records = [
        make_indexed("late", position=3, **{**loop, "created_at": minutes(-1)}),
        make_indexed("first", position=2, **loop),
        make_indexed("second", position=1, **loop),
        make_indexed("other_type", **{**loop, "type": "confidence"}),
        make_indexed("other_phase", **{**loop, "subject": "p2"}),
        make_indexed("hidden", position=9, owner_id=BOB, **{**loop, "level": Level.PRIVATE}),
        make_indexed("deleted", deleted_at=NOW, **loop),
        make_indexed("other_kind", **{**loop, "kind": Kind.MEMORY}),
        make_indexed("other_project", project_id=OTHER_PROJECT, **loop),
    ]
    links = [
        make_link("second", "first", relation=SUPERSEDES),
        make_link("hidden", "second", relation=SUPERSEDES),
        make_link("other_kind", "late", relation=SUPERSEDES),
        make_link("late", "other_kind", relation=RESTS_ON),
        make_link("late", "hidden", relation=RESTS_ON),
        make_link("late", "deleted", relation=RESTS_ON),
    ]

    async def unit(tx: Any) -> None:
        await tx.records.insert(records)
        await tx.records.add_links(links)

    await database.write(unit)


async def ids(database: Database, **asked: Any) -> list[str]:
    asked = {"phase": "p1", "types": (), "now": NOW, "after": "", "newest_first": False, "limit": 9, **asked}
    found = await database.read(lambda tx: tx.loops.page(make_reader(), **asked))
    return [item.record.id for item in found]


async def test_pages_go_by_time_and_by_what_was_appended_first(database: Database) -> None:
    await furnish(database)
    assert await ids(database) == ["first", "second", "other_type", "late"]
    assert await ids(database, newest_first=True) == ["late", "other_type", "second", "first"]
    assert await ids(database, types=["decision"]) == ["first", "second", "late"]
    assert await ids(database, phase="") == ["first", "second", "other_type", "other_phase", "late"]
    assert await ids(database, after="second", limit=1) == ["other_type"]
    assert await ids(database, after="second", newest_first=True) == ["first"]
    assert await ids(database, after="absent") == []


async def test_the_latest_iteration_is_of_what_the_reader_sees(database: Database) -> None:
    await furnish(database)

    async def latest(agent_id: str, phase: str) -> int:
        return await database.read(lambda tx: tx.loops.latest_iteration(make_reader(agent_id), phase, now=NOW))

    assert [await latest("alice", "p1"), await latest("bob", "p1"), await latest("alice", "")] == [3, 9, 0]
    await database.write(lambda tx: tx.grants.add([make_grant(record_id="hidden", grantee_id="alice")]))
    assert await latest("alice", "p1") == 9


async def test_links_show_when_the_reader_sees_their_other_end(database: Database) -> None:
    await furnish(database)
    asked = [RecordId(name) for name in ("first", "second", "late")]

    async def linked(agent_id: str) -> tuple[dict[RecordId, RecordId], list[str]]:
        reader = make_reader(agent_id)
        newer = await database.read(lambda tx: tx.loops.superseding(reader, asked, now=NOW))
        references = await database.read(lambda tx: tx.loops.references(reader, asked, now=NOW))
        assert {link.project_id for link in references} == {PROJECT}
        return newer, [f"{link.source_id} {link.relation} {link.target_id}" for link in references]

    shown = ["late rests_on other_kind", "second supersedes first"]
    assert await linked("alice") == ({"first": "second"}, shown)
    assert await linked("bob") == (
        {"first": "second", "second": "hidden"},
        ["late rests_on hidden", *shown],
    )


async def test_what_stands_is_told_by_links_alone_with_and_without_what_is_hidden(database: Database) -> None:
    loop: dict[str, Any] = {"kind": Kind.LOOP, "subject": "p1", "type": "decision", "position": 1}
    records = [
        make_indexed("first", created_at=minutes(-1), **loop),
        make_indexed("hidden", owner_id=BOB, level=Level.PRIVATE, created_at=minutes(-2), **loop),
        make_indexed("second", created_at=minutes(-3), **loop),
        make_indexed("deleted", deleted_at=NOW, created_at=minutes(-3), **loop),
        make_indexed("elsewhere", **{**loop, "position": 2}),
    ]
    links = [
        make_link("hidden", "first", relation=SUPERSEDES),
        make_link("second", "hidden", relation=SUPERSEDES),
        make_link("deleted", "second", relation=SUPERSEDES),
        make_link("elsewhere", "second", relation=SUPERSEDES),
    ]

    async def unit(tx: Any) -> None:
        await tx.records.insert(records)
        await tx.records.add_links(links)

    await database.write(unit)

    async def standing(agent_id: str, *, hidden: bool, phase: str = "p1") -> list[str]:
        found = await database.read(
            lambda tx: tx.loops.standing(make_reader(agent_id), phase, 1, now=NOW, hidden=hidden)
        )
        return [record.id for record in found]

    assert await standing("alice", hidden=True) == ["second"]
    assert await standing("alice", hidden=False) == ["first", "second"]
    assert await standing("bob", hidden=False) == ["second"]
    assert await standing("alice", hidden=True, phase="") == []


async def test_an_agents_records_of_an_iteration_are_counted_standing_or_not(database: Database) -> None:
    await furnish(database)

    async def count(phase: str, iteration: int, owner_id: str) -> int:
        return await database.read(lambda tx: tx.loops.count(PROJECT, phase, iteration, owner_id=AgentId(owner_id)))

    counted = [
        await count(*asked) for asked in (("p1", 2, "alice"), ("p1", 9, BOB), ("p1", 9, "alice"), ("", 0, "alice"))
    ]
    assert counted == [1, 1, 0, 0]
    assert await count("p1", 0, "alice") == 1  # neither the deleted one, nor what is of another kind or project
