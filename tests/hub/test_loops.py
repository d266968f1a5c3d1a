"""Loop records supersede and never overwrite; a phase tells its standing to those who may see something of it."""

from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from contextdna import (
    AgentId,
    ArtifactDraft,
    BelowGate,
    Conflict,
    ContextDnaError,
    Decision,
    Gates,
    Hub,
    HubSettings,
    InvalidInput,
    Level,
    LimitExceeded,
    Loop,
    LoopDraft,
    LoopOutcome,
    LoopPage,
    LoopRecord,
    NotFound,
    Outcome,
    Principal,
    RecordId,
    Risk,
    Role,
    TurnDraft,
    WorkSettings,
    Workspace,
    open_hub,
)
from contextdna.backends.relational.statements import load_statements
from contextdna.backends.sqlite.driver import library
from contextdna.domain import loops
from contextdna.hub.opening import DATABASE_FILE
from tests.hub.rig import (
    ALICE,
    BOB,
    DEFAULT,
    OTHER,
    PETE,
    ROOT,
    TESS,
    WRITER,
    Clock,
    begin,
    last_audit,
    refused,
    remember,
    stored,
)

pytestmark = pytest.mark.anyio

PHASE: Final = "design"


async def record(hub: Hub, who: Principal, loop: Loop, **fields: Any) -> LoopOutcome:
    """Record as an agent; gives the outcome."""
    fields.setdefault("phase", PHASE)
    return await hub.bind(who).record_loop(LoopDraft(loop, **fields))


async def decide(hub: Hub, who: Principal = ROOT, *, deferred: Any = (), actions: Any = (), **fields: Any) -> RecordId:
    """Record a decision that defers issues and names next actions; gives its id."""
    details = {"deferred_issues": deferred, "next_actions": actions}
    fields = {"decision": Decision.DEFER, "reasoning": "for now", **fields}
    return RecordId((await record(hub, who, Loop.DECISION, details=details, **fields)).id)


async def in_phase(workspace: Workspace, phase: str = PHASE) -> dict[str, LoopRecord]:
    return {entry.record.id: entry for entry in (await workspace.loops.read(phase)).records}


async def test_a_new_confidence_of_the_same_agent_supersedes_the_former_one_and_changes_no_row_of_it(hub: Hub) -> None:
    first = await record(hub, ALICE, Loop.CONFIDENCE, score=0.5)
    await record(hub, BOB, Loop.CONFIDENCE, score=0.9)
    before = (await stored(hub)).data["records"]
    second = await record(hub, ALICE, Loop.CONFIDENCE, score=0.8)
    assert second.supersedes == first.id
    assert [row for row in before if row in (await stored(hub)).data["records"]] == before
    seen = await in_phase(hub.bind(ALICE))
    assert (seen[first.id].superseded_by, seen[first.id].supersedes) == (second.id, "")
    assert (seen[second.id].superseded_by, seen[second.id].supersedes) == ("", first.id)
    assert (second.gate.confidences, second.gate.confidence_min) == (2, 0.8)


@pytest.mark.parametrize("changes", [{"iteration": 2}, {"phase": "build"}])
async def test_another_iteration_phase_or_loop_supersedes_nothing(hub: Hub, changes: dict[str, Any]) -> None:
    await record(hub, ALICE, Loop.CONFIDENCE, score=0.5)
    assert (await record(hub, ALICE, Loop.CONFIDENCE, score=0.6, **changes)).supersedes == ""
    assert (await record(hub, ALICE, Loop.CONSENSUS, score=0.6)).supersedes == ""


async def test_consensus_and_decisions_of_a_swarm_supersede_whoever_recorded_them(hub: Hub) -> None:
    first = await record(hub, ALICE, Loop.CONSENSUS, validators={"v1": 0.4, "v2": 0.8})
    second = await record(hub, BOB, Loop.CONSENSUS, score=0.95)
    assert (second.supersedes, second.gate.consensus) == (first.id, 0.95)
    seen = await in_phase(hub.bind(ALICE))
    assert dict(seen[first.id].validators) == {"v1": 0.4, "v2": 0.8}
    assert seen[first.id].score == pytest.approx(0.6)
    assert seen[first.id].superseded_by == second.id
    early = await decide(hub, BOB)
    late = await decide(hub, ALICE, decision=Decision.ESCALATE)
    assert (await in_phase(hub.bind(ROOT)))[early].superseded_by == late


