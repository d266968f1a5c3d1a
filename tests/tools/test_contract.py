"""What hosts rely on: the list of tools and the shape of every answer, in both protocol eras."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import jsonschema  # type: ignore[import-untyped]  # comes with mcp; it carries no types
import pytest
from mcp_types import Tool

from contextdna import Hub, Outcome, Principal
from tests.hub.rig import ALICE, BOB, DEFAULT, ROOT, audit_of, public
from tests.tools.calling import Caller, calling

pytestmark = pytest.mark.anyio

NAMES = {
    "store_memory",
    "retrieve_context",
    "delegate_with_context",
    "share_memories",
    "record_loop_decision",
    "get_memory",
    "update_memory",
    "forget_memory",
    "begin_session",
    "end_session",
    "log_turn",
    "attach_artifact",
}
TOKENS_MAX, TOOL_TOKENS_MAX = 4000, 450


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> str:
    """Give a protocol era: with 2026-07-28 where both can, or the initialize handshake."""
    return str(request.param)


@pytest.fixture
async def alice(mode: str, tmp_path: Path) -> AsyncIterator[Caller]:
    async with calling(ALICE, mode, roots=(tmp_path,)) as caller:
        yield caller


def tokens(tool: Tool) -> float:
    """Estimate a tool's share of a context: characters of its compact wire form, by four."""
    return len(json.dumps(tool.model_dump(mode="json", by_alias=True, exclude_none=True), separators=(",", ":"))) / 4


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for inner in schema.values():
            yield from nodes(inner)


async def test_the_default_profile_has_its_twelve_tools(alice: Caller) -> None:
    assert set(alice.tools) == NAMES
    assert len((await alice.client.list_tools()).tools) == len(NAMES)


async def test_the_list_fits_its_budget(alice: Caller) -> None:
    sizes = {name: tokens(tool) for name, tool in alice.tools.items()}
    assert sum(sizes.values()) < TOKENS_MAX
    assert {name: size for name, size in sizes.items() if size >= TOOL_TOKENS_MAX} == {}


async def test_every_tool_says_what_it_does_and_gives(alice: Caller) -> None:
    for name, tool in alice.tools.items():
        assert tool.description, name
        assert tool.annotations is not None, name
        assert tool.annotations.open_world_hint is False, name
        assert tool.output_schema is not None, name
        assert tool.output_schema["type"] == "object", name
        assert tool.output_schema["required"], name
        for argument, schema in tool.input_schema["properties"].items():
            assert schema.get("description"), f"{name}.{argument}"


async def test_schemas_are_plain_objects_that_strict_clients_take(alice: Caller) -> None:
    for name, tool in alice.tools.items():
        for schema in (tool.input_schema, tool.output_schema or {}):
            jsonschema.Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object", name
            assert not {"anyOf", "oneOf", "allOf", "$ref", "not"} & set(schema), name
            assert not [node for node in nodes(schema) if "$ref" in node], name
        assert {"session_id", "project_id"} <= set(tool.input_schema["properties"]), name


async def test_only_what_changes_nothing_says_that_it_only_reads(alice: Caller) -> None:
    read_only = {name for name, tool in alice.tools.items() if tool.annotations and tool.annotations.read_only_hint}
    assert read_only == {"retrieve_context", "get_memory"}
    harmless = {
        name
        for name, tool in alice.tools.items()
        if tool.annotations and tool.annotations.destructive_hint is False and name not in read_only
    }
    assert harmless == NAMES - read_only - {"update_memory", "forget_memory", "end_session"}


