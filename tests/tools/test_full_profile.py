"""The full profile's tools for tasks, links, operators and connectors, through a real client in both protocol eras."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from contextdna_tools import FULL_TOOLS
from tests.hub.rig import ALICE, BOB, DEFAULT, ROOT
from tests.tools.calling import Caller, calling

pytestmark = pytest.mark.anyio

BASE = f"contextdna://projects/{DEFAULT}"


@pytest.fixture(params=["auto", "legacy"])
async def alice(request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    async with calling(ALICE, request.param, tools=FULL_TOOLS) as caller:
        yield caller


async def test_a_task_goes_from_one_agent_to_another_and_back_done(alice: Caller) -> None:
    first = await alice.ok("add_task", title="Buy paint", assignee="bob", level="private", priority=0.9)
    assert (first["version"], first["status"], first["assignee"]) == (1, "open", "bob")
    second = await alice.ok("add_task", title="Paint", depends_on=[first["id"]], due_at="2026-05-01")
    [shown, waiting] = (await alice.ok("list_tasks"))["tasks"]
    assert (shown["id"], shown["priority"], shown["level"]) == (first["id"], 0.9, "private")
    assert (waiting["waits_for"], waiting["waiting"], waiting["due_at"]) == ([first["id"]], 1, "2026-05-01T00:00:00Z")
    assert [task["id"] for task in (await alice.ok("list_tasks", ready=True))["tasks"]] == [first["id"]]
    early = await alice.error("update_task", id=second["id"], expected_version=1, status="in_progress")
    assert early["code"] == "task_waits"
    assert first["id"] in early["message"]
    async with calling(BOB, "auto", hub=alice.hub, tools=FULL_TOOLS) as bob:
        [mine] = (await bob.ok("list_tasks", mine=True))["tasks"]
        assert (mine["id"], mine["shared_by"]) == (first["id"], "alice")
        handle = (await bob.ok("begin_session"))["session_id"]
        begun = await bob.ok("update_task", id=mine["id"], expected_version=1, status="in_progress", session_id=handle)
        [note] = (await bob.ok("store_memory", content="The green paint is the better one."))["stored"]
        done = {"status": "done", "result": "Bought green.", "result_ids": [note["id"]]}
        finished = await bob.ok("update_task", id=mine["id"], expected_version=begun["version"], **done)
        assert (finished["version"], finished["status"]) == (3, "done")
        stale = await bob.error("update_task", id=mine["id"], expected_version=1, status="open")
        assert (stale["code"], stale["current_version"]) == ("version_conflict", 3)
        mistaken = await bob.error("update_task", id=mine["id"], expected_version=3, title="Mine")
        assert mistaken["code"] == "not_owner"
    [done_task] = (await alice.ok("list_tasks", statuses=["done"]))["tasks"]
    assert (done_task["result"], done_task["result_ids"]) == ("Bought green.", [note["id"]])
    assert done_task["session"] == handle.partition(".")[0]
    assert [task["id"] for task in (await alice.ok("list_tasks", ready=True))["tasks"]] == [second["id"]]


async def test_tasks_are_unassigned_and_freed(alice: Caller) -> None:
    first = await alice.ok("add_task", title="one", assignee="bob")
    second = await alice.ok("add_task", title="two", depends_on=[first["id"]])
    circle = await alice.error("update_task", id=first["id"], expected_version=1, depend_on=[second["id"]])
    assert circle["code"] == "task_cycle"
    assert (await alice.ok("update_task", id=first["id"], expected_version=1, assignee="-"))["assignee"] == ""
    await alice.ok("update_task", id=second["id"], expected_version=1, free_of=[first["id"]])
    assert len((await alice.ok("list_tasks", ready=True))["tasks"]) == 2


async def test_pages_of_tasks_follow_one_another(alice: Caller) -> None:
    for number in range(5):
        await alice.ok("add_task", title=f"task {number}")
    seen: list[str] = []
    cursor = ""
    for _ in range(3):
        page = await alice.ok("list_tasks", limit=2, order="newest", cursor=cursor)
        seen += [task["title"] for task in page["tasks"]]
        cursor = page["cursor"]
        assert page["truncated"] is bool(cursor)
    assert seen == [f"task {number}" for number in range(4, -1, -1)]


async def test_a_long_description_is_cut_in_lists_and_whole_when_fetched(alice: Caller) -> None:
    task = await alice.ok("add_task", title="long", description="x" * 5000)
    [shown] = (await alice.ok("list_tasks"))["tasks"]
    assert (len(shown["description"]), shown["clipped"]) == (2000, True)
    assert "x" * 5000 in (await alice.ok("fetch", id=task["id"]))["text"]


async def test_a_connector_searches_and_fetches_records_of_every_kind(alice: Caller) -> None:
    """The shapes that ChatGPT connectors expect, as structure and as JSON text (``Caller.ok`` holds them together)."""
    session = (await alice.ok("begin_session"))["session_id"]
    [memory] = (await alice.ok("store_memory", content="The quokka sleeps at noon.\nAlways."))["stored"]
    [turn] = (await alice.ok("log_turn", content="Where is the quokka?", session_id=session))["ids"]
    artifact = await alice.ok("attach_artifact", name="quokka.md", text="# quokka\n" + "word " * 20_000)
    loop = await alice.ok("record_loop_decision", loop=3, phase="zoo", score=0.9, reasoning="quokka found")
    task = await alice.ok("add_task", title="Feed the quokka", assignee="bob")
    answer = await alice.ok("search", query="quokka")
    assert set(answer) == {"results"}
    assert all(set(result) == {"id", "title", "url"} for result in answer["results"])
    found = {result["id"]: result for result in answer["results"]}
    urls = {
        memory["id"]: f"{BASE}/memories/{memory['id']}",
        turn: f"{BASE}/conversations/{session.partition('.')[0]}",
        artifact["id"]: f"{BASE}/artifacts/{artifact['id']}",
        loop["id"]: f"{BASE}/loops/zoo",
        task["id"]: f"{BASE}/tasks/{task['id']}",
    }
    assert {name: result["url"] for name, result in found.items()} == urls
    assert found[memory["id"]]["title"] == "The quokka sleeps at noon. Always."
    kinds = {}
    for name, url in urls.items():
        document = await alice.ok("fetch", id=name)
        assert set(document) == {"id", "title", "text", "url", "metadata"}
        assert (document["id"], document["url"]) == (name, url)
        assert document["title"]
        assert "quokka" in document["text"]
        assert all(isinstance(value, str) for value in document["metadata"].values())
        kinds[document["metadata"]["kind"]] = document
    assert set(kinds) == {"memory", "turn", "artifact", "loop", "task"}
    assert len(kinds["artifact"]["text"]) > 60_000 - 1
    assert kinds["task"]["metadata"]["assignee"] == "bob"
    for url in urls.values():
        assert (await alice.client.read_resource(url)).contents


async def test_what_is_hidden_is_not_fetched(alice: Caller) -> None:
    [hidden] = (await alice.ok("store_memory", content="hers", level="private"))["stored"]
    async with calling(BOB, "auto", hub=alice.hub, tools=FULL_TOOLS) as bob:
        assert (await bob.error("fetch", id=hidden["id"]))["code"] == "not_found"
        assert (await bob.ok("search", query="hers"))["results"] == []


async def test_memories_are_linked_and_the_links_are_read(alice: Caller) -> None:
    [one, two] = (await alice.ok("store_memory", memories=[{"content": "a"}, {"content": "b"}]))["stored"]
    links = await alice.ok("link_memories", source_id=one["id"], target_ids=[two["id"]], relation="contradicts")
    assert links["links"] == [{"relation": "contradicts", "target_id": two["id"]}]
    assert (await alice.ok("fetch", id=one["id"]))["metadata"]["contradicts"] == two["id"]
    gone = await alice.ok(
        "link_memories", source_id=one["id"], target_ids=[two["id"]], relation="contradicts", remove=True
    )
    assert gone["links"] == []
    wrong = await alice.error("link_memories", source_id=one["id"], target_ids=[two["id"]], relation="hates")
    assert wrong["code"] == "relation_unknown"


async def test_projects_are_listed_to_those_who_may_use_them(alice: Caller) -> None:
    assert (await alice.ok("list_projects"))["projects"] == [DEFAULT]
    async with calling(ROOT, "auto", hub=alice.hub, tools=FULL_TOOLS) as root:
        assert (await root.ok("list_projects"))["projects"] == ["default", "other"]


async def test_the_audit_log_is_read_by_the_role_system_only(alice: Caller) -> None:
    [kept] = (await alice.ok("store_memory", content="zyzzyva"))["stored"]
    assert (await alice.error("query_audit"))["code"] == "role_required"
    async with calling(ROOT, "auto", hub=alice.hub, tools=FULL_TOOLS) as root:
        page = await root.ok("query_audit", record_id=kept["id"], project_id=DEFAULT)
        [entry] = page["entries"]
        assert (entry["action"], entry["agent"], entry["outcome"]) == ("memory.store", "alice", "allowed")
        assert "zyzzyva" not in json.dumps(page)
        denied = (await root.ok("query_audit", action="audit.query", agent_id="alice", project_id=DEFAULT))["entries"]
        assert [(entry["outcome"], entry["risk"]) for entry in denied] == [("denied", "high")]
        seen: list[int] = []
        before = 0
        while True:
            page = await root.ok("query_audit", limit=2, before=before, project_id=DEFAULT)
            seen += [entry["seq"] for entry in page["entries"]]
            before = page["next_before"]
            if not page["truncated"]:
                break
        assert seen[-1] == 1
        assert seen == sorted(set(seen), reverse=True)
        for wrong in ({"limit": 0}, {"limit": 101}, {"limit": -1}, {"before": -1}, {"before": 2**70}):
            assert (await root.error("query_audit", project_id=DEFAULT, **wrong))["code"].endswith("_out_of_range")
        assert (await root.ok("query_audit", installation=True, project_id=DEFAULT))["entries"]


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "no title": ("add_task", {"title": " "}, "title_empty"),
    "priority": ("add_task", {"title": "x", "priority": 2}, "priority_out_of_range"),
    "assignee": ("add_task", {"title": "x", "assignee": "a b"}, "assignee_invalid"),
    "due_at": ("add_task", {"title": "x", "due_at": "soon"}, "due_at_invalid"),
    "dependency": ("add_task", {"title": "x", "depends_on": ["task_x"]}, "not_found"),
    "no such task": ("update_task", {"id": "task_x", "expected_version": 1, "status": "done"}, "not_found"),
    "status": ("update_task", {"id": "task_x", "expected_version": 1, "status": "finished"}, "status_unknown"),
    "nothing": ("update_task", {"id": "task_x", "expected_version": 1}, "change_empty"),
    "order": ("list_tasks", {"order": "random"}, "order_unknown"),
    "cursor": ("list_tasks", {"cursor": "AAAA"}, "cursor_invalid"),
    "limit": ("list_tasks", {"limit": 10**30}, "limit_out_of_range"),
    "link to itself": ("link_memories", {"source_id": "mem_1", "target_ids": ["mem_1"]}, "link_to_itself"),
    "no targets": ("link_memories", {"source_id": "mem_1", "target_ids": []}, "target_ids_out_of_range"),
    "nothing to fetch": ("fetch", {"id": ""}, "not_found"),
    "long query": ("search", {"query": "x" * 40_000}, "query_too_large"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_request_is_refused_by_name(alice: Caller, case: str) -> None:
    tool, arguments, code = WRONG[case]
    assert (await alice.error(tool, **arguments))["code"] == code
