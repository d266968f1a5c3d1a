"""Contract of ``AuditTable``, ``EventTable``, ``KeyTable`` and ``RequestTable``."""

from dataclasses import replace

import pytest

from contextdna.errors import Conflict
from contextdna.ports.database import Database, Transaction
from contextdna.values.audit import Outcome, Risk
from contextdna.values.ids import INSTALLATION, AgentId, EventId, ProjectId, SessionId
from contextdna.values.key import KeyPurpose
from tests.builders import (
    ALICE,
    BOB,
    NOW,
    OTHER_PROJECT,
    PROJECT,
    make_answer,
    make_conflict,
    make_entry,
    make_event,
    make_head,
    make_key,
    minutes,
)

pytestmark = pytest.mark.anyio


async def test_an_audit_entry_comes_back_as_it_went_in(database: Database) -> None:
    entry = make_entry(
        1,
        at=minutes(1),
        principal_id=BOB,
        session_id=SessionId("ses_1"),
        outcome=Outcome.DENIED,
        risk=Risk.CRITICAL,
        record_ids=("mem_1", 'odd " id', "mem_2"),
        details='{"count":2}',
        request_id="req_1",
        trace_id="trace",
    )
    await database.write(lambda tx: tx.audit.append([entry], make_head(1)))
    assert await database.read(lambda tx: tx.audit.entries(PROJECT, after_seq=0, limit=9)) == [entry]
    assert await database.read(lambda tx: tx.audit.head(PROJECT)) == make_head(1)
    assert await database.read(lambda tx: tx.audit.head(OTHER_PROJECT)) is None


async def test_a_chain_is_read_in_order_and_in_pages(database: Database) -> None:
    entries = [make_entry(seq) for seq in range(1, 6)]
    await database.write(lambda tx: tx.audit.append(entries[:3], make_head(3)))
    await database.write(lambda tx: tx.audit.append(entries[3:], make_head(5)))
    assert await database.read(lambda tx: tx.audit.entries(PROJECT, after_seq=0, limit=9)) == entries
    assert await database.read(lambda tx: tx.audit.entries(PROJECT, after_seq=2, limit=2)) == entries[2:4]
    assert await database.read(lambda tx: tx.audit.entries(PROJECT, after_seq=5, limit=2)) == []
    assert await database.read(lambda tx: tx.audit.head(PROJECT)) == make_head(5)


async def test_chains_stand_apart(database: Database) -> None:
    elsewhere = make_entry(1, project_id=OTHER_PROJECT)
    installation = make_entry(1, project_id=INSTALLATION)
    await database.write(lambda tx: tx.audit.append([elsewhere], make_head(1, OTHER_PROJECT)))
    await database.write(lambda tx: tx.audit.append([make_entry(1)], make_head(1)))
    await database.write(lambda tx: tx.audit.append([installation], make_head(1, INSTALLATION)))
    assert await database.read(lambda tx: tx.audit.entries(OTHER_PROJECT, after_seq=0, limit=9)) == [elsewhere]
    assert await database.read(lambda tx: tx.audit.chains()) == [INSTALLATION, PROJECT, OTHER_PROJECT]
    heads = [make_head(1, project_id) for project_id in (INSTALLATION, PROJECT, OTHER_PROJECT)]
    assert await database.read(lambda tx: tx.audit.heads()) == heads


async def test_a_taken_place_in_a_chain_is_refused(database: Database) -> None:
    await database.write(lambda tx: tx.audit.append([make_entry(1)], make_head(1)))
    with pytest.raises(Conflict) as refused:
        await database.write(lambda tx: tx.audit.append([make_entry(1, action="other")], make_head(9)))
    assert refused.value.code == "already_exists"
    assert await database.read(lambda tx: tx.audit.entries(PROJECT, after_seq=0, limit=9)) == [make_entry(1)]
    assert await database.read(lambda tx: tx.audit.head(PROJECT)) == make_head(1)


async def test_the_latest_entries_come_last_first_and_filtered(database: Database) -> None:
    entries = [
        make_entry(1, record_ids=("mem_1", "mem_10")),
        make_entry(2, action="memory.get", record_ids=("mem_10",)),
        make_entry(3, agent_id=BOB, record_ids=("mem_1",)),
        make_entry(4, action="memory.get", agent_id=BOB, principal_id=ALICE),
    ]
    await database.write(lambda tx: tx.audit.append(entries, make_head(4)))

    async def latest(
        before_seq: int = 99, limit: int = 9, action: str = "", agent_id: str = "", record_id: str = ""
    ) -> list[int]:
        found = await database.read(
            lambda tx: tx.audit.latest(
                PROJECT, before_seq=before_seq, limit=limit, action=action, agent_id=agent_id, record_id=record_id
            )
        )
        return [entry.seq for entry in found]

    assert await latest() == [4, 3, 2, 1]
    assert await latest(limit=2) == [4, 3]
    assert await latest(before_seq=3) == [2, 1]
    assert await latest(action="memory.get") == [4, 2]
    assert await latest(agent_id="bob") == [4, 3]
    assert await latest(record_id="mem_1") == [3, 1]
    assert await latest(record_id="mem_10") == [2, 1]
    assert await latest(record_id="mem_") == []
    assert await latest(action="memory.store", agent_id="bob", record_id="mem_1") == [3]


