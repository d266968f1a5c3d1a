"""What a read gives: text or a blob, bounded."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from mcp_types import BlobResourceContents, TextResourceContents

from contextdna import Record
from contextdna_resources.uris import ResourceUri

Contents = TextResourceContents | BlobResourceContents

INLINE_BYTES_MAX: Final = 1024 * 1024
"""The most that one read gives of a memory's or an artifact's content."""
_LIST_CHARS_MAX: Final = 256 * 1024


def json_contents(uri: ResourceUri, payload: Mapping[str, Any]) -> Contents:
    """Give a payload as compact JSON; fields that are None are left out."""
    shown = {key: value for key, value in payload.items() if value is not None}
    return TextResourceContents(uri=str(uri), mime_type="application/json", text=compact(shown))


def compact(value: object) -> str:
    """Write JSON without white space."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def shown_time(moment: datetime | None) -> str | None:
    """Write a time: UTC, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def record_fields(record: Record, granted_by: str) -> dict[str, Any]:
    """Show what all records have in common."""
    fields = {
        "id": record.id,
        "level": record.level.label,
        "owner": record.owner_id,
        "session": record.session_id or None,
        "created_at": shown_time(record.created_at),
        "shared_by": granted_by or None,
    }
    return {key: value for key, value in fields.items() if value is not None}


def clip_bytes(text: str, bytes_max: int) -> str:
    """Cut a text so that its UTF-8 form fits."""
    return text if len(text) * 4 <= bytes_max else text.encode()[:bytes_max].decode("utf-8", "ignore")


def within_budget(items: Iterable[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Keep the first items, one at least, whose JSON stays within the bound of a list."""
    kept: list[Mapping[str, Any]] = []
    room = _LIST_CHARS_MAX
    for item in items:
        room -= len(compact(item))
        if kept and room < 0:
            break
        kept.append(item)
    return kept


def quoted(text: str) -> str:
    """Mark a record's text as data: each line behind ``> ``, so that none can pass for a heading or a speaker.

    Control characters but the tab are shown as their pictures: none of them may move a reader's eye.
    """
    lines = text.splitlines() or [""]
    return "\n".join(f"> {line.translate(_PICTURES)}".rstrip() for line in lines)


_PICTURES: Final = {code: 0x2400 + code for code in range(32) if code != 9} | {127: 0x2421}
