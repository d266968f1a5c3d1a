"""Tools: update_session, set_state, get_state, update_delegation."""

from typing import Any, Final

from pydantic import BaseModel, Field
from pydantic.config import JsonDict

from contextdna import (
    DelegationEnd,
    DelegationId,
    DelegationStatus,
    DelegationView,
    Direction,
    InvalidInput,
    parse_choice,
)
from contextdna_tools.arguments import Arguments, Texts, shown_time
from contextdna_tools.spec import READS, WRITES, Call, Tool, hints

STATUSES = {status.value: status for status in DelegationStatus}
ACTIONS = {action: action for action in ("list", "accept", "decline", "revoke")}
DIRECTIONS = {direction.value: direction for direction in Direction if direction}


_ANY_JSON: Final[JsonDict] = {"anyOf": [{"type": name} for name in ("string", "number", "boolean", "object", "array")]}


class UpdateSession(Arguments):
    """Tell how far your session is, for yourself after a restart and for those above you."""

    status: str = Field("", description="What you are at")
    thoughts: int = Field(0, description="So many more")


class SessionResult(BaseModel):
    """Answer of update_session."""

    status: str
    thoughts: int
    progress: str = ""


async def update_session(call: Call, args: UpdateSession) -> SessionResult:
    """Tell progress."""
    view = await call.workspace(args).sessions.progress(status=args.status, thoughts=args.thoughts)
    return SessionResult(status=view.status.value, thoughts=view.session.thoughts, progress=view.progress)


class SetState(Arguments):
    """Keep a value under a key until the session ends: encrypted, there after a restart, for nobody else."""

    key: str = Field(description="Such as cursor")
    value: Any = Field(None, description="Any JSON, 64 KiB; text stays text", json_schema_extra=_ANY_JSON)
    ttl_s: float | None = Field(None, description="Seconds; default 24 h")
    delete: bool = Field(False, description="Remove the key")


class SetStateResult(BaseModel):
    """Answer of set_state."""

    key: str
    version: int = 0
    expires_at: str = ""
    deleted: bool = False


async def set_state(call: Call, args: SetState) -> SetStateResult:
    """Keep or remove a value."""
    workspace = call.workspace(args)
    if args.delete:
        if args.value is not None:
            raise InvalidInput("a value and delete", code="value_and_delete", hint="Give one of the two.")
        return SetStateResult(key=args.key, deleted=await workspace.state.delete([args.key]) > 0)
    if args.value is None:
        raise InvalidInput("no value", code="value_missing", hint="Give any JSON but null, or delete the key.")
    entry = await workspace.state.set(args.key, args.value, ttl_s=args.ttl_s)
    return SetStateResult(key=entry.key, version=entry.version, expires_at=shown_time(entry.expires_at))


class GetState(Arguments):
    """Read what set_state kept in this session."""

    keys: Texts = Field([], description="Default: all")


class GetStateResult(BaseModel):
    """Answer of get_state."""

    state: dict[str, Any]
    missing: list[str] = []


async def get_state(call: Call, args: GetState) -> GetStateResult:
    """Read values."""
    state = {entry.key: entry.value for entry in await call.workspace(args).state.mget(args.keys)}
    return GetStateResult(state=state, missing=[key for key in args.keys if key not in state])


class UpdateDelegation(Arguments):
    """List delegations that you gave or received, with their results; accept or decline one that you received; revoke
    one that you gave, which ends all below it."""

    action: str = Field("list", description="list, accept, decline or revoke")
    delegation_id: str = Field("", description="Default: this session's")
    reason: str = Field("", description="Why you decline")
    direction: str = Field("", description="Of the list: given or received")
    status: str = Field("", description="Of the list")
    limit: int = Field(50, description="1..200")
    before: str = Field("", description="The last answer's cursor")


class DelegationLine(BaseModel):
    """One delegation."""

    id: str
    status: str
    parent: str
    child: str
    session: str
    depth: int
    expires_at: str
    task: str = ""
    progress: str = ""
    thoughts: int = 0
    results: list[str] = []
    reason: str = ""


class DelegationsResult(BaseModel):
    """Answer of update_delegation."""

    status: str
    delegations: list[dict[str, Any]] = []
    sessions_ended: int = 0
    grants_ended: int = 0
    cursor: str = ""


async def update_delegation(call: Call, args: UpdateDelegation) -> DelegationsResult:
    """List, accept, decline or revoke."""
    delegations = call.workspace(args).delegations
    named = DelegationId(args.delegation_id)
    match parse_choice(args.action, ACTIONS, name="action"):
        case "accept":
            return DelegationsResult(status=(await delegations.accept(named)).status.value)
        case "decline":
            return _ended(await delegations.decline(named, reason=args.reason))
        case "revoke":
            if not named:
                raise InvalidInput(
                    "revoke needs a delegation_id", code="delegation_id_missing", hint="List those that you gave first."
                )
            return _ended(await delegations.revoke(named))
        case _:
            page = await delegations.page(
                direction=_direction(args.direction),
                status=parse_choice(args.status, STATUSES, name="status") if args.status else None,
                before=DelegationId(args.before),
                limit=args.limit,
            )
            lines = [_line(view) for view in page.delegations]
            return DelegationsResult(status="listed", delegations=lines, cursor=page.cursor)


def _direction(label: str) -> Direction:
    return parse_choice(label, DIRECTIONS, name="direction") if label else Direction.ANY


def _ended(end: DelegationEnd) -> DelegationsResult:
    return DelegationsResult(
        status=end.delegation.status.value, sessions_ended=end.sessions_ended, grants_ended=end.grants_ended
    )


def _line(view: DelegationView) -> dict[str, Any]:
    delegation = view.delegation
    line = DelegationLine(
        id=delegation.id,
        status=view.status.value,
        parent=delegation.parent_agent_id,
        child=delegation.child_agent_id,
        session=delegation.child_session_id,
        depth=delegation.depth,
        expires_at=shown_time(delegation.expires_at),
        task=view.task,
        progress=view.progress,
        thoughts=view.thoughts,
        results=list(view.result_ids),
        reason=view.reason,
    )
    return line.model_dump(exclude_defaults=True)


UPDATE_SESSION = Tool("update_session", UpdateSession, SessionResult, update_session, hints(), READS | WRITES)
SET_STATE = Tool("set_state", SetState, SetStateResult, set_state, hints(destructive=True), WRITES)
GET_STATE = Tool("get_state", GetState, GetStateResult, get_state, hints(read_only=True, idempotent=True), READS)
UPDATE_DELEGATION = Tool(
    "update_delegation", UpdateDelegation, DelegationsResult, update_delegation, hints(destructive=True), READS | WRITES
)
