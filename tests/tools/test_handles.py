"""Session handles and access tokens are secrets: in the wrong argument they are refused, kept and repeated nowhere."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from contextdna import AgentId, DelegationRequest, InvalidInput, NotFound, RecordId, TaskDraft, TokenId
from contextdna.values.ids import new_token_text
from contextdna_tools import FULL_TOOLS, AnyTool
from tests.hub.rig import ALICE, BOB, audit_of, refused, stored
from tests.tools.calling import Caller, calling, text_of

pytestmark = pytest.mark.anyio

REQUIRED: dict[str, Any] = {"integer": 1, "number": 0.5, "boolean": True, "array": ["x"], "object": {"x": 1}}
"""What stands in the other required arguments, by type; a text is ``x``."""


@pytest.fixture
async def alice() -> AsyncIterator[Caller]:
    async with calling(ALICE, "auto", tools=FULL_TOOLS) as caller:
        yield caller


def calls(
    tool: AnyTool,
    properties: dict[str, Any],
    required: list[str],
    handle: str,
    *,
    but: tuple[str, ...] = ("session_id", "parent"),
) -> list[dict[str, Any]]:
    """Give a call for every argument that takes texts, with the handle there, alone and as a part of a name."""
    others = {name: REQUIRED.get(properties[name].get("type", ""), "x") for name in required}
    made = []
    for name, schema in properties.items():
        kind = schema.get("type")
        texts = kind == "array" and schema.get("items", {}).get("type") == "string"
        if name in but or not (texts or kind == "string" or isinstance(kind, list)):
            continue
        for said in (handle, f"queen/{handle}", f" {handle}\n", f"x{handle}"):
            made.append(others | {name: [said] if texts else said})
    return made


@pytest.mark.parametrize("tool", FULL_TOOLS, ids=lambda tool: tool.name)
async def test_a_handle_in_any_other_argument_is_refused_and_kept_nowhere(alice: Caller, tool: AnyTool) -> None:
    handle = (await alice.ok("begin_session"))["session_id"]
    secret = handle.partition(".")[2]
    schema = alice.tools[tool.name].input_schema
    made = calls(tool, schema["properties"], schema.get("required", []), handle)
    assert made, "project_id at least"
    before = await stored(alice.hub)
    for arguments in made:
        result = await alice.client.call_tool(tool.name, arguments)
        assert result.is_error, arguments
        assert json.loads(text_of(result))["error"]["code"] == "session_handle_in_argument"
        assert secret not in text_of(result)
    after = await stored(alice.hub)
    assert after.data == before.data
    assert secret not in repr(after)
    assert secret not in repr(await audit_of(alice.hub))


async def test_a_token_in_any_argument_is_refused_and_kept_nowhere(alice: Caller) -> None:
    token, secret = new_token_text(TokenId("tok_" + "0" * 22))
    before = await stored(alice.hub)
    for tool in FULL_TOOLS:
        schema = alice.tools[tool.name].input_schema
        for arguments in calls(tool, schema["properties"], schema.get("required", []), token, but=()):
            result = await alice.client.call_tool(tool.name, arguments)
            assert json.loads(text_of(result))["error"]["code"] == "access_token_in_argument", arguments
            assert secret not in text_of(result)
    error = await alice.error("store_memory", content="x", **{token: 1})
    assert (error["code"], secret in json.dumps(error)) == ("argument_unknown", False)
    after = await stored(alice.hub)
    assert after.data == before.data
    assert secret not in repr(after) + repr(await audit_of(alice.hub))


async def test_a_handle_in_a_batch_and_among_the_keys_of_scores_is_refused_by_name(alice: Caller) -> None:
    handle = (await alice.ok("begin_session"))["session_id"]
    batch = await alice.error("store_memory", memories=[{"content": "x"}, {"content": "y", "tags": [handle]}])
    assert batch["code"] == "session_handle_in_argument"
    assert "memories[1]" in batch["message"]
    scores = await alice.error("record_loop_decision", loop=2, phase="p", validators={handle: 0.9})
    assert scores["code"] == "session_handle_in_argument"


async def test_a_handle_as_the_name_of_an_argument_is_not_repeated(alice: Caller) -> None:
    handle = (await alice.ok("begin_session"))["session_id"]
    error = await alice.error("store_memory", content="x", **{handle: 1})
    assert error["code"] == "argument_unknown"
    assert handle.partition(".")[2] not in json.dumps(error)


async def test_prose_that_quotes_a_handle_and_the_public_half_of_one_are_taken(alice: Caller) -> None:
    handle = (await alice.ok("begin_session"))["session_id"]
    await alice.ok("store_memory", content=f"The handle {handle} was lost.")
    await alice.ok("store_memory", content="The session is over.", tags=[handle.partition(".")[0]])


async def test_the_core_refuses_a_handle_as_a_name_and_masks_it_in_its_answers(alice: Caller) -> None:
    workspace = alice.hub.bind(ALICE)
    handle = (await alice.ok("begin_session"))["session_id"]
    secret = handle.partition(".")[2]
    code = "session_handle_in_argument"
    await refused(workspace.share_memories([AgentId(handle)], [RecordId("mem_1")]), InvalidInput, code)
    await refused(workspace.delegate(DelegationRequest(AgentId(handle), "task")), InvalidInput, code)
    await refused(workspace.tasks.add(TaskDraft("title", assignee=handle)), InvalidInput, code)
    for named in (handle, f"{'x' * 30}{handle}"):
        with pytest.raises(NotFound) as absent:
            await workspace.get_memories([RecordId(named)])
        assert secret[:10] not in str(absent.value) + absent.value.message + absent.value.hint
    assert secret not in repr(await audit_of(alice.hub))
    async with calling(BOB, "auto", hub=alice.hub, tools=FULL_TOOLS) as bob:
        assert secret not in json.dumps(await bob.ok("list_tasks"))
