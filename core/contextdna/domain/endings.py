"""What ends with a session: its delegation and grants, its working state and memories, and every session below it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from contextdna.domain import agent_history, memories, sessions, sharing
from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_count
from contextdna.errors import InvalidInput
from contextdna.values.event import EventName
from contextdna.values.ids import AgentId, RecordId
from contextdna.values.level import Level
from contextdna.values.memory import MemoryChange, MemoryDraft, OnDuplicate, StoredMemory
from contextdna.values.principal import Reader
from contextdna.values.record import Kind, Tier
from contextdna.values.search import RecordFilter
from contextdna.values.session import OPEN_DELEGATIONS, DelegationStatus, Session, SessionStatus

OVERDUE_BATCH: Final = 100
"""How many overdue sessions one sweep closes in a transaction, each with all below it."""

LEARNINGS_MAX: Final = 20

_LAPSING_BATCH: Final = 1000
_WORKING_MAX: Final = 10_000

_TOLD: Final = {
    DelegationStatus.DECLINED: EventName.DELEGATION_DECLINED,
    DelegationStatus.COMPLETED: EventName.DELEGATION_COMPLETED,
    DelegationStatus.FAILED: EventName.DELEGATION_FAILED,
    DelegationStatus.REVOKED: EventName.DELEGATION_REVOKED,
    DelegationStatus.EXPIRED: EventName.DELEGATION_EXPIRED,
}


@dataclass(frozen=True, slots=True)
class EndReport:
    """What the end of a session left behind."""

    session: Session
    stored: tuple[StoredMemory, ...]
    delegation_completed: bool
    grants_ended: int
    children_ended: int
    promoted: tuple[RecordId, ...] = ()
    """Working memories of the session that are episodic now."""
    expired: tuple[RecordId, ...] = ()
    """Its other working memories, which are forgotten."""
    granted: int = 0
    """Grants that let the parent agent read what came back."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How much came to its end."""

    sessions: int = 0
    grants: int = 0

    def __add__(self, other: "Ended") -> "Ended":
        """Count both."""
        return Ended(self.sessions + other.sessions, self.grants + other.grants)


async def end(
    op: Operation,
    *,
    success: bool,
    output: str,
    learnings: Sequence[str],
    artifact_ids: Sequence[RecordId],
    promote: Sequence[RecordId],
    level: Level,
) -> EndReport:
    """End the session: keep its output and learnings as memories, complete its delegation, close its grants.

    Of its working memories those in ``promote`` become episodic, the others are forgotten. What a delegated session
    leaves is granted to the parent agent.

    Raises:
        SessionInvalid: ``session_required``.
        NotFound: An artifact or a memory to promote is not there.
        InvalidInput: The output or a learning cannot be stored, or ``not_working``.
    """
    session = await sessions.current(op)
    if len(learnings) > LEARNINGS_MAX:
        raise InvalidInput(f"more than {LEARNINGS_MAX} learnings", code="learnings_too_many", hint="Keep the best.")
    await memories.require_visible(op, artifact_ids)
    promoted = await _promote(op, session, promote)
    expired = await lapse(op, session)
    if artifact_ids and not output and not learnings:
        output = f"Result: {', '.join(artifact_ids)}"  # or nothing that can be found would name them
    drafts = _drafts(session, success=success, output=output, learnings=learnings, level=level)
    stored = await _keep(op, [replace(draft, relates_to=tuple(artifact_ids)) for draft in drafts])
    ended = replace(
        session,
        status=SessionStatus.SUCCEEDED if success else SessionStatus.FAILED,
        updated_at=op.now,
        ended_at=op.now,
    )
    await op.tx.sessions.replace(ended)
    await agent_history.session_ended(op, ended)
    results = tuple(dict.fromkeys([*(item.id for item in stored), *artifact_ids]))
    granted = await _hand_back(op, session, results)
    outcome = DelegationStatus.COMPLETED if success else DelegationStatus.FAILED
    grants_ended, completed = await release(op, ended, outcome, results)
    below = await close_below(op, session)
    grants_ended += below.grants
    op.note(session_ended=session.id, success=success, grants_ended=grants_ended, children_ended=below.sessions)
    op.emit(EventName.SESSION_ENDED, subject=session.id, audience=session.lineage)
    return EndReport(ended, stored, completed, grants_ended, below.sessions, promoted, expired, granted)


