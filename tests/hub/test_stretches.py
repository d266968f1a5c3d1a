"""Where little passes a filter, an answer looks at so many records, says so, and goes on by its cursor."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from contextdna import Context, ContextQuery, Hub, Kind, MemoryDraft, Workspace
from contextdna.domain import stretches
from tests.hub.rig import ALICE, BOB, START, Clock, remember

pytestmark = pytest.mark.anyio

TAGGED = ContextQuery(tags=("seldom",))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stretches short."""
    monkeypatch.setattr(stretches, "RECORDS_MAX", 10)
    monkeypatch.setattr(stretches, "MATCHES_MAX", 10)


@pytest.fixture
async def alice(hub: Hub, clock: Clock) -> Workspace:
    """Give someone who stored a tagged memory, then many others."""
    workspace = hub.bind(ALICE)
    await workspace.store_memories([MemoryDraft("common and old", tags=("seldom",))])
    for number in range(34):
        clock.advance(seconds=1)
        await remember(workspace, f"common n{number:02}")
    return workspace


async def pages(workspace: Workspace, query: ContextQuery) -> AsyncIterator[Context]:
    while True:
        page = await workspace.retrieve_context(query)
        yield page
        if not page.cursor:
            return
        query = replace(query, cursor=page.cursor)


@pytest.mark.parametrize("text", ["", "common"])
async def test_what_is_older_is_found_by_the_cursor_and_an_empty_page_says_what_was_searched(
    alice: Workspace, text: str
) -> None:
    *before, last = [page async for page in pages(alice, replace(TAGGED, text=text))]
    assert [hit.content for hit in last.hits] == ["common and old"]
    assert len(before) == 3
    for number, page in enumerate(before):
        assert page.truncated
        assert page.empty is not None
        assert ("the newest 10" if not number else "the next older 10") in page.empty.message
        assert page.empty.suggestions[0].startswith("send the cursor")
    assert not last.truncated


async def test_nothing_comes_twice_and_nothing_is_left_out(alice: Workspace) -> None:
    for query in (ContextQuery(limit=4), ContextQuery("common", limit=4), ContextQuery('"common"', limit=4)):
        found = [hit.content for page in [page async for page in pages(alice, query)] for hit in page.hits]
        assert len(found) == 35
        assert len(set(found)) == 35


async def test_where_nothing_matches_the_newest_are_counted_and_that_is_said(alice: Workspace, hub: Hub) -> None:
    for workspace in (alice, hub.bind(BOB)):
        answer = await workspace.retrieve_context(ContextQuery("nowhere"))
        assert answer.empty is not None
        assert "of its newest 10 or so, 10 records are visible" in answer.empty.message
        assert (answer.empty.visible, answer.empty.newest) == (10, 10)
        assert not answer.cursor


async def test_a_period_is_searched_from_its_own_end(alice: Workspace) -> None:
    early = ContextQuery(tags=("seldom",), until=START + timedelta(seconds=5))
    answer = await alice.retrieve_context(early)
    assert [hit.content for hit in answer.hits] == ["common and old"]
    assert not answer.cursor


async def test_kinds_of_which_there_are_few_are_whole_lists(alice: Workspace) -> None:
    answer = await alice.retrieve_context(ContextQuery(kinds=(Kind.TASK,)))
    assert not answer.hits
    assert not answer.cursor
