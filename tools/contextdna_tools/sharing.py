"""Tool: share_memories."""

from pydantic import BaseModel, Field

from contextdna import AgentId, InvalidInput, MemorySelection, RecordId, Scope
from contextdna_tools.arguments import Arguments, Texts, shown_time, within
from contextdna_tools.spec import Call, Tool, hints


class ShareMemories(Arguments):
    """Let agents read memories you own: by ids, or the most important of some types. Grants, not copies."""

    target_agent_ids: Texts = Field(description="Who may read")
    memory_ids: Texts = Field([], description="Which")
    memory_types: Texts = Field([], description="Or by type")
    min_importance: float = Field(0.7, description="By type")
    limit: int = Field(20, description="By type, 1..100")
    expires_in_s: float | None = Field(None, description="Default: until revoked")
    revoke: bool = Field(False, description="Take back; no ids: all")


class ShareResult(BaseModel):
    """Answer of share_memories."""

    shared: dict[str, int]
    memory_ids: list[str] = []
    unknown_agents: list[str] = []
    revoked: int = 0
    expires_at: str | None = None


async def share_memories(call: Call, args: ShareMemories) -> ShareResult:
    """Grant, or end grants."""
    workspace = call.workspace(args)
    targets = [AgentId(target) for target in dict.fromkeys(args.target_agent_ids)]
    ids = [RecordId(i) for i in args.memory_ids]
    if args.revoke:
        if args.memory_types:
            raise InvalidInput("revoke takes no memory_types", code="revoke_by_type", hint="Name memory_ids, or none.")
        ended = await workspace.revoke_shares(targets, ids)
        return ShareResult(
            shared={},
            memory_ids=list(ended.memory_ids),
            unknown_agents=list(ended.unknown_targets),
            revoked=ended.changed,
        )
    if ids and (args.memory_types or _narrowed(args)):
        raise InvalidInput(
            "memory_ids with memory_types, min_importance or limit",
            code="ids_and_filters",
            hint="These choose by type: give them or memory_ids.",
        )
    selection = MemorySelection(memory_types=tuple(args.memory_types), min_importance=args.min_importance)
    limit = within(args, "limit", call.hub.settings.limits.batch_max)
    report = await workspace.share_memories(targets, ids, selection, limit=limit, expires_in_s=args.expires_in_s)
    return ShareResult(
        shared={target: len(report.memory_ids) for target in report.targets},
        memory_ids=list(report.memory_ids),
        unknown_agents=list(report.unknown_targets),
        revoked=0,
        expires_at=shown_time(report.expires_at) if report.expires_at else None,
    )


def _narrowed(args: ShareMemories) -> bool:
    """Tell whether a choice by type is narrowed: what says just the defaults says nothing."""
    fields = ShareMemories.model_fields
    return any(getattr(args, name) != fields[name].default for name in ("min_importance", "limit"))


SHARE_MEMORIES = Tool(
    "share_memories", ShareMemories, ShareResult, share_memories, hints(idempotent=True), frozenset({Scope.SHARE})
)
