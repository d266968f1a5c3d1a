"""Refusals and empty answers say to a model what to do next."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from contextdna_tools import FULL_TOOLS, TOOLS
from tests.hub.rig import ALICE, DEFAULT, ROOT
from tests.tools.calling import Caller, calling

pytestmark = pytest.mark.anyio


@pytest.fixture
async def alice() -> AsyncIterator[Caller]:
    async with calling(ALICE, "auto", tools=FULL_TOOLS) as caller:
        yield caller


SLIPS: dict[str, tuple[str, dict[str, Any], str]] = {
    "id for ids": ("get_memory", {"id": "mem_x"}, "ids"),
    "text for content": ("store_memory", {"text": "x"}, "content"),
    "type for memory_type": ("store_memory", {"content": "x", "type": "fact"}, "memory_type"),
    "q for query": ("retrieve_context", {"q": "x"}, "query"),
    "q for a required query": ("search", {"q": "x"}, "query"),
    "confidence for score": ("record_loop_decision", {"loop": 3, "phase": "p", "confidence": 1}, "score"),
    "agent_id for a required child_agent_id": ("delegate_with_context", {"agent_id": "a"}, "child_agent_id"),
    "a misspelling": ("store_memory", {"content": "x", "importanse": 1}, "importance"),
}


@pytest.mark.parametrize("slip", SLIPS)
async def test_a_slip_in_a_name_is_told_before_what_is_missing(alice: Caller, slip: str) -> None:
    tool, arguments, meant = SLIPS[slip]
    error = await alice.error(tool, **arguments)
    assert error["code"] == "argument_unknown"
    assert error["hint"] == f"Did you mean {meant}?"


async def test_one_text_is_a_list_of_it_alone(alice: Caller) -> None:
    [kept] = (await alice.ok("store_memory", content="text", tags="a,b"))["stored"]
    [memory] = (await alice.ok("get_memory", ids=kept["id"]))["memories"]
    assert memory["tags"] == ["a,b"]
    [plain] = (await alice.ok("store_memory", content="no tags", tags=""))["stored"]
    [memory] = (await alice.ok("get_memory", ids=plain["id"]))["memories"]
    assert "tags" not in memory
    broken = await alice.error("store_memory", content="x", tags='["a"')
    assert broken["code"] == "argument_invalid"
    assert "a list, such as" in broken["hint"]


async def test_a_number_is_taken_for_a_text_and_what_else_is_wrong_says_what_to_send(alice: Caller) -> None:
    [kept] = (await alice.ok("store_memory", content=42, tags=[7]))["stored"]
    [memory] = (await alice.ok("get_memory", ids=[kept["id"]]))["memories"]
    assert (memory["content"], memory["tags"]) == ("42", ["7"])
    for arguments, sent in (
        ({"content": ["x"]}, "Send text."),
        ({"content": "x", "importance": "high"}, "Send a number."),
        ({"content": "x", "metadata": "none"}, "Send an object, such as"),
        ({"content": "x", "memories": "none"}, "Send a list, such as"),
    ):
        error = await alice.error("store_memory", **arguments)
        assert error["hint"].startswith(sent)


@pytest.mark.parametrize("wrong", [{"level": "bad"}, {"tier": "bad"}, {"level": "system"}, {"valid_from": "bad"}])
async def test_every_refusal_of_a_batch_names_the_memory(alice: Caller, wrong: dict[str, str]) -> None:
    error = await alice.error("store_memory", memories=[{"content": "x"}, {"content": "y", **wrong}])
    assert error["message"].startswith("memories[1]: ")


@pytest.mark.parametrize("wrong", [{"level": "bad"}, {"role": "bad"}, {"level": "system"}, {"content": " "}])
async def test_every_refusal_of_several_turns_names_the_turn(alice: Caller, wrong: dict[str, str]) -> None:
    session = (await alice.ok("begin_session"))["session_id"]
    turns = [{"content": "y"} | wrong, {"content": "x"}]
    error = await alice.error("log_turn", session_id=session, turns=turns)
    assert error["message"].startswith("turns[0]: ")


async def test_a_tool_of_the_full_profile_says_where_it_is() -> None:
    async with calling(ALICE, "auto", tools=TOOLS) as caller:
        error = await caller.error("list_tasks")
        assert error["code"] == "tool_unknown"
        assert "full profile" in error["message"]
        assert "serve --tools full" in error["hint"]
        assert "full" not in (await caller.error("list_taskz"))["message"]


async def test_wrong_values_say_which_and_what_instead(alice: Caller) -> None:
    assert (await alice.error("update_delegation", action="revoke"))["code"] == "delegation_id_missing"
    unknown = await alice.error("store_memory", content="x", memory_type="learnt")
    assert "memories.extra_types" in unknown["hint"]
    path = await alice.error("delegate_with_context", child_agent_id="alice/drone", task="x")
    assert (path["code"], "bare name drone" in path["hint"]) == ("child_agent_id_invalid", True)
    late = await alice.error("await_signal", timeout_s=1e6)
    assert (late["code"], "1000000" in late["message"]) == ("timeout_s_out_of_range", True)


async def test_a_state_that_is_text_stays_text_and_its_argument_has_a_type(alice: Caller) -> None:
    session = (await alice.ok("begin_session"))["session_id"]
    for key, value in (("text", '{"a": 1}'), ("object", {"a": 1}), ("number", 1), ("list", [1])):
        await alice.ok("set_state", session_id=session, key=key, value=value)
        assert (await alice.ok("get_state", session_id=session, keys=key))["state"] == {key: value}
    assert {"type": "object"} in alice.tools["set_state"].input_schema["properties"]["value"]["anyOf"]


async def test_writes_name_the_agent_that_they_were_made_as(alice: Caller) -> None:
    child = await alice.ok("delegate_with_context", child_agent_id="drone", task="x")
    assert (await alice.ok("store_memory", content="one"))["agent"] == "alice"
    key = {"idempotency_key": "k", "session_id": child["session_id"]}
    for _ in range(2):
        assert (await alice.ok("store_memory", content="two", **key))["agent"] == "alice/drone"
    loop = await alice.ok("record_loop_decision", loop=3, phase="p", score=1, session_id=child["session_id"])
    assert loop["agent"] == "alice/drone"


async def test_a_filter_that_matches_nothing_says_so_and_forgets_nothing(alice: Caller) -> None:
    await alice.ok("store_memory", content="kept")
    for confirm in ({}, {"confirm": 0}):
        answer = await alice.ok("forget_memory", tags=["absent"], **confirm)
        assert (answer["action"], answer["count"], "restorable_until" in answer) == ("counted", 0, False)
        assert "nothing to forget" in answer["next"]


async def test_empty_lists_say_what_was_searched(alice: Caller) -> None:
    await alice.ok("store_memory", content="The quokka sleeps.")
    await alice.ok("add_task", title="Feed it", assignee="bob")
    assert "visible there: 1 open" in (await alice.ok("list_tasks", mine=True))["empty"]
    assert "empty" not in await alice.ok("list_tasks")
    found = await alice.ok("search", query="wombat")
    assert (found["results"], "2 records are visible" in found["empty"]) == ([], True)
    assert (await alice.ok("search", query=""))["results"]
    async with calling(ROOT, "auto", hub=alice.hub, tools=FULL_TOOLS) as root:
        answer = await root.ok("query_audit", action="memory.stor", project_id=DEFAULT)
        assert answer["entries"] == []
        assert "near: memory.store" in answer["empty"]
        assert "which has " in (await root.ok("query_audit", agent_id="nobody", project_id=DEFAULT))["empty"]
