"""Who may do what: from the caller to the agent it acts as, and from the agent to the record.

Reading is decided by ``values.visibility`` inside every query. This file decides the rest: which project and session a
call belongs to, who may begin sessions for whom, who may change a record, at which level an agent may write.
"""

import hashlib
import hmac
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from contextdna.domain.authority import require_could_begin
from contextdna.errors import AccessDenied, InvalidInput, NotFound, SessionInvalid
from contextdna.ports.database import Transaction
from contextdna.values.audit import Risk
from contextdna.values.ids import AgentId, ProjectId, SessionId, as_named, name_of
from contextdna.values.level import Level
from contextdna.values.principal import Actor, Principal, Reader, Role
from contextdna.values.record import Record, RecordRef
from contextdna.values.session import Delegation, DelegationStatus, Session, SessionStatus
from contextdna.values.visibility import visible


class Action(StrEnum):
    """Everything that can be asked of a workspace; the audit log's ``action``."""

    STORE_MEMORY = "memory.store"
    RETRIEVE_CONTEXT = "context.retrieve"
    GET_MEMORY = "memory.get"
    UPDATE_MEMORY = "memory.update"
    FORGET_MEMORY = "memory.forget"
    PURGE_MEMORY = "memory.purge"
    RESTORE_MEMORY = "memory.restore"
    SHARE_MEMORY = "memory.share"
    REVOKE_SHARE = "memory.unshare"
    BEGIN_SESSION = "session.begin"
    RESUME_SESSION = "session.resume"
    PROGRESS_SESSION = "session.progress"
    READ_SESSIONS = "session.read"
    END_SESSION = "session.end"
    CLOSE_SESSIONS = "session.close"
    SET_STATE = "state.set"
    GET_STATE = "state.get"
    DELETE_STATE = "state.delete"
    LOG_TURN = "turn.log"
    READ_CONVERSATION = "conversation.read"
    LIST_CONVERSATIONS = "conversation.list"
    ATTACH_ARTIFACT = "artifact.attach"
    READ_ARTIFACT = "artifact.read"
    LIST_ARTIFACTS = "artifact.list"
    DELEGATE = "delegation.create"
    ACCEPT_DELEGATION = "delegation.accept"
    DECLINE_DELEGATION = "delegation.decline"
    REVOKE_DELEGATION = "delegation.revoke"
    LIST_DELEGATIONS = "delegation.list"
    RECORD_LOOP = "loop.record"
    READ_LOOPS = "loop.read"
    OPEN_RECORD = "record.open"
    LINK_MEMORY = "memory.link"
    ADD_TASK = "task.add"
    UPDATE_TASK = "task.update"
    READ_TASK = "task.read"
    LIST_TASKS = "task.list"
    LIST_PROJECTS = "project.list"
    READ_PROJECT = "project.read"
    COMPLETE_NAME = "name.complete"
    READ_HEALTH = "health.read"
    READ_STATS = "stats.read"
    READ_EVENTS = "event.read"
    SEND_SIGNAL = "signal.send"
    ACKNOWLEDGE_SIGNAL = "signal.acknowledge"
    WITHDRAW_SIGNAL = "signal.withdraw"
    READ_SIGNALS = "signal.read"
    AWAIT_SIGNAL = "signal.await"
    QUERY_AUDIT = "audit.query"
    VERIFY_AUDIT = "audit.verify"
    EXPORT_AUDIT = "audit.export"
    ROTATE_KEYS = "key.rotate"
    SWEEP = "retention.sweep"
    REINDEX = "embedding.reindex"
    REVIEW_SPOOL = "spool.review"
    REGISTER_AGENT = "agent.register"
    BEAT_AGENT = "agent.heartbeat"
    RATE_AGENT = "agent.confidence"
    RETIRE_AGENT = "agent.retire"
    READ_AGENTS = "agent.read"
    READ_AGENT_HISTORY = "agent.history"
    CREATE_TOKEN = "token.create"  # noqa: S105 - an action's name
    LIST_TOKENS = "token.list"
    REVOKE_TOKEN = "token.revoke"  # noqa: S105 - an action's name
    AUTHENTICATE = "token.authenticate"
    REQUEST = "request.refuse"


_SHOWN_IDS: Final = 10

SYSTEM_ONLY: Final = frozenset(
    {
        Action.READ_STATS,
        Action.QUERY_AUDIT,
        Action.VERIFY_AUDIT,
        Action.EXPORT_AUDIT,
        Action.ROTATE_KEYS,
        Action.SWEEP,
        Action.REINDEX,
        Action.REVIEW_SPOOL,
        Action.CLOSE_SESSIONS,
        Action.CREATE_TOKEN,
        Action.LIST_TOKENS,
        Action.REVOKE_TOKEN,
    }
)

