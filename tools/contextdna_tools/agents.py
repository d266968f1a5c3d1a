"""Tools: register_agent, retire_agent, agent_history."""

import json
from typing import Any

from pydantic import BaseModel, Field

from contextdna import (
    AgentChange,
    AgentEntry,
    AgentEntryId,
    AgentHistoryFilter,
    AgentId,
    AgentStatus,
    RegisterRequest,
    Scope,
    parse_choice,
)
from contextdna_tools.arguments import Arguments, Texts, shown_time, time_of
from contextdna_tools.spec import READS, WRITES, Call, Tool, hints

STATUSES = {status.value: status for status in AgentStatus if status is not AgentStatus.RETIRED}
CHANGES = {change.value: change for change in AgentChange}


class RegisterAgent(Arguments):
    """Add an agent to the project's directory, change what it says of it, or reinstate a retired one. What is left out
    stays. With heartbeat alone, only tell that it is alive."""

    agent_id: str = Field("", description="Default you; below you: your id/name")
    agent_type: str = Field("", description="Such as reviewer")
    capabilities: Texts = Field([], description="Names of what it can do")
    team_id: str = Field("", description="New agents: yours")
    swarm_id: str = Field("", description="New agents: yours")
    confidence: float | None = Field(None, description="0..1")
    status: str = Field("", description="active or idle")
    heartbeat: bool = Field(False, description="It is alive now")


class RegisterResult(BaseModel):
    """Answer of register_agent."""

    agent_id: str
    status: str
    changes: list[str] = []
    agent_type: str = ""
    capabilities: list[str] = []
    team_id: str = ""
    swarm_id: str = ""
    confidence: float | None = None


async def register_agent(call: Call, args: RegisterAgent) -> RegisterResult:
    """Register, or keep alive."""
    part = call.workspace(args).agents
    agent_id = AgentId(args.agent_id)
    asked = [name for name, field in RegisterAgent.model_fields.items() if getattr(args, name) != field.default]
    if set(asked) - {"session_id", "project_id", "agent_id"} == {"heartbeat"}:
        agent, changes = await part.heartbeat(agent_id), []
    else:
        report = await part.register(_request(args))
        agent, changes = report.agent, [change.value for change in report.changes]
    return RegisterResult(
        agent_id=agent.id,
        status=agent.status.value,
        changes=changes,
        agent_type=agent.agent_type,
        capabilities=list(agent.capabilities),
        team_id=agent.team_id,
        swarm_id=agent.swarm_id,
        confidence=agent.confidence,
    )


def _request(args: RegisterAgent) -> RegisterRequest:
    return RegisterRequest(
        agent_id=AgentId(args.agent_id),
        agent_type=args.agent_type or None,
        capabilities=tuple(args.capabilities) or None,
        team_id=args.team_id or None,
        swarm_id=args.swarm_id or None,
        confidence=args.confidence,
        status=parse_choice(args.status, STATUSES, name="status") if args.status else None,
        heartbeat=args.heartbeat,
    )


class RetireAgent(Arguments):
    """Take an agent out of service: its sessions and all below them end, its handles stop working, what was lent by
    delegation lapses. Until it is registered again."""

    agent_id: str = Field(description="You, below you, or of your swarm")


class RetireResult(BaseModel):
    """Answer of retire_agent."""

    agent_id: str
    status: str
    sessions_ended: int = 0
    grants_ended: int = 0


async def retire_agent(call: Call, args: RetireAgent) -> RetireResult:
    """Retire."""
    report = await call.workspace(args).agents.retire(AgentId(args.agent_id))
    return RetireResult(
        agent_id=report.agent.id,
        status=report.agent.status.value,
        sessions_ended=report.sessions_ended,
        grants_ended=report.grants_ended,
    )


class AgentHistory(Arguments):
    """What happened to an agent: registered, sessions, confidence, status, retired. For itself, those above it, and its
    coordinators."""

    agent_id: str = Field("", description="Default: all you may see")
    what: Texts = Field([], description="registered, updated, confidence_changed, session_begun, retired ...")
    since: str = Field("", description="ISO 8601")
    until: str = Field("", description="ISO 8601")
    oldest_first: bool = Field(False, description="Else newest first")
    limit: int = Field(20, description="1..1000")
    cursor: str = Field("", description="Of the page before")


class HistoryResult(BaseModel):
    """Answer of agent_history."""

    entries: list[dict[str, Any]]
    cursor: str = ""


async def agent_history(call: Call, args: AgentHistory) -> HistoryResult:
    """Read a history."""
    page = await call.workspace(args).agents.history(
        AgentHistoryFilter(
            agent_id=AgentId(args.agent_id),
            what=tuple(parse_choice(what, CHANGES, name="what") for what in args.what),
            since=time_of(args.since, name="since"),
            until=time_of(args.until, name="until"),
        ),
        cursor=AgentEntryId(args.cursor),
        newest_first=not args.oldest_first,
        limit=args.limit,
    )
    return HistoryResult(entries=[_shown(entry) for entry in page.entries], cursor=page.cursor)


def _shown(entry: AgentEntry) -> dict[str, Any]:
    fields = {
        "agent_id": entry.agent_id,
        "what": entry.what.value,
        "at": shown_time(entry.at),
        "by": entry.by_agent_id,
        "conversation": entry.session_id or None,
        "confidence": entry.confidence,
        "details": json.loads(entry.details) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


REGISTER_AGENT = Tool("register_agent", RegisterAgent, RegisterResult, register_agent, hints(idempotent=True), WRITES)
RETIRE_AGENT = Tool(
    "retire_agent", RetireAgent, RetireResult, retire_agent, hints(destructive=True), frozenset({Scope.ADMIN})
)
AGENT_HISTORY = Tool("agent_history", AgentHistory, HistoryResult, agent_history, hints(read_only=True), READS)
