"""The directory of agents as a client reads it, in both protocol eras."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import ResourceTemplateReference

from contextdna import AgentId, RegisterRequest
from contextdna_resources import Noun, ResourceUri, parse_uri
from tests.resources.rig import ALICE, BOB, Rig, open_rig, read_text, refusal

pytestmark = pytest.mark.anyio
AGENTS = "contextdna://projects/default/agents"


@pytest.fixture(params=["auto", "legacy"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with open_rig(request.param) as opened:
        agents = opened.workspace(ALICE).agents
        await agents.register(RegisterRequest(agent_type="lead"))
        await agents.register(RegisterRequest(AgentId("alice/drone"), capabilities=("sql",), confidence=0.5))
        yield opened


async def read_json(client: Client, uri: str) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads((await read_text(client, uri)).text)
    return payload


async def test_an_agent_is_shown_with_its_history_to_those_above_it(rig: Rig) -> None:
    async with rig.client(ALICE) as alice, rig.client(BOB) as bob:
        public = {
            "agent_id": "alice/drone",
            "capabilities": ["sql"],
            "status": "active",
            "team": "core",
            "swarm": "lift",
            "in_session": False,
        }
        shown = await read_json(bob, f"{AGENTS}/alice%2Fdrone")
        public["last_seen_at"] = shown["last_seen_at"]
        assert await read_json(bob, f"{AGENTS}/alice%2Fdrone") == public
        full = await read_json(alice, f"{AGENTS}/alice%2Fdrone")
        assert full.items() >= public.items()
        assert (full["confidence"], full["registered_by"], full["role"]) == (0.5, "alice", "agent")
        assert [entry["what"] for entry in full["history"]] == ["confidence_changed", "registered"]


async def test_the_directory_lists_swarms_teams_and_agents(rig: Rig) -> None:
    async with rig.client(BOB) as bob:
        await rig.workspace(BOB).agents.heartbeat()
        shown = await read_json(bob, AGENTS)
    core, edge = ({"active": active, "idle": 0, "retired": 0} for active in (2, 1))
    teams = [{"team": "core", **core}, {"team": "edge", **edge}]
    assert shown["swarms"] == [{"swarm": "lift", "active": 3, "idle": 0, "retired": 0, "teams": teams}]
    assert [agent["agent_id"] for agent in shown["agents"]] == ["alice", "alice/drone", "bob"]
    assert shown["agents"][1]["uri"] == f"{AGENTS}/alice%2Fdrone"
    assert "truncated" not in shown
    assert "0.5" not in json.dumps(shown)


async def test_an_agent_that_is_not_there_is_not_found(rig: Rig) -> None:
    async with rig.client(BOB) as bob:
        error = await refusal(bob, f"{AGENTS}/nobody")
        assert error.error.data["code"] == "agent_not_found"
        with pytest.raises(MCPError):
            await bob.read_resource(f"{AGENTS}/alice%2F")


async def test_agent_ids_complete(rig: Rig) -> None:
    async with rig.client(BOB) as bob:
        ref = ResourceTemplateReference(uri="contextdna://projects/{project_id}/agents/{agent_id}")
        completion = (await bob.complete(ref, {"name": "agent_id", "value": "alice/"})).completion
    assert completion.values == ["alice/drone"]


def test_a_path_is_one_id_in_a_uri() -> None:
    uri = parse_uri(f"{AGENTS}/queen%2Fprincess%2Fdrone")
    assert uri == ResourceUri(Noun.AGENT, "default", "queen/princess/drone")
    assert str(uri) == f"{AGENTS}/queen%2Fprincess%2Fdrone"
