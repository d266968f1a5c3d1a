"""Rankings that a hub holds: never stale, never another reader's, never too many; and what tells of writes."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from contextdna import AgentId, ContextDnaError, ContextQuery, Hub, HubSettings, Level, MemoryDraft, Workspace, open_hub
from contextdna.domain.held_rankings import HeldRankings
from contextdna.values.settings import SearchSettings
from tests.doubles import LetterEmbedder
from tests.hub.methods import METHODS, furnish
from tests.hub.rig import ALICE, BOB, DEFAULT, PETE, ROOT, START, TESS, Clock, last_audit, remember, settings_in, stored

pytestmark = pytest.mark.anyio

APPLES: Final = ContextQuery("apples")
MARGIN: Final = timedelta(seconds=1)


@contextmanager
def searches(hub: Hub) -> Iterator[list[Any]]:
    """Note each ranking that is looked up, and not taken from what is held."""
    rankings = hub._door._rankings_of(DEFAULT)
    assert rankings is not None
    looked_up: list[Any] = []
    keep = rankings.keep

    def noting(key: Any, *arguments: Any, **named: Any) -> None:
        looked_up.append(key)
        keep(key, *arguments, **named)

    rankings.keep = noting  # type: ignore[method-assign]
    yield looked_up
    rankings.keep = keep  # type: ignore[method-assign]


async def found(workspace: Workspace, query: ContextQuery = APPLES) -> list[str]:
    return [hit.content for hit in (await workspace.retrieve_context(query)).hits]


async def test_a_question_asked_again_is_not_looked_up_again(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    await remember(alice, "apples are red")
    with searches(hub) as looked_up:
        first = await alice.retrieve_context(APPLES)
        assert await alice.retrieve_context(replace(APPLES, text="Apples?")) == first
        assert await alice.retrieve_context(replace(APPLES, max_tokens=500)) == first
    assert len(looked_up) == 1


async def test_what_another_process_writes_is_in_the_next_answer(folder: Path, clock: Clock) -> None:
    settings = settings_in(folder)
    async with open_hub(settings, clock=clock) as one, open_hub(settings, clock=clock) as two:
        mine, theirs = one.bind(ALICE), two.bind(BOB)
        kept = await remember(theirs, "apples are red")
        assert await found(mine) == ["apples are red"]
        await remember(theirs, "apples are green")
        assert sorted(await found(mine)) == ["apples are green", "apples are red"]
        await theirs.forget_memories([kept])
        assert await found(mine) == ["apples are green"]


async def test_two_readers_never_share_a_ranking(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    await remember(alice, "apples of alice", level=Level.PRIVATE)
    await remember(alice, "apples of the team", level=Level.TEAM)
    await remember(alice, "apples of the swarm", level=Level.SWARM)
    await remember(hub.bind(ROOT, project_id=DEFAULT), "apples of operators", level=Level.SYSTEM)
    for reader in (TESS, BOB, PETE):  # who is seen for the first time is told of
        await found(hub.bind(reader), ContextQuery())
    with searches(hub) as looked_up:
        everything = ["apples of alice", "apples of the swarm", "apples of the team"]
        for _ in range(2):
            assert sorted(await found(alice)) == everything
            assert await found(hub.bind(TESS)) == ["apples of the team"]
            assert await found(hub.bind(BOB)) == ["apples of the swarm"]
            assert await found(hub.bind(PETE)) == []
            assert await found(hub.bind(ROOT, project_id=DEFAULT)) == ["apples of operators"]
    assert len(looked_up) == len(set(looked_up)) == 5
    assert await found(hub.bind(replace(BOB, swarm_id=""))) == []


async def test_what_time_begins_and_ends_changes_the_answer_to_the_moment(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE)
    await remember(alice, "apples later", valid_from=START + timedelta(hours=1))
    await remember(alice, "apples for now", valid_to=START + timedelta(hours=2))
    await remember(alice, "apples kept short", retention_days=3 / 24)
    lent = await remember(hub.bind(PETE), "apples of pete", level=Level.PRIVATE)
    await hub.bind(PETE).share_memories([AgentId("alice")], [lent], expires_in_s=4 * 3600.0)
    held = {"apples for now", "apples kept short", "apples of pete"}
    for hour, changed in enumerate(("apples later", "apples for now", "apples kept short", "apples of pete"), start=1):
        clock.now = START + timedelta(hours=hour) - MARGIN
        assert set(await found(alice)) == held
        clock.now = START + timedelta(hours=hour)
        held ^= {changed}
        assert set(await found(alice)) == held


async def test_a_read_is_audited_alike_whether_its_ranking_was_held_or_not(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    await remember(alice, "apples are red")
    entries = []
    for _ in range(2):
        await alice.retrieve_context(APPLES)
        entries.append((await last_audit(hub)).draft)
    assert entries[0] == entries[1]
    assert entries[0].record_ids


async def test_reads_and_their_audit_end_no_ranking(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    memory = await remember(alice, "apples are red")
    with searches(hub) as looked_up:
        for _ in range(2):
            await alice.retrieve_context(APPLES)
            await alice.get_memories([memory])
    assert len(looked_up) == 1


async def test_nothing_is_held_where_the_setting_is_nought(settings: HubSettings, clock: Clock) -> None:
    async with open_hub(replace(settings, search=SearchSettings(rankings_held_max=0)), clock=clock) as hub:
        await remember(hub.bind(ALICE), "apples are red")
        for _ in range(2):
            assert await found(hub.bind(ALICE)) == ["apples are red"]
        assert hub._door._rankings_of(DEFAULT) is None


async def test_what_is_held_is_bounded(settings: HubSettings, clock: Clock) -> None:
    async with open_hub(replace(settings, search=SearchSettings(rankings_held_max=3)), clock=clock) as hub:
        alice = hub.bind(ALICE)
        await alice.store_memories([MemoryDraft(f"apples word{number}") for number in range(9)])
        for number in range(9):
            await alice.retrieve_context(ContextQuery(f"word{number}"))
        rankings = hub._door._rankings_of(DEFAULT)
        assert rankings is not None
        assert len(rankings) == 3
        assert rankings.size_bytes < 60_000


def test_the_oldest_go_first_when_memory_is_short() -> None:
    rankings = HeldRankings[str](10, bytes_max=100)
    for name in ("a", "b", "c"):
        if name == "c":
            assert rankings.find("a", event=1, now=START) == "a"
        rankings.keep(name, name, event=1, now=START, until=None, size_bytes=50)
    assert [rankings.find(name, event=1, now=START) for name in ("a", "b", "c")] == ["a", None, "c"]
    assert rankings.size_bytes == 100
    rankings.keep("huge", "huge", event=1, now=START, until=None, size_bytes=101)
    assert (len(rankings), rankings.size_bytes) == (0, 0)


def test_a_ranking_is_held_for_its_event_and_time_alone() -> None:
    rankings = HeldRankings[str](10)
    rankings.keep("a", "a", event=2, now=START, until=START + MARGIN, size_bytes=1)
    assert rankings.find("a", event=2, now=START) == "a"
    assert rankings.find("a", event=2, now=START - MARGIN) is None
    assert rankings.find("a", event=2, now=START + MARGIN) is None
    assert rankings.find("a", event=1, now=START) is None  # an older snapshot
    rankings.keep("a", "older", event=1, now=START, until=None, size_bytes=1)
    assert rankings.find("a", event=2, now=START) == "a"
    assert rankings.find("a", event=3, now=START) is None
    assert rankings.find("a", event=2, now=START) is None
    rankings.keep("b", "b", event=3, now=START, until=None, size_bytes=1)
    assert rankings.find("b", event=3, now=START + timedelta(days=1)) is None
    rankings.keep("c", "c", event=0, now=START, until=None, size_bytes=1)
    assert rankings.find("c", event=0, now=START) is None


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_whatever_changes_what_is_found_tells_of_it(anyio_backend: str, name: str) -> None:
    async with open_hub(settings_in(None), clock=Clock()) as hub:
        furnished = await furnish(hub)
        workspace = hub.bind(ROOT, session_id=furnished.handle)
        before = await stored(hub)
        with suppress(ContextDnaError):
            await METHODS[name].call(workspace, furnished)
        after = await stored(hub)
        if any(
            _deciding(before.data, table) != _deciding(after.data, table) for table in ("records", "links", "grants")
        ):
            assert after.data["event_seq"] != before.data["event_seq"]


def _deciding(data: dict[str, list[Any]], table: str) -> list[Any]:
    """Give of a table what decides on answers: not how often a record was read, nor how its body is sealed."""
    rows = data[table]
    if table != "records":
        return rows
    return [
        (key, replace(row, access_count=0, accessed_at=None, record=replace(row.record, sealed=None)))
        for key, row in rows
    ]


async def test_what_comes_near_by_meaning_is_in_the_next_answer(
    settings: HubSettings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contextdna.hub.semantics._FIRST_AFTER_S", 3600.0)  # embedded when asked for, not behind
    async with open_hub(settings, clock=clock, embedder=LetterEmbedder()) as hub:
        alice = hub.bind(ALICE)
        await remember(alice, "apples")
        await remember(hub.bind(BOB), "papel sap")
        assert await found(alice) == ["apples"]
        assert await hub._rooms.semantics.turn()
        with searches(hub) as looked_up:
            for _ in range(2):
                assert await found(alice) == ["apples", "papel sap"]
        assert len(looked_up) == 1
