"""Sessions: one agent's piece of work, from its handle to its result."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from contextdna.domain import access, agent_history, memories
from contextdna.domain.encryption import Binding
from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_agent_id, check_name, check_text
from contextdna.errors import AccessDenied, InvalidInput, SessionInvalid
from contextdna.values.agent import Agent
from contextdna.values.event import EventName
from contextdna.values.ids import AgentId, DelegationId, IdPrefix, RecordId, SessionId, name_of, new_id, new_secret
from contextdna.values.level import Level
from contextdna.values.memory import MemoryDraft, OnDuplicate, StoredMemory
from contextdna.values.principal import Role
from contextdna.values.record import Sealed, Tier
from contextdna.values.session import DelegationStatus, Session, SessionStatus

_TASK_BYTES_MAX = 64 * 1024
LEARNINGS_MAX = 20


@dataclass(frozen=True, slots=True)
class BeginRequest:
    """A session as asked for; empty team and swarm mean the caller's own."""

    agent_id: AgentId
    task: str = ""
    team_id: str = ""
    swarm_id: str = ""
    role: Role = Role.AGENT
    ttl_s: float | None = None


@dataclass(frozen=True, slots=True)
class BegunSession:
    """A session and the handle that only its beginner receives."""

    session: Session
    handle: str
    task: str


@dataclass(frozen=True, slots=True)
class EndReport:
    """What the end of a session left behind."""

    session: Session
    stored: tuple[StoredMemory, ...]
    delegation_completed: bool
    grants_ended: int
    children_ended: int


async def begin(op: Operation, request: BeginRequest) -> BegunSession:
    """Begin a session for an agent.

    Raises:
        AccessDenied: ``session_not_allowed``: more rights than the caller has.
        InvalidInput: A name or the time to live is wrong.
    """
    caller = op.actor.reader
    itself = request.agent_id in ("", name_of(caller.agent_id))
    agent_id = caller.agent_id if itself else request.agent_id
    team_id = caller.team_id
    if not itself and caller.role is Role.COORDINATOR:
        team_id = await _team_in_own_swarm(op, agent_id)
    if not itself and caller.role is Role.SYSTEM:
        request = await _in_registered_circles(op, request)
    request = replace(
        request,
        agent_id=agent_id,
        team_id=request.team_id or team_id,
        swarm_id=request.swarm_id or caller.swarm_id,
    )
    check_request(request)
    access.require_may_begin(
        op.actor, agent_id, teams=("", team_id), asked=(request.team_id, request.swarm_id, request.role)
    )
    begun = await open_session(op, request, expires_at=await deadline(op, _ttl(op, request.ttl_s)))
    op.note(session_begun=begun.session.id, for_agent=agent_id)
    op.emit(EventName.SESSION_BEGUN, subject=begun.session.id, audience=[begun.session.agent_id])
    return begun


async def deadline(op: Operation, seconds: float) -> datetime:
    """Give when a session ends that is begun now: never after the one that it is begun in."""
    end = op.now + timedelta(seconds=seconds)
    parent = await op.tx.sessions.get(op.actor.session_id) if op.actor.session_id else None
    return min(end, parent.expires_at) if parent else end


async def _in_registered_circles(op: Operation, request: BeginRequest) -> BeginRequest:
    """Fill in the team and swarm that an agent is registered in; where it was only seen, nothing."""
    known = await op.tx.agents.get(op.project_id, request.agent_id)
    if known is None or not known.registered_by:
        return request
    return replace(request, team_id=request.team_id or known.team_id, swarm_id=request.swarm_id or known.swarm_id)


async def _team_in_own_swarm(op: Operation, agent_id: AgentId) -> str:
    """Give the team that the project knows an agent in; a coordinator's own where the agent is new.

    Raises:
        AccessDenied: ``session_not_allowed``: it is of another swarm, or was seen with a higher role.
    """
    caller = op.actor.reader
    for known in await op.tx.projects.agents(op.project_id, [agent_id]):
        if not access.coordinates(caller, known):
            raise AccessDenied(
                "this agent is not of your swarm",
                code="session_not_allowed",
                hint="Begin sessions for agents of your own swarm, or delegate under a new name.",
            )
        return known.team_id
    return caller.team_id