async def test_no_agent_of_another_swarm_or_of_none_supersedes_a_decision(hub: Hub) -> None:
    ours = await decide(hub, ALICE, deferred=["the docs"])
    for other in (PETE, replace(PETE, swarm_id="sink"), ROOT):
        await decide(hub, other)
    assert (await in_phase(hub.bind(ROOT)))[ours].superseded_by == ""
    assert [item.text for item in (await hub.bind(ROOT).loops.deferred()).items] == ["the docs"]
    of_none = {entry.record.id for entry in (await hub.bind(ROOT).loops.status(PHASE)).standing}
    assert len(of_none) == 3, "those outside of all swarms have a place of their own"


async def test_supersession_shows_only_to_those_who_may_see_both(hub: Hub) -> None:
    first = await decide(hub, ALICE, deferred=["the docs"])
    second = await decide(hub, WRITER)
    third = await record(hub, ALICE, Loop.DECISION, decision=Decision.ESCALATE, reasoning="again")
    assert third.supersedes == first, "beside the one between, which alice may not see"
    own = await in_phase(hub.bind(ALICE))
    assert (own[first].superseded_by, own[RecordId(third.id)].supersedes) == (third.id, first)
    status = await hub.bind(ALICE).loops.status(PHASE)
    assert ([entry.record.id for entry in status.standing], status.deferred.items) == ([third.id], ())
    seen = await in_phase(hub.bind(ROOT))
    assert (seen[first].superseded_by, seen[second].superseded_by) == (second, third.id)
    assert (seen[second].supersedes, seen[RecordId(third.id)].supersedes) == (first, second)


async def test_superseded_decisions_of_others_stay_open_for_who_may_not_see_what_superseded_them(hub: Hub) -> None:
    await decide(hub, ALICE, deferred=["the docs"])
    await decide(hub, WRITER)
    assert [item.text for item in (await hub.bind(ALICE).loops.deferred()).items] == ["the docs"]
    assert (await hub.bind(ROOT).loops.deferred()).items == ()


async def test_a_decision_cites_records_of_any_kind_and_each_reader_sees_those_it_may(hub: Hub) -> None:
    root = hub.bind(ROOT)
    memory = await remember(root, "shown", level=Level.PROJECT)
    artifact = (await root.attach_artifact(ArtifactDraft("a.txt", b"a"))).record.id
    handle = await begin(hub, ROOT)
    [turn] = await hub.bind(ROOT, session_id=handle).log_turns([TurnDraft("user", "a turn")])
    hidden = await remember(root, "hidden", level=Level.SYSTEM)
    cited = (memory, artifact, turn, hidden)
    decision = await record(
        hub, ROOT, Loop.DECISION, decision=Decision.DEFER, rests_on=(*cited, memory), details={"deferred_issues": ["x"]}
    )
    assert set((await in_phase(root))[decision.id].rests_on) == set(cited)
    consensus = await record(hub, ALICE, Loop.CONSENSUS, score=0.9, rests_on=(memory,))
    assert (await in_phase(hub.bind(BOB)))[consensus.id].rests_on == (memory,)
    await root.forget_memories([memory])
    assert (await in_phase(hub.bind(BOB)))[consensus.id].rests_on == ()


async def test_what_one_may_not_see_cannot_be_cited_and_answers_as_absent(hub: Hub) -> None:
    hidden = await remember(hub.bind(ROOT), "hidden", level=Level.PRIVATE)
    before = await stored(hub)
    shapes = set()
    for cited in (hidden, RecordId("mem_absent")):
        error = await refused(record(hub, ALICE, Loop.CONFIDENCE, score=0.5, rests_on=(cited,)), NotFound, "not_found")
        shapes.add(error.message.replace(cited, "ID"))
    assert len(shapes) == 1
    assert (await stored(hub)).data == before.data
    many = tuple(RecordId(f"mem_{number}") for number in range(101))
    call = record(hub, ALICE, Loop.CONFIDENCE, score=0.5, rests_on=many)
    await refused(call, LimitExceeded, "rests_on_out_of_range")


ASKED: dict[str, Callable[[Workspace, str], Awaitable[Any]]] = {
    "status": lambda w, phase: w.loops.status(phase),
    "read": lambda w, phase: w.loops.read(phase),
    "deferred": lambda w, phase: w.loops.deferred(phase),
    "next actions": lambda w, phase: w.loops.next_actions(phase),
    "gate": lambda w, phase: w.loop_gate(phase),
    "phase": lambda w, phase: w.read_loops(phase),
}