OF_NO_PROJECT: Final = frozenset({Action.LIST_PROJECTS, Action.READ_HEALTH, Action.VERIFY_AUDIT})
"""What is asked of the whole installation: no project need be named."""

RISKS: Final = {
    Action.UPDATE_MEMORY: Risk.MEDIUM,
    Action.FORGET_MEMORY: Risk.MEDIUM,
    Action.PURGE_MEMORY: Risk.HIGH,
    Action.SHARE_MEMORY: Risk.MEDIUM,
    Action.DELEGATE: Risk.MEDIUM,
    Action.REVOKE_DELEGATION: Risk.MEDIUM,
    Action.QUERY_AUDIT: Risk.MEDIUM,
    Action.EXPORT_AUDIT: Risk.HIGH,
    Action.ROTATE_KEYS: Risk.CRITICAL,
    Action.REGISTER_AGENT: Risk.MEDIUM,
    Action.RETIRE_AGENT: Risk.MEDIUM,
    Action.CREATE_TOKEN: Risk.HIGH,
    Action.REVOKE_TOKEN: Risk.MEDIUM,
}
"""Risk of an allowed action; what is not named is low. Denials are always high."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One call's origin: the principal, and what the call itself named."""

    principal: Principal
    handle: str = ""
    project_id: str = ""
    request_id: str = ""
    trace_id: str = ""


def new_handle(session_id: SessionId, secret: str) -> str:
    """Join the public id and the secret into the handle that a caller passes as ``session_id``."""
    return f"{session_id}.{secret}"


