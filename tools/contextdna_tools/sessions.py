"""Tools: begin_session, end_session, log_turn, delegate_with_context."""

from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from contextdna import (
    AgentId,
    BeginRequest,
    BegunSession,
    ContextDnaError,
    ContextQuery,
    DelegationRequest,
    InvalidInput,
    Level,
    ModeName,
    RecordId,
    Role,
    Scope,
    StoreStatus,
    TurnDraft,
    check_count,
    naming_item,
    one_line,
    parse_choice,
)
from contextdna_tools.arguments import (
    LEVEL,
    Arguments,
    Object,
    Objects,
    Strict,
    Texts,
    level_of,
    shown_time,
    with_defaults,
    within,
)
from contextdna_tools.boundary import parsed, unforeseen
from contextdna_tools.spec import READS, WRITES, Call, Tool, hints

ROLES = {role.value: role for role in Role}
_BRIEFING_HITS = 10
_BRIEFING_TOKENS = 800
_BRIEFING_CHARS = 300  # of a line: a log must not take the room of the others
_KEYS_SHOWN = 50
_OF_A_NEW_ONE = ("team_id", "swarm_id", "role", "ttl_s")


class BeginSession(Arguments):
    """Start work as an agent: gives a secret session_id to pass with every call, and a briefing. A session_id alone
    resumes it."""

    agent_id: str = Field("", description="Default: you")
    task: str = Field("", description="What for")
    parent: str = Field("", description="Parent's session_id")
    team_id: str = Field("", description="Default: parent's")
    swarm_id: str = Field("", description="Default: parent's")
    role: str = Field("agent", description="agent, coordinator or system")
    ttl_s: float | None = Field(None, description="Seconds; default 24 h")


class BeginResult(BaseModel):
    """Answer of begin_session."""

    session_id: str
    agent_id: str = ""
    project_id: str = ""
    conversation: str = ""
    expires_at: str = ""
    resumed: bool = False
    work: dict[str, Any] = {}
    briefing: list[str] = []


async def begin_session(call: Call, args: BeginSession) -> BeginResult:
    """Begin or resume a session."""
    if args.session_id and not args.parent:
        return await _resume(call, args)
    if args.session_id not in ("", args.parent):
        raise InvalidInput(
            "session_id and parent name two sessions",
            code="session_and_parent",
            hint="Give parent for a new session below it, or session_id alone to resume.",
        )
    begun = await call.workspace(args, session_id=args.parent).begin_session(
        BeginRequest(
            agent_id=AgentId(args.agent_id),
            task=args.task,
            team_id=args.team_id,
            swarm_id=args.swarm_id,
            role=parse_choice(args.role, ROLES, name="role"),
            ttl_s=args.ttl_s,
        )
    )
    return _begun(begun, briefing=await _briefing(call, args, begun))


async def _resume(call: Call, args: BeginSession) -> BeginResult:
    """Resume a session. Whoever was handed it may name its agent and task; what only a new one takes is refused."""
    asked = [name for name in _OF_A_NEW_ONE if getattr(args, name) != BeginSession.model_fields[name].default]
    if asked:
        raise InvalidInput(
            f"{asked[0]} is for a new session; session_id resumes one",
            code="session_not_new",
            hint="Pass it as parent to begin a new session below it, or session_id alone to resume.",
        )
    begun = await call.workspace(args).resume_session(agent_id=AgentId(args.agent_id))
    briefing = await _briefing(call, args, begun)
    if args.task not in ("", begun.task):
        briefing.insert(0, "Resumed with its own task, not the one given: for that, pass session_id as parent.")
    keys = list(begun.state_keys)
    work = {
        "task": begun.task,
        "progress": begun.progress,
        "thoughts": begun.session.thoughts,
        "delegation_id": begun.session.delegation_id,
        "state_keys": keys if len(keys) <= _KEYS_SHOWN else [*keys[:_KEYS_SHOWN], "…"],
    }
    return _begun(begun, briefing=briefing, resumed=True, work=work)


