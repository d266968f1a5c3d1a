"""Tools: record_loop_decision, loop_status."""

from typing import Any, Final

from pydantic import BaseModel, Field

from contextdna import (
    Decision,
    FollowUp,
    FollowUpPage,
    GateState,
    InvalidInput,
    Loop,
    LoopDraft,
    LoopRecord,
    Loops,
    RecordId,
    Scope,
    parse_choice,
)
from contextdna_tools.arguments import Arguments, Scores, Texts, shown_time
from contextdna_tools.spec import READS, Call, Tool, hints

LOOPS = {str(int(loop)): loop for loop in Loop}
DECISIONS = {decision.value: decision for decision in Decision}

_TEXT_CHARS_MAX: Final = 1000
_NO_MORE: Final = FollowUpPage((), "")
_ENDED: Final = "-"
_JOINT: Final = "~"


class RecordLoopDecision(Arguments):
    """Record where a phase stands: your confidence, the validators' consensus, or the decision. Tells what the gates
    lack."""

    loop: int = Field(description="3 confidence, 2 consensus, 4 decision")
    phase: str = Field(description="Such as design")
    iteration: int = Field(1, description="From 1")
    score: float | None = Field(None, description="0..1")
    validators: Scores = Field({}, description="Loop 2: by validator")
    decision: str = Field("", description="Loop 4: PROCEED, DEFER, ESCALATE")
    reasoning: str = Field("", description="Why")
    blockers: Texts = Field([], description="Loop 3")
    files: Texts = Field([], description="Loop 3")
    issues: Texts = Field([], description="Loop 2")
    recommendations: Texts = Field([], description="Loop 2")
    deferred_issues: Texts = Field([], description="Loop 4")
    next_actions: Texts = Field([], description="Loop 4")
    rests_on: Texts = Field([], description="Ids it cites")


class GateView(BaseModel):
    """Where the gates stand."""

    open: bool
    missing: list[str]
    confidence_gate: float = 0.0
    consensus_gate: float = 0.0
    confidences: int = 0
    confidence_min: float | None = None
    consensus: float | None = None


class LoopResult(BaseModel):
    """Answer of record_loop_decision."""

    id: str
    gate: GateView
    objections: list[str]
    agent: str = ""


async def record_loop_decision(call: Call, args: RecordLoopDecision) -> LoopResult:
    """Append a loop record."""
    details = {
        name: getattr(args, name)
        for name in ("blockers", "files", "issues", "recommendations", "deferred_issues", "next_actions")
        if getattr(args, name)
    }
    outcome = await call.workspace(args).record_loop(
        LoopDraft(
            loop=parse_choice(str(args.loop), LOOPS, name="loop"),
            phase=args.phase,
            iteration=args.iteration,
            score=args.score,
            decision=parse_choice(args.decision, DECISIONS, name="decision") if args.decision else None,
            reasoning=args.reasoning,
            validators=args.validators,
            details=details,
            rests_on=tuple(RecordId(i) for i in args.rests_on),
        )
    )
    return LoopResult(
        id=outcome.id, gate=_gate(outcome.gate), objections=list(outcome.objections), agent=outcome.agent_id
    )


def _gate(gate: GateState) -> GateView:
    return GateView(
        open=gate.open,
        missing=list(gate.missing),
        confidence_gate=gate.confidence_gate,
        consensus_gate=gate.consensus_gate,
        confidences=gate.confidences,
        confidence_min=gate.confidence_min,
        consensus=gate.consensus,
    )


class LoopStatusArguments(Arguments):
    """See where a phase stands before you record or decide: what its gates lack, the latest records, open deferred
    issues, next actions. Without a phase: what is deferred and what comes next in all phases, page by page."""

    phase: str = Field("", description="Such as auth-design; empty: all")
    iteration: int = Field(0, description="Default: the latest")
    limit: int = Field(20, description="Of each list, 1..200")
    cursor: str = Field("", description="Of the last answer")
    history: bool = Field(False, description="Only the phase's records, superseded ones too, oldest first")


class StandingView(BaseModel):
    """A record that none superseded, or one of the history."""

    id: str
    loop: str
    owner: str = ""
    created_at: str = ""
    score: float | None = None
    decision: str | None = None
    reasoning: str | None = None
    validators: dict[str, float] | None = None
    rests_on: list[str] | None = None
    iteration: int | None = None
    superseded_by: str | None = None