async def test_events_are_read_in_the_order_of_commit(database: Database) -> None:
    names = ["evt_3", "evt_1", "evt_2", "evt_4"]  # an id made earlier may be committed later

    async def unit(tx: Transaction) -> None:
        for name in names:
            await tx.events.append([make_event(name)])

    await database.write(unit)
    await database.write(lambda tx: tx.events.append([make_event("evt_9", project_id=OTHER_PROJECT)]))

    async def after(event_id: str, limit: int = 9) -> list[str]:
        return [
            event.id
            for event in await database.read(lambda tx: tx.events.after(PROJECT, EventId(event_id), limit=limit))
        ]

    assert await after("") == names
    assert await after("evt_3") == names[1:]
    assert await after("evt_2") == names[3:]
    assert await after("evt_3", limit=2) == names[1:3]
    assert await after("evt_4") == []


async def test_the_place_of_an_event_is_known_while_it_is_kept(database: Database) -> None:
    await database.write(
        lambda tx: tx.events.append([make_event("evt_1", at=minutes(-3)), make_event("evt_2", at=NOW)])
    )

    async def place(name: str, project: str = PROJECT) -> int | None:
        return await database.read(lambda tx: tx.events.place(ProjectId(project), EventId(name)))

    assert (await place("evt_1"), await place("evt_2")) == (1, 2)
    assert await database.write(lambda tx: tx.events.delete_before(NOW, limit=9)) == 1
    assert (await place("evt_1"), await place("evt_2"), await place("evt_2", OTHER_PROJECT)) == (None, 2, None)


async def test_events_after_a_swept_one_go_on_where_it_stood(database: Database) -> None:
    await database.write(lambda tx: tx.events.append([make_event(f"evt_{n}", at=minutes(n)) for n in (1, 3, 5)]))
    found = await database.read(lambda tx: tx.events.after(PROJECT, EventId("evt_2"), limit=9))
    assert [event.id for event in found] == ["evt_3", "evt_5"]
    found = await database.read(lambda tx: tx.events.after(PROJECT, EventId("evt_0"), limit=9))
    assert [event.id for event in found] == ["evt_1", "evt_3", "evt_5"]


async def test_an_event_comes_back_as_it_went_in_and_once(database: Database) -> None:
    event = make_event(record_ids=("mem_1", "mem_2"), agent_id=BOB, at=minutes(1))
    await database.write(lambda tx: tx.events.append([event, make_event("evt_2", record_ids=())]))
    found = await database.read(lambda tx: tx.events.after(PROJECT, EventId(""), limit=9))
    assert found == [event, make_event("evt_2", record_ids=())]
    with pytest.raises(Conflict):
        await database.write(lambda tx: tx.events.append([event]))
    await database.write(lambda tx: tx.events.append([]))


async def test_old_events_are_removed_in_batches(database: Database) -> None:
    await database.write(
        lambda tx: tx.events.append(
            [
                make_event("evt_1", at=minutes(-3)),
                make_event("evt_2", at=NOW),
                make_event("evt_3", at=minutes(-1)),
                make_event("evt_4", at=minutes(-2), project_id=OTHER_PROJECT),
            ]
        )
    )
    assert await database.write(lambda tx: tx.events.delete_before(NOW, limit=2)) == 2
    assert await database.write(lambda tx: tx.events.delete_before(NOW, limit=2)) == 1
    assert await database.write(lambda tx: tx.events.delete_before(NOW, limit=2)) == 0
    assert [event.id for event in await database.read(lambda tx: tx.events.after(PROJECT, EventId(""), limit=9))] == [
        "evt_2"
    ]
    assert await database.read(lambda tx: tx.events.after(OTHER_PROJECT, EventId(""), limit=9)) == []


async def test_the_oldest_events_go_first(database: Database) -> None:
    events = [make_event(f"evt_{n}", at=minutes(n)) for n in (-1, -3, -2)]
    await database.write(lambda tx: tx.events.append(events))
    assert await database.write(lambda tx: tx.events.delete_before(NOW, limit=2)) == 2
    assert await database.read(lambda tx: tx.events.after(PROJECT, EventId(""), limit=9)) == events[:1]


async def test_keys_are_listed_by_project_purpose_and_version(database: Database) -> None:
    keys = [
        make_key("k4", project_id=OTHER_PROJECT),
        make_key("k3", purpose=KeyPurpose.ROOT),
        make_key("k2", version=2, wrapped=b"\x00\xff"),
        make_key("k1", version=1),
        make_key("k0", project_id=INSTALLATION),
    ]

    async def unit(tx: Transaction) -> None:
        for key in keys:
            await tx.keys.add(key)

    await database.write(unit)
    assert await database.read(lambda tx: tx.keys.all(PROJECT)) == [keys[3], keys[2], keys[1]]
    assert [key.key_id for key in await database.read(lambda tx: tx.keys.all())] == ["k0", "k1", "k2", "k3", "k4"]
    assert await database.read(lambda tx: tx.keys.all(INSTALLATION)) == [keys[4]]
    with pytest.raises(Conflict) as refused:
        await database.write(lambda tx: tx.keys.add(make_key("k1", version=7)))
    assert refused.value.code == "already_exists"


