"""Tools: search and fetch, in the shapes that ChatGPT connectors expect, and link_memories.

Source: OpenAI's guide "Building MCP servers for ChatGPT and API integrations": ``search`` answers ``results`` of id,
title and url, ``fetch`` one document of id, title, text, url and metadata, both also as JSON text.
"""

from urllib.parse import quote

from pydantic import BaseModel, Field

from contextdna import ContextQuery, Document, Hit, Kind, Record, RecordId, Workspace, headline, is_textual
from contextdna_tools.arguments import Arguments, Texts, shown_time
from contextdna_tools.spec import READS, WRITES, Call, Tool, hints

_FOUND = 20
_ARTIFACT_BYTES_MAX = 1024 * 1024  # what a resource shows inline too
_CHARS_A_TOKEN = 3  # of English prose there are more: the bound errs low


class Search(Arguments):
    """Search memories, turns, artifacts, decisions and tasks in plain words; fetch opens a result. Agents get more from
    retrieve_context."""

    query: str = Field(description='Plain words; "quoted" ones must occur')


class Found(BaseModel):
    """One result."""

    id: str
    title: str
    url: str


class SearchResult(BaseModel):
    """Answer of search."""

    results: list[Found]
    empty: str | None = None
    """Why there are none."""


async def search(call: Call, args: Search) -> SearchResult:
    """Search for records of any kind."""
    budget = call.hub.settings.limits.answer_tokens_max
    query = ContextQuery(text=args.query, limit=min(_FOUND, call.hub.settings.limits.hits_max), max_tokens=budget)
    context = await call.workspace(args).retrieve_context(query)
    empty = context.empty and "; ".join((context.empty.message, *context.empty.suggestions))
    return SearchResult(results=[_found(hit) for hit in context.hits], empty=empty)


def _found(hit: Hit) -> Found:
    return Found(id=hit.record.id, title=headline(hit.content), url=uri_of(hit.record))


class Fetch(Arguments):
    """Open one record of any kind by id: memory, turn, artifact, decision or task."""

    id: str = Field(description="Of a result")


class FetchResult(BaseModel):
    """Answer of fetch."""

    id: str
    title: str
    text: str
    url: str
    metadata: dict[str, str]


async def fetch(call: Call, args: Fetch) -> FetchResult:
    """Open one record."""
    workspace = call.workspace(args)
    document = await workspace.documents.open(RecordId(args.id))
    text = await _text(workspace, document)
    room = _CHARS_A_TOKEN * call.hub.settings.limits.answer_tokens_max
    metadata = _metadata(document) | ({"truncated": "true"} if len(text) > room else {})
    record = document.record
    return FetchResult(id=record.id, title=document.title, text=text[:room], url=uri_of(record), metadata=metadata)


async def _text(workspace: Workspace, document: Document) -> str:
    """Give a record's text; of an artifact that is one, the whole of it."""
    if document.record.kind is not Kind.ARTIFACT or not is_textual(document.record.type):
        return document.text
    artifact = await workspace.describe_artifact(document.record.id)
    if artifact.size_bytes > _ARTIFACT_BYTES_MAX:
        return document.text
    _, data = await workspace.read_artifact(document.record.id)
    return data.decode(errors="replace")


def _metadata(document: Document) -> dict[str, str]:
    record = document.record
    relations: dict[str, str] = {}
    for relation in document.relations:
        relations[relation.name] = " ".join(filter(None, (relations.get(relation.name), relation.target)))
    shown = {
        "kind": record.kind.value,
        "type": record.type,
        "level": record.level.label,
        "owner": record.owner_id,
        "version": str(record.version),
        "created_at": shown_time(record.created_at),
        "updated_at": shown_time(record.updated_at),
        "assignee": record.subject if record.kind is Kind.TASK else "",
        "session": record.session_id,
        "shared_by": document.granted_by,
    }
    return relations | {name: value for name, value in shown.items() if value}


def uri_of(record: Record) -> str:
    """Give the resource in which a record can be read."""
    match record.kind:
        case Kind.MEMORY:
            path = f"memories/{record.id}"
        case Kind.ARTIFACT:
            path = f"artifacts/{record.id}"
        case Kind.LOOP:
            path = f"loops/{quote(record.subject, safe=':@')}"
        case Kind.TASK:
            path = f"tasks/{record.id}"
        case Kind.TURN:
            path = f"conversations/{record.session_id}"
    return f"contextdna://projects/{quote(record.project_id, safe=':@')}/{path}"


class LinkMemories(Arguments):
    """Say how a memory you own relates to other records: what supports, contradicts, refines or causes what."""

    source_id: str = Field(description="Your memory")
    target_ids: Texts = Field(description="Records you see")
    relation: str = Field(
        "relates_to", description="supports, contradicts, refines, derived_from, causes, part_of, example_of"
    )
    remove: bool = Field(False, description="Take the links away")


class LinkView(BaseModel):
    """One link."""

    relation: str
    target_id: str


class LinkResult(BaseModel):
    """Answer of link_memories."""

    links: list[LinkView]


async def link_memories(call: Call, args: LinkMemories) -> LinkResult:
    """Link a memory."""
    targets = [RecordId(target) for target in args.target_ids]
    documents = call.workspace(args).documents
    links = await documents.link(RecordId(args.source_id), targets, relation=args.relation, remove=args.remove)
    return LinkResult(links=[LinkView(relation=link.name, target_id=link.target) for link in links])


SEARCH = Tool("search", Search, SearchResult, search, hints(read_only=True, idempotent=True), READS)
FETCH = Tool("fetch", Fetch, FetchResult, fetch, hints(read_only=True, idempotent=True), READS)
LINK_MEMORIES = Tool(
    "link_memories", LinkMemories, LinkResult, link_memories, hints(destructive=True, idempotent=True), WRITES
)
