"""Resource: one memory in full."""

from typing import Any

from contextdna import Memory, RecordId, Workspace
from contextdna_resources.contents import (
    INLINE_BYTES_MAX,
    Contents,
    clip_bytes,
    json_contents,
    record_fields,
    shown_time,
)
from contextdna_resources.uris import Noun, ResourceUri


async def read_memory(uri: ResourceUri, workspace: Workspace) -> Contents:
    """Give a memory with its links, version and provenance."""
    found, _ = await workspace.get_memories([RecordId(uri.item_id)])
    return json_contents(uri, _shown(found[0]))


def _shown(memory: Memory) -> dict[str, Any]:
    record = memory.record
    content = clip_bytes(memory.content, INLINE_BYTES_MAX)
    return {
        **record_fields(record, memory.granted_by),
        "memory_type": record.type,
        "tier": record.tier,
        "importance": record.importance,
        "version": record.version,
        "updated_at": shown_time(record.updated_at),
        "valid_from": shown_time(record.valid_from),
        "valid_to": shown_time(record.valid_to),
        "superseded_by": record.superseded_by or None,
        "retention_until": shown_time(record.retention_until),
        "access_count": memory.access_count,
        "tags": list(memory.tags),
        "metadata": dict(memory.metadata),
        "relates_to": [str(ResourceUri(Noun.MEMORY, record.project_id, target)) for target in memory.relates_to],
        "content": content,
        "content_chars": len(memory.content),
        "truncated": len(content) < len(memory.content) or None,
    }