@pytest.mark.parametrize("way", ASKED)
async def test_a_hidden_phase_answers_as_an_absent_one_and_is_audited(hub: Hub, way: str) -> None:
    await record(hub, ALICE, Loop.CONFIDENCE, score=0.5, phase="hidden")
    shapes = set()
    for phase, outcome, risk in (("hidden", Outcome.DENIED, Risk.HIGH), ("absent", Outcome.ABSENT, Risk.LOW)):
        with pytest.raises(ContextDnaError) as caught:
            await ASKED[way](hub.bind(PETE), phase)
        shapes.add((type(caught.value), caught.value.code, caught.value.message.replace(phase, "P"), caught.value.hint))
        entry = (await last_audit(hub)).draft
        assert (entry.outcome, entry.risk) == (outcome, risk)
    assert len(shapes) == 1


async def test_the_status_tells_what_is_missing_what_stands_and_what_is_open(hub: Hub) -> None:
    await record(hub, ALICE, Loop.CONFIDENCE, score=0.5)
    root = hub.bind(ROOT)
    decision = await decide(hub, deferred=["the docs", "the cache"], actions=["write them"])
    await record(hub, ALICE, Loop.CONFIDENCE, score=0.6, iteration=2)
    latest = await record(hub, ALICE, Loop.CONFIDENCE, score=0.9, iteration=2)
    own = await hub.bind(ALICE).loops.status(PHASE)
    assert (own.latest_iteration, own.gate.iteration, own.gate.confidence_min) == (2, 2, 0.9)
    assert own.gate.missing == ("no consensus (loop 2) is recorded",)
    assert [entry.record.id for entry in own.standing] == [latest.id]
    assert (own.deferred.items, own.next_actions.items) == ((), ())
    seen = await root.loops.status(PHASE)
    assert (seen.latest_iteration, seen.gate.iteration) == (1, 1)
    assert [entry.record.id for entry in seen.standing] == [decision]
    assert [(item.text, item.iteration, item.decision) for item in seen.deferred.items] == [
        ("the docs", 1, "DEFER"),
        ("the cache", 1, "DEFER"),
    ]
    assert [item.text for item in seen.next_actions.items] == ["write them"]
    first = await hub.bind(ALICE).loops.status(PHASE, iteration=1)
    assert (first.latest_iteration, first.gate.confidence_min) == (2, 0.5)
    empty = await hub.bind(ALICE).loops.status(PHASE, iteration=7)
    assert (len(empty.gate.missing), empty.standing) == (2, ())
    await refused(root.loops.status(PHASE, iteration=-1), LimitExceeded, "iteration_out_of_range")