async def _briefing(call: Call, args: BeginSession, begun: BegunSession) -> list[str]:
    """Find what is known of the task. The session stands by now: no failure here may keep its handle back."""
    if not begun.task:
        return []
    limits = call.hub.settings.limits
    query = ContextQuery(
        text=begun.task[: min(2000, limits.query_chars_max)],
        limit=min(_BRIEFING_HITS, limits.hits_max),
        max_tokens=min(_BRIEFING_TOKENS, limits.answer_tokens_max),
    )
    try:
        context = await call.workspace(args, session_id=begun.handle).retrieve_context(query)
    except Exception as error:  # noqa: BLE001 - whatever failed, the session was begun
        known = error if isinstance(error, ContextDnaError) else unforeseen("the briefing", error)
        return [f"No briefing: {known.message} [{known.code}]. Ask retrieve_context."]
    return [f"[{hit.record.type}] {_cut(one_line(hit.content))} ({hit.record.id})" for hit in context.hits]


def _cut(text: str) -> str:
    return text if len(text) <= _BRIEFING_CHARS else f"{text[:_BRIEFING_CHARS]} …"


def _begun(
    begun: BegunSession, *, briefing: list[str], resumed: bool = False, work: dict[str, Any] | None = None
) -> BeginResult:
    return BeginResult(
        session_id=begun.handle,
        agent_id=begun.session.agent_id,
        project_id=begun.session.project_id,
        conversation=begun.session.id,
        expires_at=shown_time(begun.session.expires_at),
        resumed=resumed,
        work=work or {},
        briefing=briefing,
    )


class EndSession(Arguments):
    """Finish the session: output and learnings become memories, its delegation and grants end."""

    success: bool = Field(True, description="Task done")
    output: str = Field("", description="The result")
    learnings: Texts = Field([], description="For the next agent, up to 20")
    artifacts: Texts = Field([], description="Artifact ids")
    promote: Texts = Field([], description="Working memories to keep; others lapse")
    level: str = LEVEL


class EndResult(BaseModel):
    """Answer of end_session."""

    status: str
    stored: list[str]
    delegation_completed: bool = False
    grants_ended: int = 0
    children_ended: int = 0
    promoted: list[str] = []
    expired: list[str] = []


async def end_session(call: Call, args: EndSession) -> EndResult:
    """End a session."""
    report = await call.workspace(args).end_session(
        success=args.success,
        output=args.output,
        learnings=args.learnings,
        artifact_ids=[RecordId(i) for i in args.artifacts],
        promote=[RecordId(i) for i in args.promote],
        level=level_of(args.level, call.hub.settings.default_level),
    )
    return EndResult(
        status=report.session.status.value,
        stored=[item.id for item in report.stored],
        delegation_completed=report.delegation_completed,
        grants_ended=report.grants_ended,
        children_ended=report.children_ended,
        promoted=list(report.promoted),
        expired=list(report.expired),
    )


class TurnFields(Strict):
    """The fields of one turn."""

    role: str = Field("user", description="user, assistant, system or tool")
    content: str = Field("", description="What was said")
    level: str = LEVEL
    tool_calls: Objects = Field([], description="{name, arguments, result}")
    metadata: Object = Field({}, description="Any JSON")


class LogTurn(TurnFields, Arguments):
    """Append turns to the session's conversation, in order. Needs a session_id."""

    turns: Objects = Field([], description="Objects with these fields")


class LogResult(BaseModel):
    """Answer of log_turn."""

    ids: list[str]
    conversation: str = ""
    status: SkipJsonSchema[str | None] = None
    """``queued`` where the turns wait for the database; left out where they were stored."""


