"""What ends with a session: its delegation and grants, its working state and memories, and every session below it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from contextdna.domain import agent_history, memories, sessions, sharing
from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_count, check_memory, naming_item
from contextdna.errors import InvalidInput
from contextdna.values.event import EventName
from contextdna.values.ids import AgentId, IdPrefix, RecordId
from contextdna.values.level import Level
from contextdna.values.memory import MemoryChange, MemoryDraft, OnDuplicate, StoredMemory
from contextdna.values.principal import Reader
from contextdna.values.record import Kind, Record, Tier
from contextdna.values.search import RecordFilter
from contextdna.values.session import OPEN_DELEGATIONS, DelegationStatus, Session, SessionStatus

BATCH: Final = 50
"""How many sessions end in a transaction where nobody asks that they end together."""

LEARNINGS_MAX: Final = 20

_LAPSING_BATCH: Final = 1000

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
    """Whether it came from a delegation, which is completed now; one whose session fails has failed."""
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
    more: bool = False
    """Whether there was more than fits a batch."""

    def __add__(self, other: "Ended") -> "Ended":
        """Count both."""
        return Ended(self.sessions + other.sessions, self.grants + other.grants, self.more or other.more)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a session ends, and what becomes of the delegation that it came from."""

    status: SessionStatus
    outcome: DelegationStatus


CLOSED: Final = Ending(SessionStatus.CLOSED, DelegationStatus.REVOKED)
DECLINED: Final = Ending(SessionStatus.CLOSED, DelegationStatus.DECLINED)
_SUCCEEDED: Final = Ending(SessionStatus.SUCCEEDED, DelegationStatus.COMPLETED)
_FAILED: Final = Ending(SessionStatus.FAILED, DelegationStatus.FAILED)
_EXPIRED: Final = Ending(SessionStatus.EXPIRED, DelegationStatus.EXPIRED)


@dataclass(frozen=True, slots=True)
class _Finished:
    """One session that is over."""

    session: Session
    outcome: DelegationStatus | None
    """What its delegation became; None where it came from none, or from one that was over."""
    grants: int
    lapsed: tuple[RecordId, ...]


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
    check_count(len(artifact_ids), name="artifacts", maximum=op.settings.limits.batch_max, minimum=0)
    await memories.require_visible(op, artifact_ids)
    promoted = await _promote(op, session, promote)
    bare = [record_id for record_id in artifact_ids if not record_id.startswith(f"{IdPrefix.MEMORY}_")]
    if bare and not output and not learnings:
        output = f"Result: {', '.join(bare)}"  # or nothing that can be found would name them
    drafts = _drafts(session, success=success, output=output, learnings=learnings, level=level)
    _check_drafts(op, drafts, learned=len(learnings))
    stored = await _keep(op, [replace(draft, relates_to=tuple(artifact_ids)) for draft in drafts])
    results = tuple(dict.fromkeys([*(item.id for item in stored), *artifact_ids]))
    granted = await _hand_back(op, session, results)
    over = await _finish(op, session, _SUCCEEDED if success else _FAILED, results)
    below = await _close_all(op, await op.tx.sessions.below(session.id))
    grants_ended = over.grants + below.grants
    op.note(session_ended=session.id, success=success, grants_ended=grants_ended, children_ended=below.sessions)
    completed = over.outcome is DelegationStatus.COMPLETED
    return EndReport(over.session, stored, completed, grants_ended, below.sessions, promoted, over.lapsed, granted)


def _check_drafts(op: Operation, drafts: Sequence[MemoryDraft], *, learned: int) -> None:
    """Refuse what cannot be stored, by the names that the caller gave it."""
    result, learnings = drafts[: len(drafts) - learned], drafts[len(drafts) - learned :]
    for draft in result:
        check_memory(draft, op.settings)
    for position, draft in enumerate(learnings):
        with naming_item("learnings", position):
            check_memory(draft, op.settings)


async def _keep(op: Operation, drafts: Sequence[MemoryDraft]) -> tuple[StoredMemory, ...]:
    if not drafts:
        return ()
    # Never merged: who opens a result must learn which session and delegation it came from, alike as texts may be.
    return await memories.store(op, drafts, on_duplicate=OnDuplicate.NEW, idempotency_key="")


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
    await memories.require_visible(op, chosen)
    records = await op.tx.records.take(op.project_id, chosen)
    others = [record.id for record in records if not _is_working(record, session)]
    if others:
        raise InvalidInput(
            f"not a working memory of this session: {others[0]}",
            code="not_working",
            hint="Promote memories that this session stored with tier working; others stay as they are.",
        )
    for record in records:
        await memories.update(op, record.id, MemoryChange(tier=Tier.EPISODIC), expected_version=record.version)
    return chosen


