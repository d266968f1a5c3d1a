"""What an answer must not tell, must not repeat and must not leave out."""

from dataclasses import replace
from pathlib import Path

import pytest

from contextdna import ContextQuery, Hub, Level, LimitExceeded, MemoryDraft, OnDuplicate, Principal, open_hub
from contextdna.values.settings import SearchSettings
from tests.hub.rig import ALICE, BOB, remember, settings_in

pytestmark = pytest.mark.anyio


async def answer(hub: Hub, who: Principal, text: str) -> list[tuple[str, float, tuple[str, ...]]]:
    context = await hub.bind(who).retrieve_context(ContextQuery(text))
    return [(hit.content, hit.score, hit.why) for hit in context.hits]


async def pages(hub: Hub, text: str, *, limit: int) -> list[str]:
    seen: list[str] = []
    query = ContextQuery(text, limit=limit, max_tokens=20_000)
    for _ in range(400):
        page = await hub.bind(ALICE).retrieve_context(query)
        seen += [record_id for hit in page.hits for record_id in (hit.record.id, *hit.same_ids)]
        if not page.cursor:
            return seen
        assert page.cursor != query.cursor
        query = replace(query, cursor=page.cursor)
    raise AssertionError("the pages have no end")


async def test_no_score_tells_what_hidden_records_say(hub: Hub) -> None:
    bob = hub.bind(BOB)
    await remember(bob, "kumquat durian")
    await remember(bob, "kumquat")
    for number in range(40):
        await remember(bob, f"note {number} of something else")
    before = await answer(hub, BOB, "kumquat durian 185000")
    await remember(hub.bind(ALICE), "the salary is 185000 euro", level=Level.PRIVATE)
    told, guessed = await answer(hub, BOB, "kumquat durian 185000"), await answer(hub, BOB, "kumquat durian 184000")
    assert [hit[0] for hit in told] == [hit[0] for hit in before]
    assert [hit[1] for hit in told] == pytest.approx([hit[1] for hit in guessed], abs=1e-3)


@pytest.mark.parametrize("between", [1, 2, 5])
async def test_hidden_records_have_no_place_between_neighbours(hub: Hub, between: int) -> None:
    alice = hub.bind(ALICE)
    await remember(alice, "the cellar holds apples")
    gone = [await remember(alice, f"nothing {number} of the sort") for number in range(between)]
    after = await remember(alice, "a door code")
    for number in range(20):
        await remember(hub.bind(BOB), f"other things {number}")
    await alice.forget_memories(gone)
    hits = (await hub.bind(BOB).retrieve_context(ContextQuery("apples cellar"))).hits
    assert after in [hit.record.id for hit in hits]


@pytest.mark.parametrize("limit", [3, 7, 10])
async def test_the_pages_of_common_words_end_and_give_every_record_once(tmp_path: Path, limit: int) -> None:
    search = SearchSettings(found_max=20, candidates_max=10, matches_max=8)
    async with open_hub(replace(settings_in(tmp_path), search=search)) as hub:
        alice = hub.bind(ALICE)
        texts = [f"common {'zebra ' * (number % 17 == 0)}thing number{number}" for number in range(90)]
        texts += [f"rare{number} beside" for number in range(45)]
        drafts = [MemoryDraft(text) for text in sorted(texts, key=lambda text: text[-1])]
        for start in range(0, len(drafts), 100):
            await alice.store_memories(drafts[start : start + 100])
        for text in ("common", "zebra common thing"):
            seen = await pages(hub, text, limit=limit)
            assert len(seen) == len(set(seen))
            assert len(seen) >= 90 or "zebra" in text  # enough of rare words: common ones only score


async def test_copies_leave_room_for_what_else_answers(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    beats = [MemoryDraft("heartbeat of the worker pool was fine and in time" + "." * number) for number in range(40)]
    await alice.store_memories(beats, on_duplicate=OnDuplicate.NEW)
    others = [await remember(alice, f"heartbeat trouble {name}") for name in ("alpha", "beta", "gamma", "delta")]
    context = await alice.retrieve_context(ContextQuery("heartbeat"))
    assert set(others) <= {hit.record.id for hit in context.hits}
    assert all(len(hit.same_ids) <= 8 for hit in context.hits)


async def test_weights_of_nothing_rank_all_the_same(tmp_path: Path) -> None:
    search = SearchSettings(importance_weight=0.0, recency_weight=0.0)
    async with open_hub(replace(settings_in(tmp_path), search=search)) as hub:
        await remember(hub.bind(ALICE), "anything")
        assert len((await hub.bind(ALICE).retrieve_context(ContextQuery(""))).hits) == 1


async def test_a_query_without_a_word_says_how_it_was_answered(hub: Hub) -> None:
    await remember(hub.bind(ALICE), "anything")
    [hit] = (await hub.bind(ALICE).retrieve_context(ContextQuery(""))).hits
    assert hit.why[0] == "recent and important first"


async def test_a_query_is_limited_in_characters_and_reasons_are_short(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    long = "a" * 7_900
    await remember(alice, long)
    [hit] = (await alice.retrieve_context(ContextQuery(long))).hits
    assert all(len(reason) < 100 for reason in hit.why)
    with pytest.raises(LimitExceeded, match="8000"):
        await alice.retrieve_context(ContextQuery("ab " * 3_000))