async def test_every_tool_answers_a_realistic_call_by_its_schema(alice: Caller, tmp_path: Path) -> None:
    """One piece of work through all twelve tools; ``Caller.ok`` holds text, structure and schema together."""
    begun = await alice.ok("begin_session", task="mend the login")
    session = begun["session_id"]
    [first, second] = (
        await alice.ok(
            "store_memory",
            memories=[
                {"content": "The login rejects expired tokens.", "memory_type": "lesson", "tags": ["login"]},
                {"content": "Tokens live an hour.", "level": "private", "metadata": {"source": {"line": 3}}},
            ],
            session_id=session,
        )
    )["stored"]
    assert (first["status"], first["version"]) == ("stored", 1)
    [third] = (await alice.ok("store_memory", content="The clock is skewed.", relates_to=[first["id"]]))["stored"]

    answer = await alice.ok("retrieve_context", query="why does the login fail", session_id=session)
    assert {hit["id"] for hit in answer["hits"]} >= {first["id"]}
    assert all(hit["why"] and hit["kind"] == "memory" and 0 <= hit["score"] <= 1 for hit in answer["hits"])
    assert (answer["cursor"], answer["truncated"]) == ("", False)
    assert (await alice.ok("retrieve_context", query="nothing of that kind"))["empty"]["message"]

    [memory] = (await alice.ok("get_memory", ids=[third["id"]]))["memories"]
    assert (memory["content"], memory["relates_to"]) == ("The clock is skewed.", [first["id"]])
    updated = await alice.ok("update_memory", id=third["id"], expected_version=1, importance=0.9)
    assert updated["version"] == 2

    shared = await alice.ok("share_memories", target_agent_ids=["bob"], memory_ids=[second["id"]])
    assert shared["shared"] == {"bob": 1}
    assert (await alice.ok("share_memories", target_agent_ids=["bob"], revoke=True))["revoked"] == 1

    logged = await alice.ok("log_turn", content="It was the clock.", role="assistant", session_id=session)
    assert logged["conversation"] == public(session)
    await alice.ok("log_turn", turns=[{"content": "Really?"}, {"content": "Yes."}], session_id=session)

    attached = await alice.ok("attach_artifact", name="fix.diff", text="- 1\n+ 2\n", session_id=session)
    assert attached["uri"] == f"contextdna://projects/{DEFAULT}/artifacts/{attached['id']}"
    again = await alice.ok("attach_artifact", name="fix.diff", base64=base64.b64encode(b"\x00\x01").decode())
    assert (again["version"], again["size_bytes"]) == (2, 2)
    (tmp_path / "log.txt").write_text("all is well")
    assert (await alice.ok("attach_artifact", path=str(tmp_path / "log.txt")))["name"] == "log.txt"

    gate = (await alice.ok("record_loop_decision", loop=3, phase="login", score=0.9, session_id=session))["gate"]
    assert (gate["open"], len(gate["missing"])) == (False, 1)
    outcome = await alice.ok("record_loop_decision", loop=2, phase="login", validators={"v1": 0.95, "v2": 0.97})
    assert outcome["gate"]["open"] is True
    await alice.ok("record_loop_decision", loop=4, phase="login", decision="PROCEED", reasoning="Both gates are open.")

    child = await alice.ok(
        "delegate_with_context", child_agent_id="carol", task="test the login", session_id=session, query="login tokens"
    )
    assert (child["chain"], child["depth"]) == (["alice", "carol"], 1)
    assert "The login rejects expired tokens." in child["briefing"]
    done = await alice.ok("end_session", output="tested", learnings=["Test it twice."], session_id=child["session_id"])
    assert (done["status"], done["delegation_completed"], len(done["stored"])) == ("succeeded", True, 2)

    counted = await alice.ok("forget_memory", memory_types=["lesson"])
    assert (counted["action"], counted["count"]) == ("counted", 1)
    assert (await alice.ok("forget_memory", memory_types=["lesson"], confirm=1))["action"] == "forgotten"
    assert (await alice.ok("forget_memory", ids=[first["id"]], restore=True))["action"] == "restored"
    assert (await alice.ok("forget_memory", ids=[third["id"]], purge=True))["action"] == "purged"
    assert (await alice.ok("end_session", success=False, session_id=session))["status"] == "failed"


