"""loop_status: where a phase stands, and what is open in all of them."""

import json
from collections.abc import AsyncIterator

import pytest

from contextdna_tools import FULL_TOOLS
from tests.hub.rig import ALICE, DEFAULT, ROOT
from tests.tools.calling import Caller, calling

pytestmark = pytest.mark.anyio


@pytest.fixture
async def root() -> AsyncIterator[Caller]:
    async with calling(ROOT, "auto", tools=FULL_TOOLS) as caller:
        yield caller


async def decide(root: Caller, phase: str, **fields: object) -> str:
    answer = await root.ok(
        "record_loop_decision", loop=4, phase=phase, decision="DEFER", reasoning="later", project_id=DEFAULT, **fields
    )
    return str(answer["id"])


async def test_a_phase_tells_its_gate_its_records_and_what_is_open(root: Caller) -> None:
    [memory] = (await root.ok("store_memory", content="The cache is cold.", project_id=DEFAULT))["stored"]
    await root.ok("record_loop_decision", loop=3, phase="login", score=0.5, project_id=DEFAULT)
    second = await root.ok("record_loop_decision", loop=3, phase="login", score=0.7, project_id=DEFAULT)
    decision = await decide(root, "login", deferred_issues=["docs"], next_actions=["warm it"], rests_on=[memory["id"]])
    status = await root.ok("loop_status", phase="login", project_id=DEFAULT)
    assert (status["iteration"], status["latest_iteration"], status["gate"]["open"]) == (1, 1, False)
    assert len(status["gate"]["missing"]) == 2
    assert [(entry["id"], entry["loop"]) for entry in status["records"]] == [
        (second["id"], "confidence"),
        (decision, "decision"),
    ]
    assert status["records"][1]["rests_on"] == [memory["id"]]
    shown = {"phase": "login", "iteration": 1, "decision_id": decision}
    assert (status["deferred"], status["next_actions"]) == ([{"text": "docs", **shown}], [{"text": "warm it", **shown}])
    assert status["cursor"] == ""
    assert (await root.error("loop_status", phase="nowhere", project_id=DEFAULT))["code"] == "not_found"


async def test_all_phases_tell_what_is_open_page_by_page(root: Caller) -> None:
    for number in range(3):
        await decide(root, f"p{number}", deferred_issues=[f"{number}a", f"{number}b"], next_actions=[f"do {number}"])
    deferred: list[str] = []
    actions: list[str] = []
    cursor, pages = "", 0
    while cursor or not pages:
        page = await root.ok("loop_status", limit=2, cursor=cursor, project_id=DEFAULT)
        deferred += [item["text"] for item in page["deferred"]]
        actions += [item["text"] for item in page["next_actions"]]
        cursor, pages = page["cursor"], pages + 1
    assert deferred == ["2a", "2b", "1a", "1b", "0a", "0b"]
    assert actions == ["do 2", "do 1", "do 0"]
    assert pages == 3
    for broken in ("x", "~", "-~", "~-"):
        error = await root.error("loop_status", cursor=broken, project_id=DEFAULT)
        assert error["code"] == "cursor_invalid", broken


async def test_a_cursor_of_a_phase_goes_on_in_it(root: Caller) -> None:
    await decide(root, "p", deferred_issues=["a", "b", "c"])
    first = await root.ok("loop_status", phase="p", limit=2, project_id=DEFAULT)
    rest = await root.ok("loop_status", phase="p", limit=2, cursor=first["cursor"], project_id=DEFAULT)
    assert [item["text"] for item in (*first["deferred"], *rest["deferred"])] == ["a", "b", "c"]
    assert (rest["cursor"], rest.get("records")) == ("", None)


