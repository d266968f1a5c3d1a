"""The contract of a delegation: the child accepts or declines it, those above revoke it, both see what became of it."""

from dataclasses import dataclass, replace
from typing import Final

from contextdna.domain import access, endings, sessions
from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_count, check_text
from contextdna.errors import AccessDenied, Conflict, InvalidInput
from contextdna.values.event import EventName
from contextdna.values.ids import AgentId, DelegationId, RecordId, is_below
from contextdna.values.principal import Role
from contextdna.values.session import OPEN_DELEGATIONS, Delegation, DelegationStatus, Direction, Session

_REASON_BYTES_MAX: Final = 4 * 1024


@dataclass(frozen=True, slots=True)
class DelegationView:
    """A delegation as its parent, its child, and those above may see it."""

    delegation: Delegation
    status: DelegationStatus
    """Where it stands now: one past its end has expired, whether or not it is closed already."""
    task: str
    progress: str
    thoughts: int
    result_ids: tuple[RecordId, ...]
    """What the child brought back, as far as the reader sees it."""
    reason: str = ""
    """Why the child declined it, where it said so."""


@dataclass(frozen=True, slots=True)
class DelegationPage:
    """Some delegations, the newest first; an empty cursor says that these are the last."""

    delegations: tuple[DelegationView, ...]
    cursor: DelegationId


@dataclass(frozen=True, slots=True)
class DelegationEnd:
    """A delegation that was declined or revoked, and what ended with it."""

    delegation: Delegation
    sessions_ended: int
    grants_ended: int


async def accept(op: Operation, delegation_id: DelegationId) -> Delegation:
    """Accept a delegation as its child, by default the one that the session came from; once is enough.

    Raises:
        NotFound: No such delegation for the actor.
        AccessDenied: ``not_the_child``.
        Conflict: ``delegation_over``.
        InvalidInput: ``not_delegated``: the session came from no delegation.
        SessionInvalid: ``session_required``: neither an id nor a handle.
    """
    delegation, _ = await _received(op, delegation_id)
    _require_open(op, delegation)
    if delegation.status is DelegationStatus.ACCEPTED:
        return delegation
    accepted = replace(delegation, status=DelegationStatus.ACCEPTED, accepted_at=op.now)
    await op.tx.sessions.replace_delegation(accepted)
    op.note(delegation=accepted.id)
    op.emit(
        EventName.DELEGATION_ACCEPTED,
        subject=accepted.id,
        audience=[accepted.parent_agent_id, accepted.child_agent_id],
    )
    return accepted


async def decline(op: Operation, delegation_id: DelegationId, *, reason: str) -> DelegationEnd:
    """Decline a delegation as its child, before it is accepted: its session and grants end.

    The reason stays with the session, encrypted, for those who may see the delegation.

    Raises:
        NotFound: No such delegation for the actor.
        AccessDenied: ``not_the_child``.
        Conflict: ``delegation_over``, or ``delegation_accepted``.
        InvalidInput: ``not_delegated``.
        SessionInvalid: ``session_required``.
    """
    check_text(reason, name="reason", bytes_max=_REASON_BYTES_MAX, empty_allowed=True)
    delegation, session = await _received(op, delegation_id)
    _require_open(op, delegation)
    if delegation.status is DelegationStatus.ACCEPTED:
        raise Conflict(
            "the delegation is accepted already",
            code="delegation_accepted",
            hint="End it with end_session and success false; its parent can revoke it.",
        )
    if reason:
        session = replace(session, sealed=sessions.reseal_body(op, session, reason=reason))
    return await _end(op, delegation, session, endings.DECLINED)


async def revoke(op: Operation, delegation_id: DelegationId) -> DelegationEnd:
    """Take a delegation back: the child's session and all below it end at once, their grants and state lapse.

    Raises:
        NotFound: No such delegation for the actor.
        AccessDenied: ``not_above``: only the parent, agents above it and the role system revoke.
        Conflict: ``delegation_over``.
    """
    delegation, session = await _known(op, delegation_id)
    if not _is_above(op, delegation, session):
        raise AccessDenied(
            "only the parent, agents above it and the role system revoke a delegation",
            code="not_above",
            hint="Decline it, or end your session.",
        )
    _require_open(op, delegation)
    return await _end(op, delegation, session, endings.CLOSED)