async def test_a_new_key_raises_the_generation_of_its_project(database: Database) -> None:
    async def generations() -> list[int]:
        return [await database.read(lambda tx, p=p: tx.keys.generation(p)) for p in (PROJECT, OTHER_PROJECT)]  # type: ignore[misc]

    assert await generations() == [0, 0]
    await database.write(lambda tx: tx.keys.add(make_key("k1", version=1)))
    await database.write(lambda tx: tx.keys.add(make_key("k2", version=2)))
    assert await generations() == [2, 0]
    await database.write(lambda tx: tx.keys.rewrap(make_key("k2", master_id="mk_2", wrapped=b"new")))
    await database.write(lambda tx: tx.keys.add(make_key("k9", version=1, project_id=OTHER_PROJECT)))
    assert await generations() == [2, 1]


async def test_rewrapping_replaces_the_wrapping_only(database: Database) -> None:
    await database.write(lambda tx: tx.keys.add(make_key()))
    await database.write(lambda tx: tx.keys.rewrap(make_key(master_id="mk_2", wrapped=b"new", version=9)))
    await database.write(lambda tx: tx.keys.rewrap(make_key("absent")))
    assert await database.read(lambda tx: tx.keys.all()) == [make_key(master_id="mk_2", wrapped=b"new")]


async def test_the_first_answer_to_a_key_stays(database: Database) -> None:
    first = make_answer(fingerprint=b"\x00\xff", answer='[["mem_1",1]]')
    others = [make_answer(agent_id=BOB), make_answer(project_id=OTHER_PROJECT), make_answer("twice")]

    async def unit(tx: Transaction) -> None:
        for answer in (first, *others, replace(first, answer="later")):
            await tx.requests.keep_answer(answer)

    await database.write(unit)
    assert await database.read(lambda tx: tx.requests.answer(PROJECT, ALICE, "once")) == first
    assert await database.read(lambda tx: tx.requests.answer(PROJECT, BOB, "once")) == others[0]
    assert await database.read(lambda tx: tx.requests.answer(OTHER_PROJECT, ALICE, "once")) == others[1]
    assert await database.read(lambda tx: tx.requests.answer(PROJECT, AgentId("carol"), "once")) is None


async def test_an_answer_that_is_forgotten_is_forgotten_alone(database: Database) -> None:
    others = [make_answer(agent_id=BOB), make_answer(project_id=OTHER_PROJECT), make_answer("twice")]

    async def unit(tx: Transaction) -> None:
        for answer in (make_answer(), *others):
            await tx.requests.keep_answer(answer)
        for _ in range(2):
            await tx.requests.forget_answer(PROJECT, ALICE, "once")

    await database.write(unit)
    assert await database.read(lambda tx: tx.requests.answer(PROJECT, ALICE, "once")) is None
    for one in others:
        assert await database.read(lambda tx, a=one: tx.requests.answer(a.project_id, a.agent_id, a.key)) == one  # type: ignore[misc]


async def test_old_answers_are_forgotten_oldest_first(database: Database) -> None:
    ages = {"new": 0, "old": -1, "older": -2, "oldest": -3}

    async def unit(tx: Transaction) -> None:
        for key, age in ages.items():
            await tx.requests.keep_answer(make_answer(key, created_at=minutes(age)))

    async def left(tx: Transaction) -> list[str]:
        return [key for key in ages if await tx.requests.answer(PROJECT, ALICE, key) is not None]

    await database.write(unit)
    assert await database.write(lambda tx: tx.requests.delete_answers_before(NOW, limit=2)) == 2
    assert await database.read(left) == ["new", "old"]
    assert await database.write(lambda tx: tx.requests.delete_answers_before(NOW, limit=9)) == 1
    assert await database.write(lambda tx: tx.requests.delete_answers_before(NOW, limit=9)) == 0


async def test_lost_writes_are_listed_latest_first(database: Database) -> None:
    lost = [
        make_conflict("c1", at=minutes(1)),
        make_conflict("c2", at=minutes(2), agent_id=ALICE, expected_version=3, current_version=4),
        make_conflict("c3", at=minutes(1)),
        make_conflict("c4", project_id=OTHER_PROJECT),
    ]

    async def unit(tx: Transaction) -> None:
        for conflict in lost:
            await tx.requests.add_conflict(conflict)

    await database.write(unit)
    assert await database.read(lambda tx: tx.requests.conflicts(PROJECT, limit=9)) == [lost[1], lost[2], lost[0]]
    assert await database.read(lambda tx: tx.requests.conflicts(PROJECT, limit=1)) == [lost[1]]
    with pytest.raises(Conflict):
        await database.write(lambda tx: tx.requests.add_conflict(lost[0]))
