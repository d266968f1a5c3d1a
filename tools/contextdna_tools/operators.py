"""Tools for those who answer for a project: list_projects, query_audit."""

import difflib
import json
from typing import Any

from pydantic import BaseModel, Field

from contextdna import Action, AuditEntry, LimitExceeded, Scope, Workspace
from contextdna_tools.arguments import Arguments, shown_time
from contextdna_tools.spec import READS, Call, Tool, hints

_SHOWN_MAX = 100


class ListProjects(Arguments):
    """See which projects you may use, to name one as project_id."""


class ProjectsResult(BaseModel):
    """Answer of list_projects."""

    projects: list[str]


async def list_projects(call: Call, args: ListProjects) -> ProjectsResult:
    """List projects."""
    return ProjectsResult(projects=sorted(await call.workspace(args).list_projects()))


class QueryAudit(Arguments):
    """Read who did what, newest first, denials too. Role system only."""

    action: str = Field("", description="Such as memory.store")
    agent_id: str = Field("", description="Who acted")
    record_id: str = Field("", description="About this record")
    before: int = Field(0, description="Entries older than this seq")
    limit: int = Field(50, description="1..100")
    installation: bool = Field(False, description="What belongs to no project")


class AuditView(BaseModel):
    """One audit entry."""

    seq: int
    at: str
    action: str
    outcome: str
    risk: str
    agent: str = ""
    principal: str | None = None
    session: str | None = None
    record_ids: list[str] | None = None
    details: dict[str, Any] | None = None
    request: str | None = None
    trace: str | None = None


class AuditResult(BaseModel):
    """Answer of query_audit."""

    entries: list[AuditView]
    next_before: int
    truncated: bool
    empty: str | None = None


async def query_audit(call: Call, args: QueryAudit) -> AuditResult:
    """Read the audit log."""
    if not 1 <= args.limit <= _SHOWN_MAX:
        raise LimitExceeded(
            f"limit must be from 1 to {_SHOWN_MAX}", code="limit_out_of_range", hint=f"Use 1 to {_SHOWN_MAX}."
        )
    workspace = call.workspace(args)
    entries = await workspace.query_audit(
        before_seq=args.before,
        limit=args.limit,
        action=args.action,
        agent_id=args.agent_id,
        record_id=args.record_id,
        installation=args.installation,
    )
    more = len(entries) == args.limit and entries[-1].seq > 1
    return AuditResult(
        entries=[_view(entry) for entry in entries],
        next_before=entries[-1].seq if more else 0,
        truncated=more,
        empty=None if entries else await _explained(workspace, args),
    )


async def _explained(workspace: Workspace, args: QueryAudit) -> str:
    """Say what was searched, how many entries there are, and which action may have been meant."""
    newest = await workspace.query_audit(limit=1, installation=args.installation)
    log = "the installation's log" if args.installation else "the project's log"
    said = f"No entry matches in {log}, which has {newest[0].seq if newest else 0}."
    near = difflib.get_close_matches(args.action, [*Action], n=3) if args.action not in [*Action, ""] else []
    return f"{said} No such action is known; near: {', '.join(near)}." if near else said


def _view(entry: AuditEntry) -> AuditView:
    draft = entry.draft
    return AuditView(
        seq=entry.seq,
        at=shown_time(draft.at),
        action=draft.action,
        outcome=draft.outcome.value,
        risk=draft.risk.value,
        agent=draft.agent_id,
        principal=draft.principal_id if draft.principal_id != draft.agent_id else None,
        session=draft.session_id or None,
        record_ids=list(draft.record_ids) or None,
        details=_details(draft.details) or None,
        request=draft.request_id or None,
        trace=draft.trace_id or None,
    )


def _details(text: str) -> dict[str, Any]:
    """Read the counts and names of an entry; what someone made of them by hand is left to ``contextdna audit``."""
    try:
        details = json.loads(text)
    except ValueError:
        return {"unreadable": True}
    return details if isinstance(details, dict) else {"unreadable": True}


LIST_PROJECTS = Tool(
    "list_projects", ListProjects, ProjectsResult, list_projects, hints(read_only=True, idempotent=True), READS
)
QUERY_AUDIT = Tool(
    "query_audit",
    QueryAudit,
    AuditResult,
    query_audit,
    hints(read_only=True, idempotent=True),
    frozenset({Scope.ADMIN}),
)
