"""Long records share an answer: its budget is a hard bound, several are ranked, and its pages leave nothing out."""

import pytest

from contextdna import ContextQuery, Hub
from tests.hub.rig import ALICE, remember

pytestmark = pytest.mark.anyio

LONG = "nectar and pollen " * 400


async def test_one_long_memory_does_not_take_an_answer_for_itself(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    for number in range(20):
        await remember(alice, f"{number} {LONG}")
    for text in ("", "nectar"):
        context = await alice.retrieve_context(ContextQuery(text, max_tokens=2000))
        assert len(context.hits) >= 4
        assert all(hit.clipped for hit in context.hits)
        assert context.truncated
        assert context.tokens <= 2000


async def test_a_long_memory_that_is_alone_takes_what_others_leave(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    await remember(alice, LONG)
    [alone] = (await alice.retrieve_context(ContextQuery("nectar", max_tokens=2000))).hits
    assert len(alone.content) > 4000
    await remember(alice, "a short word on nectar")
    context = await alice.retrieve_context(ContextQuery("nectar", max_tokens=2000))
    assert sorted(hit.clipped for hit in context.hits) == [False, True]
    assert 1500 < context.tokens <= 2000


@pytest.mark.parametrize("max_tokens", [200, 230, 500, 2000, 5000])
async def test_pages_give_every_record_once_within_the_budget(hub: Hub, max_tokens: int) -> None:
    alice = hub.bind(ALICE)
    stored = [await remember(alice, f"{number} {LONG[: 1 + 700 * number]}") for number in range(12)]
    for text in ("", "nectar"):
        seen: list[str] = []
        cursor = ""
        while True:
            page = await alice.retrieve_context(ContextQuery(text, max_tokens=max_tokens, limit=5, cursor=cursor))
            seen += [hit.record.id for hit in page.hits]
            assert page.hits
            assert page.tokens <= max_tokens
            cursor = page.cursor
            if not cursor:
                break
        assert sorted(seen) == sorted(stored) if not text else set(seen) <= set(stored)
        assert len(seen) == len(set(seen)) >= 11
