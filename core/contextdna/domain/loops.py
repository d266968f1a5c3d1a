"""Loop records and their gates: confidence (loop 3), consensus (loop 2), decision (loop 4).

Append-only: a new record of the same phase, iteration and loop (a consensus: of the same swarm; a confidence: of the
same agent too) supersedes the former one by a link from new to old; the old row stays as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from contextdna.domain import access, memories
from contextdna.domain.operation import Operation
from contextdna.domain.records import new_record
from contextdna.domain.validation import check_count, check_metadata, check_name, check_score, check_text
from contextdna.errors import Conflict, IntegrityFault, InvalidInput
from contextdna.values.event import EventName
from contextdna.values.ids import IdPrefix, RecordId, SessionId, new_id
from contextdna.values.level import Level
from contextdna.values.loop import (
    RESTS_ON,
    SUPERSEDES,
    Decision,
    GateState,
    Loop,
    LoopDraft,
    LoopOutcome,
    LoopRecord,
)
from contextdna.values.project import Link
from contextdna.values.record import IndexedRecord, Kind, Record, VisibleRecord
from contextdna.values.settings import BelowGate

LOOP_LEVELS = {Loop.CONFIDENCE: Level.PRIVATE, Loop.CONSENSUS: Level.SWARM, Loop.DECISION: Level.SYSTEM}
"""Who reads a loop record beside its author."""

_RECORDED = {
    Loop.CONFIDENCE: EventName.CONFIDENCE_RECORDED,
    Loop.CONSENSUS: EventName.CONSENSUS_RECORDED,
    Loop.DECISION: EventName.DECISION_RECORDED,
}
ITERATIONS_MAX = 10_000
LISTED_MAX = 200
_VALIDATORS_MAX = 100
_ROUNDING = 0.005
_REASONING_BYTES_MAX = 64 * 1024


def check_draft(draft: LoopDraft, op: Operation) -> LoopDraft:
    """Refuse a loop record that says too little or something impossible; gives it with its score filled in.

    Raises:
        InvalidInput: With the code of the first thing wrong.
    """
    check_name(draft.phase, name="phase")
    check_count(draft.iteration, name="iteration", maximum=ITERATIONS_MAX)
    check_text(draft.reasoning, name="reasoning", bytes_max=_REASONING_BYTES_MAX, empty_allowed=True)
    check_metadata(draft.details, op.settings.limits)
    check_count(len(draft.rests_on), name="rests_on", maximum=op.settings.limits.batch_max, minimum=0)
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
        draft = replace(draft, score=_mean(draft.validators))
    if draft.loop is Loop.CONSENSUS and draft.validators and (draft.score or 0) > _mean(draft.validators) + _ROUNDING:
        raise InvalidInput(
            f"the score is above the validators' mean of {_mean(draft.validators):.2f}",
            code="score_above_validators",
            hint="Leave score out: it is the validators' mean. A lower one may be given.",
        )
    if draft.score is None:
        raise InvalidInput(f"{draft.loop.label} needs a score", code="score_missing", hint="Give a number 0 to 1.")
    return draft


def _mean(validators: Mapping[str, float]) -> float:
    return sum(validators.values()) / len(validators)


async def record(op: Operation, draft: LoopDraft) -> LoopOutcome:
    """Append a loop record and tell where the gates stand.

    Raises:
        InvalidInput: The record says too little.
        NotFound: A record that it rests on is not there for the writer.
        Conflict: ``gate_closed``: PROCEED below a gate, where the settings refuse it; nothing was recorded.
    """
    draft = check_draft(draft, op)
    level = LOOP_LEVELS[draft.loop]
    if level is Level.SWARM:
        access.require_level(op.actor, level)
    await memories.require_visible(op, draft.rests_on)
    standing = await _standing(op, draft.phase, draft.iteration)
    gate = _judged(op, draft.phase, draft.iteration, standing)
    objections = _objections(draft, gate)
    if draft.decision is Decision.PROCEED and not gate.open and _refuses(op):
        raise Conflict(
            f"PROCEED below the gate: {'; '.join(gate.missing)}",
            code="gate_closed",
            hint="Record what is missing, or decide DEFER or ESCALATE.",
        )
    entry = _entry(op, draft, level)
    record_id = entry.record.id
    former = standing.get(_place(entry.record))
    await op.tx.records.insert([entry])
    await op.tx.records.add_links(_links(op, record_id, former, draft.rests_on))
    op.note([record_id], loop=int(draft.loop), phase=draft.phase, iteration=draft.iteration)
    op.emit(_RECORDED[draft.loop], [record_id], subject=draft.phase)
    after = _judged(op, draft.phase, draft.iteration, {**standing, _place(entry.record): entry.record})
    seen = await op.tx.records.read(op.actor.reader, [former.id], now=op.now) if former else []
    return LoopOutcome(record_id, 1, after, objections, seen[0].record.id if seen else "")


async def gate_state(op: Operation, phase: str, iteration: int) -> GateState:
    """Judge a phase and iteration: every agent's latest confidence, and the latest consensus."""
    return _judged(op, phase, iteration, await _standing(op, phase, iteration))