async def test_deferred_issues_and_next_actions_are_read_across_phases_latest_first(hub: Hub, clock: Clock) -> None:
    root = hub.bind(ROOT)
    await decide(hub, phase="a", deferred=["a1", "a2"], actions=["do a"])
    clock.advance(minutes=1)
    await decide(hub, phase="b", deferred=["closed later"])
    clock.advance(minutes=1)
    closing = await decide(hub, phase="b", decision=Decision.PROCEED, actions=["do b"])
    clock.advance(minutes=1)
    await decide(hub, phase="b", iteration=2, deferred=["b1"])
    issues = (await root.loops.deferred()).items
    assert [(item.text, item.phase) for item in issues] == [("b1", "b"), ("a1", "a"), ("a2", "a")]
    actions = (await root.loops.next_actions()).items
    assert [(item.text, item.decision_id == closing) for item in actions] == [("do b", True), ("do a", False)]
    assert [item.text for item in (await root.loops.deferred("a")).items] == ["a1", "a2"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_follow_ups_come_whole_over_pages_of_any_size(hub: Hub, limit: int) -> None:
    root = hub.bind(ROOT)
    for number in range(4):
        await decide(hub, iteration=number + 1, deferred=[f"{number}.{part}" for part in range(number)])
    seen: list[str] = []
    cursor, pages = "", 0
    while cursor or not pages:
        page = await root.loops.deferred(limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        seen += [item.text for item in page.items]
        cursor, pages = page.cursor, pages + 1
    assert seen == ["3.0", "3.1", "3.2", "2.0", "2.1", "1.0"]
    assert pages == -(-6 // limit)


async def test_whatever_a_decision_names_is_read_as_text(hub: Hub) -> None:
    await decide(hub, deferred="one text", actions=[{"who": "bob"}, 3])
    root = hub.bind(ROOT)
    assert [item.text for item in (await root.loops.deferred()).items] == ["one text"]
    assert [item.text for item in (await root.loops.next_actions()).items] == ['{"who":"bob"}', "3"]


async def walk(workspace: Workspace, **asked: Any) -> list[str]:
    seen: list[str] = []
    page = LoopPage((), "start")
    while page.cursor:
        page = await workspace.loops.read(limit=2, cursor=page.cursor.removeprefix("start"), **asked)
        seen += [entry.record.id for entry in page.records]
    return seen


async def test_loop_records_are_read_by_time_from_both_ends_by_phase_and_by_loop(hub: Hub, clock: Clock) -> None:
    ids = []
    for number in range(5):
        ids.append((await record(hub, ALICE, Loop.CONFIDENCE, score=0.5, phase=f"p{number % 2}")).id)
        ids.append((await record(hub, ALICE, Loop.CONSENSUS, score=0.5, phase=f"p{number % 2}")).id)
        clock.advance(seconds=number % 2)
    alice = hub.bind(ALICE)
    assert await walk(alice) == ids
    assert await walk(alice, newest_first=True) == ids[::-1]
    assert await walk(alice, phase="p1") == [ids[2], ids[3], ids[6], ids[7]]
    assert await walk(alice, of=[Loop.CONSENSUS]) == ids[1::2]
    assert await walk(hub.bind(BOB)) == ids[1::2]
    assert await walk(hub.bind(TESS)) == []


@pytest.mark.parametrize(
    "form", ["x", "{hidden}.0", "{memory}.0", "{other}.0", "{own}", "{own}.-1", "{own}.1.1", "é.0"]
)
async def test_a_cursor_that_was_never_given_out_is_refused(hub: Hub, form: str) -> None:
    ids = {
        "hidden": (await record(hub, BOB, Loop.CONFIDENCE, score=0.5)).id,
        "own": (await record(hub, ALICE, Loop.CONFIDENCE, score=0.5)).id,
        "other": (await record(hub, ALICE, Loop.CONFIDENCE, score=0.5, phase="other")).id,
        "memory": await remember(hub.bind(ALICE), "mine"),
    }
    cursor = form.format(**ids)
    loops = hub.bind(ALICE).loops
    await refused(loops.read(PHASE, cursor=cursor), InvalidInput, "cursor_invalid")
    await refused(loops.deferred(PHASE, cursor=cursor), InvalidInput, "cursor_invalid")
    assert (await loops.read(PHASE, cursor=f"{ids['own']}.0")).records == ()


async def test_each_project_has_its_own_gates_beside_the_defaults(clock: Clock, settings: HubSettings) -> None:
    gates = {DEFAULT: Gates(confidence=0.5), OTHER: Gates(consensus=0.6)}
    work = WorkSettings(gates=gates, proceed_below_gate=BelowGate.REFUSE)
    swarmed = replace(ROOT, swarm_id="lift")
    async with open_hub(replace(settings, work=work), clock=clock) as hub:
        opened = {}
        for project in (DEFAULT, OTHER):
            workspace = hub.bind(swarmed, project_id=project)
            await workspace.record_loop(LoopDraft(Loop.CONFIDENCE, PHASE, score=0.6))
            opened[project] = (await workspace.record_loop(LoopDraft(Loop.CONSENSUS, PHASE, score=0.7))).gate
        own, other = opened[DEFAULT], opened[OTHER]
        assert (own.confidence_gate, own.consensus_gate, len(own.missing)) == (0.5, 0.9, 1)
        assert (other.confidence_gate, other.consensus_gate, len(other.missing)) == (0.75, 0.6, 1)
        proceed = LoopDraft(Loop.DECISION, PHASE, decision=Decision.PROCEED)
        await refused(hub.bind(swarmed, project_id=OTHER).record_loop(proceed), Conflict, "gate_closed")
        await hub.bind(swarmed, project_id=OTHER).record_loop(LoopDraft(Loop.CONFIDENCE, PHASE, score=0.8))
        assert (await hub.bind(swarmed, project_id=OTHER).record_loop(proceed)).objections == ()


async def test_another_swarm_opens_no_gate_and_takes_no_record_of_ours(hub: Hub) -> None:
    other = Principal(AgentId("zoe"), (DEFAULT,), swarm_id="sink")
    await record(hub, ALICE, Loop.CONFIDENCE, score=0.95)
    ours = await record(hub, ALICE, Loop.CONSENSUS, validators={"v1": 0.2})
    theirs = await record(hub, other, Loop.CONSENSUS, validators={"v1": 0.99})
    assert (theirs.supersedes, theirs.gate.consensus, theirs.gate.confidences) == ("", 0.99, 0)
    gate = await hub.bind(ALICE).loop_gate(PHASE)
    assert (gate.consensus, gate.open) == (0.2, False)
    await decide(hub, ALICE)
    gate = await hub.bind(ROOT).loop_gate(PHASE)
    assert (gate.of, gate.consensus, gate.confidences) == ("all swarms", 0.2, 1)
    assert gate.missing == (
        "swarm lift: the consensus is 0.20, the threshold is 0.90",
        "swarm sink: no confidence (loop 3) is recorded",
    )
    assert (await record(hub, ALICE, Loop.CONSENSUS, validators={"v1": 0.3})).supersedes == ours.id


async def test_a_consensus_says_no_more_than_its_validators(hub: Hub) -> None:
    draft = LoopDraft(Loop.CONSENSUS, PHASE, score=0.95, validators={"v1": 0.1, "v2": 0.0})
    await refused(hub.bind(ALICE).record_loop(draft), InvalidInput, "score_above_validators")
    outcome = await record(hub, ALICE, Loop.CONSENSUS, score=0.95)
    assert outcome.objections == ("the consensus names no validators",)


async def test_a_step_back_of_the_clock_leaves_no_stale_record_standing(hub: Hub, clock: Clock) -> None:
    for score in (0.9, 0.5):
        await record(hub, ALICE, Loop.CONFIDENCE, score=score)
        latest = await record(hub, ALICE, Loop.CONSENSUS, score=score)
        clock.advance(hours=-1)
    assert (latest.gate.confidence_min, latest.gate.consensus) == (0.5, 0.5)
    status = await hub.bind(ALICE).loops.status(PHASE)
    assert (status.gate.confidence_min, status.gate.consensus) == (0.5, 0.5)
    assert [entry.score for entry in status.standing] == [0.5, 0.5]
    again = await record(hub, ALICE, Loop.CONFIDENCE, score=0.8)
    assert again.gate.confidence_min == 0.8
    chain = [entry for entry in (await in_phase(hub.bind(ALICE))).values() if entry.record.type == "confidence"]
    assert sorted((entry.score, bool(entry.superseded_by)) for entry in chain) == [
        (0.5, True),
        (0.8, False),
        (0.9, True),
    ]


async def test_where_a_chain_lost_its_middle_only_the_last_stands(hub: Hub, clock: Clock) -> None:
    ids = []
    for score in (0.5, 0.6, 0.9):
        ids.append((await record(hub, ALICE, Loop.CONFIDENCE, score=score)).id)
        clock.advance(hours=-1)
    await hub.bind(ROOT, project_id=DEFAULT).forget_memories([RecordId(ids[1])], purge=True)
    status = await hub.bind(ALICE).loops.status(PHASE)
    assert ([entry.record.id for entry in status.standing], status.gate.confidences) == ([ids[2]], 1)


async def test_who_has_no_swarm_reads_no_private_confidence_in_the_numbers_of_a_gate(hub: Hub) -> None:
    await record(hub, ALICE, Loop.CONFIDENCE, score=0.41)
    await record(hub, replace(PETE, agent_id=AgentId("paul")), Loop.CONFIDENCE, score=0.42)
    outcome = await record(hub, PETE, Loop.CONFIDENCE, score=0.9)
    gate = await hub.bind(PETE).loop_gate(PHASE)
    for seen in (outcome.gate, gate):
        assert (seen.of, seen.confidences, seen.confidence_min) == ("what you may see", 1, 0.9)
        assert seen.missing == ("no consensus (loop 2) is recorded",)
    lead = await record(hub, replace(PETE, agent_id=AgentId("lead"), role=Role.COORDINATOR), Loop.CONFIDENCE, score=0.8)
    assert (lead.gate.of, lead.gate.confidences, lead.gate.confidence_min) == ("all swarms", 4, 0.41)


@pytest.mark.parametrize("swarm_id", ["", "default"])
async def test_the_role_system_is_told_of_all_swarms_whichever_its_own_is(hub: Hub, swarm_id: str) -> None:
    await record(hub, ALICE, Loop.CONFIDENCE, score=0.95)
    await record(hub, ALICE, Loop.CONSENSUS, score=0.95)
    await decide(hub, ALICE)
    gate = await hub.bind(replace(ROOT, swarm_id=swarm_id), project_id=DEFAULT).loop_gate(PHASE)
    assert (gate.of, gate.open, gate.confidences) == ("all swarms", True, 1)
    assert (await hub.bind(BOB).loop_gate(PHASE)).of == "swarm lift"


@pytest.mark.parametrize(
    ("loop", "fields", "named"),
    [
        (Loop.CONFIDENCE, {"details": {"deferred_issues": ["x"]}}, "deferred_issues belongs to loop 4"),
        (Loop.CONFIDENCE, {"validators": {"v": 0.5}}, "validators belongs to loop 2"),
        (Loop.CONFIDENCE, {"decision": Decision.DEFER}, "decision belongs to loop 4"),
        (Loop.CONSENSUS, {"details": {"blockers": ["x"]}}, "blockers belongs to loop 3"),
        (Loop.CONSENSUS, {"details": {"files": ["x"]}}, "files belongs to loop 3"),
        (Loop.DECISION, {"decision": Decision.DEFER}, "score belongs to loop 3 (confidence) and 2 (consensus)"),
        (Loop.DECISION, {"decision": Decision.DEFER, "score": None, "details": {"issues": ["x"]}}, "issues belongs"),
    ],
)
async def test_a_field_of_another_loop_is_refused_by_its_name(
    hub: Hub, loop: Loop, fields: dict[str, Any], named: str
) -> None:
    draft = LoopDraft(loop, PHASE, **{"score": 0.5, **fields})
    error = await refused(hub.bind(ALICE).record_loop(draft), InvalidInput, "field_of_other_loop")
    assert named in error.message
    assert f"this is loop {int(loop)}" in error.message


async def test_a_phase_of_which_one_sees_nothing_says_so_and_its_author_gets_the_gate(hub: Hub) -> None:
    await record(hub, ALICE, Loop.CONFIDENCE, score=0.5, phase="hidden")
    error = await refused(hub.bind(BOB).loops.status("hidden"), NotFound, "not_found")
    assert "no record of this phase that you may see" in error.hint
    assert (await hub.bind(ALICE).loops.status("hidden")).gate.confidence_min == 0.5
    handle = await begin(hub, ALICE)
    assert (await hub.bind(ALICE, session_id=handle).loops.status("hidden")).gate.confidence_min == 0.5


async def test_an_agent_records_so_often_in_an_iteration_and_goes_on_in_the_next(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "RECORDED_MAX", 2)
    for score in (0.1, 0.2):
        await record(hub, ALICE, Loop.CONFIDENCE, score=score)
    await refused(record(hub, ALICE, Loop.CONSENSUS, score=0.9), LimitExceeded, "loop_records_too_many")
    gate = (await record(hub, BOB, Loop.CONFIDENCE, score=0.9)).gate
    assert (gate.confidences, gate.confidence_min) == (2, 0.2)  # others are not held up, and what was last stands
    await record(hub, ALICE, Loop.CONFIDENCE, score=0.3, iteration=2)
    await record(hub, ALICE, Loop.CONFIDENCE, score=0.4, phase="build")


async def test_what_stands_costs_in_step_with_how_often_an_iteration_was_recorded(clock: Clock, folder: Path) -> None:
    statement = load_statements("sqlite")["loops_standing"]
    reader = (DEFAULT, ALICE.agent_id, ALICE.team_id, ALICE.swarm_id, 0, 0, PHASE, 1, 1)
    steps = []
    async with open_hub(HubSettings(data_dir=folder), clock=clock) as hub:
        for _ in range(2):
            for _ in range(60):
                await record(hub, ALICE, Loop.CONFIDENCE, score=0.5)
            with closing(library.connect(str(folder / DATABASE_FILE))) as connection:
                counted: list[int] = []
                connection.set_progress_handler(lambda some=counted: some.append(1), 1)
                assert len(connection.execute(statement, reader).fetchall()) == 1
                steps.append(len(counted))
    assert steps[1] < 2.5 * steps[0]