def _is_working(record: Record, session: Session) -> bool:
    """Tell whether a record is a working memory that a session's agent stored in it; see ``_working_memories``."""
    own = record.owner_id == session.agent_id and record.session_id == session.id
    return own and record.kind is Kind.MEMORY and record.tier == Tier.WORKING.value


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


async def end_with_agent(op: Operation, agent_id: AgentId) -> Ended:
    """End a batch of the sessions of an agent, and of all that came from one of its own.

    The session that the call acts in, if it is one of them, goes with the last batch.
    """
    found = await op.tx.sessions.with_agent(op.project_id, agent_id, limit=BATCH + 1)
    ended = Ended(more=len(found) > BATCH)
    for session in found[:BATCH]:
        if not ended.more or session.id != op.actor.session_id:
            ended += Ended(1, (await _finish(op, session, CLOSED)).grants)
    return ended


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


async def close(op: Operation, session: Session, how: Ending = CLOSED) -> Ended:
    """End a session from outside, and every session begun in it, however deep; one that has ended stays as it is."""
    if session.status is not SessionStatus.ACTIVE:
        return Ended()
    over = await _finish(op, session, how)
    return Ended(1, over.grants) + await _close_all(op, await op.tx.sessions.below(session.id))


async def _close_all(op: Operation, waiting: list[Session]) -> Ended:
    """End active sessions with all below them."""
    ended = Ended()
    while waiting:
        session = waiting.pop()
        waiting += await op.tx.sessions.below(session.id)
        ended += Ended(1, (await _finish(op, session, CLOSED)).grants)
    return ended


async def close_expired(op: Operation) -> Ended:
    """End a batch of sessions whose time is over. None lasts longer than the one above it: those below are due too."""
    overdue = await op.tx.sessions.overdue(op.project_id, now=op.now, limit=BATCH)
    ended = Ended(more=len(overdue) == BATCH)
    for session in overdue:
        ended += Ended(1, (await _finish(op, session, _EXPIRED)).grants)
    if overdue:
        op.note(sessions_expired=ended.sessions, grants_ended=ended.grants)
    return ended


async def _finish(op: Operation, session: Session, how: Ending, results: Sequence[RecordId] = ()) -> _Finished:
    """End one active session, with its delegation, grants, working state and working memories.

    Every session ends here. One whose time was over has expired, at that time, whoever comes to end it.
    """
    if session.standing(op.now) is SessionStatus.EXPIRED:
        how = _EXPIRED
    over_at = min(op.now, session.expires_at)
    ended = replace(session, status=how.status, updated_at=over_at, ended_at=over_at)
    await op.tx.sessions.replace(ended)
    await agent_history.session_ended(op, ended)
    await op.tx.states.delete_of(op.project_id, [ended.id])
    outcome, grants = await _release(op, ended, how.outcome, results)
    lapsed = await _lapse(op, ended)
    name = EventName.SESSION_EXPIRED if how is _EXPIRED else EventName.SESSION_ENDED
    op.emit(name, subject=ended.id, audience=ended.lineage)
    return _Finished(ended, outcome, grants, lapsed)


async def _release(
    op: Operation, session: Session, outcome: DelegationStatus, results: Sequence[RecordId]
) -> tuple[DelegationStatus | None, int]:
    """End a session's delegation, if it came from an open one; gives what it became, and how many grants lapsed."""
    delegation = await op.tx.sessions.get_delegation(session.delegation_id) if session.delegation_id else None
    if delegation is None or delegation.status not in OPEN_DELEGATIONS:
        return None, 0
    over = replace(delegation, status=outcome, ended_at=session.ended_at, result_ids=tuple(results))
    await op.tx.sessions.replace_delegation(over)
    op.emit(
        _TOLD[outcome],
        subject=delegation.id,
        audience=[delegation.parent_agent_id, delegation.child_agent_id],
    )
    return outcome, await op.tx.grants.revoke_delegation(op.project_id, delegation.id, at=op.now)


async def _lapse(op: Operation, session: Session) -> tuple[RecordId, ...]:
    """Soft-delete the working memories of a session that is over; they can be restored like any forgotten one.

    It is told as their owner's doing: whoever ended the session, perhaps one above it, may not see them.
    """
    lapsed: list[RecordId] = []
    while batch := await _working_memories(op, session, limit=_LAPSING_BATCH):
        await op.tx.records.mark_deleted(op.project_id, batch, deleted_at=op.now)
        op.emit(EventName.MEMORY_FORGOTTEN, batch, by=session.agent_id)
        lapsed += batch
    op.note(lapsed)
    return tuple(lapsed)


async def _working_memories(op: Operation, session: Session, *, limit: int) -> list[RecordId]:
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