async def of_phase(op: Operation, phase: str, *, limit: int) -> tuple[LoopRecord, ...]:
    """Read a phase's visible loop records, newest first.

    Raises:
        NotFound: None is visible.
    """
    check_count(limit, name="limit", maximum=LISTED_MAX)
    await latest_iteration(op, phase)
    found = await op.tx.loops.page(
        op.actor.reader, phase=phase, types=(), now=op.now, after=RecordId(""), newest_first=True, limit=limit
    )
    op.note([item.record.id for item in found], records=len(found))
    return await opened(op, found)


async def latest_iteration(op: Operation, phase: str) -> int:
    """Give the latest iteration of a phase that the actor sees a record of.

    Raises:
        NotFound: It sees none: the phase is absent, or hidden.
    """
    latest = await op.tx.loops.latest_iteration(op.actor.reader, phase, now=op.now)
    if latest:
        return latest
    hidden = await op.tx.records.last_position(op.project_id, Kind.LOOP, session_id=SessionId(""), subject=phase)
    raise access.absent_error((phase,), denied=hidden > 0)


async def opened(op: Operation, items: Sequence[VisibleRecord]) -> tuple[LoopRecord, ...]:
    """Open loop records, with what they supersede and rest on, and what superseded them."""
    ids = [item.record.id for item in items]
    newer = await op.tx.loops.superseding(op.actor.reader, ids, now=op.now) if ids else {}
    links: dict[RecordId, list[Link]] = {}
    for link in await op.tx.loops.references(op.actor.reader, ids, now=op.now) if ids else ():
        links.setdefault(link.source_id, []).append(link)

    def opener(item: VisibleRecord) -> LoopRecord:
        return open_loop(op, item, superseded_by=newer.get(item.record.id, ""), links=links.get(item.record.id, ()))

    return tuple(op.readable(items, opener))


def open_loop(op: Operation, item: VisibleRecord, *, superseded_by: str = "", links: Sequence[Link] = ()) -> LoopRecord:
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
        supersedes=next((link.target_id for link in links if link.relation == SUPERSEDES), ""),
        superseded_by=superseded_by,
        rests_on=tuple(link.target_id for link in links if link.relation == RESTS_ON),
    )


_Place: TypeAlias = tuple[str, str, str]
"""Whose place a record takes in its iteration: its loop, and its swarm and agent where each has its own."""


def _place(record: Record) -> _Place:
    swarm_id = "" if record.type == Loop.DECISION.label else record.swarm_id
    return (record.type, swarm_id, record.owner_id if record.type == Loop.CONFIDENCE.label else "")


async def _standing(op: Operation, phase: str, iteration: int) -> dict[_Place, Record]:
    """Give the records of an iteration that none took the place of, whoever may see them."""
    found = await op.tx.records.under_subject(op.project_id, Kind.LOOP, phase, iteration)
    return {_place(record): record for record in found}


def _judged(op: Operation, phase: str, iteration: int, standing: Mapping[_Place, Record]) -> GateState:
    gates = op.settings.work.gates_of(op.project_id)
    confidences, damaged = _scores(op, Loop.CONFIDENCE, standing)
    agreed, more_damaged = _scores(op, Loop.CONSENSUS, standing)
    lowest, consensus = min(confidences, default=None), min(agreed, default=None)
    missing = ["a loop record is damaged and cannot be judged"] if damaged or more_damaged else []
    if lowest is None:
        missing.append("no confidence (loop 3) is recorded")
    elif lowest < gates.confidence:
        missing.append(f"the lowest confidence is {lowest:.2f}, the gate is {gates.confidence:.2f}")
    if consensus is None:
        missing.append("no consensus (loop 2) is recorded")
    elif consensus < gates.consensus:
        missing.append(f"the consensus is {consensus:.2f}, the threshold is {gates.consensus:.2f}")
    return GateState(
        phase=phase,
        iteration=iteration,
        confidence_gate=gates.confidence,
        consensus_gate=gates.consensus,
        confidences=len(confidences),
        confidence_min=lowest,
        consensus=consensus,
        missing=tuple(missing),
    )


def _scores(op: Operation, loop: Loop, standing: Mapping[_Place, Record]) -> tuple[list[float], bool]:
    """Read the scores of a loop that count for the actor; gives them, and whether one cannot be read.

    One swarm neither opens nor closes another's gates: who has a swarm is judged by its records alone, who has none by
    those of all.
    """
    own = op.actor.reader.swarm_id
    records = [
        VisibleRecord(record)
        for (label, swarm_id, _), record in standing.items()
        if label == loop.label and own in ("", swarm_id)
    ]
    try:
        scores = op.readable(records, lambda item: float(op.open(item.record)["score"]))
    except IntegrityFault:
        scores = []
    return scores, len(scores) < len(records)


def _links(op: Operation, record_id: RecordId, former: Record | None, rests_on: Sequence[RecordId]) -> tuple[Link, ...]:
    supersedes = [Link(op.project_id, record_id, former.id, SUPERSEDES, op.now)] if former else []
    cites = [Link(op.project_id, record_id, cited, RESTS_ON, op.now) for cited in dict.fromkeys(rests_on)]
    return (*supersedes, *cites)


def _refuses(op: Operation) -> bool:
    return op.settings.work.proceed_below_gate is BelowGate.REFUSE


def _objections(draft: LoopDraft, gate: GateState) -> tuple[str, ...]:
    objections: list[str] = []
    if draft.decision is Decision.PROCEED:
        objections += [f"PROCEED although {reason}" for reason in gate.missing]
    if draft.loop is Loop.CONSENSUS and not draft.validators:
        objections.append("the consensus names no validators")
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
