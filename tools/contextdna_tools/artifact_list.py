"""Tool: list_artifacts."""

from pydantic import BaseModel, Field

from contextdna_tools.arguments import Arguments, shown_time
from contextdna_tools.spec import READS, Call, Tool, hints


class ListArtifacts(Arguments):
    """List the artifacts that you may see, anybody's, the newest first; read one with get_artifact."""

    name_prefix: str = Field("", description="Such as report; default all")
    limit: int = Field(50, description="1..200")
    cursor: str = Field("", description="Of the last answer")


class ArtifactLine(BaseModel):
    """An artifact."""

    id: str
    name: str
    version: int
    owner: str
    media_type: str = ""
    size_bytes: int = 0
    level: str = ""
    created_at: str = ""
    shared_by: str | None = None


class ArtifactsResult(BaseModel):
    """Answer of list_artifacts."""

    artifacts: list[ArtifactLine]
    cursor: str


async def list_artifacts(call: Call, args: ListArtifacts) -> ArtifactsResult:
    """Give a page of artifacts."""
    page = await call.workspace(args).artifacts.page(prefix=args.name_prefix, limit=args.limit, cursor=args.cursor)
    lines = [
        ArtifactLine(
            id=artifact.record.id,
            name=artifact.name,
            version=artifact.record.position,
            owner=artifact.record.owner_id,
            media_type=artifact.media_type,
            size_bytes=artifact.size_bytes,
            level=artifact.record.level.label,
            created_at=shown_time(artifact.record.created_at),
            shared_by=artifact.granted_by or None,
        )
        for artifact in page.artifacts
    ]
    return ArtifactsResult(artifacts=lines, cursor=page.cursor)


LIST_ARTIFACTS = Tool(
    "list_artifacts", ListArtifacts, ArtifactsResult, list_artifacts, hints(read_only=True, idempotent=True), READS
)
