"""An answer never takes more tokens than it may, whatever its hits are called and whatever folds into them."""

import pytest

from contextdna import (
    AgentId,
    BeginRequest,
    ContextQuery,
    Detail,
    Hub,
    LimitExceeded,
    MemoryDraft,
    OnDuplicate,
    Principal,
    ProjectId,
)
from tests.hub.rig import ALICE, refused, remember

pytestmark = pytest.mark.anyio

FACTS = ("gateway retries payments", "ledger closes invoices", "canary ships builds", "shard moves partitions")


@pytest.mark.parametrize("detail", list(Detail))
@pytest.mark.parametrize("max_tokens", [200, 400, 800, 2000])
async def test_what_folds_takes_no_more_than_there_is(hub: Hub, max_tokens: int, detail: Detail) -> None:
    alice = hub.bind(ALICE)
    drafts = [MemoryDraft(f"team decision: the {fact}{'.' * copy}") for fact in FACTS for copy in range(9)]
    stored = {memory.id for memory in await alice.store_memories(drafts, on_duplicate=OnDuplicate.NEW)}
    seen: list[str] = []
    cursor = ""
    for _ in range(len(drafts)):
        query = ContextQuery("team decision", max_tokens=max_tokens, detail=detail, cursor=cursor)
        page = await alice.retrieve_context(query)
        assert page.hits
        assert page.tokens <= max_tokens
        seen += [record_id for hit in page.hits for record_id in (hit.record.id, *hit.same_ids)]
        if not (cursor := page.cursor):
            break
    assert sorted(seen) == sorted(stored)


async def test_the_least_budget_shows_a_hit_whatever_its_tags_and_reasons_take(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    handle = (await alice.begin_session(BeginRequest(ALICE.agent_id))).handle
    tags = tuple(f"{number:02}" + "x" * 60 for number in range(32))
    await remember(hub.bind(ALICE, session_id=handle), "pelican " * 100, tags=tags)
    page = await alice.retrieve_context(ContextQuery("pelican", max_tokens=200))
    [hit] = page.hits
    assert page.tokens <= 200
    assert (hit.clipped, hit.tags, hit.why) == (True, (), ())
    assert hit.content.startswith("pelican")
    [hit] = (await alice.retrieve_context(ContextQuery("pelican", max_tokens=3000))).hits
    assert (hit.clipped, hit.tags) == (False, tags)


async def test_a_budget_that_holds_no_hit_is_refused(hub: Hub) -> None:
    error = await refused(
        hub.bind(ALICE).retrieve_context(ContextQuery(max_tokens=199)), LimitExceeded, "max_tokens_out_of_range"
    )
    assert error.hint == "Use 200 to 20000."


async def test_names_count_against_the_budget(hub: Hub) -> None:
    owner = Principal(AgentId("a" * 128), (ProjectId("default"),))
    for number in range(20):
        await remember(hub.bind(owner), f"pelican number {number}")
    page = await hub.bind(owner).retrieve_context(ContextQuery("pelican"))
    assert len(page.hits) < 15
    assert page.tokens <= 2000
