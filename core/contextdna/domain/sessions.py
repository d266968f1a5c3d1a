"""Sessions: one agent's piece of work, from its handle to its result."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from contextdna.domain import access, agent_history, authority
from contextdna.domain.encryption import Binding
from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_agent_id, check_count, check_name, check_seconds, check_text
from contextdna.errors import IntegrityFault, InvalidInput, LimitExceeded, SessionInvalid
from contextdna.values.event import EventName
from contextdna.values.ids import AgentId, DelegationId, IdPrefix, SessionId, name_of, new_id, new_secret
from contextdna.values.level import Level
from contextdna.values.principal import Reader, Role
from contextdna.values.record import Sealed
from contextdna.values.session import DelegationStatus, Session, SessionFilter, SessionStatus

_TASK_BYTES_MAX = 64 * 1024
_PROGRESS_BYTES_MAX = 4 * 1024
_THOUGHTS_MAX = 1_000_000_000
LISTED_MAX = 200


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
    progress: str = ""
    """How far it has come, as its agent said last."""
    pending: bool = False
    """Whether it came from a delegation that the child has not accepted yet."""
    state_keys: tuple[str, ...] = ()
    """The keys of its working state."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as those see it whose business it is: itself, agents above it, its coordinators, the role system."""

    session: Session
    status: SessionStatus
    """Where it stands now: one past its end has expired, whether or not it is closed already."""
    task: str
    progress: str
    reason: str = ""
    """Why its agent declined the delegation that it came from."""


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
    if not itself:
        check_depth(op)
    if not itself and caller.role is Role.COORDINATOR:
        team_id = await authority.team_to_begin(op.tx, caller, agent_id, now=op.now)
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
    begun = await open_session(op, request, expires_at=await deadline(op, request.ttl_s, name="ttl"))
    op.note(session_begun=begun.session.id, for_agent=agent_id)
    op.emit(EventName.SESSION_BEGUN, subject=begun.session.id, audience=[begun.session.agent_id])
    return begun


def check_depth(op: Operation) -> None:
    """Refuse to bring in an agent below a chain that is as deep as it may be.

    Raises:
        InvalidInput: ``delegation_too_deep``.
    """
    depth_max = op.settings.work.delegation_depth_max
    if len(op.actor.lineage) > depth_max:
        raise InvalidInput(
            f"the chain is {depth_max} delegations deep already",
            code="delegation_too_deep",
            hint="Do it in this agent.",
        )


async def deadline(op: Operation, seconds: float | None, *, name: str) -> datetime:
    """Give when a session ends that is begun now: never after the one that it is begun in.

    Raises:
        InvalidInput: ``<name>_out_of_range``.
    """
    work = op.settings.work
    span = work.session_ttl_s if seconds is None else check_seconds(seconds, name=name, maximum=work.session_ttl_max_s)
    end = op.now + timedelta(seconds=span)
    parent = await op.tx.sessions.get(op.actor.session_id) if op.actor.session_id else None
    return min(end, parent.expires_at) if parent else end


