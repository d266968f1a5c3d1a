"""Resources: the artifacts of a project, and one of them with its content."""

import base64
from collections.abc import Mapping
from typing import Any, Final

from mcp_types import BlobResourceContents, TextResourceContents

from contextdna import Artifact, ArtifactLink, RecordId, Workspace, bad_cursor, cut_text, is_textual
from contextdna_resources.contents import INLINE_BYTES_MAX, Contents, json_contents, record_fields, shown_time
from contextdna_resources.paging import PAGE, Place, next_link, next_page, read_cursor
from contextdna_resources.uris import Noun, ResourceUri

_EXCERPT_CHARS: Final = 16_000


async def read_artifacts(uri: ResourceUri, workspace: Workspace) -> Contents:
    """List visible artifacts, newest first."""
    page = await workspace.artifacts.page(limit=PAGE, cursor=uri.cursor)
    shown = [_reference(artifact) for artifact in page.artifacts]
    return json_contents(uri, {"artifacts": shown, **next_link(uri, page.cursor)})


async def read_artifact(uri: ResourceUri, workspace: Workspace) -> Contents:
    """Give an artifact: text inline, other bytes as a blob; a large one's description, which leads to its parts.

    Where its bytes lie plain in a store that has links, the description holds one, too.
    """
    if uri.cursor:
        return await _read_part(uri, workspace)
    described = await workspace.describe_artifact(RecordId(uri.item_id))
    too_large = described.size_bytes > INLINE_BYTES_MAX
    if too_large and not is_textual(described.media_type):
        # Its bytes would be loaded to be left out.
        return json_contents(uri, _description(uri, *await workspace.artifacts.link(described.record.id), text=None))
    artifact, data = await workspace.read_artifact(described.record.id)
    text = _text(artifact, data)
    if too_large:
        return json_contents(uri, _description(uri, *await workspace.artifacts.link(artifact.record.id), text=text))
    return _contents(uri, artifact, data if text is None else text, {})


async def _read_part(uri: ResourceUri, workspace: Workspace) -> Contents:
    """Give the part of an artifact that begins where the cursor says; of text, whole characters."""
    start = read_cursor(uri).offset
    artifact, data = await workspace.read_artifact(RecordId(uri.item_id))
    cut = cut_text(data, start, INLINE_BYTES_MAX) if is_textual(artifact.media_type) else None
    if start >= max(1, len(data)):
        raise bad_cursor()
    part, end = cut or (data[start : start + INLINE_BYTES_MAX], start + INLINE_BYTES_MAX)
    following = next_page(uri, Place(end) if end < len(data) else None)
    return _contents(uri, artifact, part, {"offset": start, **following})


def _contents(uri: ResourceUri, artifact: Artifact, part: str | bytes, place: Mapping[str, Any]) -> Contents:
    facts = {**_reference(artifact), "metadata": dict(artifact.metadata) or None, **place}
    meta = {f"contextdna/{key}": value for key, value in facts.items() if value is not None}
    if isinstance(part, str):
        return TextResourceContents(uri=str(uri), mime_type=artifact.media_type, text=part, _meta=meta)
    blob = base64.b64encode(part).decode()
    return BlobResourceContents(uri=str(uri), mime_type=artifact.media_type, blob=blob, _meta=meta)


def _reference(artifact: Artifact) -> dict[str, Any]:
    record = artifact.record
    return {
        **record_fields(record, artifact.granted_by),
        "name": artifact.name,
        "version": record.position,
        "media_type": artifact.media_type,
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.sha256,
        **({"held": artifact.held} if artifact.held else {}),
        "uri": str(ResourceUri(Noun.ARTIFACT, record.project_id, record.id)),
    }


def _description(
    uri: ResourceUri, artifact: Artifact, link: ArtifactLink | None, *, text: str | None
) -> dict[str, Any]:
    by_link = "" if link is None else ", or fetch link: whoever has it may, until link_expires_at; compare sha256"
    return {
        **_reference(artifact),
        "metadata": dict(artifact.metadata),
        "content_included": False,
        "note": f"The content has {artifact.size_bytes} bytes, and a read gives at most {INLINE_BYTES_MAX}: "
        f"read next, and go on with each part's own contextdna/next{by_link}.",
        "link": link.url if link else None,
        "link_expires_at": shown_time(link.expires_at) if link else None,
        "excerpt": None if text is None else text[:_EXCERPT_CHARS],
        **next_page(uri, Place()),
    }


def _text(artifact: Artifact, data: bytes) -> str | None:
    """Decode what calls itself text and is; anything else is bytes."""
    if not is_textual(artifact.media_type):
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
