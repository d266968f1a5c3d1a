"""Loop records and their gates: confidence (loop 3), consensus (loop 2), decision (loop 4). Append-only."""

from collections.abc import Sequence
from dataclasses import replace

from contextdna.domain import access
from contextdna.domain.operation import Operation
from contextdna.domain.records import new_record
from contextdna.domain.validation import check_count, check_metadata, check_name, check_score, check_text
from contextdna.errors import Conflict, InvalidInput
from contextdna.values.event import EventName
from contextdna.values.ids import IdPrefix, new_id
from contextdna.values.level import Level
from contextdna.values.loop import Decision, GateState, Loop, LoopDraft, LoopOutcome, LoopRecord
from contextdna.values.record import IndexedRecord, Kind, Record, VisibleRecord
from contextdna.values.search import RecordFilter
from contextdna.values.settings import BelowGate

LOOP_LEVELS = {Loop.CONFIDENCE: Level.PRIVATE, Loop.CONSENSUS: Level.SWARM, Loop.DECISION: Level.SYSTEM}
"""Who reads a loop record beside its author."""

_RECORDED = {
    Loop.CONFIDENCE: EventName.CONFIDENCE_RECORDED,
    Loop.CONSENSUS: EventName.CONSENSUS_RECORDED,
    Loop.DECISION: EventName.DECISION_RECORDED,
}
_ITERATIONS_MAX = 10_000
_VALIDATORS_MAX = 100
_REASONING_BYTES_MAX = 64 * 1024


def check_draft(draft: LoopDraft, op: Operation) -> LoopDraft:
    """Refuse a loop record that says too little or something impossible; gives it with its score filled in.

    Raises:
        InvalidInput: With the code of the first thing wrong.
    """
    check_name(draft.phase, name="phase")
    check_count(draft.iteration, name="iteration", maximum=_ITERATIONS_MAX)
    check_text(draft.reasoning, name="reasoning", bytes_max=_REASONING_BYTES_MAX, empty_allowed=True)
    check_metadata(draft.details, op.settings.limits)
    if len(draft.validators) > _VALIDATORS_MAX:
        raise InvalidInput("too many validators", code="validators_too_many", hint=f"At most {_VALIDATORS_MAX}.")
    for name, score in draft.validators.items():
        check_name(name, name="validator")
        check_score(score, name="validator_score")
    if draft.score is not None:
        check_score(draft.score, name="score")
    if draft.loop is Loop.DECISION:
        if draft.decision is None:
            raise InvalidInput("loop 4 needs a decision", code="decision_missing", hint="PROCEED, DEFER or ESCALATE.")
        return draft
    if draft.score is None and draft.validators and draft.loop is Loop.CONSENSUS:
        draft = replace(draft, score=sum(draft.validators.values()) / len(draft.validators))
    if draft.score is None:
        raise InvalidInput(f"{draft.loop.label} needs a score", code="score_missing", hint="Give a number 0 to 1.")
    return draft


async def record(op: Operation, draft: LoopDraft) -> LoopOutcome:
    """Append a loop record and tell where the gates stand.

    Raises:
        InvalidInput: The record says too little.
        Conflict: ``gate_closed``: PROCEED below a gate, where the settings refuse it; nothing was recorded.
    """
    draft = check_draft(draft, op)
    level = LOOP_LEVELS[draft.loop]
    if level is Level.SWARM:
        access.require_level(op.actor, level)
    gate = await gate_state(op, draft.phase, draft.iteration)
    objections = _objections(draft, gate)
    if draft.decision is Decision.PROCEED and not gate.open and _refuses(op):
        raise Conflict(
            f"PROCEED below the gate: {'; '.join(gate.missing)}",
            code="gate_closed",
            hint="Record what is missing, or decide DEFER or ESCALATE.",
        )
    entry = _entry(op, draft, level)
    await op.tx.records.insert([entry])
    op.note([entry.record.id], loop=int(draft.loop), phase=draft.phase, iteration=draft.iteration)
    op.emit(_RECORDED[draft.loop], [entry.record.id], subject=draft.phase)
    after = gate if draft.loop is Loop.DECISION else await gate_state(op, draft.phase, draft.iteration)
    return LoopOutcome(entry.record.id, 1, after, objections)