async def _keep(op: Operation, drafts: Sequence[MemoryDraft]) -> tuple[StoredMemory, ...]:
    if not drafts:
        return ()
    memories.check_drafts(drafts, op.settings)
    return await memories.store(op, drafts, on_duplicate=OnDuplicate.MERGE, idempotency_key="")


async def _promote(op: Operation, session: Session, wanted: Sequence[RecordId]) -> tuple[RecordId, ...]:
    """Make working memories of the session episodic.

    Raises:
        NotFound: One is absent or not visible.
        InvalidInput: ``not_working``: one is another kind of record, or not of this session.
    """
    if not wanted:
        return ()
    check_count(len(wanted), name="promote", maximum=op.settings.limits.batch_max)
    chosen = tuple(dict.fromkeys(wanted))
    working = set(await working_memories(op, session, limit=_WORKING_MAX))
    others = [record_id for record_id in chosen if record_id not in working]
    await memories.require_visible(op, others)
    if others:
        raise InvalidInput(
            f"not a working memory of this session: {others[0]}",
            code="not_working",
            hint="Promote memories that this session stored with tier working; others stay as they are.",
        )
    for record in await op.tx.records.take(op.project_id, chosen):
        await memories.update(op, record.id, MemoryChange(tier=Tier.EPISODIC), expected_version=record.version)
    return chosen


async def _hand_back(op: Operation, session: Session, results: Sequence[RecordId]) -> int:
    """Let the parent agent of a delegated session read what it left and owns; these grants outlive the delegation."""
    delegation = await op.tx.sessions.get_delegation(session.delegation_id) if session.delegation_id else None
    if delegation is None or not results:
        return 0
    own = [
        record.id
        for record in await op.tx.records.take(op.project_id, results)
        if record.owner_id == session.agent_id and record.level is not Level.PROJECT
    ]
    await op.tx.grants.add([sharing.new_grant(op, record_id, delegation.parent_agent_id, None) for record_id in own])
    return len(own)


async def end_with_agent(op: Operation, agent_id: AgentId) -> tuple[int, int]:
    """End every session of an agent, and all that came from one of its own; gives (sessions, grants that lapsed)."""
    ended = Ended()
    for session in await op.tx.sessions.with_agent(op.project_id, agent_id):
        current_row = await op.tx.sessions.get(session.id)  # one before it may have taken it along
        if current_row is not None:
            ended += await close(op, current_row)
    return ended.sessions, ended.grants


def _drafts(
    session: Session, *, success: bool, output: str, learnings: Sequence[str], level: Level
) -> list[MemoryDraft]:
    metadata: dict[str, object] = {"session": session.id, "success": success}
    if session.delegation_id:
        metadata |= {"delegation": session.delegation_id, "chain": list(session.lineage)}
    drafts = []
    if output:
        drafts.append(MemoryDraft(output, memory_type="result", tier=Tier.EPISODIC, level=level, metadata=metadata))
    pattern = "success_pattern" if success else "failure_pattern"
    for learning in learnings:
        drafts.append(MemoryDraft(learning, memory_type=pattern, level=level, importance=0.7, metadata=metadata))
    return drafts