async def test_the_history_of_a_phase_is_read_in_order_page_by_page(root: Caller) -> None:
    async with calling(ALICE, "auto", hub=root.hub, tools=FULL_TOOLS) as alice:
        session = (await alice.ok("begin_session"))["session_id"]
        ids = [
            (await alice.ok("record_loop_decision", loop=3, phase="p", score=score, iteration=i, session_id=session))[
                "id"
            ]
            for i, score in ((1, 0.3), (1, 0.5), (2, 0.7))
        ]
        first = await alice.ok("loop_status", phase="p", history=True, limit=2, session_id=session)
        rest = await alice.ok(
            "loop_status", phase="p", history=True, limit=2, cursor=first["cursor"], session_id=session
        )
        records = [*first["records"], *rest["records"]]
        assert [(one["id"], one["iteration"], one["score"]) for one in records] == list(
            zip(ids, (1, 1, 2), (0.3, 0.5, 0.7), strict=True)
        )
        assert [one.get("superseded_by") for one in records] == [ids[1], None, None]
        assert (rest["cursor"], first.get("gate")) == ("", None)
        for code, arguments in (
            ("phase_missing", {"iteration": 3}),
            ("phase_missing", {"history": True}),
            ("history_and_iteration", {"phase": "p", "history": True, "iteration": 1}),
            ("cursor_invalid", {"phase": "p", "history": True, "cursor": "x"}),
        ):
            assert (await alice.error("loop_status", session_id=session, **arguments))["code"] == code


async def test_what_is_not_ones_to_see_cannot_be_cited(root: Caller) -> None:
    [hidden] = (await root.ok("store_memory", content="mine", level="private", project_id=DEFAULT))["stored"]
    async with calling(ALICE, "auto", hub=root.hub) as alice:
        error = await alice.error("record_loop_decision", loop=3, phase="p", score=0.5, rests_on=[hidden["id"]])
    assert error["code"] == "not_found"


async def test_the_author_of_a_private_confidence_gets_the_gate_and_another_a_hint(root: Caller) -> None:
    async with calling(ALICE, "auto", hub=root.hub, tools=FULL_TOOLS) as alice:
        session = (await alice.ok("begin_session", agent_id="alice"))["session_id"]
        await alice.ok("record_loop_decision", loop=3, phase="p", score=0.5, session_id=session)
        status = await alice.ok("loop_status", phase="p", session_id=session)
        assert (status["gate"]["of"], status["gate"]["confidence_min"]) == ("swarm lift", 0.5)
    error = await root.error("loop_status", phase="p", project_id=DEFAULT)
    assert error["code"] == "not_found"
    assert "no record of this phase that you may see" in error["hint"]


async def test_a_field_of_another_loop_is_refused_by_its_name(root: Caller) -> None:
    for loop, fields in (
        (3, {"score": 0.5, "deferred_issues": ["x"]}),
        (2, {"score": 0.5, "blockers": ["x"]}),
        (4, {"decision": "DEFER", "score": 0.5}),
    ):
        error = await root.error("record_loop_decision", loop=loop, phase="p", project_id=DEFAULT, **fields)
        assert error["code"] == "field_of_other_loop"
        assert next(reversed(fields)) in error["message"]


async def test_operators_read_the_same_gate_everywhere(root: Caller) -> None:
    async with calling(ALICE, "auto", hub=root.hub, tools=FULL_TOOLS) as alice:
        await alice.ok("record_loop_decision", loop=3, phase="p", score=0.5)
        await alice.ok("record_loop_decision", loop=4, phase="p", decision="DEFER", deferred_issues=["x"])
    gate = (await root.ok("loop_status", phase="p", project_id=DEFAULT))["gate"]
    assert (gate["of"], gate["confidence_min"], gate["open"]) == ("all swarms", 0.5, False)
    [contents] = (await root.client.read_resource(f"contextdna://projects/{DEFAULT}/loops/p")).contents
    shown = json.loads(contents.text)["gate"]  # type: ignore[union-attr]
    assert {name: shown.get(name) for name in gate} == gate
    prompt = await root.client.get_prompt("retrospective", {"phase": "p", "project_id": DEFAULT})
    told = prompt.messages[0].content.text  # type: ignore[union-attr]
    assert "- judged by: all swarms\n- open: no\n" in told
    assert all(f"- missing: {reason}\n" in told for reason in gate["missing"])
