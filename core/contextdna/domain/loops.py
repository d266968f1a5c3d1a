"""Loop records and their gates: confidence (loop 3), consensus (loop 2), decision (loop 4).

Append-only: a new record of the same phase, iteration, loop and swarm (a confidence: of the same agent too) supersedes
the former one by a link from new to old; the old row stays as it is. Which stands is told by the links alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from contextdna.domain import access, gates, memories
from contextdna.domain.operation import Operation
from contextdna.domain.records import new_record
from contextdna.domain.validation import check_count, check_metadata, check_name, check_score, check_text
from contextdna.errors import Conflict, InvalidInput, LimitExceeded, NotFound
from contextdna.values.event import OPERATORS, EventName, coordinators_audience, swarm_audience
from contextdna.values.ids import UPKEEP_AGENT, IdPrefix, RecordId, SessionId, new_id
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
from contextdna.values.principal import Role
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
RECORDED_MAX = 1000
"""Loop records of one agent in one iteration: each further one is weighed against them all, in the one writer."""
LISTED_MAX = 200
ALL_SWARMS = "all swarms"
WHAT_IT_SEES = "what you may see"
_PHASE_CHARS = 128
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
    _check_fields(draft)
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


_FIELDS: Mapping[str, tuple[Loop, ...]] = {
    "score": (Loop.CONFIDENCE, Loop.CONSENSUS),
    "validators": (Loop.CONSENSUS,),
    "decision": (Loop.DECISION,),
    "blockers": (Loop.CONFIDENCE,),
    "files": (Loop.CONFIDENCE,),
    "issues": (Loop.CONSENSUS,),
    "recommendations": (Loop.CONSENSUS,),
    "deferred_issues": (Loop.DECISION,),
    "next_actions": (Loop.DECISION,),
}
"""The loops that a field or detail belongs to; any other detail may stand in each."""


def _check_fields(draft: LoopDraft) -> None:
    given = {"score": draft.score is not None, "validators": draft.validators, "decision": draft.decision}
    for name, loops in _FIELDS.items():
        if draft.loop not in loops and given.get(name, draft.details.get(name)):
            owners = " and ".join(f"{int(loop)} ({loop.label})" for loop in loops)
            raise InvalidInput(
                f"{name} belongs to loop {owners}, this is loop {int(draft.loop)}",
                code="field_of_other_loop",
                hint=f"Leave {name} out, or record it as loop {owners}.",
            )


def _mean(validators: Mapping[str, float]) -> float:
    return sum(validators.values()) / len(validators)


async def record(op: Operation, draft: LoopDraft) -> LoopOutcome:
    """Append a loop record and tell where the gates stand.

    Raises:
        InvalidInput: The record says too little.
        NotFound: A record that it rests on is not there for the writer.
        LimitExceeded: ``loop_records_too_many``: the agent has recorded so often in this iteration.
        Conflict: ``gate_closed``: PROCEED below a gate, where the settings refuse it; nothing was recorded.
    """
    draft = check_draft(draft, op)
    await _check_room(op, draft)
    level = LOOP_LEVELS[draft.loop]
    if level is Level.SWARM:
        access.require_level(op.actor, level)
    await memories.require_visible(op, draft.rests_on)
    gate = await _own_gate(op, draft.phase, draft.iteration)
    objections = _objections(draft, gate)
    if draft.decision is Decision.PROCEED and not gate.open and _refuses(op):
        raise Conflict(
            f"PROCEED below the gate: {'; '.join(gate.missing)}",
            code="gate_closed",
            hint="Record what is missing, or decide DEFER or ESCALATE.",
        )
    entry = _entry(op, draft, level)
    record_id = entry.record.id
    former, seen = await _former(op, entry.record)
    await op.tx.records.insert([entry])
    await op.tx.records.add_links(_links(op, record_id, former, draft.rests_on))
    op.note([record_id], loop=int(draft.loop), phase=draft.phase, iteration=draft.iteration)
    op.emit(_RECORDED[draft.loop], [record_id], subject=draft.phase)
    if draft.loop is not Loop.DECISION:
        op.emit(EventName.GATE_CHANGED, subject=draft.phase, audience=_judged_by_it(op), by=UPKEEP_AGENT)
    after = await _own_gate(op, draft.phase, draft.iteration)
    return LoopOutcome(record_id, 1, after, objections, seen, op.actor.agent_id)


def _judged_by_it(op: Operation) -> list[str]:
    """Name in an audience those whose gate counts what the actor records, seen or not; see ``_own_gate``."""
    swarm_id = op.actor.reader.swarm_id
    return [*([swarm_audience(swarm_id)] if swarm_id else []), OPERATORS, coordinators_audience("")]


async def _check_room(op: Operation, draft: LoopDraft) -> None:
    own = await op.tx.loops.count(op.project_id, draft.phase, draft.iteration, owner_id=op.actor.agent_id)
    if own >= RECORDED_MAX:
        raise LimitExceeded(
            f"you have {own} loop records of this phase and iteration",
            code="loop_records_too_many",
            hint="What you recorded last stands; begin the next iteration for what comes now.",
        )


async def gate_state(op: Operation, phase: str, iteration: int) -> GateState:
    """Judge a phase and iteration for a reader: every agent's standing confidence, and the standing consensus.

    The role system is told of all swarms, whichever its own is.
    """
    if op.actor.reader.role is Role.SYSTEM:
        return gates.judged(op, phase, iteration, await standing(op, phase, iteration, hidden=True), of=ALL_SWARMS)
    return await _own_gate(op, phase, iteration)


async def _own_gate(op: Operation, phase: str, iteration: int) -> GateState:
    """Judge a phase and iteration by the actor's swarm, whose gates no other swarm opens or closes.

    Who has none is judged by all swarms where it answers for the project, else by what it may see: from the numbers
    it could tell what an agent recorded for itself alone.
    """
    reader = op.actor.reader
    if reader.swarm_id:
        of = f"swarm {reader.swarm_id}"
        records = [r for r in await standing(op, phase, iteration, hidden=True) if r.swarm_id == reader.swarm_id]
    elif reader.role is Role.AGENT:
        of, records = WHAT_IT_SEES, await standing(op, phase, iteration, hidden=False)
    else:
        of, records = ALL_SWARMS, await standing(op, phase, iteration, hidden=True)
    return gates.judged(op, phase, iteration, records, of=of)


async def standing(op: Operation, phase: str, iteration: int, *, hidden: bool) -> list[Record]:
    """Give the records of an iteration that none took the place of, as they were appended.

    With ``hidden`` whoever may see them; else what the actor sees, where only what it sees takes a place. Where a chain
    lost a record in its middle, the last appended one of a place stands.
    """
    found = await op.tx.loops.standing(op.actor.reader, phase, iteration, now=op.now, hidden=hidden)
    return list({_place(record): record for record in found}.values())


async def _former(op: Operation, record: Record) -> tuple[list[RecordId], RecordId]:
    """Give whose place a record takes, and which of these the actor may see.

    That is what stands, and what stands as far as the actor sees: what lies between may be hidden from it.
    """
    place, found = _place(record), {}
    for hidden in (True, False):
        among = await op.tx.loops.standing(op.actor.reader, record.subject, record.position, now=op.now, hidden=hidden)
        found[hidden] = [former.id for former in among if _place(former) == place]
    return list(dict.fromkeys(found[True] + found[False])), (found[False] or [RecordId("")])[-1]


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
    raise NotFound(
        f"not found: phase {phase[:_PHASE_CHARS]}",
        hint="There is no record of this phase that you may see: a confidence is for its author, a consensus for its "
        "swarm, a decision for its author and the role system. Check the name, and whom you act as.",
        record_ids=(phase,),
        denied=hidden > 0,
    )


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
        supersedes=next((link.target_id for link in reversed(links) if link.relation == SUPERSEDES), ""),
        superseded_by=superseded_by,
        rests_on=tuple(link.target_id for link in links if link.relation == RESTS_ON),
    )


_Place: TypeAlias = tuple[str, str, str]
"""Whose place a record takes in its iteration: its loop, its swarm or none, and its agent where each has its own."""


def _place(record: Record) -> _Place:
    return (record.type, record.swarm_id, record.owner_id if record.type == Loop.CONFIDENCE.label else "")


def _links(
    op: Operation, record_id: RecordId, former: Sequence[RecordId], rests_on: Sequence[RecordId]
) -> tuple[Link, ...]:
    supersedes = [Link(op.project_id, record_id, before, SUPERSEDES, op.now) for before in former]
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
    return IndexedRecord(record, op.tokens(_text(draft), level))


def _text(draft: LoopDraft) -> str:
    parts: Sequence[str] = (draft.loop.label, draft.phase, draft.decision or "", draft.reasoning)
    return " ".join(parts)
