"""The table of tasks, on every backend."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from contextdna.ports.database import Database, Transaction
from contextdna.values.ids import AgentId, RecordId
from contextdna.values.level import Level
from contextdna.values.project import Link
from contextdna.values.record import IndexedRecord, Kind
from contextdna.values.task import DEPENDS_ON, TaskFilter, TaskOrder, TaskPlace, TaskStatus
from tests.builders import BOB, NOW, OTHER_PROJECT, PROJECT, make_indexed, make_reader, minutes

pytestmark = pytest.mark.anyio

ANY = TaskFilter()


def task(name: str, **changes: Any) -> IndexedRecord:
    plain = {"kind": Kind.TASK, "type": "open", "tier": "", "created_at": minutes(-10)}
    return make_indexed(name, **{**plain, **changes})


def edge(source: str, target: str, relation: str = DEPENDS_ON) -> Link:
    return Link(PROJECT, RecordId(source), RecordId(target), relation, NOW)


async def put(database: Database, records: Sequence[IndexedRecord], links: Sequence[Link] = ()) -> None:
    async def unit(tx: Transaction) -> None:
        await tx.records.insert(records)
        await tx.records.add_links(links)

    await database.write(unit)


async def page(database: Database, where: TaskFilter = ANY, **changes: Any) -> list[str]:
    asked: dict[str, Any] = {"order": TaskOrder.PRIORITY, "now": NOW, "after": None, "limit": 100, **changes}
    reader = asked.pop("reader", make_reader())
    found = await database.read(lambda tx: tx.tasks.page(reader, where, **asked))
    return [item.record.id for item in found]


def place(record: IndexedRecord) -> TaskPlace:
    return TaskPlace(record.record.importance, record.record.created_at, record.record.id)


SOME = [
    task("low", importance=0.1, created_at=minutes(-1)),
    task("old", importance=0.5, created_at=minutes(-30)),
    task("twin_a", importance=0.5, created_at=minutes(-20)),
    task("twin_b", importance=0.5, created_at=minutes(-20)),
    task("high", importance=0.9, created_at=minutes(-15)),
]


async def test_by_priority_the_highest_come_first_and_of_equals_the_oldest(database: Database) -> None:
    await put(database, [*SOME, make_indexed("memory")])
    assert await page(database) == ["high", "old", "twin_a", "twin_b", "low"]


async def test_by_age_the_newest_come_first(database: Database) -> None:
    await put(database, SOME)
    assert await page(database, order=TaskOrder.NEWEST) == ["low", "high", "twin_b", "twin_a", "old"]


@pytest.mark.parametrize("order", TaskOrder)
async def test_behind_each_place_comes_exactly_the_rest(database: Database, order: TaskOrder) -> None:
    await put(database, SOME)
    whole = await page(database, order=order)
    by_id = {item.record.id: item for item in SOME}
    for number, name in enumerate(whole, 1):
        behind = await page(database, order=order, after=place(by_id[RecordId(name)]))
        assert behind == whole[number:]
    assert await page(database, order=order, limit=2) == whole[:2]


async def test_a_place_whose_task_is_gone_is_a_place_still(database: Database) -> None:
    await put(database, SOME)
    await database.write(lambda tx: tx.records.delete(PROJECT, [RecordId("high")]))
    assert await page(database, after=place(SOME[4])) == ["old", "twin_a", "twin_b", "low"]


async def test_status_and_assignee_choose(database: Database) -> None:
    tasks = [
        task("a", type="open", subject="bob"),
        task("b", type="done", subject="bob"),
        task("c", type="blocked", subject="carol"),
        task("d", type="cancelled"),
    ]
    await put(database, tasks)
    assert await page(database, TaskFilter(statuses=(TaskStatus.DONE, TaskStatus.BLOCKED))) == ["b", "c"]
    assert await page(database, TaskFilter(assignee=AgentId("bob"))) == ["a", "b"]
    assert await page(database, TaskFilter((TaskStatus.OPEN,), AgentId("carol"))) == []


async def test_only_what_the_reader_sees_and_is_kept_is_listed(database: Database) -> None:
    tasks = [
        task("mine", level=Level.PRIVATE),
        task("his", level=Level.PRIVATE, owner_id=BOB),
        task("gone", deleted_at=minutes(-1)),
        task("over", retention_until=minutes(-1)),
        task("elsewhere", project_id=OTHER_PROJECT),
    ]
    await put(database, tasks)
    assert await page(database) == ["mine"]
    assert await page(database, reader=make_reader(BOB)) == ["his"]


async def test_ready_is_what_is_open_and_held_back_by_nothing(database: Database) -> None:
    tasks = [
        task("free"),
        task("waiting"),
        task("freed"),
        task("hidden_way"),
        task("forgotten_way"),
        task("outlived_way"),
        task("related"),
        task("begun", type="in_progress"),
        task("stuck", type="blocked"),
        task("over", type="done"),
        task("secret", level=Level.PRIVATE, owner_id=BOB),
        task("gone", deleted_at=minutes(-1)),
        task("ended", retention_until=NOW - timedelta(seconds=1)),
    ]
    links = [
        edge("waiting", "over"),
        edge("waiting", "stuck"),
        edge("freed", "over"),
        edge("hidden_way", "secret"),
        edge("forgotten_way", "gone"),
        edge("outlived_way", "ended"),
        edge("related", "stuck", "relates_to"),
    ]
    await put(database, tasks, links)
    ready = await page(database, TaskFilter(ready=True))
    assert set(ready) == {"free", "freed", "forgotten_way", "outlived_way", "related"}
    names = [RecordId(name) for name in ("waiting", "hidden_way", "freed")]
    held = await database.read(lambda tx: tx.tasks.in_the_way(PROJECT, names, now=NOW))
    assert held == {"waiting": ("stuck",), "hidden_way": ("secret",)}
    assert await database.read(lambda tx: tx.tasks.in_the_way(OTHER_PROJECT, names, now=NOW)) == {}


async def test_reach_follows_dependencies_to_their_ends_and_ends_in_circles_too(database: Database) -> None:
    links = [edge("a", "b"), edge("b", "c"), edge("c", "a"), edge("b", "d"), edge("d", "e", "relates_to")]
    await put(database, [task(name, deleted_at=NOW) for name in "abcde"], links)

    async def reach(*names: str, limit: int = 100) -> set[str]:
        ids = [RecordId(name) for name in names]
        return set(await database.read(lambda tx: tx.tasks.reach(PROJECT, ids, limit=limit)))

    assert await reach("a") == {"a", "b", "c", "d"}
    assert await reach("d") == {"d"}
    assert await reach("d", "e") == {"d", "e"}
    assert len(await reach("a", limit=2)) == 2
    assert await reach() == set()


async def test_removed_links_are_gone_and_others_stay(database: Database) -> None:
    links = [edge("a", "b"), edge("a", "b", "relates_to"), edge("a", "c")]
    await put(database, [task(name) for name in "abc"], links)
    unwanted = [edge("a", "b"), edge("a", "x")]
    assert await database.write(lambda tx: tx.records.remove_links(unwanted)) == 1
    kept = await database.read(lambda tx: tx.records.links_of(PROJECT, [RecordId("a")]))
    assert {(link.target_id, link.relation) for link in kept} == {("b", "relates_to"), ("c", DEPENDS_ON)}