class FollowUpView(BaseModel):
    """A deferred issue or a next action, and the decision that names it."""

    text: str
    phase: str
    iteration: int
    decision_id: str = ""


class StatusGateView(GateView):
    """Where the gates stand, and by whose records."""

    of: str = ""


class StatusResult(BaseModel):
    """Answer of loop_status."""

    deferred: list[FollowUpView]
    next_actions: list[FollowUpView]
    cursor: str
    phase: str | None = None
    iteration: int | None = None
    latest_iteration: int | None = None
    gate: StatusGateView | None = None
    records: list[StandingView] | None = None


async def loop_status(call: Call, args: LoopStatusArguments) -> StatusResult:
    """Tell where a phase stands, or what is open in all of them."""
    loops = call.workspace(args).loops
    if not args.phase and (args.history or args.iteration):
        raise InvalidInput(
            "history and iteration are of a phase", code="phase_missing", hint="Name the phase, or leave them out."
        )
    if args.history:
        return await _history(loops, args)
    if args.cursor or not args.phase:
        return await _follow_ups(loops, args)
    status = await loops.status(args.phase, iteration=args.iteration, limit=args.limit)
    return StatusResult(
        phase=args.phase,
        iteration=status.gate.iteration,
        latest_iteration=status.latest_iteration,
        gate=StatusGateView(of=status.gate.of, **_gate(status.gate).model_dump()),
        records=[_standing(entry) for entry in status.standing],
        **_shown(status.deferred, status.next_actions),
    )


async def _history(loops: Loops, args: LoopStatusArguments) -> StatusResult:
    """Give a page of a phase's records by time."""
    if args.iteration:
        raise InvalidInput(
            "history and iteration", code="history_and_iteration", hint="Each record of the history names its own."
        )
    page = await loops.read(args.phase, limit=args.limit, cursor=args.cursor)
    records = [_standing(entry, in_history=True) for entry in page.records]
    return StatusResult(deferred=[], next_actions=[], cursor=page.cursor, phase=args.phase, records=records)


async def _follow_ups(loops: Loops, args: LoopStatusArguments) -> StatusResult:
    """Give a page of both lists; the cursor joins theirs, and one that ended is not read again."""
    first, _, second = args.cursor.partition(_JOINT) if args.cursor else ("", "", "")
    if args.cursor and not (first and second):
        first = args.cursor  # which is no cursor: refused below
    deferred = _NO_MORE if first == _ENDED else await loops.deferred(args.phase, limit=args.limit, cursor=first)
    actions = _NO_MORE if second == _ENDED else await loops.next_actions(args.phase, limit=args.limit, cursor=second)
    return StatusResult(phase=args.phase or None, **_shown(deferred, actions))


def _shown(deferred: FollowUpPage, actions: FollowUpPage) -> dict[str, Any]:
    cursors = [page.cursor or _ENDED for page in (deferred, actions)]
    return {
        "deferred": [_follow_up(item) for item in deferred.items],
        "next_actions": [_follow_up(item) for item in actions.items],
        "cursor": "" if cursors == [_ENDED, _ENDED] else _JOINT.join(cursors),
    }


def _follow_up(item: FollowUp) -> FollowUpView:
    return FollowUpView(
        text=_clipped(item.text), phase=item.phase, iteration=item.iteration, decision_id=item.decision_id
    )


def _standing(entry: LoopRecord, *, in_history: bool = False) -> StandingView:
    record = entry.record
    return StandingView(
        id=record.id,
        loop=record.type,
        owner=record.owner_id,
        created_at=shown_time(record.created_at),
        score=entry.score,
        decision=entry.decision or None,
        reasoning=_clipped(entry.reasoning) or None,
        validators=dict(entry.validators) or None,
        rests_on=list(entry.rests_on) or None,
        iteration=record.position if in_history else None,
        superseded_by=entry.superseded_by or None,
    )


def _clipped(text: str) -> str:
    return text if len(text) <= _TEXT_CHARS_MAX else f"{text[:_TEXT_CHARS_MAX].rstrip()} …"


RECORD_LOOP_DECISION = Tool(
    "record_loop_decision", RecordLoopDecision, LoopResult, record_loop_decision, hints(), frozenset({Scope.DECIDE})
)
LOOP_STATUS = Tool(
    "loop_status", LoopStatusArguments, StatusResult, loop_status, hints(read_only=True, idempotent=True), READS
)