async def listing(
    op: Operation, *, direction: Direction, status: DelegationStatus | None, before: DelegationId, limit: int
) -> DelegationPage:
    """List delegations that the actor gave (agents below it too) or received, the newest first.

    Without a direction it is both; for the role system all of the project.

    Raises:
        LimitExceeded: ``limit_out_of_range``.
        InvalidInput: ``cursor_invalid``: ``before`` is no delegation that a page could have ended with.
    """
    check_count(limit, name="limit", maximum=sessions.LISTED_MAX)
    await _check_place(op, before)
    every = op.actor.reader.role is Role.SYSTEM and direction is Direction.ANY
    found = await op.tx.sessions.find_delegations(
        op.project_id,
        AgentId("") if every else op.actor.agent_id,
        direction=direction,
        status=status,
        now=op.now,
        before=before,
        limit=limit + 1,
    )
    found, following = found[:limit], found[limit - 1].id if len(found) > limit else DelegationId("")
    results = list(dict.fromkeys(result for delegation in found for result in delegation.result_ids))
    seen = {item.record.id for item in await op.tx.records.read(op.actor.reader, results, now=op.now)}
    op.note(delegations=len(found))
    return DelegationPage(tuple([await _view(op, delegation, seen) for delegation in found]), following)


async def _check_place(op: Operation, before: DelegationId) -> None:
    """Refuse a place that no page ended with; one that is another's answers like one that is not there."""
    known = await op.tx.sessions.get_delegation(before) if before else None
    if before and (known is None or known.project_id != op.project_id or not _concerns(op, known)):
        raise InvalidInput(
            "before names no delegation of this list",
            code="cursor_invalid",
            hint="Start without it, and take the answer's cursor as it is.",
        )


def _concerns(op: Operation, delegation: Delegation) -> bool:
    me = op.actor.agent_id
    given = delegation.parent_agent_id == me or is_below(delegation.parent_agent_id, me)
    return given or delegation.child_agent_id == me or op.actor.reader.role is Role.SYSTEM


async def _view(op: Operation, delegation: Delegation, seen: set[RecordId]) -> DelegationView:
    session = await op.tx.sessions.get(delegation.child_session_id)
    child = sessions.view(op, session) if session else None
    visible = tuple(result for result in delegation.result_ids if result in seen)
    return DelegationView(
        delegation=replace(delegation, result_ids=visible),
        status=delegation.standing(op.now),
        task=child.task if child else "",
        progress=child.progress if child else "",
        thoughts=session.thoughts if session else 0,
        result_ids=visible,
        reason=child.reason if child else "",
    )


async def _end(op: Operation, delegation: Delegation, session: Session, how: endings.Ending) -> DelegationEnd:
    ended = await endings.close(op, session, how)
    op.note(delegation=delegation.id, sessions_ended=ended.sessions, grants_ended=ended.grants)
    over = await op.tx.sessions.get_delegation(delegation.id)
    return DelegationEnd(over or delegation, ended.sessions, ended.grants)


async def _received(op: Operation, delegation_id: DelegationId) -> tuple[Delegation, Session]:
    """Give a delegation that the actor is the child of; without an id that of the session."""
    if not delegation_id:
        delegation_id = (await sessions.current(op)).delegation_id
    if not delegation_id:
        raise InvalidInput(
            "this session came from no delegation", code="not_delegated", hint="Name a delegation_id that you received."
        )
    delegation, session = await _known(op, delegation_id)
    if not _is_child(op, delegation):
        raise AccessDenied(
            "only the child accepts or declines a delegation",
            code="not_the_child",
            hint="Pass the session_id that the delegation gave to the child.",
        )
    return delegation, session


async def _known(op: Operation, delegation_id: DelegationId) -> tuple[Delegation, Session]:
    """Give a delegation that is the actor's business, with the child's session.

    Raises:
        NotFound: There is none, or it is none of the actor's business.
    """
    delegation = await op.tx.sessions.get_delegation(delegation_id)
    session = await op.tx.sessions.get(delegation.child_session_id) if delegation else None
    if delegation is None or session is None or delegation.project_id != op.project_id:
        raise access.absent_error((delegation_id,), denied=delegation is not None)
    if not (_is_child(op, delegation) or _is_above(op, delegation, session)):
        raise access.absent_error((delegation_id,), denied=True)
    return delegation, session


def _is_child(op: Operation, delegation: Delegation) -> bool:
    return op.actor.agent_id == delegation.child_agent_id


def _is_above(op: Operation, delegation: Delegation, session: Session) -> bool:
    """Tell whether the actor gave a delegation, stands above who did, or is of the role system."""
    agent_id = op.actor.agent_id
    above = agent_id == delegation.parent_agent_id or agent_id in session.lineage[:-1]
    return above or op.actor.reader.role is Role.SYSTEM


def _require_open(op: Operation, delegation: Delegation) -> None:
    status = delegation.standing(op.now)
    if status not in OPEN_DELEGATIONS:
        raise Conflict(
            f"the delegation is over: {status}", code="delegation_over", hint="Delegate the task again, or leave it."
        )