async def _in_registered_circles(op: Operation, request: BeginRequest) -> BeginRequest:
    """Fill in the team and swarm that an agent is registered in; where it was only seen, nothing."""
    known = await op.tx.agents.get(op.project_id, request.agent_id)
    if known is None or not known.registered_by:
        return request
    return replace(request, team_id=request.team_id or known.team_id, swarm_id=request.swarm_id or known.swarm_id)


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
        LimitExceeded: ``sessions_too_many``.
    """
    await _check_nesting(op)
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
    await agent_history.note_session(op, known, session)
    await agent_history.session_begun(op, session)
    return BegunSession(session, access.new_handle(session_id, secret), request.task)


async def _check_nesting(op: Operation) -> None:
    """Refuse one session more in a tree that is full: all that is nested ends with the outermost, at once."""
    nested_max = op.settings.work.sessions_nested_max
    if not op.actor.session_id:
        return
    if await op.tx.sessions.count_around(op.actor.session_id, most=nested_max + 1) > nested_max:
        raise LimitExceeded(
            f"{nested_max} sessions are nested in this one and those around it",
            code="sessions_too_many",
            hint="End some of them with end_session, or begin one without parent.",
        )


async def resume(op: Operation, handle: str, agent_id: AgentId = AgentId("")) -> BegunSession:
    """Give an active session again to the holder of its handle.

    Args:
        op: The operation.
        handle: Its handle.
        agent_id: Whose session the holder takes it for, by path or bare name; empty says nothing.

    Raises:
        SessionInvalid: ``session_required``.
        InvalidInput: ``session_of_another``: it is not that agent's.
    """
    session = await current(op)
    if agent_id not in ("", session.agent_id, name_of(session.agent_id)):
        raise InvalidInput(
            f"this is the session of {session.agent_id}, not of the agent_id given",
            code="session_of_another",
            hint="Pass it as parent to begin a session for another agent below it, or without agent_id to resume it.",
        )
    body = _open(op, session)
    delegation = await op.tx.sessions.get_delegation(session.delegation_id) if session.delegation_id else None
    pending = delegation is not None and delegation.status is DelegationStatus.PENDING
    keys = tuple(row.key for row in await op.tx.states.of(op.project_id, session.id) if row.expires_at > op.now)
    op.note(session_resumed=session.id)
    return BegunSession(session, handle, str(body.get("task", "")), str(body.get("progress", "")), pending, keys)


async def current(op: Operation) -> Session:
    """Give the session that the call acts in.

    Raises:
        SessionInvalid: ``session_required``: the call passed no session handle.
    """
    session = await op.tx.sessions.get(op.actor.session_id) if op.actor.session_id else None
    if session is None:
        raise no_session()
    return session


def no_session() -> SessionInvalid:
    """Make the refusal of a call that passed no session handle where one is needed."""
    return SessionInvalid(
        "this needs a session_id", code="session_required", hint="Call begin_session and pass its session_id."
    )


async def progress(op: Operation, *, status: str, thoughts: int, thoughts_total: int | None) -> SessionView:
    """Tell how far the session has come.

    Args:
        op: The operation.
        status: What it is at, in words; empty leaves what was said before.
        thoughts: So many thoughts more.
        thoughts_total: So many in all, instead.

    Raises:
        SessionInvalid: ``session_required``.
        InvalidInput: ``progress_empty``, ``thoughts_twice``, or the status cannot be kept.
        LimitExceeded: A count is out of range.
    """
    check_text(status, name="status", bytes_max=_PROGRESS_BYTES_MAX, empty_allowed=True)
    check_count(thoughts, name="thoughts", maximum=_THOUGHTS_MAX, minimum=0)
    if not status and not thoughts and thoughts_total is None:
        raise InvalidInput("no progress to tell", code="progress_empty", hint="Give a status, thoughts, or both.")
    if thoughts and thoughts_total is not None:
        raise InvalidInput("thoughts and thoughts_total", code="thoughts_twice", hint="Give one of the two.")
    session = await current(op)
    counted = session.thoughts + thoughts if thoughts_total is None else thoughts_total
    check_count(counted, name="thoughts_total", maximum=_THOUGHTS_MAX, minimum=0)
    told = {"progress": status} if status else {}
    moved = replace(session, thoughts=counted, updated_at=op.now, sealed=reseal_body(op, session, **told))
    await op.tx.sessions.replace(moved)
    op.note(session=session.id, thoughts=counted)
    op.emit(EventName.SESSION_PROGRESSED, subject=session.id, audience=session.lineage)
    return view(op, moved)


async def get(op: Operation, session_id: SessionId) -> SessionView:
    """Show a session by its public id, without one the call's own.

    Raises:
        NotFound: No such session, or none of the actor's business.
        SessionInvalid: ``session_required``: neither an id nor a handle.
    """
    if not session_id:
        return view(op, await current(op))
    session = await op.tx.sessions.get(session_id)
    if session is None or session.project_id != op.project_id or not _shows(op.actor.reader, session):
        raise access.absent_error((session_id,), denied=session is not None)
    op.note(session=session.id)
    return view(op, session)


async def listing(
    op: Operation, *, status: SessionStatus | None, agent_id: AgentId, before: SessionId, limit: int
) -> tuple[SessionView, ...]:
    """List the sessions that are the actor's business, the newest first.

    Raises:
        InvalidInput: ``agent_id_invalid``.
        LimitExceeded: ``limit_out_of_range``.
    """
    check_count(limit, name="limit", maximum=LISTED_MAX)
    if agent_id:
        check_agent_id(agent_id, name="agent_id")
    reader = op.actor.reader
    where = SessionFilter(
        status=status,
        agent_id=agent_id,
        seen_by=AgentId("") if reader.role is Role.SYSTEM else reader.agent_id,
        of_swarm=reader.swarm_id if reader.role is Role.COORDINATOR else "",
    )
    found = await op.tx.sessions.find(op.project_id, where, now=op.now, before=before, limit=limit)
    op.note(sessions=len(found))
    return tuple(view(op, session) for session in found)


def _shows(reader: Reader, session: Session) -> bool:
    """Tell whether a session is a reader's business; the same rule stands in ``SessionTable.find``."""
    if reader.role is Role.SYSTEM or reader.agent_id in session.lineage:
        return True
    coordinates = reader.role is Role.COORDINATOR and reader.swarm_id != ""
    return coordinates and session.swarm_id == reader.swarm_id and session.role is not Role.SYSTEM


def view(op: Operation, session: Session) -> SessionView:
    """Open a session for those whose business it is."""
    try:
        body = _open(op, session)
    except IntegrityFault:  # one damaged row must not hide the others; the audit entry tells
        op.note(unreadable=int(op.details.get("unreadable", 0)) + 1)
        body = {}
    return SessionView(
        session=session,
        status=session.standing(op.now),
        task=str(body.get("task", "")),
        progress=str(body.get("progress", "")),
        reason=str(body.get("reason", "")),
    )


def reseal_body(op: Operation, session: Session, **changes: object) -> Sealed:
    """Seal a session's texts with some of them changed."""
    return _seal(op, session.id, {**_open(op, session), **changes})


def _seal(op: Operation, session_id: SessionId, body: dict[str, object]) -> Sealed:
    binding = Binding("sessions", op.project_id, session_id, Level.PRIVATE, 1)
    return op.keys.seal(body, binding, encrypted=True)


def _open(op: Operation, session: Session) -> dict[str, object]:
    binding = Binding("sessions", op.project_id, session.id, Level.PRIVATE, 1)
    return op.keys.open(session.sealed, binding, encrypted=True)
