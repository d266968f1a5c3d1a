"""Tool: retrieve_context."""

from typing import Annotated

from pydantic import BaseModel, Field, WithJsonSchema

from contextdna import AgentId, Context, ContextQuery, Detail, Hit, Kind, Level, parse_choice, parse_level
from contextdna_tools.arguments import Arguments, Texts, shown_time, time_of, within
from contextdna_tools.memories import TIERS
from contextdna_tools.spec import READS, Call, Tool, hints

KINDS = {kind.value: kind for kind in Kind}
DETAILS = {detail.value: detail for detail in Detail}


class RetrieveContext(Arguments):
    """Find what is known before you work: ask in plain words. Gives ranked memories, turns, artifacts and decisions;
    no query: the newest."""

    query: str = Field("", description='"Quoted" words must occur')
    kinds: Texts = Field([], description="memory, turn, artifact, loop, task")
    types: Texts = Field([], description="Memory types")
    tiers: Texts = Field([], description="Tiers")
    levels: Texts = Field([], description="By name")
    tags: Texts = Field([], description="All of them")
    agent: str = Field("", description="Its owner")
    since: str = Field("", description="ISO time")
    until: str = Field("", description="ISO time")
    as_of: str = Field("", description="ISO time: valid then")
    min_importance: float = Field(0.0, description="0..1")
    limit: int = Field(30, description="1..100")
    max_tokens: int = Field(2000, description="Budget")
    detail: str = Field("", description="compact: a line each")
    cursor: str = Field("", description="Of the last answer")


_DAY_CHARS = len("2026-05-01")
_HIT_NOTE = {"description": "kind, id, content, score, why, type, level, owner, created_at, version"}
# Clients validate every answer against the schema: a property a field a hit would cost them more than the search.


class HitView(BaseModel):
    """One hit."""

    kind: str
    id: str
    content: str
    score: float | None = None
    why: list[str] | None = None
    type: str = ""
    level: str | None = None
    owner: str = ""
    created_at: str = ""
    version: int | None = None
    tags: list[str] | None = None
    shared_by: str | None = None
    session: str | None = None
    clipped: bool | None = None
    same_ids: list[str] | None = None


class EmptyView(BaseModel):
    """Why there are no hits."""

    message: str = ""
    visible: int = 0
    by_level: dict[str, int] = {}
    by_type: dict[str, int] = {}
    suggestions: list[str] = []


class RetrieveResult(BaseModel):
    """Answer of retrieve_context."""

    hits: Annotated[list[HitView], WithJsonSchema({"type": "array", "items": {"type": "object"}, **_HIT_NOTE})]
    cursor: str
    truncated: bool
    empty: EmptyView | None = None


async def retrieve_context(call: Call, args: RetrieveContext) -> RetrieveResult:
    """Answer a question."""
    limits = call.hub.settings.limits
    query = ContextQuery(
        text=args.query,
        kinds=tuple(parse_choice(kind, KINDS, name="kind") for kind in args.kinds),
        types=tuple(args.types),
        tiers=tuple(parse_choice(tier, TIERS, name="tier").value for tier in args.tiers),
        levels=tuple(parse_level(level) for level in args.levels),
        tags=tuple(args.tags),
        owner_id=AgentId(args.agent),
        since=time_of(args.since, name="since"),
        until=time_of(args.until, name="until"),
        as_of=time_of(args.as_of, name="as_of"),
        min_importance=args.min_importance,
        limit=within(args, "limit", limits.hits_max),
        max_tokens=within(args, "max_tokens", limits.answer_tokens_max),
        detail=parse_choice(args.detail, DETAILS, name="detail") if args.detail else Detail.FULL,
        cursor=args.cursor,
    )
    return shaped(await call.workspace(args).retrieve_context(query), query.detail)


def shaped(context: Context, detail: Detail) -> RetrieveResult:
    """Shape an answer for the model."""
    empty = context.empty
    shape = _line if detail is Detail.COMPACT else _hit
    return RetrieveResult(
        hits=[shape(hit) for hit in context.hits],
        cursor=context.cursor,
        truncated=context.truncated,
        empty=empty
        and EmptyView(
            message=empty.message,
            visible=empty.visible,
            by_level={count.name: count.records for count in empty.by_level},
            by_type={count.name: count.records for count in empty.by_type},
            suggestions=list(empty.suggestions),
        ),
    )


def _hit(hit: Hit) -> HitView:
    record = hit.record
    return HitView(
        kind=record.kind.value,
        id=record.id,
        content=hit.content,
        score=hit.score,
        why=list(hit.why),
        type=record.type,
        level=Level(record.level).label,
        owner=record.owner_id,
        created_at=shown_time(record.created_at),
        version=record.version,
        tags=list(hit.tags) or None,
        shared_by=hit.granted_by or None,
        session=record.session_id or None,
        clipped=hit.clipped or None,
        same_ids=list(hit.same_ids) or None,
    )


def _line(hit: Hit) -> HitView:
    record = hit.record
    return HitView(
        kind=record.kind.value,
        id=record.id,
        content=hit.content,
        type=record.type,
        owner=record.owner_id,
        created_at=shown_time(record.created_at)[:_DAY_CHARS],
        clipped=hit.clipped or None,
        same_ids=list(hit.same_ids) or None,
    )


RETRIEVE_CONTEXT = Tool(
    "retrieve_context", RetrieveContext, RetrieveResult, retrieve_context, hints(read_only=True, idempotent=True), READS
)
