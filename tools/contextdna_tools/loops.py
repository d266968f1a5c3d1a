"""Tool: record_loop_decision."""

from pydantic import BaseModel, Field

from contextdna import Decision, Loop, LoopDraft, parse_choice
from contextdna_tools.arguments import Arguments, Scores, Texts
from contextdna_tools.spec import Call, Tool, hints

LOOPS = {str(int(loop)): loop for loop in Loop}
DECISIONS = {decision.value: decision for decision in Decision}


class RecordLoopDecision(Arguments):
    """Record where a phase stands: your confidence, the validators' consensus, or the decision. Append-only. Tells
    whether the gates are open and what is missing."""

    loop: int = Field(description="3 confidence, 2 consensus, 4 decision")
    phase: str = Field(description="Such as auth-design")
    iteration: int = Field(1, description="From 1")
    score: float | None = Field(None, description="0..1: confidence, or consensus")
    validators: Scores = Field({}, description="Loop 2: score by validator")
    decision: str = Field("", description="Loop 4: PROCEED, DEFER, ESCALATE")
    reasoning: str = Field("", description="Why")
    blockers: Texts = Field([], description="Loop 3")
    files: Texts = Field([], description="Loop 3")
    issues: Texts = Field([], description="Loop 2")
    recommendations: Texts = Field([], description="Loop 2")
    deferred_issues: Texts = Field([], description="Loop 4")
    next_actions: Texts = Field([], description="Loop 4")


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
        )
    )
    gate = outcome.gate
    return LoopResult(
        id=outcome.id,
        gate=GateView(
            open=gate.open,
            missing=list(gate.missing),
            confidence_gate=gate.confidence_gate,
            consensus_gate=gate.consensus_gate,
            confidences=gate.confidences,
            confidence_min=gate.confidence_min,
            consensus=gate.consensus,
        ),
        objections=list(outcome.objections),
    )


RECORD_LOOP_DECISION = Tool("record_loop_decision", RecordLoopDecision, LoopResult, record_loop_decision, hints())
