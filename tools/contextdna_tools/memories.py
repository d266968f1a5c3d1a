"""Tools: store_memory, get_memory, update_memory, forget_memory."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from contextdna import (
    InvalidInput,
    Level,
    Memory,
    MemoryChange,
    MemoryDraft,
    MemorySelection,
    OnDuplicate,
    RecordId,
    StoreStatus,
    Tier,
    check_count,
    naming_item,
    parse_choice,
    parse_level,
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
    time_of,
    with_defaults,
)
from contextdna_tools.boundary import parsed
from contextdna_tools.spec import READS, WRITES, Call, Tool, hints

_CHARS_A_TOKEN = 3  # of English prose there are more: the bound errs low
_CLIP_CHARS_MIN = 200  # below this a cut content says too little: its id is named instead
_NO_MATCH = "No memory of yours matches: nothing to forget. All filters must hold; try fewer."
TIERS = {tier.value: tier for tier in Tier}
DUPLICATES = {choice.value: choice for choice in OnDuplicate}


class MemoryFields(Strict):
    """The fields of one memory, in the single form and in a batch."""

    content: str = Field("", description="In whole sentences")
    memory_type: str = Field("fact", description="fact, decision, preference, success_pattern, ...")
    tier: str = Field("semantic", description="working, episodic (age out), semantic, shared")
    level: str = LEVEL
    importance: float = Field(0.5, description="0..1")
    tags: Texts = Field([], description="For exact filters")
    metadata: Object = Field({}, description="Any JSON")
    valid_from: str = Field("", description="ISO time")
    retention_days: float | None = Field(None, description="Default: kept")
    relates_to: Texts = Field([], description="Memory ids")


class StoreMemory(MemoryFields, Arguments):
    """Keep something worth knowing later: a fact, decision, preference or pattern. Give content, or up to 100 memories
    (all or none)."""

    memories: Objects = Field([], description="Batch of such objects")
    on_duplicate: str = Field("merge", description="Same content: merge, new, error")
    idempotency_key: str = Field("", description="Makes a retry safe")


class StoredItem(BaseModel):
    """One stored memory."""

    id: str
    version: int
    status: str


class StoreResult(BaseModel):
    """Answer of store_memory."""

    stored: list[StoredItem]
    agent: str = ""


async def store_memory(call: Call, args: StoreMemory) -> StoreResult:
    """Store one memory or a batch."""
    if args.memories and args.content:
        raise InvalidInput("content and memories together", code="content_and_memories", hint="Give one of the two.")
    if args.memories:
        check_count(len(args.memories), name="memories", maximum=call.hub.settings.limits.batch_max)
    default = call.hub.settings.default_level
    alone = _draft(args, default)
    drafts = [_item(with_defaults(raw, args, MemoryFields), index, default) for index, raw in enumerate(args.memories)]
    stored = await call.workspace(args).store_memories(
        drafts or [alone],
        on_duplicate=parse_choice(args.on_duplicate, DUPLICATES, name="on_duplicate"),
        idempotency_key=args.idempotency_key,
    )
    return StoreResult(
        stored=[StoredItem(id=s.id, version=s.version, status=s.status.value) for s in stored],
        agent=stored[0].agent_id,
    )


def _item(raw: dict[str, Any], index: int, default: Level) -> MemoryDraft:
    with naming_item("memories", index):
        return _draft(parsed(MemoryFields, raw), default)


def _draft(fields: MemoryFields, default: Level) -> MemoryDraft:
    return MemoryDraft(
        content=fields.content,
        memory_type=fields.memory_type,
        tier=parse_choice(fields.tier, TIERS, name="tier"),
        level=level_of(fields.level, default),
        importance=fields.importance,
        tags=tuple(fields.tags),
        metadata=fields.metadata,
        valid_from=time_of(fields.valid_from, name="valid_from"),
        retention_days=fields.retention_days,
        relates_to=tuple(RecordId(i) for i in fields.relates_to),
    )


class GetMemory(Arguments):
    """Read whole memories by id, with version, links and provenance."""

    ids: Texts = Field(description="Up to 100")


class MemoryView(BaseModel):
    """One memory in full."""

    id: str
    content: str
    version: int
    memory_type: str = ""
    tier: str = ""
    level: str = ""
    importance: float = 0.5
    owner: str = ""
    created_at: str = ""
    updated_at: str = ""
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None
    relates_to: list[str] | None = None
    valid_from: str | None = None
    valid_to: str | None = None
    superseded_by: str | None = None
    retention_until: str | None = None
    session: str | None = None
    shared_by: str | None = None
    access_count: int | None = None
    clipped: bool | None = None
    """True when content was cut or metadata left out: the answer is bounded; the memory's resource has the whole."""


