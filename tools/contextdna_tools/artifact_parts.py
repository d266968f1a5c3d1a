"""Tool: get_artifact."""

import base64
from typing import Any

from pydantic import BaseModel, Field

from contextdna import AgentId, Artifact, InvalidInput, RecordId, Workspace, cut_text, is_textual
from contextdna_tools.arguments import Arguments, shown_time
from contextdna_tools.spec import READS, Call, Tool, hints

_PART_BYTES_MAX = 256 * 1024


class GetArtifact(Arguments):
    """Read an artifact back, by its id, or by its name and version; a long one in parts: go on with next_offset. A
    name gives the list of its versions too."""

    id: str = Field("", description="Such as art_...")
    name: str = Field("", description="Instead of an id")
    version: int = Field(0, description="With a name; default the latest")
    owner: str = Field("", description="With a name: whose; default yours")
    offset: int = Field(0, description="Byte to begin with")
    max_bytes: int = Field(16_384, description="Of this part, 1..262144")


class VersionView(BaseModel):
    """One version of an artifact's name."""

    version: int
    id: str
    size_bytes: int = 0
    created_at: str = ""


class ArtifactPart(BaseModel):
    """Answer of get_artifact."""

    id: str
    name: str
    version: int
    media_type: str
    size_bytes: int
    sha256: str = ""
    owner: str = ""
    level: str = ""
    created_at: str = ""
    metadata: dict[str, Any] | None = None
    versions: list[VersionView] | None = None
    text: str | None = None
    base64: str | None = None
    next_offset: int | None = None


async def get_artifact(call: Call, args: GetArtifact) -> ArtifactPart:
    """Give a part of an artifact."""
    if args.id and args.name:
        raise InvalidInput("an id and a name", code="artifact_unnamed", hint="Give one of the two.")
    if not (args.id or args.name):
        raise InvalidInput(
            "no id and no name", code="artifact_unnamed", hint="Give one of the two; ids start with art_."
        )
    if not 1 <= args.max_bytes <= _PART_BYTES_MAX:
        raise InvalidInput(
            "max_bytes is out of range", code="max_bytes_out_of_range", hint=f"Use 1 to {_PART_BYTES_MAX}."
        )
    workspace = call.workspace(args)
    artifact, data = await _read(workspace, args)
    if not 0 <= args.offset <= max(0, len(data) - 1):
        raise InvalidInput(
            f"offset is beyond the {len(data)} bytes", code="offset_out_of_range", hint="Take next_offset as it is."
        )
    record = artifact.record
    versions = await _versions(workspace, args) if args.name else None
    return ArtifactPart(
        id=record.id,
        name=artifact.name,
        version=record.position,
        media_type=artifact.media_type,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
        owner=record.owner_id,
        level=record.level.label,
        created_at=shown_time(record.created_at),
        metadata=dict(artifact.metadata) or None,
        versions=versions,
        **_part(artifact, data, args.offset, args.max_bytes),
    )


async def _read(workspace: Workspace, args: GetArtifact) -> tuple[Artifact, bytes]:
    if args.id:
        return await workspace.read_artifact(RecordId(args.id))
    return await workspace.artifacts.read(args.name, version=args.version, owner_id=AgentId(args.owner))


async def _versions(workspace: Workspace, args: GetArtifact) -> list[VersionView]:
    return [
        VersionView(
            version=artifact.record.position,
            id=artifact.record.id,
            size_bytes=artifact.size_bytes,
            created_at=shown_time(artifact.record.created_at),
        )
        for artifact in await workspace.artifacts.versions(args.name, owner_id=AgentId(args.owner))
    ]


def _part(artifact: Artifact, data: bytes, offset: int, max_bytes: int) -> dict[str, Any]:
    """Cut out a part: text where the whole is text and the cut falls between characters, else base64."""
    cut = cut_text(data, offset, max_bytes) if is_textual(artifact.media_type) else None
    end = offset + max_bytes if cut is None else cut[1]
    following = end if end < len(data) else None
    if cut is not None:
        return {"text": cut[0], "next_offset": following}
    return {"base64": base64.b64encode(data[offset:end]).decode(), "next_offset": following}


GET_ARTIFACT = Tool(
    "get_artifact", GetArtifact, ArtifactPart, get_artifact, hints(read_only=True, idempotent=True), READS
)
