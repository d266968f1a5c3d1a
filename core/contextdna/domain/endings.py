"""What ends with a session: its delegation and grants, its working state and memories, and every session below it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from contextdna.domain import agent_history
from contextdna.domain.operation import Operation
from contextdna.values.event import EventName
from contextdna.values.ids import RecordId
from contextdna.values.principal import Reader
from contextdna.values.record import Kind, Tier
from contextdna.values.search import RecordFilter
from contextdna.values.session import OPEN_DELEGATIONS, DelegationStatus, Session, SessionStatus

OVERDUE_BATCH: Final = 100
"""How many overdue sessions one sweep closes in a transaction, each with all below it."""

_LAPSING_BATCH: Final = 1000

_TOLD: Final = {
    DelegationStatus.DECLINED: EventName.DELEGATION_DECLINED,
    DelegationStatus.COMPLETED: EventName.DELEGATION_COMPLETED,
    DelegationStatus.FAILED: EventName.DELEGATION_FAILED,
    DelegationStatus.REVOKED: EventName.DELEGATION_REVOKED,
    DelegationStatus.EXPIRED: EventName.DELEGATION_EXPIRED,
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How much came to its end."""

    sessions: int = 0
    grants: int = 0

    def __add__(self, other: "Ended") -> "Ended":
        """Count both."""
        return Ended(self.sessions + other.sessions, self.grants + other.grants)


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