def check_request(request: BeginRequest) -> None:
    """Refuse names or a task that cannot be kept.

    Raises:
        InvalidInput: With the code of the first thing wrong.
    """
    check_agent_id(request.agent_id, name="agent_id")
    check_name(request.team_id, name="team_id", empty_allowed=True)
    check_name(request.swarm_id, name="swarm_id", empty_allowed=True)
    check_text(request.task, name="task", bytes_max=_TASK_BYTES_MAX, empty_allowed=True)


async def open_session(
    op: Operation, request: BeginRequest, *, expires_at: datetime, delegation_id: DelegationId = DelegationId("")
) -> BegunSession:
    """Write a new session below the actor, without judging rights.

    Raises:
        AccessDenied: ``agent_retired``.
    """
    known = await agent_history.require_in_service(op, request.agent_id)
    session_id = SessionId(new_id(IdPrefix.SESSION, op.now))
    secret = new_secret()
    lineage = (*op.actor.lineage, request.agent_id)
    if op.actor.agent_id == request.agent_id:
        lineage = op.actor.lineage
    session = Session(
        id=session_id,
        project_id=op.project_id,
        secret_digest=access.digest_secret(secret),
        agent_id=request.agent_id,
        team_id=request.team_id,
        swarm_id=request.swarm_id,
        role=request.role,
        principal_id=op.actor.principal_id,
        lineage=lineage,
        parent_id=op.actor.session_id,
        delegation_id=delegation_id,
        status=SessionStatus.ACTIVE,
        created_at=op.now,
        updated_at=op.now,
        expires_at=expires_at,
        ended_at=None,
        sealed=_seal(op, session_id, {"task": request.task}),
    )
    await op.tx.sessions.add(session)
    team_id = request.team_id or (known.team_id if known else "")  # a session outside of them takes no agent out of
    swarm_id = request.swarm_id or (known.swarm_id if known else "")  # the team and swarm that it is registered in
    await op.tx.projects.see_agent(
        Agent(request.agent_id, op.project_id, team_id, swarm_id, request.role, op.now, op.now)
    )
    await agent_history.session_begun(op, session)
    return BegunSession(session, access.new_handle(session_id, secret), request.task)


async def resume(op: Operation, handle: str) -> BegunSession:
    """Give an active session again to the holder of its handle.

    Raises:
        SessionInvalid: Checked before, when the actor was resolved.
    """
    session = await current(op)
    op.note(session_resumed=session.id)
    return BegunSession(session, handle, str(_open(op, session).get("task", "")))


async def current(op: Operation) -> Session:
    """Give the session that the call acts in.

    Raises:
        SessionInvalid: ``session_required``: the call passed no session handle.
    """
    session = await op.tx.sessions.get(op.actor.session_id) if op.actor.session_id else None
    if session is None:
        raise SessionInvalid(
            "this needs a session_id", code="session_required", hint="Call begin_session and pass its session_id."
        )
    return session


async def end(
    op: Operation,
    *,
    success: bool,
    output: str,
    learnings: Sequence[str],
    artifact_ids: Sequence[RecordId],
    level: Level,
) -> EndReport:
    """End the session: keep its output and learnings as memories, complete its delegation, close its grants.

    Raises:
        SessionInvalid: ``session_required``.
        InvalidInput: The output or a learning cannot be stored.
    """
    session = await current(op)
    if len(learnings) > LEARNINGS_MAX:
        raise InvalidInput(f"more than {LEARNINGS_MAX} learnings", code="learnings_too_many", hint="Keep the best.")
    await memories.require_visible(op, artifact_ids)
    drafts = _drafts(op, success=success, output=output, learnings=learnings, level=level)
    drafts = [replace(draft, relates_to=tuple(artifact_ids)) for draft in drafts]
    stored: tuple[StoredMemory, ...] = ()
    if drafts:
        memories.check_drafts(drafts, op.settings)
        stored = await memories.store(op, drafts, on_duplicate=OnDuplicate.MERGE, idempotency_key="")
    ended = replace(
        session,
        status=SessionStatus.SUCCEEDED if success else SessionStatus.FAILED,
        updated_at=op.now,
        ended_at=op.now,
        sealed=_seal(op, session.id, {**_open(op, session), "output": output, "artifacts": list(artifact_ids)}),
    )
    await op.tx.sessions.replace(ended)
    await agent_history.session_ended(op, ended)
    outcome = DelegationStatus.COMPLETED if success else DelegationStatus.FAILED
    grants_ended, completed = await _end_delegation(op, session, outcome)
    below_grants, children = await _end_below(op, session.id)
    grants_ended += below_grants
    op.note(session_ended=session.id, success=success, grants_ended=grants_ended, children_ended=children)
    op.emit(EventName.SESSION_ENDED, subject=session.id, audience=session.lineage)
    return EndReport(ended, stored, completed, grants_ended, children)


