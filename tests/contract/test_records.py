"""Contract of ``RecordTable``: what is kept, what is seen, in which order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from contextdna.errors import Conflict
from contextdna.ports.database import Database
from contextdna.values.ids import AgentId, GrantId, RecordId, SessionId
from contextdna.values.level import ENCRYPTED_LEVELS, Level
from contextdna.values.principal import Reader, Role
from contextdna.values.record import Codec, IndexedRecord, Kind, Record, RecordRef, Sealed, Tier
from contextdna.values.search import Match, Phrase, RecordFilter
from contextdna.values.turn import ConversationSummary
from tests.builders import (
    ALICE,
    BOB,
    NOW,
    OTHER_PROJECT,
    PROJECT,
    make_grant,
    make_indexed,
    make_link,
    make_reader,
    make_record,
    minutes,
)

pytestmark = pytest.mark.anyio

FULL = make_record(
    "mem_full",
    kind=Kind.ARTIFACT,
    level=Level.TEAM,
    session_id=SessionId("ses_1"),
    type="text/plain; é",
    tier="",
    importance=0.125,
    position=7,
    subject="phase 'one'",
    version=3,
    valid_from=minutes(-90),
    valid_to=minutes(90),
    superseded_by="mem_2",
    retention_until=minutes(500),
    content_hash=bytes(range(32)),
    tag_tokens=("t1", "t2"),
    blob_key="ab" * 32,
    sealed=Sealed(b"\x00\xff cipher", Codec.JSON_ZSTD, "key_1", b"\x01salt"),
)


def ids(*names: str) -> list[RecordId]:
    return [RecordId(name) for name in names]


async def insert(database: Database, *records: IndexedRecord) -> None:
    await database.write(lambda tx: tx.records.insert(records))


async def seen(database: Database, reader: Reader, *names: str, now: datetime = NOW) -> list[str]:
    found = await database.read(lambda tx: tx.records.read(reader, ids(*names), now=now))
    return [item.record.id for item in found]


async def counts(database: Database, *tokens: str) -> Mapping[Phrase, int]:
    found = await database.read(lambda tx: tx.records.statistics(PROJECT, [(token,) for token in tokens]))
    return found.counts


async def listed(
    database: Database,
    where: RecordFilter,
    *,
    reader: Reader | None = None,
    now: datetime = NOW,
    limit: int = 100,
    offset: int = 0,
) -> list[str]:
    point_of_view = reader or make_reader()
    found = await database.read(
        lambda tx: tx.records.list_recent(point_of_view, where, now=now, limit=limit, offset=offset)
    )
    return [candidate.id for candidate in found]


async def taken(database: Database, *names: str) -> list[Record]:
    return await database.read(lambda tx: tx.records.take(PROJECT, ids(*names)))


# Insert, read, take, refs


async def test_a_record_comes_back_as_it_went_in(database: Database) -> None:
    await insert(database, IndexedRecord(FULL, ("a",)), make_indexed())
    assert await taken(database, "mem_full", "mem_1") == [FULL, make_record()]
    [item] = await database.read(lambda tx: tx.records.read(make_reader(), ids("mem_full"), now=NOW))
    assert (item.record, item.granted_by, item.access_count) == (FULL, "", 0)


async def test_inserting_an_id_twice_is_refused(database: Database) -> None:
    await insert(database, make_indexed())
    with pytest.raises(Conflict) as refused:
        await insert(database, make_indexed("mem_2"), make_indexed(importance=0.9))
    assert refused.value.code == "already_exists"
    assert await taken(database, "mem_1", "mem_2") == [make_record()]


async def test_inserting_nothing_is_nothing(database: Database) -> None:
    await insert(database)
    assert await database.read(lambda tx: tx.records.total(PROJECT)) == 0


async def test_projects_may_use_the_same_id(database: Database) -> None:
    other = make_indexed(project_id=OTHER_PROJECT, importance=0.9)
    await insert(database, make_indexed(), other)
    assert await taken(database, "mem_1") == [make_record()]
    assert await database.read(lambda tx: tx.records.take(OTHER_PROJECT, ids("mem_1"))) == [other.record]
    assert await database.write(lambda tx: tx.records.delete(OTHER_PROJECT, ids("mem_1"))) == 1
    assert await taken(database, "mem_1") == [make_record()]


async def test_reads_follow_the_order_of_ids_and_name_each_once(database: Database) -> None:
    await insert(database, *(make_indexed(f"mem_{n}") for n in range(5)))
    asked = ("mem_3", "mem_0", "absent", "mem_4", "mem_3")
    assert await seen(database, make_reader(), *asked) == ["mem_3", "mem_0", "mem_4"]
    assert [record.id for record in await taken(database, *asked)] == ["mem_3", "mem_0", "mem_4"]
    refs = await database.read(lambda tx: tx.records.refs(PROJECT, ids(*asked)))
    assert [ref.id for ref in refs] == ["mem_3", "mem_0", "mem_4"]
    assert await seen(database, make_reader()) == []


async def test_refs_and_take_need_no_reader(database: Database) -> None:
    private = make_record(level=Level.PRIVATE, owner_id=BOB, deleted_at=NOW, retention_until=minutes(-1))
    await insert(database, IndexedRecord(private, ()))
    refs = await database.read(lambda tx: tx.records.refs(PROJECT, ids("mem_1")))
    assert refs == [RecordRef(RecordId("mem_1"), PROJECT, Kind.MEMORY, Level.PRIVATE, BOB, "core", "lift")]
    assert await taken(database, "mem_1") == [private]
    assert await database.read(lambda tx: tx.records.refs(OTHER_PROJECT, ids("mem_1"))) == []


async def test_read_sees_kept_records_only(database: Database) -> None:
    await insert(
        database,
        make_indexed("deleted", deleted_at=minutes(-1)),
        make_indexed("expired", retention_until=NOW),
        make_indexed("kept", retention_until=minutes(1)),
        make_indexed("not_yet_valid", valid_from=minutes(1)),
        make_indexed("no_longer_valid", valid_to=minutes(-1)),
    )
    names = ("deleted", "expired", "kept", "not_yet_valid", "no_longer_valid")
    assert await seen(database, make_reader(), *names) == ["kept", "not_yet_valid", "no_longer_valid"]
    for name in names[:2]:
        assert await seen(database, make_reader(), name) == []


# Visibility


CIRCLES = [
    pytest.param(make_reader("alice"), ["l1", "l2", "l3", "l4", "l5"], id="owner"),
    pytest.param(make_reader("bob"), ["l2", "l3", "l4"], id="same-team-and-swarm"),
    pytest.param(make_reader("bob", team_id="x"), ["l3", "l4"], id="same-swarm"),
    pytest.param(make_reader("bob", swarm_id="x"), ["l2", "l4"], id="same-team"),
    pytest.param(make_reader("bob", team_id="", swarm_id=""), ["l4"], id="no-team-no-swarm"),
    pytest.param(make_reader("bob", team_id="x", swarm_id="x", role=Role.COORDINATOR), ["l4"], id="coordinator"),
    pytest.param(make_reader("bob", team_id="x", swarm_id="x", role=Role.SYSTEM), ["l4", "l5"], id="system"),
    pytest.param(make_reader("alice", project_id=OTHER_PROJECT, role=Role.SYSTEM), [], id="other-project"),
]


@pytest.mark.parametrize(("reader", "expected"), CIRCLES)
async def test_each_level_has_its_circle(database: Database, reader: Reader, expected: list[str]) -> None:
    names = [f"l{int(level)}" for level in Level]
    await insert(
        database,
        *(
            make_indexed(f"l{int(level)}", level=level, tokens=("w",), session_id="s", kind=Kind.TURN)
            for level in Level
        ),
    )
    assert await seen(database, reader, *names) == expected
    assert sorted(await listed(database, RecordFilter(), reader=reader)) == expected
    found = await database.read(
        lambda tx: tx.records.search(reader, RecordFilter(), Match((("w",),)), now=NOW, limit=9)
    )
    assert sorted(candidate.id for candidate in found) == expected
    counts = await database.read(lambda tx: tx.records.count_visible(reader, now=NOW))
    assert sum(counts.values()) == len(expected)
    turns = await database.read(lambda tx: tx.records.conversation(reader, SessionId("s"), now=NOW, after=-1, limit=9))
    assert sorted(item.record.id for item in turns) == expected
    summaries = await database.read(lambda tx: tx.records.conversations(reader, now=NOW, limit=9, offset=0))
    assert [summary.turns for summary in summaries] == ([len(expected)] if expected else [])


async def test_an_empty_team_or_swarm_is_no_circle(database: Database) -> None:
    await insert(
        database,
        make_indexed("team", level=Level.TEAM, team_id=""),
        make_indexed("swarm", level=Level.SWARM, swarm_id=""),
    )
    assert await seen(database, make_reader("bob", team_id="", swarm_id=""), "team", "swarm") == []


GRANTS = [
    pytest.param({}, True, id="without-end"),
    pytest.param({"expires_at": minutes(1)}, True, id="before-its-end"),
    pytest.param({"expires_at": NOW}, False, id="at-its-end"),
    pytest.param({"expires_at": minutes(-1)}, False, id="after-its-end"),
    pytest.param({"revoked_at": minutes(-1)}, False, id="revoked"),
    pytest.param({"grantee_id": AgentId("carol")}, False, id="another-agent"),
    pytest.param({"record_id": RecordId("mem_2")}, False, id="another-record"),
    pytest.param({"project_id": OTHER_PROJECT}, False, id="another-project"),
    pytest.param({"delegation_id": "del_1"}, True, id="of-a-delegation"),
]


@pytest.mark.parametrize(("changes", "expected"), GRANTS)
async def test_a_grant_in_force_makes_visible(database: Database, changes: dict[str, Any], expected: bool) -> None:
    reader = make_reader("bob")
    await insert(database, make_indexed(level=Level.PRIVATE, tokens=("w",)))
    await database.write(lambda tx: tx.grants.add([make_grant(**changes)]))
    found = await database.read(lambda tx: tx.records.read(reader, ids("mem_1"), now=NOW))
    assert [(item.record.id, item.granted_by) for item in found] == ([("mem_1", "alice")] if expected else [])
    several = await database.read(lambda tx: tx.records.read(reader, ids("mem_1", "x"), now=NOW))
    assert several == found
    assert await listed(database, RecordFilter(), reader=reader) == (["mem_1"] if expected else [])
    hits = await database.read(lambda tx: tx.records.search(reader, RecordFilter(), Match((("w",),)), now=NOW, limit=9))
    assert len(hits) == expected
    assert await database.read(lambda tx: tx.records.owned(reader, RecordFilter(), now=NOW, limit=9)) == []


async def test_granted_by_is_empty_where_no_grant_is_needed(database: Database) -> None:
    await insert(database, make_indexed(level=Level.TEAM))
    await database.write(lambda tx: tx.grants.add([make_grant()]))
    [item] = await database.read(lambda tx: tx.records.read(make_reader("bob"), ids("mem_1"), now=NOW))
    assert item.granted_by == ""
    outsider = make_reader("bob", team_id="x")
    [item] = await database.read(lambda tx: tx.records.read(outsider, ids("mem_1"), now=NOW))
    assert item.granted_by == "alice"


async def test_of_several_grants_the_first_in_force_names_the_giver(database: Database) -> None:
    await insert(database, make_indexed(level=Level.PRIVATE))
    givers = [("grt_3", "carol", None), ("grt_2", "dave", None), ("grt_1", "erin", NOW)]
    await database.write(
        lambda tx: tx.grants.add(
            [make_grant(grant, granted_by=AgentId(giver), expires_at=end) for grant, giver, end in givers]
        )
    )
    [item] = await database.read(lambda tx: tx.records.read(make_reader("bob"), ids("mem_1"), now=NOW))
    assert item.granted_by == "dave"


async def test_a_grant_opens_turns_too(database: Database) -> None:
    turn: dict[str, Any] = {"kind": Kind.TURN, "session_id": SessionId("s"), "level": Level.PRIVATE}
    await insert(database, make_indexed("t1", position=1, **turn), make_indexed("t2", position=2, **turn))
    await database.write(lambda tx: tx.grants.add([make_grant(record_id="t2")]))
    reader = make_reader("bob")
    turns = await database.read(lambda tx: tx.records.conversation(reader, SessionId("s"), now=NOW, after=0, limit=9))
    assert [(item.record.id, item.granted_by) for item in turns] == [("t2", "alice")]
    [summary] = await database.read(lambda tx: tx.records.conversations(reader, now=NOW, limit=9, offset=0))
    assert summary.turns == 1


# Filters


FILTERS = [
    pytest.param(RecordFilter(kinds=(Kind.LOOP,)), {"b"}, id="kind"),
    pytest.param(RecordFilter(kinds=(Kind.LOOP, Kind.MEMORY)), {"a", "b", "c"}, id="kinds"),
    pytest.param(RecordFilter(types=("decision",)), {"b", "c"}, id="type"),
    pytest.param(RecordFilter(types=("decision", "fact")), {"a", "b", "c"}, id="types"),
    pytest.param(RecordFilter(tiers=("working",)), {"c"}, id="tier"),
    pytest.param(RecordFilter(levels=(Level.SWARM,)), {"a"}, id="level"),
    pytest.param(RecordFilter(levels=(Level.SWARM, Level.TEAM)), {"a", "b"}, id="levels"),
    pytest.param(RecordFilter(tag_tokens=("t1",), sealed_tag_tokens=("t1",)), {"a", "b"}, id="tag"),
    pytest.param(RecordFilter(tag_tokens=("t1", "t2"), sealed_tag_tokens=("t1", "t2")), {"a"}, id="all-tags"),
    pytest.param(RecordFilter(tag_tokens=("t",), sealed_tag_tokens=("t",)), set(), id="part-of-a-tag"),
    pytest.param(RecordFilter(tag_tokens=("t11",), sealed_tag_tokens=("t1",)), {"b", "c"}, id="tag-in-two-spaces"),
    pytest.param(RecordFilter(owner_id=BOB), {"b"}, id="owner"),
    pytest.param(RecordFilter(session_id=SessionId("s1")), {"a"}, id="session"),
    pytest.param(RecordFilter(subject="p1"), {"b"}, id="subject"),
    pytest.param(RecordFilter(session_id=SessionId("s1"), subject="p1"), set(), id="session-and-subject"),
    pytest.param(RecordFilter(since=minutes(-20)), {"b", "c"}, id="since-is-inclusive"),
    pytest.param(RecordFilter(until=minutes(-20)), {"a"}, id="until-is-exclusive"),
    pytest.param(RecordFilter(since=minutes(-30), until=minutes(-10)), {"a", "b"}, id="between"),
    pytest.param(RecordFilter(min_importance=0.5), {"b", "c"}, id="importance-is-inclusive"),
    pytest.param(RecordFilter(types=("decision",), tiers=("semantic",), min_importance=0.1), {"b"}, id="combined"),
    pytest.param(RecordFilter(types=("decision",), owner_id=ALICE, tag_tokens=("t1",)), set(), id="combined-none"),
    pytest.param(RecordFilter(deleted=True), {"d"}, id="deleted"),
    pytest.param(RecordFilter(deleted=True, types=("decision",)), set(), id="deleted-combined"),
]


@pytest.mark.parametrize(("where", "expected"), FILTERS)
async def test_filters_narrow(database: Database, where: RecordFilter, expected: set[str]) -> None:
    common: dict[str, Any] = {"tokens": ("w",)}
    await insert(
        database,
        make_indexed(
            "a",
            level=Level.SWARM,
            tag_tokens=("t2", "t1", "t3"),
            session_id=SessionId("s1"),
            created_at=minutes(-30),
            importance=0.25,
            **common,
        ),
        make_indexed(
            "b",
            kind=Kind.LOOP,
            level=Level.TEAM,
            type="decision",
            tag_tokens=("t1",),
            owner_id=BOB,
            subject="p1",
            created_at=minutes(-20),
            **common,
        ),
        make_indexed(
            "c",
            type="decision",
            tier=Tier.WORKING,
            importance=0.75,
            created_at=minutes(-10),
            tag_tokens=("t11",),
            **common,
        ),
        make_indexed("d", deleted_at=minutes(-1), importance=0.125, retention_until=minutes(-5), **common),
    )
    assert set(await listed(database, where)) == expected
    hits = await database.read(lambda tx: tx.records.search(make_reader(), where, Match((("w",),)), now=NOW, limit=9))
    assert {hit.id for hit in hits} == expected
    own = await database.read(lambda tx: tx.records.owned(make_reader(), where, now=NOW, limit=9))
    assert {ref.id for ref in own} == expected - {"b"}


@pytest.mark.parametrize("level", Level)
async def test_a_tag_is_looked_for_in_the_space_of_the_level(database: Database, level: Level) -> None:
    await insert(
        database,
        make_indexed("open", level=level, tag_tokens=("open",)),
        make_indexed("sealed", level=level, tag_tokens=("sealed",)),
    )
    where = RecordFilter(tag_tokens=("open",), sealed_tag_tokens=("sealed",))
    reader = make_reader(role=Role.SYSTEM)
    expected = ["sealed"] if level in ENCRYPTED_LEVELS else ["open"]
    assert await listed(database, where, reader=reader) == expected


LIVES = [
    pytest.param({}, None, True, id="plain"),
    pytest.param({"created_at": minutes(1)}, None, False, id="created-later"),
    pytest.param({"created_at": NOW}, None, True, id="created-now"),
    pytest.param({"valid_from": NOW}, None, True, id="valid-from-now"),
    pytest.param({"valid_from": minutes(1)}, None, False, id="valid-later"),
    pytest.param({"valid_to": NOW}, None, False, id="valid-until-now"),
    pytest.param({"valid_to": minutes(1)}, None, True, id="valid-for-a-while"),
    pytest.param({"retention_until": NOW}, None, False, id="retention-over"),
    pytest.param({"retention_until": minutes(1)}, None, True, id="retention-not-over"),
    pytest.param({"deleted_at": minutes(-1)}, None, False, id="deleted"),
    pytest.param({"deleted_at": minutes(1)}, None, False, id="deleted-whenever"),
    pytest.param({"created_at": minutes(-5)}, minutes(-6), False, id="as-of-before-creation"),
    pytest.param({"created_at": minutes(-5), "valid_from": minutes(-9)}, minutes(-6), True, id="as-of-backdated"),
    pytest.param({"valid_to": minutes(-5)}, minutes(-6), True, id="as-of-while-valid"),
    pytest.param({"valid_from": minutes(5)}, minutes(5), True, id="as-of-the-future"),
    pytest.param({"deleted_at": minutes(-1)}, minutes(-6), False, id="as-of-brings-no-deleted-back"),
    pytest.param({"retention_until": minutes(-1)}, minutes(-6), False, id="as-of-brings-no-expired-back"),
]


@pytest.mark.parametrize(("changes", "as_of", "expected"), LIVES)
async def test_living_records_are_listed(
    database: Database, changes: dict[str, Any], as_of: datetime | None, expected: bool
) -> None:
    await insert(database, make_indexed(tokens=("w",), **changes))
    where = RecordFilter(as_of=as_of)
    assert len(await listed(database, where)) == expected
    hits = await database.read(lambda tx: tx.records.search(make_reader(), where, Match((("w",),)), now=NOW, limit=9))
    assert len(hits) == expected
    assert len(await database.read(lambda tx: tx.records.owned(make_reader(), where, now=NOW, limit=9))) == expected
    if as_of is None:
        counts = await database.read(lambda tx: tx.records.count_visible(make_reader(), now=NOW))
        assert counts == ({(Kind.MEMORY, "project", "fact"): 1} if expected else {})
        found = await database.read(lambda tx: tx.records.duplicates_of(make_record(), [b"\x00hash"], now=NOW))
        not_yet = {"created_at", "valid_from"} & changes.keys()
        assert len(found) == (expected or bool(not_yet))  # what will be true is known already


# Order and pages


async def test_recent_comes_newest_first_and_in_pages(database: Database) -> None:
    order = [("a", -3), ("b", -1), ("c", -1), ("d", -2), ("e", -1)]
    await insert(database, *(make_indexed(name, created_at=minutes(at)) for name, at in order))
    newest_first = ["e", "c", "b", "d", "a"]
    assert await listed(database, RecordFilter()) == newest_first
    assert await listed(database, RecordFilter(), limit=2) == newest_first[:2]
    assert await listed(database, RecordFilter(), limit=2, offset=2) == newest_first[2:4]
    assert await listed(database, RecordFilter(), limit=9, offset=5) == []


async def test_a_new_version_keeps_its_place_among_equals(database: Database) -> None:
    await insert(database, make_indexed("a"), make_indexed("b"))
    await database.write(lambda tx: tx.records.replace(make_indexed("a", version=2), expected_version=1, reindex=True))
    assert await listed(database, RecordFilter()) == ["b", "a"]


async def test_owned_lists_ones_own_most_important_first(database: Database) -> None:
    await insert(
        database,
        make_indexed("low", importance=0.1),
        make_indexed("high", importance=0.9),
        make_indexed("older", importance=0.5, created_at=minutes(-99)),
        make_indexed("newer", importance=0.5, created_at=minutes(-1)),
        make_indexed("not_mine", importance=1.0, owner_id=BOB),
    )
    refs = await database.read(lambda tx: tx.records.owned(make_reader(), RecordFilter(), now=NOW, limit=9))
    assert [ref.id for ref in refs] == ["high", "newer", "older", "low"]
    refs = await database.read(lambda tx: tx.records.owned(make_reader(), RecordFilter(), now=NOW, limit=1))
    assert refs == [RecordRef(RecordId("high"), PROJECT, Kind.MEMORY, Level.PROJECT, ALICE, "core", "lift")]


# Change and removal


async def test_replace_puts_every_field_of_the_new_version(database: Database) -> None:
    await insert(database, make_indexed("mem_full"))
    assert await database.write(
        lambda tx: tx.records.replace(IndexedRecord(FULL, ()), expected_version=1, reindex=False)
    )
    assert await taken(database, "mem_full") == [FULL]


@pytest.mark.parametrize("expected_version", [1, 3])
async def test_replace_of_another_version_changes_nothing(database: Database, expected_version: int) -> None:
    held = make_indexed(version=2, tokens=("old",))
    await insert(database, held)
    done = await database.write(
        lambda tx: tx.records.replace(
            make_indexed(version=9, tokens=("new",)), expected_version=expected_version, reindex=True
        )
    )
    assert not done
    assert await taken(database, "mem_1") == [held.record]
    assert await counts(database, "old", "new") == {("old",): 1, ("new",): 0}


async def test_replace_of_an_absent_record_is_refused(database: Database) -> None:
    await insert(database, make_indexed(project_id=OTHER_PROJECT))
    assert not await database.write(
        lambda tx: tx.records.replace(make_indexed(version=2), expected_version=1, reindex=True)
    )
    assert await taken(database, "mem_1") == []


@pytest.mark.parametrize("reindex", [True, False])
async def test_replace_changes_the_index_only_when_told(database: Database, reindex: bool) -> None:
    await insert(database, make_indexed(tokens=("old",)))
    await database.write(
        lambda tx: tx.records.replace(make_indexed(version=2, tokens=("new",)), expected_version=1, reindex=reindex)
    )
    assert await counts(database, "old", "new") == {("old",): int(not reindex), ("new",): int(reindex)}


async def test_replace_keeps_access_counts_and_grants(database: Database) -> None:
    await insert(database, make_indexed(level=Level.PRIVATE))
    await database.write(lambda tx: tx.records.touch(PROJECT, {RecordId("mem_1"): 3}, at=NOW))
    await database.write(lambda tx: tx.grants.add([make_grant()]))
    new = make_indexed(version=2, level=Level.PRIVATE)
    await database.write(lambda tx: tx.records.replace(new, expected_version=1, reindex=True))
    [item] = await database.read(lambda tx: tx.records.read(make_reader("bob"), ids("mem_1"), now=NOW))
    assert (item.record.version, item.granted_by, item.access_count) == (2, "alice", 3)


async def test_delete_removes_a_record_with_all_that_hangs_on_it(database: Database) -> None:
    await insert(database, *(make_indexed(name, tokens=("w",), level=Level.PRIVATE) for name in "abc"))
    await database.write(
        lambda tx: tx.records.add_links([make_link("a", "b"), make_link("b", "c"), make_link("c", "a")])
    )
    await database.write(lambda tx: tx.records.touch(PROJECT, {RecordId("a"): 5}, at=NOW))
    await database.write(lambda tx: tx.grants.add([make_grant("g1", "a"), make_grant("g2", "b")]))
    assert await database.write(lambda tx: tx.records.delete(PROJECT, ids("a", "absent"))) == 1
    assert [record.id for record in await taken(database, "a", "b", "c")] == ["b", "c"]
    assert await counts(database, "w") == {("w",): 2}
    assert await database.read(lambda tx: tx.records.links_of(PROJECT, ids("a", "b", "c"))) == [make_link("b", "c")]
    left = await database.read(lambda tx: tx.grants.active_for(PROJECT, ids("a", "b"), BOB, now=NOW))
    assert [grant.id for grant in left] == ["g2"]
    await insert(database, make_indexed("a", tokens=("other",)))
    [item] = await database.read(lambda tx: tx.records.read(make_reader(), ids("a"), now=NOW))
    assert item.access_count == 0
    assert await seen(database, make_reader("bob", team_id="", swarm_id=""), "a") == ["a"]


async def test_delete_of_the_newest_leaves_its_place_clean(database: Database) -> None:
    await insert(database, make_indexed("a", tokens=("one",)), make_indexed("b", tokens=("two",)))
    await database.write(lambda tx: tx.records.touch(PROJECT, {RecordId("b"): 5}, at=NOW))
    await database.write(lambda tx: tx.records.delete(PROJECT, ids("b")))
    await insert(database, make_indexed("c", tokens=("three",)))
    assert await counts(database, "one", "two", "three") == {("one",): 1, ("two",): 0, ("three",): 1}
    [item] = await database.read(lambda tx: tx.records.read(make_reader(), ids("c"), now=NOW))
    assert item.access_count == 0


async def test_soft_deleted_records_can_be_restored(database: Database) -> None:
    await insert(database, make_indexed(tokens=("w",)), make_indexed("mem_2"))
    await database.write(lambda tx: tx.records.mark_deleted(PROJECT, ids("mem_1", "absent"), deleted_at=minutes(-1)))
    assert await taken(database, "mem_1") == [make_record(deleted_at=minutes(-1))]
    assert await listed(database, RecordFilter()) == ["mem_2"]
    assert await listed(database, RecordFilter(deleted=True)) == ["mem_1"]
    assert await database.read(lambda tx: tx.records.total(PROJECT)) == 2
    assert await counts(database, "w") == {("w",): 1}
    await database.write(lambda tx: tx.records.mark_deleted(PROJECT, ids("mem_1"), deleted_at=None))
    assert await taken(database, "mem_1") == [make_record()]
    assert await listed(database, RecordFilter(deleted=True)) == []


async def test_touch_adds_up_and_ignores_absent_records(database: Database) -> None:
    await insert(database, make_indexed("a"), make_indexed("b"), make_indexed("a", project_id=OTHER_PROJECT))
    await database.write(
        lambda tx: tx.records.touch(PROJECT, {RecordId("a"): 2, RecordId("b"): 1, RecordId("x"): 1}, at=NOW)
    )
    await database.write(lambda tx: tx.records.touch(PROJECT, {RecordId("a"): 3}, at=NOW))
    found = await database.read(lambda tx: tx.records.read(make_reader(), ids("a", "b"), now=NOW))
    assert [item.access_count for item in found] == [5, 1]
    elsewhere = make_reader(project_id=OTHER_PROJECT)
    [item] = await database.read(lambda tx: tx.records.read(elsewhere, ids("a"), now=NOW))
    assert item.access_count == 0


# Duplicates and counts


async def test_duplicates_are_found_within_the_same_circle_only(database: Database) -> None:
    sample = make_record("new", content_hash=b"same")
    near_misses: Sequence[dict[str, Any]] = [
        {"project_id": OTHER_PROJECT},
        {"kind": Kind.ARTIFACT},
        {"owner_id": BOB},
        {"level": Level.SWARM},
        {"team_id": "x"},
        {"swarm_id": "x"},
        {"content_hash": b"else"},
        {"deleted_at": minutes(-1)},
    ]
    await insert(
        database,
        *(make_indexed(f"n{n}", **{"content_hash": b"same", **changes}) for n, changes in enumerate(near_misses)),
    )
    assert await database.read(lambda tx: tx.records.duplicates_of(sample, [b"same"], now=NOW)) == {}
    first, second = make_record("first", content_hash=b"same", type="other"), make_record("second", content_hash=b"2")
    await insert(database, IndexedRecord(first, ()), IndexedRecord(replace(first, id=RecordId("later")), ()))
    await insert(database, IndexedRecord(second, ()))
    hashes = [b"same", b"2", b"absent"]
    found = await database.read(lambda tx: tx.records.duplicates_of(sample, hashes, now=NOW))
    assert found == {b"same": first, b"2": second}
    assert await database.read(lambda tx: tx.records.duplicates_of(sample, [], now=NOW)) == {}


async def test_count_visible_groups_by_kind_level_and_type(database: Database) -> None:
    await insert(
        database,
        make_indexed("a"),
        make_indexed("b"),
        make_indexed("c", type="decision"),
        make_indexed("d", kind=Kind.TURN, type="user", level=Level.SWARM),
        make_indexed("e", level=Level.PRIVATE, owner_id=BOB),
    )
    assert await database.read(lambda tx: tx.records.count_visible(make_reader(), now=NOW)) == {
        (Kind.MEMORY, "project", "fact"): 2,
        (Kind.MEMORY, "project", "decision"): 1,
        (Kind.TURN, "swarm", "user"): 1,
    }


async def test_tasks_are_counted_by_status(database: Database) -> None:
    statuses = {"a": "open", "b": "open", "c": "done"}
    tasks = [make_indexed(name, kind=Kind.TASK, type=status, tier="") for name, status in statuses.items()]
    hidden = make_indexed("d", kind=Kind.TASK, type="open", tier="", level=Level.PRIVATE, owner_id=BOB)
    await insert(database, *tasks, hidden, make_indexed("e", type="open"))
    counts = await database.read(lambda tx: tx.records.count_visible_tasks(make_reader(), now=NOW))
    assert counts == {"open": 2, "done": 1}
    assert await database.read(lambda tx: tx.records.count_visible_tasks(make_reader(BOB), now=NOW)) == {
        "open": 3,
        "done": 1,
    }


async def test_counts_may_begin_at_a_time(database: Database) -> None:
    await insert(database, *(make_indexed(f"m{n}", created_at=minutes(-n)) for n in range(5)))
    counts = await database.read(lambda tx: tx.records.count_visible(make_reader(), now=NOW, since=minutes(-2)))
    assert sum(counts.values()) == 3


async def test_a_moment_is_that_of_the_newest_the_one_before_it_and_so_on(database: Database) -> None:
    others = [make_indexed(f"o{n}", created_at=minutes(-n), project_id=OTHER_PROJECT) for n in range(9)]
    mine = [make_indexed(f"m{n}", created_at=minutes(-n), owner_id=BOB, level=Level.PRIVATE) for n in range(5)]
    await insert(database, *mine, *others)

    async def moment(place: int, **within: datetime) -> datetime | None:
        return await database.read(lambda tx: tx.records.moment(PROJECT, place=place, **within))

    assert [await moment(place) for place in (1, 3, 5, 6)] == [minutes(0), minutes(-2), minutes(-4), None]
    assert await moment(1, until=minutes(-1)) == minutes(-2)
    assert await moment(2, since=minutes(-1)) == minutes(-1)
    assert await moment(3, since=minutes(-1)) is None


@pytest.mark.parametrize("kind", list(Kind))
async def test_a_list_of_one_kind_is_newest_first_whatever_the_kind(database: Database, kind: Kind) -> None:
    items = [make_indexed(f"{of}{n}", kind=of, created_at=minutes(-n)) for of in Kind for n in range(3)]
    await insert(database, *items)
    assert await listed(database, RecordFilter(kinds=(kind,))) == [f"{kind}{n}" for n in range(3)]
    within = RecordFilter(kinds=(kind,), since=minutes(-1), until=minutes(0))
    assert await listed(database, within) == [f"{kind}1"]


# Conversations, positions, subjects


async def test_a_conversation_is_read_in_order_and_in_pages(database: Database) -> None:
    turn: dict[str, Any] = {"kind": Kind.TURN, "session_id": SessionId("s1")}
    await insert(
        database,
        *(make_indexed(f"t{n}", position=n, **turn) for n in (3, 1, 2, 4)),
        make_indexed("deleted", position=5, deleted_at=NOW, **turn),
        make_indexed("other_kind", position=6, session_id=SessionId("s1")),
        make_indexed("other_session", position=7, kind=Kind.TURN, session_id=SessionId("s2")),
        make_indexed("no_session", position=8, kind=Kind.TURN),
    )

    async def turns(session_id: str, after: int, limit: int, **more: Any) -> list[str]:
        found = await database.read(
            lambda tx: tx.records.conversation(
                make_reader(), SessionId(session_id), now=NOW, after=after, limit=limit, **more
            )
        )
        return [item.record.id for item in found]

    assert await turns("s1", 0, 9, newest_first=True) == ["t4", "t3", "t2", "t1"]
    assert await turns("s1", 1, 9, before=4) == ["t2", "t3"]
    assert await turns("s1", 0, 2, before=4, newest_first=True) == ["t3", "t2"]
    assert await turns("s1", 0, 9) == ["t1", "t2", "t3", "t4"]
    assert await turns("s1", 1, 2) == ["t2", "t3"]
    assert await turns("s1", 4, 9) == []
    assert await turns("", 0, 9) == []


async def test_conversations_come_latest_first(database: Database) -> None:
    async def add(session_id: str, position: int, at: float, **changes: Any) -> None:
        changes = {"kind": Kind.TURN, "session_id": SessionId(session_id), "created_at": minutes(at), **changes}
        await insert(database, make_indexed(f"{session_id}_{position}", position=position, **changes))

    await add("s1", 1, -30)
    await add("s1", 2, -5)
    await add("s2", 1, -10, owner_id=BOB)
    await add("s3", 1, -20)
    await add("s3", 2, -1, level=Level.PRIVATE, owner_id=BOB)
    await add("s4", 1, -2, retention_until=NOW)
    expected = [
        ConversationSummary(SessionId("s1"), ALICE, 2, minutes(-30), minutes(-5)),
        ConversationSummary(SessionId("s2"), BOB, 1, minutes(-10), minutes(-10)),
        ConversationSummary(SessionId("s3"), ALICE, 1, minutes(-20), minutes(-20)),
    ]

    async def page(limit: int, offset: int) -> list[ConversationSummary]:
        return await database.read(
            lambda tx: tx.records.conversations(make_reader(), now=NOW, limit=limit, offset=offset)
        )

    assert await page(9, 0) == expected
    assert await page(1, 1) == expected[1:2]
    assert await page(9, 3) == []


async def test_the_first_turn_names_the_agent_of_a_conversation(database: Database) -> None:
    turn: dict[str, Any] = {"kind": Kind.TURN, "session_id": SessionId("s1")}
    await insert(
        database,
        make_indexed("t2", position=2, owner_id=ALICE, created_at=minutes(-30), **turn),
        make_indexed("t1", position=1, owner_id=BOB, created_at=minutes(-20), **turn),
        make_indexed("t3", position=3, owner_id=AgentId("carol"), created_at=minutes(-10), **turn),
    )
    [summary] = await database.read(lambda tx: tx.records.conversations(make_reader(), now=NOW, limit=9, offset=0))
    assert summary == ConversationSummary(SessionId("s1"), BOB, 3, minutes(-30), minutes(-10))


async def test_last_position_counts_every_record_of_its_kind(database: Database) -> None:
    await insert(
        database,
        make_indexed("a", kind=Kind.TURN, session_id=SessionId("s1"), position=3, owner_id=BOB, level=Level.PRIVATE),
        make_indexed("b", kind=Kind.TURN, session_id=SessionId("s1"), position=4, deleted_at=NOW),
        make_indexed("c", kind=Kind.ARTIFACT, session_id=SessionId("s1"), subject="name", position=7),
        make_indexed("d", kind=Kind.ARTIFACT, session_id=SessionId("s2"), subject="name", position=8),
        make_indexed("e", kind=Kind.TURN, session_id=SessionId("s1"), position=9, project_id=OTHER_PROJECT),
    )

    async def last(kind: Kind, session_id: str, subject: str) -> int:
        return await database.read(
            lambda tx: tx.records.last_position(PROJECT, kind, session_id=SessionId(session_id), subject=subject)
        )

    assert await last(Kind.TURN, "s1", "") == 4
    assert await last(Kind.TURN, "s9", "") == 0
    assert await last(Kind.ARTIFACT, "", "name") == 8
    assert await last(Kind.ARTIFACT, "s1", "") == 7
    assert await last(Kind.LOOP, "", "name") == 0
    assert await last(Kind.ARTIFACT, "", "") == 0


async def test_under_subject_needs_no_reader(database: Database) -> None:
    loop: dict[str, Any] = {"kind": Kind.LOOP, "subject": "p1", "position": 1}
    await insert(
        database,
        make_indexed("newer", created_at=minutes(-1), level=Level.PRIVATE, owner_id=BOB, **loop),
        make_indexed("older", created_at=minutes(-9), **loop),
        make_indexed("deleted", deleted_at=NOW, **loop),
        make_indexed("other_position", **{**loop, "position": 2}),
        make_indexed("other_subject", **{**loop, "subject": "p2"}),
        make_indexed("other_kind", **{**loop, "kind": Kind.MEMORY}),
        make_indexed("other_project", project_id=OTHER_PROJECT, **loop),
        make_indexed("no_subject", **{**loop, "subject": ""}),
    )
    found = await database.read(lambda tx: tx.records.under_subject(PROJECT, Kind.LOOP, "p1", 1))
    assert [record.id for record in found] == ["older", "newer"]
    assert await database.read(lambda tx: tx.records.under_subject(PROJECT, Kind.LOOP, "", 1)) == []


async def test_subjects_are_those_of_visible_living_records(database: Database) -> None:
    await insert(
        database,
        make_indexed("a", kind=Kind.LOOP, subject="p2"),
        make_indexed("b", kind=Kind.LOOP, subject="p1"),
        make_indexed("c", kind=Kind.LOOP, subject="p1"),
        make_indexed("d", kind=Kind.LOOP, subject="hidden", level=Level.PRIVATE, owner_id=BOB),
        make_indexed("e", kind=Kind.LOOP, subject="gone", deleted_at=NOW),
        make_indexed("f", kind=Kind.ARTIFACT, subject="name"),
        make_indexed("g", kind=Kind.LOOP, subject=""),
    )
    assert await database.read(lambda tx: tx.records.subjects(make_reader(), Kind.LOOP, now=NOW, limit=9)) == [
        "p1",
        "p2",
    ]
    assert await database.read(lambda tx: tx.records.subjects(make_reader(), Kind.LOOP, now=NOW, limit=1)) == ["p1"]


# Upkeep


DUE = [
    pytest.param({}, False, id="plain"),
    pytest.param({"retention_until": NOW}, True, id="retention-over"),
    pytest.param({"retention_until": minutes(1)}, False, id="retention-not-over"),
    pytest.param({"deleted_at": minutes(-11)}, True, id="restore-window-over"),
    pytest.param({"deleted_at": minutes(-10)}, False, id="restore-window-not-over"),
    pytest.param({"deleted_at": minutes(-1), "retention_until": NOW}, False, id="retention-over-but-restorable"),
    pytest.param(
        {"deleted_at": minutes(-1), "tier": Tier.WORKING, "updated_at": minutes(-99)}, False, id="idle-but-restorable"
    ),
    pytest.param({"tier": Tier.WORKING, "updated_at": minutes(-21)}, True, id="working-idle"),
    pytest.param({"tier": Tier.EPISODIC, "updated_at": minutes(-21)}, True, id="episodic-idle"),
    pytest.param({"tier": Tier.WORKING, "updated_at": minutes(-20)}, False, id="working-not-idle"),
    pytest.param({"tier": Tier.SEMANTIC, "updated_at": minutes(-99)}, False, id="semantic-never-idles"),
    pytest.param({"tier": Tier.SHARED, "updated_at": minutes(-99)}, False, id="shared-never-idles"),
    pytest.param({"tier": "", "updated_at": minutes(-99)}, False, id="without-tier-never-idles"),
    pytest.param({"project_id": OTHER_PROJECT, "retention_until": NOW}, False, id="other-project"),
]


async def due(database: Database, limit: int = 9) -> list[str]:
    found = await database.read(
        lambda tx: tx.records.due(PROJECT, now=NOW, deleted_before=minutes(-10), idle_before=minutes(-20), limit=limit)
    )
    return [record.id for record in found]


@pytest.mark.parametrize(("changes", "expected"), DUE)
async def test_due_records_are_those_whose_time_is_over(
    database: Database, changes: dict[str, Any], expected: bool
) -> None:
    await insert(database, make_indexed(**changes))
    assert await due(database) == (["mem_1"] if expected else [])


@pytest.mark.parametrize(
    ("accessed", "updated", "expected"),
    [
        pytest.param(-1, -99, False, id="read-lately"),
        pytest.param(-50, -1, False, id="changed-since-it-was-read"),
        pytest.param(-50, -99, True, id="read-long-ago"),
    ],
)
async def test_reading_and_changing_both_end_idleness(
    database: Database, accessed: float, updated: float, expected: bool
) -> None:
    await insert(database, make_indexed(tier=Tier.WORKING, updated_at=minutes(updated)))
    await database.write(lambda tx: tx.records.touch(PROJECT, {RecordId("mem_1"): 1}, at=minutes(accessed)))
    await database.write(lambda tx: tx.records.touch(PROJECT, {RecordId("mem_1"): 1}, at=minutes(accessed - 90)))
    assert await due(database) == (["mem_1"] if expected else [])


async def test_due_records_come_oldest_first_up_to_the_limit(database: Database) -> None:
    await insert(database, *(make_indexed(name, retention_until=NOW) for name in "cab"))
    assert await due(database) == ["c", "a", "b"]
    assert await due(database, limit=2) == ["c", "a"]


async def test_records_sealed_with_another_key_are_found_and_resealed(database: Database) -> None:
    await insert(
        database,
        make_indexed("plain"),
        make_indexed("old1", sealed=Sealed(b"1", key_id="key_1", salt=b"s")),
        make_indexed("old3", sealed=Sealed(b"3", key_id="key_3", salt=b"s"), deleted_at=NOW, owner_id=BOB),
        make_indexed("new", sealed=Sealed(b"2", key_id="key_2", salt=b"s")),
        make_indexed("other", sealed=Sealed(b"1", key_id="key_1"), project_id=OTHER_PROJECT),
    )

    async def stale(limit: int) -> set[str]:
        found = await database.read(lambda tx: tx.records.sealed_with_other_key(PROJECT, "key_2", limit=limit))
        return {record.id for record in found}

    assert await stale(9) == {"old1", "old3"}
    assert len(await stale(1)) == 1
    others = await database.read(
        lambda tx: tx.records.sealed_with_other_key(PROJECT, "key_2", limit=1, without=ids("old1", "absent"))
    )
    assert [record.id for record in others] == ["old3"]
    [old] = await taken(database, "old1")
    sealed = Sealed(b"new", Codec.JSON_ZSTD, "key_2", b"salt2")
    await database.write(lambda tx: tx.records.reseal([replace(old, sealed=sealed, importance=1.0)]))
    assert await taken(database, "old1") == [replace(old, sealed=sealed)]
    assert await stale(9) == {"old3"}


async def test_reseal_leaves_a_newer_version_alone(database: Database) -> None:
    held = make_record(version=2)
    await insert(database, IndexedRecord(held, ()))
    await database.write(lambda tx: tx.records.reseal([make_record(version=1, sealed=Sealed(b"late"))]))
    await database.write(lambda tx: tx.records.reseal([make_record("absent")]))
    assert await taken(database, "mem_1", "absent") == [held]


async def test_a_blob_is_in_use_while_any_record_of_any_project_names_it(database: Database) -> None:
    await insert(database, make_indexed("a"), make_indexed("b", blob_key="k", deleted_at=NOW, project_id=OTHER_PROJECT))
    assert await database.read(lambda tx: tx.records.blob_in_use("k"))
    assert not await database.read(lambda tx: tx.records.blob_in_use("other"))
    assert not await database.read(lambda tx: tx.records.blob_in_use(""))
    await database.write(lambda tx: tx.records.delete(OTHER_PROJECT, ids("b")))
    assert not await database.read(lambda tx: tx.records.blob_in_use("k"))


async def test_links_stay_as_they_were_first_made(database: Database) -> None:
    first = [make_link("b", "x"), make_link("a", "z"), make_link("a", "y"), make_link("a", "w", created_at=minutes(-1))]
    await database.write(lambda tx: tx.records.add_links(first))
    again = [make_link("a", "y", created_at=minutes(9)), make_link("a", "y", relation="contradicts")]
    await database.write(lambda tx: tx.records.add_links(again))
    await database.write(lambda tx: tx.records.add_links([make_link("a", "q", project_id=OTHER_PROJECT)]))
    found = await database.read(lambda tx: tx.records.links_of(PROJECT, ids("b", "a")))
    assert found == [first[3], again[1], first[2], first[1], first[0]]
    assert await database.read(lambda tx: tx.records.links_of(PROJECT, ids("x"))) == []


async def test_revoking_a_grant_hides_at_once(database: Database) -> None:
    await insert(database, make_indexed(level=Level.PRIVATE))
    await database.write(lambda tx: tx.grants.add([make_grant(expires_at=minutes(5))]))
    bob = make_reader("bob")
    assert await seen(database, bob, "mem_1") == ["mem_1"]
    assert await seen(database, bob, "mem_1", now=minutes(5)) == []
    assert await database.write(lambda tx: tx.grants.revoke(PROJECT, [GrantId("grt_1")], at=NOW)) == 1
    assert await seen(database, bob, "mem_1") == []
    assert await listed(database, RecordFilter(), reader=bob) == []


# What changes by itself


async def test_the_next_change_is_the_first_begin_end_or_expiry_after_now(database: Database) -> None:
    async def next_change(at: float, reader: Reader = make_reader(ALICE)) -> datetime | None:  # noqa: B008 - frozen
        return await database.read(lambda tx: tx.records.next_change(reader, now=minutes(at)))

    assert await next_change(0) is None
    await insert(
        database,
        make_indexed("begins", created_at=minutes(-9), valid_from=minutes(1)),
        make_indexed("ends", created_at=minutes(-9), valid_to=minutes(2)),
        make_indexed("kept", created_at=minutes(-9), retention_until=minutes(3)),
        make_indexed("ahead", created_at=minutes(4)),
        make_indexed("elsewhere", project_id=OTHER_PROJECT, created_at=minutes(-9), valid_to=minutes(1.5)),
    )
    await database.write(lambda tx: tx.grants.add([make_grant("g", "kept", ALICE, expires_at=minutes(5))]))
    assert [await next_change(at) for at in (0, 0.5, 1, 2, 3, 4, 5)] == [
        *(minutes(at) for at in (1, 1, 2, 3, 4, 5)),
        None,
    ]
    assert await next_change(4, make_reader(BOB)) is None