async def close(
    op: Operation,
    session: Session,
    *,
    status: SessionStatus = SessionStatus.CLOSED,
    outcome: DelegationStatus = DelegationStatus.REVOKED,
) -> Ended:
    """End an active session from outside, and every session begun in it, however deep.

    Args:
        op: The operation.
        session: The session; one that has ended already keeps its status.
        status: What it and those below become.
        outcome: What its own delegation becomes; those below are revoked, or expire with it.
    """
    deeper = outcome if outcome is DelegationStatus.EXPIRED else DelegationStatus.REVOKED
    ended = Ended()
    waiting = [(session, outcome)] if session.status is SessionStatus.ACTIVE else []
    while waiting:
        one, how = waiting.pop()
        waiting += [(child, deeper) for child in await op.tx.sessions.below(one.id)]
        over = min(op.now, one.expires_at)
        closed = replace(one, status=status, updated_at=op.now, ended_at=over)
        await op.tx.sessions.replace(closed)
        await agent_history.session_ended(op, closed)
        grants, _ = await release(op, closed, how)
        await lapse(op, closed)
        name = EventName.SESSION_EXPIRED if status is SessionStatus.EXPIRED else EventName.SESSION_ENDED
        op.emit(name, subject=closed.id, audience=closed.lineage)
        ended += Ended(1, grants)
    return ended


async def close_below(op: Operation, session: Session) -> Ended:
    """End every session begun in a session, however deep."""
    ended = Ended()
    for child in await op.tx.sessions.below(session.id):
        ended += await close(op, child)
    return ended


async def close_expired(op: Operation) -> int:
    """End a batch of sessions whose time is over, with all below them; gives how many it began with."""
    overdue = await op.tx.sessions.overdue(op.project_id, now=op.now, limit=OVERDUE_BATCH)
    ended = Ended()
    for session in overdue:
        current = await op.tx.sessions.get(session.id)  # one before it may have taken it along
        if current is not None:
            ended += await close(op, current, status=SessionStatus.EXPIRED, outcome=DelegationStatus.EXPIRED)
    if overdue:
        op.note(sessions_expired=ended.sessions, grants_ended=ended.grants)
    return len(overdue)


async def release(
    op: Operation, session: Session, outcome: DelegationStatus, results: Sequence[RecordId] = ()
) -> tuple[int, bool]:
    """End a session's delegation with its grants, and its working state.

    Returns:
        How many grants lapsed, and whether there was a delegation to end.
    """
    await op.tx.states.delete_of(op.project_id, [session.id])
    if not session.delegation_id:
        return 0, False
    delegation = await op.tx.sessions.get_delegation(session.delegation_id)
    if delegation is None or delegation.status not in OPEN_DELEGATIONS:
        return 0, False
    over = replace(delegation, status=outcome, ended_at=session.ended_at, result_ids=tuple(results))
    await op.tx.sessions.replace_delegation(over)
    op.emit(
        _TOLD[outcome],
        subject=delegation.id,
        audience=[delegation.parent_agent_id, delegation.child_agent_id],
    )
    return await op.tx.grants.revoke_delegation(op.project_id, delegation.id, at=op.now), True


async def lapse(op: Operation, session: Session) -> tuple[RecordId, ...]:
    """Soft-delete the working memories of a session that is over; they can be restored like any forgotten one."""
    lapsed: list[RecordId] = []
    while batch := await working_memories(op, session, limit=_LAPSING_BATCH):
        await op.tx.records.mark_deleted(op.project_id, batch, deleted_at=op.now)
        op.emit(EventName.MEMORY_FORGOTTEN, batch)
        lapsed += batch
    op.note(lapsed)
    return tuple(lapsed)


async def working_memories(op: Operation, session: Session, *, limit: int) -> list[RecordId]:
    """List the working memories that a session's agent stored in it."""
    reader = Reader(session.project_id, session.agent_id, session.team_id, session.swarm_id, session.role)
    where = RecordFilter(
        kinds=(Kind.MEMORY,),
        tiers=(Tier.WORKING.value,),
        owner_id=session.agent_id,
        session_id=session.id,
        ever=True,
    )
    return [ref.id for ref in await op.tx.records.owned(reader, where, now=op.now, limit=limit)]