async def log_turn(call: Call, args: LogTurn) -> LogResult:
    """Append turns."""
    if args.turns and (args.content or args.tool_calls):
        raise InvalidInput("content and turns together", code="content_and_turns", hint="Give one of the two.")
    if not args.turns and "turns" in args.model_fields_set and not (args.content or args.tool_calls):
        raise InvalidInput("turns is empty", code="turns_empty", hint="Give at least one turn, or content.")
    if args.turns:
        check_count(len(args.turns), name="turns", maximum=call.hub.settings.limits.batch_max)
    default = call.hub.settings.default_level
    alone = _draft(args, default)
    drafts = [_item(with_defaults(raw, args, TurnFields), index, default) for index, raw in enumerate(args.turns)]
    ids = await call.workspace(args).log_turns(drafts or [alone])
    status = StoreStatus.QUEUED.value if ModeName.DATABASE_AWAY in call.notices else None
    return LogResult(ids=list(ids), conversation=args.session_id.partition(".")[0], status=status)


def _item(raw: dict[str, Any], index: int, default: Level) -> TurnDraft:
    with naming_item("turns", index):
        return _draft(parsed(TurnFields, raw), default)


def _draft(fields: TurnFields, default: Level) -> TurnDraft:
    return TurnDraft(
        role=fields.role,
        content=fields.content,
        level=level_of(fields.level, default),
        metadata=fields.metadata,
        tool_calls=fields.tool_calls,
    )


class DelegateWithContext(Arguments):
    """Hand a task to a child agent with the memories it needs. Gives its session_id and a briefing to pass on. Private
    ones go only when named."""

    child_agent_id: str = Field(description="Not already in the chain")
    task: str = Field(description="What to do")
    query: str = Field("", description="Default: the task")
    memory_ids: Texts = Field([], description="Always inherited")
    memory_types: Texts = Field([], description="Only these")
    min_importance: float = Field(0.0, description="0..1")
    limit: int = Field(30, description="At most")
    include_conversations: bool = Field(False, description="This session's turns too")
    expires_in_s: float | None = Field(None, description="Deadline in seconds")
    team_id: str = Field("", description="Default yours")
    swarm_id: str = Field("", description="Default yours")
    max_tokens: int = Field(2000, description="Of the briefing")


class DelegateResult(BaseModel):
    """Answer of delegate_with_context."""

    session_id: str
    briefing: str
    delegation_id: str = ""
    chain: list[str] = []
    depth: int = 0
    inherited: dict[str, int] = {}
    expires_at: str = ""


async def delegate_with_context(call: Call, args: DelegateWithContext) -> DelegateResult:
    """Delegate."""
    report = await call.workspace(args).delegate(
        DelegationRequest(
            child_agent_id=AgentId(args.child_agent_id),
            task=args.task,
            query=args.query,
            memory_ids=tuple(RecordId(i) for i in args.memory_ids),
            memory_types=tuple(args.memory_types),
            min_importance=args.min_importance,
            limit=within(args, "limit", call.hub.settings.limits.batch_max),
            include_conversations=args.include_conversations,
            expires_in_s=args.expires_in_s,
            team_id=args.team_id,
            swarm_id=args.swarm_id,
            max_tokens=within(args, "max_tokens", call.hub.settings.limits.answer_tokens_max),
        )
    )
    return DelegateResult(
        session_id=report.begun.handle,
        delegation_id=report.delegation.id,
        chain=list(report.chain),
        depth=report.delegation.depth,
        inherited={"memories": report.memories, "turns": report.turns},
        expires_at=shown_time(report.delegation.expires_at),
        briefing=report.briefing,
    )


BEGIN_SESSION = Tool("begin_session", BeginSession, BeginResult, begin_session, hints(), READS | WRITES)
END_SESSION = Tool("end_session", EndSession, EndResult, end_session, hints(destructive=True), WRITES)
LOG_TURN = Tool("log_turn", LogTurn, LogResult, log_turn, hints(), WRITES)
DELEGATE = Tool(
    "delegate_with_context",
    DelegateWithContext,
    DelegateResult,
    delegate_with_context,
    hints(),
    frozenset({Scope.READ, Scope.SHARE}),
)
