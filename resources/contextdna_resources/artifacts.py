"""Resources: the artifacts of a project, and one of them with its content."""

import base64
from typing import Any, Final

from mcp_types import BlobResourceContents, TextResourceContents

from contextdna import Artifact, RecordId, Workspace, is_textual
from contextdna_resources.contents import INLINE_BYTES_MAX, Contents, json_contents, record_fields
from contextdna_resources.paging import PAGE, cut_page, next_page, read_cursor
from contextdna_resources.uris import Noun, ResourceUri

_EXCERPT_CHARS: Final = 16_000


async def read_artifacts(uri: ResourceUri, workspace: Workspace) -> Contents:
    """List visible artifacts, newest first."""
    place = read_cursor(uri)
    found = await workspace.list_artifacts(limit=PAGE + 1, offset=place.offset)
    page, following = cut_page(found, place)
    shown = [_reference(artifact) for artifact in page]
    return json_contents(uri, {"artifacts": shown, **next_page(uri, following)})


async def read_artifact(uri: ResourceUri, workspace: Workspace) -> Contents:
    """Give an artifact: text inline, other bytes as a blob, and what is too large as a description of itself."""
    described = await workspace.describe_artifact(RecordId(uri.item_id))
    too_large = described.size_bytes > INLINE_BYTES_MAX
    if too_large and not is_textual(described.media_type):
        return json_contents(uri, _description(described, None))  # its bytes would be loaded to be left out
    artifact, data = await workspace.read_artifact(described.record.id)
    text = _text(artifact, data)
    if too_large:
        return json_contents(uri, _description(artifact, text))
    facts = {f"contextdna/{key}": value for key, value in _reference(artifact).items()}
    if text is not None:
        return TextResourceContents(uri=str(uri), mime_type=artifact.media_type, text=text, _meta=facts)
    blob = base64.b64encode(data).decode()
    return BlobResourceContents(uri=str(uri), mime_type=artifact.media_type, blob=blob, _meta=facts)


def _reference(artifact: Artifact) -> dict[str, Any]:
    record = artifact.record
    return {
        **record_fields(record, artifact.granted_by),
        "name": artifact.name,
        "version": record.position,
        "media_type": artifact.media_type,
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.sha256,
        "uri": str(ResourceUri(Noun.ARTIFACT, record.project_id, record.id)),
    }


def _description(artifact: Artifact, text: str | None) -> dict[str, Any]:
    whole = f"The content has {artifact.size_bytes} bytes; a read gives at most {INLINE_BYTES_MAX}."
    part = "excerpt holds its beginning." if text is not None else "None of it is shown."
    return {
        **_reference(artifact),
        "metadata": dict(artifact.metadata),
        "content_included": False,
        "note": f"{whole} {part} There is no way yet to read the rest through this server.",
        "excerpt": None if text is None else text[:_EXCERPT_CHARS],
    }


def _text(artifact: Artifact, data: bytes) -> str | None:
    """Decode what calls itself text and is; anything else is bytes."""
    if not is_textual(artifact.media_type):
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
