"""Tools: begin_session, end_session, log_turn, delegate_with_context."""

from typing import Any

from pydantic import BaseModel, Field, ValidationError

from contextdna import (
    AgentId,
    BeginRequest,
    BegunSession,
    ContextDnaError,
    ContextQuery,
    DelegationRequest,
    InvalidInput,
    RecordId,
    Role,
    TurnDraft,
    Workspace,
    one_line,
    parse_choice,
)
from contextdna_tools.arguments import LEVEL, Arguments, Object, Objects, Strict, Texts, level_of, shown_time, within
from contextdna_tools.boundary import as_invalid_input, unforeseen
from contextdna_tools.spec import Call, Tool, hints

ROLES = {role.value: role for role in Role}
_BRIEFING_HITS = 10
_BRIEFING_TOKENS = 800


class BeginSession(Arguments):
    """Start work as an agent: gives a secret session_id to pass with every later call, and a briefing. A session_id
    alone resumes it."""

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
    briefing: list[str] = []


async def begin_session(call: Call, args: BeginSession) -> BeginResult:
    """Begin or resume a session."""
    fields = {name: field for name, field in BeginSession.model_fields.items() if name not in Arguments.model_fields}
    asked = any(getattr(args, name) != field.default for name, field in fields.items())
    resumes = bool(args.session_id) and not asked
    if args.parent and args.session_id not in ("", args.parent):
        raise InvalidInput(
            "session_id and parent name two sessions",
            code="session_and_parent",
            hint="Give parent for a new session below it, or session_id alone to resume.",
        )
    workspace = call.workspace(args, session_id=args.parent or args.session_id)
    if resumes:
        begun = await workspace.resume_session()
    else:
        begun = await workspace.begin_session(
            BeginRequest(
                agent_id=AgentId(args.agent_id),
                task=args.task,
                team_id=args.team_id,
                swarm_id=args.swarm_id,
                role=parse_choice(args.role, ROLES, name="role"),
                ttl_s=args.ttl_s,
            )
        )
    return _begun(
        begun, resumed=resumes, briefing=await _briefing(call, call.workspace(args, session_id=begun.handle), begun)
    )


async def _briefing(call: Call, workspace: Workspace, begun: BegunSession) -> list[str]:
    """Find what is known of the task. The session stands by now: no failure here may keep its handle back."""
    so_far = [f"Progress so far: {one_line(begun.progress)}"] if begun.progress else []
    if not begun.task:
        return so_far
    limits = call.hub.settings.limits
    query = ContextQuery(
        text=begun.task[: min(2000, limits.query_chars_max)],
        limit=min(_BRIEFING_HITS, limits.hits_max),
        max_tokens=min(_BRIEFING_TOKENS, limits.answer_tokens_max),
    )
    try:
        context = await workspace.retrieve_context(query)
    except Exception as error:  # noqa: BLE001 - whatever failed, the session was begun
        known = error if isinstance(error, ContextDnaError) else unforeseen("the briefing", error)
        return [*so_far, f"No briefing: {known.message} [{known.code}]. Ask retrieve_context."]
    return so_far + [f"[{hit.record.type}] {one_line(hit.content)} ({hit.record.id})" for hit in context.hits]


def _begun(begun: BegunSession, *, resumed: bool, briefing: list[str]) -> BeginResult:
    return BeginResult(
        session_id=begun.handle,
        agent_id=begun.session.agent_id,
        project_id=begun.session.project_id,
        conversation=begun.session.id,
        expires_at=shown_time(begun.session.expires_at),
        resumed=resumed,
        briefing=briefing,
    )


class EndSession(Arguments):
    """Finish the session: output and learnings become memories, its delegation completes, its grants end."""

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
    """Append one turn, or several in order, to the session's conversation. Needs a session_id."""

    turns: Objects = Field([], description="Objects with these fields")


class LogResult(BaseModel):
    """Answer of log_turn."""

    ids: list[str]
    conversation: str = ""


async def log_turn(call: Call, args: LogTurn) -> LogResult:
    """Append turns."""
    if args.turns and (args.content or args.tool_calls):
        raise InvalidInput("content and turns together", code="content_and_turns", hint="Give one of the two.")
    default = call.hub.settings.default_level
    fields = [_turn(raw, index) for index, raw in enumerate(args.turns)] if args.turns else [args]
    drafts = [
        TurnDraft(
            role=item.role,
            content=item.content,
            level=level_of(item.level, default),
            metadata=item.metadata,
            tool_calls=item.tool_calls,
        )
        for item in fields
    ]
    ids = await call.workspace(args).log_turns(drafts)
    return LogResult(ids=list(ids), conversation=args.session_id.partition(".")[0])


def _turn(raw: dict[str, Any], index: int) -> TurnFields:
    try:
        return TurnFields.model_validate(raw)
    except ValidationError as error:
        raise as_invalid_input(error, TurnFields, at=f"turns[{index}].") from None


class DelegateWithContext(Arguments):
    """Hand a task to a child agent with the memories it needs. Gives its session_id and a briefing to pass on. Private
    memories go only when named. Ends with its end_session."""

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


BEGIN_SESSION = Tool("begin_session", BeginSession, BeginResult, begin_session, hints())
END_SESSION = Tool("end_session", EndSession, EndResult, end_session, hints(destructive=True))
LOG_TURN = Tool("log_turn", LogTurn, LogResult, log_turn, hints())
DELEGATE = Tool("delegate_with_context", DelegateWithContext, DelegateResult, delegate_with_context, hints())