async def _end_below(op: Operation, session_id: SessionId) -> tuple[int, int]:
    """End every session begun in a session, and all below; gives (grants that lapsed, sessions that ended)."""
    grants_ended = sessions_ended = 0
    for child in await op.tx.sessions.below(session_id):
        own = await _close(op, child)
        deeper_grants, deeper = await _end_below(op, child.id)
        grants_ended += own + deeper_grants
        sessions_ended += 1 + deeper
    return grants_ended, sessions_ended


async def end_with_agent(op: Operation, agent_id: AgentId) -> tuple[int, int]:
    """End every session of an agent, and all that came from one of its own; gives (sessions, grants that lapsed)."""
    grants_ended = 0
    ending = await op.tx.sessions.with_agent(op.project_id, agent_id)
    for session in ending:
        grants_ended += await _close(op, session)
        op.emit(EventName.SESSION_ENDED, subject=session.id, audience=session.lineage)
    return len(ending), grants_ended


async def _close(op: Operation, session: Session) -> int:
    """End a session from outside, with its delegation; gives how many grants lapsed."""
    closed = replace(session, status=SessionStatus.EXPIRED, updated_at=op.now, ended_at=op.now)
    await op.tx.sessions.replace(closed)
    await agent_history.session_ended(op, closed)
    grants_ended, _ = await _end_delegation(op, session, DelegationStatus.REVOKED)
    return grants_ended


async def _end_delegation(op: Operation, session: Session, status: DelegationStatus) -> tuple[int, bool]:
    """End the delegation that a session came from; gives (grants that lapsed, whether there was one to end)."""
    if not session.delegation_id:
        return 0, False
    delegation = await op.tx.sessions.get_delegation(session.delegation_id)
    if delegation is None or delegation.status is not DelegationStatus.ACTIVE:
        return 0, False
    await op.tx.sessions.replace_delegation(replace(delegation, status=status, ended_at=op.now))
    return await op.tx.grants.revoke_delegation(op.project_id, delegation.id, at=op.now), True


def _drafts(op: Operation, *, success: bool, output: str, learnings: Sequence[str], level: Level) -> list[MemoryDraft]:
    metadata = {"session": op.actor.session_id, "success": success}
    drafts = []
    if output:
        drafts.append(MemoryDraft(output, memory_type="result", tier=Tier.EPISODIC, level=level, metadata=metadata))
    pattern = "success_pattern" if success else "failure_pattern"
    for learning in learnings:
        drafts.append(MemoryDraft(learning, memory_type=pattern, level=level, importance=0.7, metadata=metadata))
    return drafts


def _ttl(op: Operation, ttl_s: float | None) -> float:
    work = op.settings.work
    if ttl_s is None:
        return work.session_ttl_s
    if not 0 < ttl_s <= work.session_ttl_max_s:
        raise InvalidInput(
            "the time to live must be above 0 and at most session_ttl_max_s",
            code="ttl_out_of_range",
            hint=f"Use at most {work.session_ttl_max_s:.0f} seconds.",
        )
    return ttl_s


def _seal(op: Operation, session_id: SessionId, body: dict[str, object]) -> Sealed:
    binding = Binding("sessions", op.project_id, session_id, Level.PRIVATE, 1)
    return op.keys.seal(body, binding, encrypted=True)


def _open(op: Operation, session: Session) -> dict[str, object]:
    binding = Binding("sessions", op.project_id, session.id, Level.PRIVATE, 1)
    return op.keys.open(session.sealed, binding, encrypted=True)
