"""The two levels of detail of retrieve_context, as a client gets them."""

from collections.abc import AsyncIterator

import pytest

from tests.hub.rig import ALICE
from tests.tools.calling import Caller, calling, text_of
from tests.tools.counting import open_real_counter

pytestmark = pytest.mark.anyio

LONG = "The login fails while the token cache is cold. " * 20


@pytest.fixture
async def alice() -> AsyncIterator[Caller]:
    async with calling(ALICE, "auto") as caller:
        yield caller


async def test_a_compact_hit_is_a_line_whose_whole_get_memory_gives(alice: Caller) -> None:
    [kept] = (await alice.ok("store_memory", content=LONG, memory_type="lesson", tags=["login"]))["stored"]
    [hit] = (await alice.ok("retrieve_context", query="login", detail="compact"))["hits"]
    line = hit.pop("content")
    assert LONG.startswith(line.removesuffix(" …"))
    assert len(line) <= 122
    day = hit.pop("created_at")
    assert (len(day), hit) == (
        len("2026-05-01"),
        {"kind": "memory", "id": kept["id"], "type": "lesson", "owner": "alice", "clipped": True},
    )
    [memory] = (await alice.ok("get_memory", ids=[hit["id"]]))["memories"]
    assert memory["content"] == LONG


async def test_a_compact_answer_of_the_same_hits_is_much_smaller(alice: Caller) -> None:
    for number in range(8):
        await alice.ok("store_memory", content=f"{number} {number * 7} {LONG}", tags=["login"])
    sizes = {}
    for detail in ("full", "compact"):
        answer = await alice.client.call_tool(
            "retrieve_context", {"query": "login", "max_tokens": 5000, "detail": detail}
        )
        assert len((answer.structured_content or {})["hits"]) == 8
        sizes[detail] = len(text_of(answer))
    assert sizes["compact"] * 4 < sizes["full"]


@pytest.mark.parametrize("detail", ["full", "compact"])
async def test_an_answer_with_all_that_stands_around_its_contents_fits_the_budget(alice: Caller, detail: str) -> None:
    session = (await alice.ok("begin_session", task="mend the login"))["session_id"]
    for number in range(40):
        await alice.ok("log_turn", content=f"{number} {number * 7} {LONG[: 40 + 9 * number]}", session_id=session)
    arguments = {"query": "login token", "limit": 40, "max_tokens": 1500, "detail": detail}
    answer = await alice.client.call_tool("retrieve_context", arguments)
    assert (answer.structured_content or {})["truncated"] is True
    assert 1100 < open_real_counter()(text_of(answer)) <= 1500


async def test_a_detail_that_is_none_is_refused_with_the_choices(alice: Caller) -> None:
    error = await alice.error("retrieve_context", detail="brief")
    assert (error["code"], error["hint"]) == ("detail_unknown", "Use one of: full, compact.")
