"""The tools for agents, as a client of the full profile calls them."""

from collections.abc import AsyncIterator

import pytest

from contextdna_tools import FULL_TOOLS
from tests.hub.rig import ALICE, BOB
from tests.tools.calling import Caller, calling

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["auto", "legacy"])
async def alice(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Caller]:
    async with calling(ALICE, request.param, tools=FULL_TOOLS) as caller:
        yield caller


async def test_an_agent_is_registered_works_is_retired_and_its_history_tells_it(alice: Caller) -> None:
    added = await alice.ok(
        "register_agent", agent_id="alice/drone", agent_type="coder", capabilities='["sql"]', confidence=0.5
    )
    assert added == {
        "agent_id": "alice/drone",
        "status": "active",
        "changes": ["registered", "confidence_changed"],
        "agent_type": "coder",
        "capabilities": ["sql"],
        "team_id": "core",
        "swarm_id": "lift",
        "confidence": 0.5,
    }
    child = await alice.ok("delegate_with_context", child_agent_id="drone", task="help")
    gone = await alice.ok("retire_agent", agent_id="alice/drone")
    assert gone == {"agent_id": "alice/drone", "status": "retired", "sessions_ended": 1, "grants_ended": 0}
    refused = await alice.error("retrieve_context", session_id=child["session_id"], query="sql")
    assert refused["code"] == "session_ended"
    refused = await alice.error("delegate_with_context", child_agent_id="drone", task="help")
    assert refused["code"] == "agent_retired"
    first = await alice.ok("agent_history", agent_id="alice/drone", oldest_first=True, limit=3)
    rest = await alice.ok("agent_history", agent_id="alice/drone", oldest_first=True, cursor=first["cursor"])
    told = [entry["what"] for entry in first["entries"] + rest["entries"]]
    assert told == ["registered", "confidence_changed", "session_begun", "session_ended", "retired"]
    assert first["entries"][1]["confidence"] == 0.5
    assert rest["cursor"] == ""
    again = await alice.ok("register_agent", agent_id="alice/drone")
    assert (again["status"], again["changes"]) == ("active", ["reinstated"])


async def test_a_heartbeat_alone_registers_nobody(alice: Caller) -> None:
    alive = await alice.ok("register_agent", heartbeat=True)
    assert (alive["agent_id"], alive["changes"]) == ("alice", [])
    assert (await alice.ok("agent_history"))["entries"] == []
    assert (await alice.error("register_agent", agent_id="alice/x", heartbeat=True))["code"] == "agent_not_found"


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("register_agent", {"agent_id": "bob"}, "agent_not_yours"),
        ("register_agent", {"status": "retired"}, "status_unknown"),
        ("register_agent", {"confidence": 2}, "confidence_out_of_range"),
        ("register_agent", {"capabilities": ["not a name"]}, "capability_invalid"),
        ("register_agent", {"swarm_id": "sink"}, "circle_not_yours"),
        ("retire_agent", {"agent_id": "bob"}, "agent_not_yours"),
        ("retire_agent", {"agent_id": "alice/nobody"}, "agent_not_found"),
        ("retire_agent", {}, "argument_missing"),
        ("agent_history", {"agent_id": "nobody"}, "agent_not_found"),
        ("agent_history", {"what": ["slept"]}, "what_unknown"),
        ("agent_history", {"since": "yesterday"}, "since_invalid"),
        ("agent_history", {"cursor": "x"}, "cursor_invalid"),
        ("agent_history", {"limit": 0}, "limit_out_of_range"),
    ],
)
async def test_what_is_wrong_is_named(alice: Caller, tool: str, arguments: dict[str, object], code: str) -> None:
    assert (await alice.error(tool, **arguments))["code"] == code


async def test_another_agent_sees_none_of_it(alice: Caller) -> None:
    await alice.ok("register_agent", confidence=0.5)
    async with calling(BOB, "auto", hub=alice.hub, tools=FULL_TOOLS) as bob:
        assert (await bob.error("agent_history", agent_id="alice"))["code"] == "agent_not_yours"
        assert (await bob.ok("agent_history"))["entries"] == []