def digest_secret(secret: str) -> bytes:
    """Digest a handle's secret for storage: 130 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret.encode()).digest()


async def resolve_actor(tx: Transaction, caller: Caller, action: Action, *, now: datetime) -> Actor:
    """Find the agent and project that a call acts as and in.

    Raises:
        NotFound: ``project_not_found``: no such project for this caller.
        SessionInvalid: ``session_invalid``, ``session_ended``, ``session_expired`` or ``session_not_yours``.
    """
    principal = caller.principal
    if caller.handle:
        session = await _session_of(tx, caller, now=now)
        _require_same_project(caller, session)
        role = _acting_role(principal, session)
        reader = Reader(session.project_id, session.agent_id, session.team_id, session.swarm_id, role)
        return Actor(reader, principal.agent_id, session.id, session.lineage, session.expires_at)
    return own_actor(caller, action)


def own_actor(caller: Caller, action: Action) -> Actor:
    """Give the actor of a call without a session handle: the principal itself, in the project that it means.

    Raises:
        NotFound: ``project_not_found``: no such project for this caller.
        InvalidInput: ``project_required``.
    """
    principal = caller.principal
    project_id = _own_project(caller, action)
    reader = Reader(project_id, principal.agent_id, principal.team_id, principal.swarm_id, principal.role)
    return Actor(reader, principal.agent_id, lineage=(principal.agent_id,))


def _acting_role(principal: Principal, session: Session) -> Role:
    """Give a session's role, or its beginner's where that is the lesser now: who was narrowed gains nothing by handles.

    Another principal was handed the handle, and with it the role, by someone who had it to give.
    """
    began = principal.agent_id in (session.principal_id, session.lineage[0])
    return min((session.role, principal.role) if began else (session.role,), key=lambda role: role.rank)


def require_role(actor: Actor, action: Action) -> None:
    """Refuse what only operators may do.

    Raises:
        AccessDenied: ``role_required``.
    """
    if action in SYSTEM_ONLY and actor.reader.role is not Role.SYSTEM:
        raise AccessDenied(
            f"{action} needs the role system",
            code="role_required",
            hint="Ask an operator, or call without the session_id of a lesser agent.",
        )


async def require_unretired(tx: Transaction, actor: Actor, principal: Principal, action: Action) -> None:
    """Refuse a principal whose own agent is retired in the project, whatever handle it passes.

    The role system is never refused: its role comes from the credential, and someone must be able to reinstate.

    Raises:
        AccessDenied: ``agent_retired``.
    """
    if principal.role is Role.SYSTEM or action in OF_NO_PROJECT:
        return
    if await tx.agents.is_retired(actor.project_id, principal.agent_id):
        raise retired(principal.agent_id)


def retired(agent_id: AgentId) -> AccessDenied:
    """Make the answer of an agent that is out of service."""
    return AccessDenied(
        f"agent {agent_id} is retired",
        code="agent_retired",
        hint="An agent above it, its coordinator or an operator can reinstate it with register_agent.",
    )


def no_agent(agent_id: AgentId) -> NotFound:
    """Make the answer for an agent that the project does not know."""
    return NotFound(
        "no such agent in this project",
        code="agent_not_found",
        hint="A delegated agent goes by its path, such as queen/drone; register_agent adds one.",
        record_ids=(as_named(agent_id),),
    )


async def _session_of(tx: Transaction, caller: Caller, *, now: datetime) -> Session:
    session_id, _, secret = caller.handle.partition(".")
    session = await tx.sessions.get(SessionId(session_id)) if session_id and secret else None
    if session is None or not hmac.compare_digest(session.secret_digest, digest_secret(secret)):
        raise _no_session()
    principal = caller.principal
    own = principal.agent_id in session.lineage or principal.agent_id == name_of(session.agent_id)
    trusted = own or principal.role is Role.SYSTEM
    if session.project_id not in principal.project_ids or not trusted:
        raise _no_session()
    if session.standing(now) is not SessionStatus.ACTIVE:
        raise await _over(tx, session, now=now)
    await require_could_begin(tx, principal, session)
    return session


def _no_session() -> SessionInvalid:
    return SessionInvalid(
        "no such session_id for this caller",
        hint="Pass it whole, as it was given; if it is lost, begin_session gives another. Do not go on without one.",
    )


async def _over(tx: Transaction, session: Session, *, now: datetime) -> SessionInvalid:
    """Make the answer for a session that is over, to whoever holds its handle: what ended it, and what to do now.

    Who works for another is never told to go on without a handle: it would act as whoever gave it the work.
    """
    delegation = await tx.sessions.get_delegation(session.delegation_id) if session.delegation_id else None
    hint = "Call begin_session for a new session_id, if there is more to do."
    if delegation is not None:
        hint = f"Your work on this task is over: stop, and report to {name_of(delegation.parent_agent_id)}."
    elif session.parent_id:
        hint = "Go on with the session_id that it was begun with; if that is over too, stop and report to who gave it."
    elif len(session.lineage) > 1:
        hint = f"Stop; if there is more to do, {name_of(session.lineage[-2])}, who began it, can begin another."
    if session.standing(now) is SessionStatus.EXPIRED:
        return SessionInvalid("the session has expired", code="session_expired", hint=hint)
    cause = f"the session has ended: {session.status.value}"
    if session.status is SessionStatus.CLOSED:
        cause = f"the session was ended from outside: {await _cause(tx, session, delegation)}"
    return SessionInvalid(cause, code="session_ended", hint=hint)


async def _cause(tx: Transaction, session: Session, delegation: Delegation | None) -> str:
    """Name what ended a session that its own agent did not end."""
    if delegation is not None and delegation.status is DelegationStatus.DECLINED:
        return f"the delegation from {delegation.parent_agent_id} was declined"
    for agent in await tx.projects.agents(session.project_id, session.lineage):
        if agent.retired_at is not None:
            return f"agent {agent.id} is retired"
    above = await tx.sessions.get(session.parent_id) if session.parent_id else None
    if above is not None and above.ended_at is not None and above.ended_at == session.ended_at:
        return f"the session above it, of {above.agent_id}, ended"
    if delegation is not None:
        return f"the delegation from {delegation.parent_agent_id} was revoked"
    return "no cause is known"


def _require_same_project(caller: Caller, session: Session) -> None:
    if caller.project_id and caller.project_id != session.project_id:
        raise no_project((session.project_id,))


def _own_project(caller: Caller, action: Action) -> ProjectId:
    projects = caller.principal.project_ids
    if not caller.project_id and projects and action in OF_NO_PROJECT:
        return projects[0]  # whose chain the audit entry goes to
    if not caller.project_id:
        if len(projects) == 1 or ProjectId("default") in projects:
            return ProjectId("default") if ProjectId("default") in projects else projects[0]
        if projects:
            raise InvalidInput(
                "several projects are possible",
                code="project_required",
                hint=f"Pass project_id, one of: {', '.join(sorted(projects))}.",
            )
    if caller.project_id not in projects:
        raise no_project(projects)
    return ProjectId(caller.project_id)


def no_project(usable: Collection[ProjectId]) -> NotFound:
    """Make the answer for a project that a call may not use, naming those that it may: in a session only its own."""
    known = ", ".join(sorted(usable)) or "none"
    return NotFound(
        "no such project for this caller",
        code="project_not_found",
        hint=f"Projects you may use: {known}. On your own machine, add one with `contextdna serve --project NAME`.",
        denied=True,
    )


def require_level(actor: Actor, level: Level) -> None:
    """Refuse to write at a level whose circle the writer does not belong to.

    Raises:
        InvalidInput: ``level_needs_team`` or ``level_needs_swarm``.
        AccessDenied: ``role_required`` for level system.
    """
    reader = actor.reader
    require_circle(level, team_id=reader.team_id, swarm_id=reader.swarm_id)
    if level is Level.SYSTEM and reader.role is not Role.SYSTEM:
        raise AccessDenied("level system needs the role system", code="role_required", hint="Use level project.")


def require_circle(level: Level, *, team_id: str, swarm_id: str) -> None:
    """Refuse level team without a team and level swarm without a swarm: nobody could read it.

    Raises:
        InvalidInput: ``level_needs_team`` or ``level_needs_swarm``.
    """
    if level is Level.TEAM and not team_id:
        raise InvalidInput("level team needs an agent with a team", code="level_needs_team", hint="Use level private.")
    if level is Level.SWARM and not swarm_id:
        raise InvalidInput(
            "level swarm needs an agent with a swarm", code="level_needs_swarm", hint="Use level project or private."
        )


def may_change(actor: Actor, record: Record | RecordRef) -> bool:
    """Tell whether an actor may change, delete or share a record: its owner, or the role system."""
    if record.project_id != actor.project_id:
        return False
    return record.owner_id == actor.agent_id or actor.reader.role is Role.SYSTEM


async def require_changeable(
    tx: Transaction, actor: Actor, record_ids: tuple[str, ...], refs: list[RecordRef], *, now: datetime
) -> None:
    """Refuse unless every id is there and the actor may change it; what it may not see answers as absent.

    Raises:
        NotFound: ``not_found``, naming the ids.
        AccessDenied: ``not_owner`` where the actor sees the record but does not own it.
    """
    found = {ref.id: ref for ref in refs}
    unowned = [ref.id for ref in refs if not may_change(actor, ref)]
    seen = {item.record.id for item in await tx.records.read(actor.reader, unowned, now=now)} if unowned else set()
    hidden = [ref_id for ref_id in unowned if ref_id not in seen]
    absent = tuple(i for i in record_ids if i not in found or i in hidden)
    if absent:
        raise absent_error(absent, denied=hides(actor, (found[i] for i in hidden)))
    if unowned:
        raise AccessDenied(
            "only the owner or the role system may change this",
            code="not_owner",
            hint="Store a memory of your own with relates_to instead.",
            record_ids=tuple(unowned),
        )


def hides(actor: Actor, refs: Iterable[RecordRef]) -> bool:
    """Tell whether any of these records is one that the actor may not see, rather than a deleted one of its own."""
    return any(not visible(actor.reader, ref, granted=False) for ref in refs)


def absent_error(record_ids: tuple[str, ...], *, denied: bool) -> NotFound:
    """Make the one answer for ids that do not exist and ids that the caller may not see."""
    shown = ", ".join(as_named(record_id) for record_id in record_ids[:_SHOWN_IDS])
    return NotFound(
        f"not found: {shown}",
        hint="Check the ids, or find records with retrieve_context.",
        record_ids=record_ids,
        denied=denied,
    )


def require_may_begin(actor: Actor, agent_id: AgentId, *, teams: tuple[str, ...], asked: tuple[str, str, Role]) -> None:
    """Refuse a session that would have more rights than the caller.

    ``system`` begins any; ``coordinator`` any agent of its swarm (or of the project, when it has no swarm); ``agent``
    only itself.

    Args:
        actor: Who begins it.
        agent_id: For whom.
        teams: Teams that it may be in.
        asked: Its team, swarm and role.

    Raises:
        AccessDenied: ``session_not_allowed``.
    """
    caller = actor.reader
    if caller.role is Role.SYSTEM:
        return
    team_id, swarm_id, role = asked
    widens = role.rank > caller.role.rank or swarm_id not in ("", caller.swarm_id) or team_id not in teams
    if widens or (caller.role is Role.AGENT and agent_id != caller.agent_id):
        raise AccessDenied(
            "the session would have more rights than you have",
            code="session_not_allowed",
            hint="Begin it for your own agent, team and swarm, or use delegate_with_context.",
        )
