"""What each tool says that a credential needs is what it needs: with exactly that it works, with less it is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pytest
from mcp_types import CallToolResult

from contextdna import Scope, open_hub
from contextdna_tools import FULL_TOOLS, AnyTool
from contextdna_tools.boundary import run_tool
from contextdna_tools.spec import Call
from tests.hub.methods import PHASE, Furnished, furnish
from tests.hub.rig import ROOT, Clock, settings_in, unchanged
from tests.tools.calling import text_of

pytestmark = pytest.mark.anyio

Arguments = Callable[[Furnished], dict[str, Any]]

CALLS: Final[dict[str, tuple[Arguments, ...]]] = {
    "store_memory": (lambda _: {"content": "new"}, lambda f: {"content": "new", "relates_to": [f.memory]}),
    "retrieve_context": (lambda _: {"query": "memory"}, lambda _: {"types": ["fact"]}),
    "get_memory": (lambda f: {"ids": [f.memory]},),
    "update_memory": (lambda f: {"id": f.memory, "expected_version": 1, "importance": 0.9},),
    "forget_memory": (
        lambda f: {"ids": [f.memory]},
        lambda f: {"ids": [f.memory], "purge": True},
        lambda f: {"ids": [f.forgotten], "restore": True},
        lambda _: {"memory_types": ["fact"]},
    ),
    "share_memories": (
        lambda f: {"target_agent_ids": ["bob"], "memory_ids": [f.memory]},
        lambda _: {"target_agent_ids": ["alice"], "revoke": True},
    ),
    "begin_session": (
        lambda _: {"agent_id": "carol", "task": "the memory", "session_id": ""},
        lambda f: {"session_id": f.handle},
    ),
    "end_session": (lambda _: {"output": "done", "learnings": ["twice"]}, lambda _: {"success": False}),
    "log_turn": (lambda _: {"content": "hello"},),
    "delegate_with_context": (lambda _: {"child_agent_id": "carol", "task": "help", "include_conversations": True},),
    "record_loop_decision": (lambda _: {"loop": 3, "phase": PHASE, "score": 0.8, "blockers": ["none"]},),
    "attach_artifact": (lambda _: {"name": "a.txt", "text": "a"},),
    "get_artifact": (lambda f: {"id": f.artifact}, lambda _: {"name": "notes.txt"}),
    "list_artifacts": (lambda _: {},),
    "read_conversation": (lambda f: {"conversation": f.conversation}, lambda _: {}),
    "update_session": (lambda _: {"status": "half done", "thoughts": 2}, lambda _: {"thoughts": 1}),
    "set_state": (lambda _: {"key": "cursor", "value": 2}, lambda _: {"key": "cursor", "delete": True}),
    "get_state": (lambda _: {},),
    "update_delegation": (
        lambda f: {"action": "decline", "delegation_id": f.delegation},
        lambda f: {"action": "accept", "delegation_id": f.delegation},
        lambda f: {"action": "revoke", "delegation_id": f.delegation},
        lambda _: {},
    ),
    "register_agent": (lambda _: {"agent_id": "hank", "agent_type": "coder"}, lambda _: {"heartbeat": True}),
    "retire_agent": (lambda _: {"agent_id": "hank"},),
    "agent_history": (lambda _: {},),
    "send_signal": (lambda _: {"name": "go", "target_agent_ids": ["alice"]}, lambda f: {"withdraw": f.sent}),
    "acknowledge_signal": (lambda f: {"signal_id": f.received, "note": "got it"},),
    "await_signal": (lambda _: {"timeout_s": 0}, lambda f: {"timeout_s": 0, "signal_id": f.sent}),
    "add_task": (lambda _: {"title": "new"},),
    "update_task": (lambda f: {"id": f.task, "expected_version": 1, "result": "done"},),
    "list_tasks": (lambda _: {},),
    "link_memories": (lambda f: {"source_id": f.memory, "target_ids": [f.artifact]},),
    "loop_status": (lambda _: {"phase": PHASE}, lambda _: {}),
    "list_projects": (lambda _: {},),
    "query_audit": (lambda _: {}, lambda _: {"action": "memory.stroe"}),
    "search": (lambda _: {"query": "memory"},),
    "fetch": (lambda f: {"id": f.memory}, lambda f: {"id": f.artifact}),
}
"""Calls of each tool that work; the first one needs all that the tool does."""


async def called(tool: AnyTool, arguments: Arguments, furnished: Furnished, scopes: frozenset[Scope]) -> CallToolResult:
    raw = {"session_id": furnished.handle} | arguments(furnished)
    result = await run_tool(tool, raw, Call(furnished.hub, replace(ROOT, scopes=scopes)))
    assert isinstance(result, CallToolResult)
    return result


def test_there_is_a_call_of_every_tool() -> None:
    assert set(CALLS) == {tool.name for tool in FULL_TOOLS}


@pytest.mark.parametrize("tool", FULL_TOOLS, ids=lambda tool: tool.name)
async def test_a_tool_works_with_exactly_the_scopes_that_it_names(anyio_backend: str, tool: AnyTool) -> None:
    for arguments in CALLS[tool.name]:
        async with open_hub(settings_in(None), clock=Clock()) as hub:
            result = await called(tool, arguments, await furnish(hub), tool.scopes)
            assert not result.is_error, text_of(result)


@pytest.mark.parametrize("tool", FULL_TOOLS, ids=lambda tool: tool.name)
async def test_with_any_of_its_scopes_missing_it_is_refused_and_changes_nothing(
    anyio_backend: str, tool: AnyTool
) -> None:
    async with open_hub(settings_in(None), clock=Clock()) as hub:
        furnished = await furnish(hub)
        for scope in tool.scopes:
            lesser = frozenset(Scope) - {scope}
            call = partial(called, tool, CALLS[tool.name][0], furnished, lesser)
            result = await unchanged(hub, call, audited=1)
            error = json.loads(text_of(result))["error"]
            assert (error["code"], scope in error["message"]) == ("scope_missing", True)