async def gate_state(op: Operation, phase: str, iteration: int) -> GateState:
    """Judge a phase and iteration: every agent's latest confidence, and the latest consensus."""
    work = op.settings.work
    latest: dict[tuple[str, str], Record] = {}
    for found in await op.tx.records.under_subject(op.project_id, Kind.LOOP, phase, iteration):
        latest[(found.type, found.owner_id if found.type == Loop.CONFIDENCE.label else "")] = found
    confidences = [float(op.open(r)["score"]) for (type_, _), r in latest.items() if type_ == Loop.CONFIDENCE.label]
    held = latest.get((Loop.CONSENSUS.label, ""))
    consensus = float(op.open(held)["score"]) if held else None
    lowest = min(confidences, default=None)
    missing = []
    if lowest is None:
        missing.append("no confidence (loop 3) is recorded")
    elif lowest < work.confidence_gate:
        missing.append(f"the lowest confidence is {lowest:.2f}, the gate is {work.confidence_gate:.2f}")
    if consensus is None:
        missing.append("no consensus (loop 2) is recorded")
    elif consensus < work.consensus_gate:
        missing.append(f"the consensus is {consensus:.2f}, the threshold is {work.consensus_gate:.2f}")
    return GateState(
        phase=phase,
        iteration=iteration,
        confidence_gate=work.confidence_gate,
        consensus_gate=work.consensus_gate,
        confidences=len(confidences),
        confidence_min=lowest,
        consensus=consensus,
        missing=tuple(missing),
    )


async def of_phase(op: Operation, phase: str, *, limit: int) -> tuple[LoopRecord, ...]:
    """Read a phase's visible loop records, newest first.

    Raises:
        NotFound: None is visible.
    """
    check_count(limit, name="limit", maximum=200)
    where = RecordFilter(kinds=(Kind.LOOP,), subject=phase)
    found = await op.tx.records.list_recent(op.actor.reader, where, now=op.now, limit=limit)
    if not found:
        raise access.absent_error((phase,), denied=False)
    ids = [candidate.id for candidate in found]
    op.note(ids, records=len(ids))
    return tuple(open_loop(op, item) for item in await op.tx.records.read(op.actor.reader, ids, now=op.now))


def open_loop(op: Operation, item: VisibleRecord) -> LoopRecord:
    """Open one loop record."""
    body = op.open(item.record)
    return LoopRecord(
        record=item.record,
        score=body["score"],
        decision=body["decision"],
        reasoning=body["reasoning"],
        validators=body["validators"],
        details=body["details"],
        granted_by=item.granted_by,
    )


def _refuses(op: Operation) -> bool:
    return op.settings.work.proceed_below_gate is BelowGate.REFUSE


def _objections(draft: LoopDraft, gate: GateState) -> tuple[str, ...]:
    objections: list[str] = []
    if draft.decision is Decision.PROCEED:
        objections += [f"PROCEED although {reason}" for reason in gate.missing]
    if draft.decision is Decision.DEFER and not draft.details.get("deferred_issues"):
        objections.append("DEFER names no deferred_issues")
    if draft.decision is Decision.ESCALATE and not draft.reasoning:
        objections.append("ESCALATE gives no reasoning")
    return tuple(objections)


def _entry(op: Operation, draft: LoopDraft, level: Level) -> IndexedRecord:
    record_id = new_id(IdPrefix.LOOP, op.now)
    body = {
        "loop": draft.loop.label,
        "score": draft.score,
        "decision": draft.decision or "",
        "reasoning": draft.reasoning,
        "validators": dict(draft.validators),
        "details": dict(draft.details),
    }
    sealed = op.seal(body, record_id=record_id, level=level, version=1)
    record = new_record(
        op,
        record_id,
        Kind.LOOP,
        level=level,
        type=draft.loop.label,
        sealed=sealed,
        subject=draft.phase,
        position=draft.iteration,
    )
    return IndexedRecord(record, op.index(level).tokens(_text(draft), limit=op.settings.limits.indexed_tokens_max))


def _text(draft: LoopDraft) -> str:
    parts: Sequence[str] = (draft.loop.label, draft.phase, draft.decision or "", draft.reasoning)
    return " ".join(parts)
