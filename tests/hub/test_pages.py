"""Pages of one answer, whatever is written between them: no hit twice, none lost, none that was taken away."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from contextdna import (
    AgentId,
    Context,
    ContextQuery,
    Hub,
    HubSettings,
    InvalidInput,
    Level,
    MemoryChange,
    MemoryDraft,
    RecordId,
    Workspace,
    open_hub,
)
from contextdna.domain.begun_answers import BegunAnswers
from contextdna.domain.cursors import pack_cursor, unpack_cursor
from contextdna.values.principal import Reader
from contextdna.values.settings import SearchSettings
from tests.doubles import LetterEmbedder
from tests.hub.rig import ALICE, BOB, DEFAULT, START, Clock, refused, remember, settings_in

pytestmark = pytest.mark.anyio

SMALL: Final = SearchSettings(found_max=20, candidates_max=10, matches_max=8)
Between = Callable[[Workspace, list[RecordId]], Awaitable[object]]


async def fill(workspace: Workspace, number: int = 45) -> list[RecordId]:
    drafts = [MemoryDraft(f"otter log w{n}x w{n}y", importance=n % 7 / 10) for n in range(number)]
    return [item.id for item in await workspace.store_memories(drafts)]


async def write(workspace: Workspace, given: list[RecordId]) -> None:
    for number in range(4):
        await remember(workspace, f"otter log otter log {len(given)} {number}", importance=1.0)


async def forget(workspace: Workspace, given: list[RecordId]) -> None:
    await workspace.forget_memories([given[0], given[-1]])


async def change(workspace: Workspace, given: list[RecordId]) -> None:
    [memory], _ = await workspace.get_memories([given[-2]])
    changed = MemoryChange(importance=1.0 - memory.record.importance)
    await workspace.update_memory(given[-2], changed, expected_version=memory.record.version)


async def read(hub: Hub, query: ContextQuery, *between: Between) -> list[RecordId]:
    """Read an answer to its end; after each page one of some things is done, in turn."""
    workspace, given = hub.bind(ALICE), list[RecordId]()
    for number in range(60):
        page = await workspace.retrieve_context(query)
        given += [record_id for hit in page.hits for record_id in (hit.record.id, *hit.same_ids)]
        if not page.cursor:
            return given
        query = replace(query, cursor=page.cursor)
        if between:
            await between[number % len(between)](workspace, given[number:])
    raise AssertionError("the pages have no end")


@pytest.mark.parametrize(
    ("text", "search"),
    [("otter log", SMALL), ("", SMALL), ("today", SMALL), ('"otter log"', SMALL), ("otter w3x", SearchSettings())],
)
async def test_what_is_written_between_pages_neither_repeats_nor_hides_a_hit(
    settings: HubSettings, clock: Clock, text: str, search: SearchSettings
) -> None:
    async with open_hub(replace(settings, search=search), clock=clock) as hub:
        before = await fill(hub.bind(ALICE))
        query = ContextQuery(text, limit=8, max_tokens=20_000)
        undisturbed = await read(hub, query)
        given = await read(hub, query, write, forget, change)
        assert len(given) == len(set(given))
        kept = {item.record.id for item in (await hub.bind(ALICE).get_memories(before))[0]}
        assert len(kept) < len(before)
        assert set(undisturbed) & kept <= set(given)
        if search is not SMALL:  # one ranking
            assert given == [record_id for record_id in undisturbed if record_id in set(given)]


async def ask(workspace: Workspace, cursor: str = "", limit: int = 3) -> Context:
    return await workspace.retrieve_context(ContextQuery("otter log", limit=limit, cursor=cursor))


async def test_what_was_taken_from_the_reader_stands_on_no_later_page(hub: Hub, clock: Clock) -> None:
    alice, bob = hub.bind(ALICE), hub.bind(BOB)
    await fill(bob, 6)
    lent = [await remember(alice, f"otter log of alice {n}", level=Level.PRIVATE) for n in range(4)]
    await alice.share_memories([AgentId("bob")], lent)
    first = await ask(bob)
    shown = {hit.record.id for hit in first.hits}
    await alice.revoke_shares([AgentId("bob")], lent[:2])
    ended = await remember(alice, "otter log that ends", level=Level.PROJECT)
    rest = await ask(bob, first.cursor, limit=50)
    assert {hit.record.id for hit in rest.hits} == (set(await ids_of(bob)) - shown) - {ended}
    await alice.forget_memories([lent[2]])
    [memory], _ = await alice.get_memories([lent[3]])
    await alice.update_memory(
        lent[3], MemoryChange(valid_to=clock.now + timedelta(seconds=1)), expected_version=memory.record.version
    )
    clock.advance(seconds=2)
    left = {hit.record.id for hit in (await ask(bob, first.cursor, limit=50)).hits}
    assert not left & set(lent)


async def ids_of(workspace: Workspace) -> list[RecordId]:
    return [hit.record.id for hit in (await ask(workspace, limit=100)).hits]


async def test_what_no_longer_says_a_word_of_the_question_is_left_out(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    await fill(alice, 9)
    first = await ask(alice)
    [next_one, *_] = (await ask(alice, first.cursor)).hits
    changed = MemoryChange(content="something else")
    await alice.update_memory(next_one.record.id, changed, expected_version=next_one.record.version)
    rest = [hit.record.id for hit in (await ask(alice, first.cursor, limit=50)).hits]
    assert len(rest) == 5
    assert next_one.record.id not in rest


async def test_a_cursor_gives_its_page_again(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    await fill(alice, 12)
    first = await ask(alice)
    second = await ask(alice, first.cursor)
    await write(alice, [])
    assert await ask(alice, first.cursor) == second


async def test_no_other_reader_goes_on_with_an_answer(hub: Hub) -> None:
    alice, bob = hub.bind(ALICE), hub.bind(BOB)
    await fill(alice, 9)
    mine, theirs = (await ask(alice)).cursor, (await ask(bob)).cursor
    await refused(ask(bob, mine), InvalidInput, "cursor_invalid")
    crossed = [*unpack_cursor(theirs)[:-2], *unpack_cursor(mine)[-2:-1], *unpack_cursor(theirs)[-1:]]
    await write(alice, [])
    await remember(alice, "otter log of alice", level=Level.PRIVATE)
    assert await ask(bob, pack_cursor(*crossed)) != await ask(bob, theirs)  # goes on by number, in what is there


@pytest.mark.parametrize("damage", [(5, 7), (5, "x" * 33), (4, -1), (3, True), (0, "1"), (2, 1)])
async def test_a_damaged_cursor_is_refused(hub: Hub, damage: tuple[int, object]) -> None:
    await fill(hub.bind(ALICE), 9)
    values = unpack_cursor((await ask(hub.bind(ALICE))).cursor)
    values[damage[0]] = damage[1]
    await refused(ask(hub.bind(ALICE), pack_cursor(*values)), InvalidInput, "cursor_invalid")


async def test_another_process_goes_on_with_what_is_there(tmp_path: Path, clock: Clock) -> None:
    settings = settings_in(tmp_path)
    async with open_hub(settings, clock=clock) as one, open_hub(settings, clock=clock) as two:
        await fill(one.bind(ALICE), 9)
        first = await ask(one.bind(ALICE))
        rest = await ask(two.bind(ALICE), first.cursor, limit=50)
        assert rest == await ask(one.bind(ALICE), first.cursor, limit=50)


async def test_an_answer_that_is_no_longer_held_goes_on_with_what_is_there(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE)
    await fill(alice, 9)
    first = await ask(alice)
    clock.advance(minutes=16)
    assert len((await ask(alice, first.cursor, limit=50)).hits) == 6


async def test_what_is_near_in_meaning_and_says_a_word_keeps_its_place(
    settings: HubSettings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contextdna.hub.semantics._FIRST_AFTER_S", 3600.0)
    async with open_hub(replace(settings, search=SMALL), clock=clock, embedder=LetterEmbedder()) as hub:
        alice = hub.bind(ALICE)
        best = await remember(alice, "status zzz")
        await alice.store_memories([MemoryDraft(f"status of part {n} is well known") for n in range(30)])
        assert await hub._rooms.semantics.turn()
        query = ContextQuery("status zz", limit=10, max_tokens=20_000)
        for begun in (True, False):  # held, and by number in what is there
            if not begun:
                monkeypatch.setattr(hub._door, "_begun_of", lambda _: None)
            given = await read(hub, query)
            assert given[0] == best
            assert len(given) == len(set(given)) == 31


def test_what_is_held_of_answers_is_bounded_and_ends() -> None:
    held, alice = BegunAnswers[str](3, bytes_max=100), Reader(DEFAULT, AgentId("alice"))
    names = [held.keep(text, alice, "q", now=START, size_bytes=30) for text in "abcd"]
    assert len(set(names)) == 4
    assert (len(held), held.size_bytes) == (3, 90)
    assert held.find(names[0], alice, "q", now=START) is None
    assert held.find(names[1], alice, "q", now=START) == "b"
    held.keep("e", alice, "q", now=START, size_bytes=30)
    assert [held.find(name, alice, "q", now=START) for name in names] == [None, "b", None, "d"]
    assert held.find(names[1], Reader(DEFAULT, AgentId("bob")), "q", now=START) is None
    assert held.find(names[1], alice, "other", now=START) is None
    later = START + timedelta(minutes=15)
    assert held.find(names[1], alice, "q", now=later) is None
    held.keep("huge", alice, "q", now=later, size_bytes=101)
    assert (len(held), held.size_bytes) == (0, 0)