class GetResult(BaseModel):
    """Answer of get_memory."""

    memories: list[MemoryView]
    missing: list[str]
    left_out: list[str] | None = None
    """There, but for the bound of the answer: to be asked for in another call."""


async def get_memory(call: Call, args: GetMemory) -> GetResult:
    """Open memories by id."""
    found, missing = await call.workspace(args).get_memories([RecordId(i) for i in args.ids])
    room = _CHARS_A_TOKEN * call.hub.settings.limits.answer_tokens_max
    memories: list[MemoryView] = []
    left_out: list[str] = []
    for shown in map(view, found):
        if not left_out and _fits(shown, room, first=not memories):
            memories.append(shown)
            room -= _size(shown)
        else:
            left_out.append(shown.id)
    return GetResult(memories=memories, missing=list(missing), left_out=left_out or None)


def _fits(shown: MemoryView, room: int, *, first: bool) -> bool:
    """Cut a memory's content to the room that is left; tell whether enough remains. The first loses metadata sooner."""
    excess = _size(shown) - room
    if excess <= 0:
        return True
    shown.clipped = True
    if first and excess > len(shown.content) - _CLIP_CHARS_MIN:
        shown.metadata = None
        excess = max(_size(shown) - room, 0)
    kept = len(shown.content) - excess
    shown.content = shown.content[: max(kept, 0)]
    return first or kept >= _CLIP_CHARS_MIN


def _size(shown: MemoryView) -> int:
    """Count the characters of a memory in the answer: content, metadata, tags and all."""
    return len(shown.model_dump_json(exclude_none=True))


def view(memory: Memory) -> MemoryView:
    """Show a memory in full; what is empty is left out."""
    record = memory.record
    return MemoryView(
        id=record.id,
        content=memory.content,
        memory_type=record.type,
        tier=record.tier,
        level=record.level.label,
        importance=record.importance,
        version=record.version,
        owner=record.owner_id,
        created_at=shown_time(record.created_at),
        updated_at=shown_time(record.updated_at),
        tags=list(memory.tags) or None,
        metadata=dict(memory.metadata) or None,
        relates_to=[str(i) for i in memory.relates_to] or None,
        valid_from=_shown(record.valid_from),
        valid_to=_shown(record.valid_to),
        superseded_by=record.superseded_by or None,
        retention_until=_shown(record.retention_until),
        session=record.session_id or None,
        shared_by=memory.granted_by or None,
        access_count=memory.access_count or None,
    )


def _shown(moment: datetime | None) -> str | None:
    return shown_time(moment) if moment else None


class UpdateMemory(Arguments):
    """Correct a memory you own, at the version you read. To replace knowledge, store the new and set
    superseded_by."""

    id: str = Field(description="Memory id")
    expected_version: int = Field(description="The version you read")
    content: str | None = Field(None, description="New content")
    memory_type: str = Field("", description="New type")
    tier: str = Field("", description="New tier")
    level: str = Field("", description="New level")
    importance: float | None = Field(None, description="0..1")
    tags: Texts | None = Field(None, description="Replaces all")
    metadata: Object | None = Field(None, description="Replaces all")
    valid_to: str = Field("", description="ISO time")
    retention_days: float | None = Field(None, description="From now")
    superseded_by: str = Field("", description="Newer memory's id")


