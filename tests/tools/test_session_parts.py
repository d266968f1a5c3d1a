"""Progress, working state, delegations and shares through the tools, in both protocol eras."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from contextdna import Hub, Principal, open_hub
from contextdna_tools import FULL_TOOLS
from tests.hub.rig import ALICE, BOB, PETE, settings_in
from tests.tools.calling import calling

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> str:
    """Give a protocol era: with 2026-07-28 where both can, or the initialize handshake."""
    return str(request.param)


@pytest.fixture
async def hub(anyio_backend: str) -> AsyncIterator[Hub]:
    async with open_hub(settings_in(None)) as opened:
        yield opened


def connect(principal: Principal, mode: str, hub: Hub) -> Any:
    return calling(principal, mode, hub=hub, tools=FULL_TOOLS)


async def test_progress_is_told_and_a_resumed_session_says_where_its_work_stands(hub: Hub, mode: str) -> None:
    async with connect(ALICE, mode, hub) as alice:
        session = (await alice.ok("begin_session", task="climb"))["session_id"]
        told = await alice.ok("update_session", session_id=session, status="half\nway", thoughts=3)
        assert told == {"status": "active", "thoughts": 3, "progress": "half\nway"}
        assert (await alice.ok("update_session", session_id=session, thoughts=2))["thoughts"] == 5
        await alice.ok("set_state", session_id=session, key="cursor", value=1)
        resumed = await alice.ok("begin_session", session_id=session)
        assert resumed["work"] == {
            "task": "climb",
            "progress": "half\nway",
            "thoughts": 5,
            "delegation_id": "",
            "state_keys": ["cursor"],
        }
        assert (await alice.error("update_session", session_id=session))["code"] == "progress_empty"
        assert (await alice.error("update_session", thoughts=1))["code"] == "session_required"


async def test_a_session_id_resumes_its_session_and_begins_no_other(hub: Hub, mode: str) -> None:
    async with connect(ALICE, mode, hub) as alice:
        given = await alice.ok("delegate_with_context", child_agent_id="carol", task="count the bees")
        child = given["session_id"]
        for named in ({"agent_id": "carol"}, {"agent_id": "alice/carol", "task": "count the bees"}, {}):
            resumed = await alice.ok("begin_session", session_id=child, **named)
            assert (resumed["resumed"], resumed["session_id"], resumed["briefing"]) == (True, child, [])
            assert resumed["work"]["delegation_id"] == given["delegation_id"]
        other = await alice.ok("begin_session", session_id=child, task="count the wasps")
        assert (other["session_id"], other["work"]["task"]) == (child, "count the bees")
        assert "pass session_id as parent" in other["briefing"][0]
        error = await alice.error("begin_session", session_id=child, agent_id="dave", task="help her")
        assert error["code"] == "session_of_another"
        assert "parent" in error["hint"]
        error = await alice.error("begin_session", session_id=child, ttl_s=60)
        assert error["code"] == "session_not_new"
        below = await alice.ok("begin_session", parent=child, task="count the wasps")
        assert (below["resumed"], below["work"]) == (False, {})
        assert below["session_id"] != child


async def test_a_long_text_takes_no_more_than_its_line_of_a_briefing(hub: Hub, mode: str) -> None:
    async with connect(ALICE, mode, hub) as alice:
        await alice.ok("store_memory", content="climb log " + "up and down " * 5000)
        await alice.ok("store_memory", content="climb in the morning")
        begun = await alice.ok("begin_session", task="climb")
        assert any("climb in the morning" in line for line in begun["briefing"])
        assert all(len(line) < 400 for line in begun["briefing"])


@pytest.mark.parametrize("value", [False, 0, "", "null", '{"a":1}', [], {"deep": [1, None]}, 1.5])
async def test_state_comes_back_as_it_was_sent(hub: Hub, mode: str, value: Any) -> None:
    async with connect(ALICE, mode, hub) as alice:
        session = (await alice.ok("begin_session"))["session_id"]
        kept = await alice.ok("set_state", session_id=session, key="key", value=value)
        assert (kept["key"], kept["version"], bool(kept["expires_at"])) == ("key", 1, True)
        answer = await alice.ok("get_state", session_id=session, keys=["key", "other"])
        assert answer == {"state": {"key": value}, "missing": ["other"]}
        assert type(answer["state"]["key"]) is type(value)


async def test_state_is_removed_and_what_is_unclear_is_refused(hub: Hub, mode: str) -> None:
    async with connect(ALICE, mode, hub) as alice:
        session = (await alice.ok("begin_session"))["session_id"]
        await alice.ok("set_state", session_id=session, key="key", value=1, ttl_s=60)
        removed = await alice.ok("set_state", session_id=session, key="key", delete=True)
        assert removed["deleted"] is True
        assert (await alice.ok("set_state", session_id=session, key="key", delete=True))["deleted"] is False
        assert await alice.ok("get_state", session_id=session) == {"state": {}, "missing": []}
        for arguments, code in (
            ({"key": "key"}, "value_missing"),
            ({"key": "key", "value": None}, "value_missing"),
            ({"key": "key", "value": 1, "delete": True}, "value_and_delete"),
            ({"key": "a key", "value": 1}, "key_invalid"),
            ({"key": "key", "value": "x" * 70_000}, "value_too_large"),
            ({"key": "key", "value": 1, "ttl_s": -1}, "ttl_out_of_range"),
        ):
            assert (await alice.error("set_state", session_id=session, **arguments))["code"] == code


async def test_working_memories_are_promoted_or_forgotten_at_the_end(hub: Hub, mode: str) -> None:
    async with connect(ALICE, mode, hub) as alice:
        session = (await alice.ok("begin_session"))["session_id"]
        kept, lost = [
            (await alice.ok("store_memory", content=text, tier="working", session_id=session))["stored"][0]["id"]
            for text in ("kept", "lost")
        ]
        ended = await alice.ok("end_session", session_id=session, promote=[kept])
        assert (ended["promoted"], ended["expired"]) == ([kept], [lost])


async def test_a_delegation_from_its_beginning_to_its_results(hub: Hub, mode: str) -> None:
    async with connect(ALICE, mode, hub) as alice:
        given = await alice.ok("delegate_with_context", child_agent_id="carol", task="count")
        child = given["session_id"]
        [line] = (await alice.ok("update_delegation", direction="given"))["delegations"]
        assert (line["id"], line["status"], line["task"]) == (given["delegation_id"], "pending", "count")
        assert (await alice.ok("update_delegation", action="accept", session_id=child))["status"] == "accepted"
        assert (await alice.error("update_delegation", action="decline", session_id=child))["code"] == (
            "delegation_accepted"
        )
        await alice.ok("update_session", session_id=child, status="at seven", thoughts=7)
        [line] = (await alice.ok("update_delegation", status="accepted"))["delegations"]
        assert (line["progress"], line["thoughts"]) == ("at seven", 7)
        ended = await alice.ok("end_session", session_id=child, output="nine", level="private")
        [line] = (await alice.ok("update_delegation"))["delegations"]
        assert (line["status"], line["results"]) == ("completed", ended["stored"])
        [hit] = (await alice.ok("retrieve_context", query="nine"))["hits"]
        assert (hit["id"], hit["shared_by"], hit["owner"]) == (ended["stored"][0], "alice/carol", "alice/carol")


async def test_a_list_of_delegations_says_where_it_goes_on(hub: Hub, mode: str) -> None:
    async with connect(ALICE, mode, hub) as alice, connect(BOB, mode, hub) as bob:
        for number in range(3):
            await alice.ok("delegate_with_context", child_agent_id=f"c{number}", task=f"task {number}")
        first = await alice.ok("update_delegation", limit=2)
        rest = await alice.ok("update_delegation", limit=2, before=first["cursor"])
        tasks = [line["task"] for line in (*first["delegations"], *rest["delegations"])]
        assert (tasks, rest["cursor"]) == (["task 2", "task 1", "task 0"], "")
        whole = await alice.ok("update_delegation", limit=3)
        assert whole["cursor"] == ""
        for caller, before in ((alice, "del_zzz"), (bob, first["cursor"])):
            assert (await caller.error("update_delegation", before=before))["code"] == "cursor_invalid"


async def test_what_is_wrong_with_an_end_is_called_by_its_own_name(hub: Hub, mode: str) -> None:
    async with connect(ALICE, mode, hub) as alice:
        session = (await alice.ok("begin_session"))["session_id"]
        error = await alice.error("end_session", session_id=session, output="ok", learnings=["good", " "])
        assert error["message"].startswith("learnings[1]: ")
        error = await alice.error("end_session", session_id=session, output=" ")
        assert (error["code"], error["message"]) == ("content_empty", "content is empty")
        error = await alice.error("log_turn", session_id=session, turns=[])
        assert (error["code"], error["message"]) == ("turns_empty", "turns is empty")
        error = await alice.error("send_signal", session_id=session)
        assert (error["code"], error["message"]) == ("name_invalid", "name is missing")
        error = await alice.error("get_artifact", session_id=session, id="art_x", name="a.txt")
        assert error["message"] == "an id and a name"


async def test_an_assignee_that_nobody_has_seen_is_told(hub: Hub, mode: str) -> None:
    async with connect(ALICE, mode, hub) as alice, connect(BOB, mode, hub) as bob:
        await bob.ok("store_memory", content="I am here.")
        added = await alice.ok("add_task", title="count", assignee="ghost")
        assert added["unknown_agents"] == ["ghost"]
        moved = await alice.ok("update_task", id=added["id"], expected_version=1, assignee="bob")
        assert (moved["assignee"], moved["unknown_agents"]) == ("bob", [])
        moved = await alice.ok("update_task", id=added["id"], expected_version=2, assignee="ghast")
        assert moved["unknown_agents"] == ["ghast"]
        moved = await alice.ok("update_task", id=added["id"], expected_version=3, title="count again")
        assert moved["unknown_agents"] == []


async def test_a_delegation_is_declined_or_revoked(hub: Hub, mode: str) -> None:
    async with connect(ALICE, mode, hub) as alice:
        for action in ("decline", "revoke"):
            given = await alice.ok("delegate_with_context", child_agent_id="carol", task=action)
            named = {"session_id": given["session_id"]} if action == "decline" else {}
            if action == "revoke":
                named = {"delegation_id": given["delegation_id"]}
            if action == "decline":
                named["reason"] = "no hands"
            over = await alice.ok("update_delegation", action=action, **named)
            line = (await alice.ok("update_delegation"))["delegations"][0]
            assert line.get("reason", "") == named.get("reason", "")
            assert (over["status"], over["sessions_ended"]) == (f"{action}d", 1)
            error = await alice.error("get_state", session_id=given["session_id"])
            assert error["code"] == "session_ended"
        assert (await alice.error("update_delegation", action="end"))["code"] == "action_unknown"
        assert (await alice.error("update_delegation", direction="up"))["code"] == "direction_unknown"
        assert (await alice.error("update_delegation", status="over"))["code"] == "status_unknown"


async def test_a_share_by_type_takes_what_is_important_and_no_more_than_twenty(hub: Hub, mode: str) -> None:
    async with connect(ALICE, mode, hub) as alice, connect(BOB, mode, hub) as bob, connect(PETE, mode, hub) as pete:
        drafts = [
            {"content": f"lesson {number}", "memory_type": "lesson", "level": "private", "importance": importance}
            for number, importance in enumerate([0.69, 0.7, *[0.9] * 22])
        ]
        await alice.ok("store_memory", memories=drafts)
        shared = await alice.ok("share_memories", target_agent_ids=["bob"], memory_types=["lesson"])
        assert shared["shared"] == {"bob": 20}
        hits = (await bob.ok("retrieve_context", query="lesson", limit=100, max_tokens=8000))["hits"]
        assert len(hits) == 20
        assert {(hit["shared_by"], hit["owner"]) for hit in hits} == {("alice", "alice")}
        assert all(any(part.startswith("shared by alice") for part in hit["why"]) for hit in hits)
        assert (await pete.ok("retrieve_context", query="lesson"))["hits"] == []
        every = await alice.ok("share_memories", target_agent_ids=["pete"], memory_types=["lesson"], limit=100)
        assert every["shared"] == {"pete": 23}
        error = await bob.error("share_memories", target_agent_ids=["pete"], memory_ids=[hits[0]["id"]])
        assert error["code"] == "not_owner"