async def test_a_handle_makes_every_tool_act_as_its_agent(mode: str) -> None:
    async with calling(ROOT, mode) as root:
        carol = (await root.ok("begin_session", agent_id="carol", project_id=DEFAULT))["session_id"]
        [kept] = (await root.ok("store_memory", content="hers alone", level="private", session_id=carol))["stored"]
        [memory] = (await root.ok("get_memory", ids=[kept["id"]], session_id=carol))["memories"]
        assert memory["owner"] == "carol"
        assert (await root.error("get_memory", ids=[kept["id"]], project_id=DEFAULT))["code"] == "not_found"
        resumed = await root.ok("begin_session", session_id=carol)
        assert (resumed["resumed"], resumed["session_id"], resumed["agent_id"]) == (True, carol, "carol")
        assert (await root.error("begin_session", agent_id="dave", parent=carol))["code"] == "session_not_allowed"


async def test_a_page_goes_on_where_the_last_one_ended(alice: Caller) -> None:
    for number in range(7):
        await alice.ok("store_memory", content=f"Deploy note number {number}.")
    seen: list[str] = []
    cursor = ""
    for _ in range(4):
        page = await alice.ok("retrieve_context", query="deploy", limit=2, cursor=cursor)
        seen += [hit["id"] for hit in page["hits"]]
        cursor = page["cursor"]
        assert page["truncated"] is bool(cursor)
    assert (len(seen), len(set(seen)), cursor) == (7, 7, "")


async def test_an_answer_fits_its_token_budget(alice: Caller) -> None:
    for number in range(20):
        await alice.ok("store_memory", content=f"Budget {number}: " + "the quick brown fox jumps. " * 40)
    answer = await alice.ok("retrieve_context", query="fox", max_tokens=500)
    assert 0 < len(json.dumps(answer["hits"])) / 4 < 750
    assert answer["truncated"] is True


async def test_calls_are_audited_with_their_request_and_trace(mode: str) -> None:
    async with calling(ALICE, mode) as alice:
        trace = "0af7651916cd43dd8448eb211c80319c"
        for content, parent in (("traced", f"00-{trace}-b7ad6b7169203331-01"), ("not traced", "00-x-y-01")):
            meta = cast("Any", {"traceparent": parent})
            await alice.client.call_tool("store_memory", {"content": content}, meta=meta)
        entries = [e.draft for e in await audit_of(alice.hub, action="memory.store")]
    assert [entry.trace_id for entry in entries] == [trace, ""]
    assert len({entry.request_id for entry in entries} - {""}) == 2
    assert {entry.outcome for entry in entries} == {Outcome.ALLOWED}


async def test_two_agents_on_one_server_see_their_own(mode: str) -> None:
    async with calling(ALICE, mode) as alice, calling(BOB, mode, hub=alice.hub) as bob:
        [mine] = (await alice.ok("store_memory", content="mine alone", level="private"))["stored"]
        assert (await bob.error("get_memory", ids=[mine["id"]]))["code"] == "not_found"
        assert (await bob.ok("retrieve_context", query="mine"))["hits"] == []
        await alice.ok("share_memories", target_agent_ids=["bob"], memory_ids=[mine["id"]])
        [memory] = (await bob.ok("get_memory", ids=[mine["id"]]))["memories"]
        assert memory["shared_by"] == "alice"


async def test_a_tool_that_is_not_there_says_which_are(alice: Caller) -> None:
    error = await alice.error("remember")
    assert error["code"] == "tool_unknown"
    assert all(name in error["hint"] for name in NAMES)


async def test_an_unforeseen_failure_tells_nothing_but_a_reference(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_hub: Hub, _principal: Principal, **_: str) -> None:
        raise RuntimeError("the secret inside")

    async with calling(ALICE, mode) as alice:
        monkeypatch.setattr(Hub, "bind", fail)
        result = await alice.client.call_tool("store_memory", {"content": "x"})
    assert result.is_error
    text = str(result.content)
    assert "internal_error" in text
    assert "secret" not in text