class UpdateResult(BaseModel):
    """Answer of update_memory."""

    id: str
    version: int
    status: SkipJsonSchema[str | None] = None
    """``queued`` where it waits for the database; left out where it was stored."""


async def update_memory(call: Call, args: UpdateMemory) -> UpdateResult:
    """Change a memory."""
    change = MemoryChange(
        content=args.content,
        memory_type=args.memory_type or None,
        tier=parse_choice(args.tier, TIERS, name="tier") if args.tier else None,
        level=parse_level(args.level) if args.level else None,
        importance=args.importance,
        tags=None if args.tags is None else tuple(args.tags),
        metadata=args.metadata,
        valid_to=time_of(args.valid_to, name="valid_to"),
        retention_days=args.retention_days,
        superseded_by=RecordId(args.superseded_by) if args.superseded_by else None,
    )
    updated = await call.workspace(args).update_memory(
        RecordId(args.id), change, expected_version=args.expected_version
    )
    return UpdateResult(id=updated.id, version=updated.version, status=queued_or_none(updated.status))


def queued_or_none(status: StoreStatus) -> str | None:
    """Say of a write that it waits; of one that was stored, nothing."""
    return status.value if status is StoreStatus.QUEUED else None


class ForgetMemory(Arguments):
    """Forget memories you own: by ids, or by filter (counted first, then repeat with confirm=count). Restorable unless
    purged."""

    ids: Texts = Field([], description="Up to 100")
    memory_types: Texts = Field([], description="Filter")
    tiers: Texts = Field([], description="Filter")
    tags: Texts = Field([], description="Filter, all")
    older_than: str = Field("", description="Filter, ISO time")
    confirm: int | None = Field(None, description="Count matched")
    purge: bool = Field(False, description="For good")
    restore: bool = Field(False, description="Bring ids back instead")


class ForgetResult(BaseModel):
    """Answer of forget_memory."""

    action: str
    count: int
    ids: list[str]
    restorable_until: str | None = None
    next: str | None = None


async def forget_memory(call: Call, args: ForgetMemory) -> ForgetResult:
    """Forget, purge or restore memories."""
    workspace = call.workspace(args)
    ids = [RecordId(i) for i in args.ids]
    selection = MemorySelection(
        memory_types=tuple(args.memory_types),
        tiers=tuple(parse_choice(tier, TIERS, name="tier").value for tier in args.tiers),
        tags=tuple(args.tags),
        older_than=time_of(args.older_than, name="older_than"),
    )
    if ids and selection != MemorySelection():
        raise InvalidInput("ids and filters together", code="ids_and_filters", hint="Give one of the two.")
    if args.restore:
        if args.purge or selection != MemorySelection():
            raise InvalidInput("restore takes ids alone", code="restore_takes_ids", hint="Name ids, and nothing else.")
        restored = await workspace.restore_memories(ids)
        return ForgetResult(action="restored", count=len(restored), ids=list(restored))
    report = await workspace.forget_memories(ids, selection, purge=args.purge, confirm=args.confirm)
    if report.dry_run:
        advice = f"Nothing is forgotten yet; repeat with confirm={report.matched}." if report.matched else _NO_MATCH
        return ForgetResult(action="counted", count=report.matched, ids=list(report.ids), next=advice)
    return ForgetResult(
        action="purged" if report.purged else "forgotten",
        count=report.matched,
        ids=list(report.ids),
        restorable_until=_shown(report.restorable_until),
    )


STORE_MEMORY = Tool("store_memory", StoreMemory, StoreResult, store_memory, hints(idempotent=True), WRITES)
GET_MEMORY = Tool("get_memory", GetMemory, GetResult, get_memory, hints(read_only=True, idempotent=True), READS)
UPDATE_MEMORY = Tool("update_memory", UpdateMemory, UpdateResult, update_memory, hints(destructive=True), WRITES)
FORGET_MEMORY = Tool("forget_memory", ForgetMemory, ForgetResult, forget_memory, hints(destructive=True), WRITES)
