"""Artifacts by their names: the versions of one, and each of them with its bytes."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import anyio.to_thread

from contextdna.domain import access, artifacts
from contextdna.domain.access import Action, Caller
from contextdna.domain.object_sources import allowed_object
from contextdna.domain.operation import Operation
from contextdna.errors import NotFound
from contextdna.hub.blobs import BlobRoom
from contextdna.hub.door import Door
from contextdna.ports.storage import Progress
from contextdna.values.artifact import Artifact, ArtifactDraft, ArtifactLink, ArtifactPage
from contextdna.values.degraded import ModeName, Notices
from contextdna.values.ids import AgentId, IdPrefix, RecordId, new_id
from contextdna.values.object_place import ObjectPlace

R = TypeVar("R")

_HELD = "the bytes are kept in this server's data folder until S3 is there to take them; they are not in S3 yet"
_ASIDE_BYTES_MIN = 256 * 1024  # a thread costs about what hashing so much does


class Artifacts:
    """The artifact part of a workspace. Each owner's artifacts of a name have versions of their own, from 1."""

    def __init__(self, door: Door, blobs: BlobRoom, caller: Caller, notices: Notices) -> None:
        self._door = door
        self._blobs = blobs
        self._caller = caller
        self._notices = notices

    async def attach(self, draft: ArtifactDraft, *, progress: Progress | None = None) -> Artifact:
        """Keep an artifact: see ``Workspace.attach_artifact``."""
        limits = self._door.settings.limits
        draft = draft if draft.source else artifacts.typed(draft)
        artifacts.check_draft(draft, limits)
        places: list[ObjectPlace] = []

        def check(op: Operation) -> None:
            access.require_level(op.actor, draft.level)
            if draft.source:
                places.append(allowed_object(draft.source, op.project_id, op.settings))

        keys = await self._door.admit(self._caller, Action.ATTACH_ARTIFACT, check)
        if places:
            draft = artifacts.typed(replace(draft, data=await self._fetched(places[-1]), source=""))
            artifacts.check_draft(draft, limits)
        record_id = new_id(IdPrefix.ARTIFACT, self._door.clock())
        prepared = await aside(len(draft.data), lambda: artifacts.prepare(draft, record_id, keys))
        async with self._blobs.keeping(prepared.blob_key, prepared.blob, progress):
            artifact = await self._door.write(
                self._caller, Action.ATTACH_ARTIFACT, lambda op: artifacts.attach(op, draft, prepared)
            )
            return await self._placed(artifact)

    async def _placed(self, artifact: Artifact) -> Artifact:
        """Say of an artifact whether its bytes are where they belong."""
        if not await self._blobs.waits(artifact.record.blob_key):
            return artifact
        self._notices.add(ModeName.ARTIFACTS_SPOOLED, _HELD)
        return replace(artifact, held="spool")

    async def _fetched(self, place: ObjectPlace) -> bytes:
        try:
            return await self._blobs.fetch(place, bytes_max=self._door.settings.limits.artifact_bytes_max)
        except NotFound as error:
            absent = error

        def tell(_op: Operation) -> None:
            raise absent

        await self._door.admit(self._caller, Action.ATTACH_ARTIFACT, tell)  # whoever looks for what is there is audited
        raise absent

    async def link(self, record_id: RecordId) -> tuple[Artifact, ArtifactLink | None]:
        """Give an artifact's reference with a link to its bytes, where there can be one.

        There is none where the bytes are encrypted (levels private, team and system: they are read through the server),
        and none in stores that have no links, such as the data folder. It is audited as a read, with how long the link
        is good for; what is revoked afterwards ends none that was given.

        Raises:
            IntegrityFault: The bytes are gone.
        """
        valid_s = self._door.settings.s3.presign_s

        async def run(op: Operation) -> tuple[Artifact, bool]:
            artifact, opener = await artifacts.reference(op, record_id)
            is_linked = self._blobs.has_links and not opener.key_id
            if is_linked:
                op.note(link_valid_s=valid_s)
            return artifact, is_linked

        expires_at = self._door.clock() + timedelta(seconds=valid_s)
        artifact, is_linked = await self._door.read(self._caller, Action.READ_ARTIFACT, run)
        if not is_linked:
            return artifact, None
        url = await self._blobs.link(
            artifact.record.blob_key,
            name=artifact.name,
            media_type=artifact.media_type,
            valid_s=valid_s,
            since=artifact.record.created_at,
        )
        return await self._placed(artifact), ArtifactLink(url, expires_at) if url else None

    async def page(self, *, prefix: str = "", limit: int = 50, cursor: str = "") -> ArtifactPage:
        """List visible artifacts, newest first, those whose names begin with a prefix; anybody's.

        Raises:
            InvalidInput: ``cursor_invalid``: it is not one of a page of this prefix.
        """
        return await self._door.read(
            self._caller,
            Action.LIST_ARTIFACTS,
            lambda op: artifacts.page(op, prefix=prefix, limit=limit, cursor=cursor),
        )

    async def versions(self, name: str, *, owner_id: AgentId = AgentId("")) -> tuple[Artifact, ...]:
        """List the visible versions of an artifact, the latest first, at most 200; of one's own without an owner."""
        return await self._door.read(
            self._caller, Action.LIST_ARTIFACTS, lambda op: artifacts.versions(op, name, owner_id=owner_id)
        )

    async def read(self, name: str, *, version: int = 0, owner_id: AgentId = AgentId("")) -> tuple[Artifact, bytes]:
        """Fetch a version of an artifact with its bytes, checked against their digest; 0 is the latest visible one.

        Raises:
            IntegrityFault: The bytes were changed or are gone.
        """
        artifact, opener = await self._door.read(
            self._caller, Action.READ_ARTIFACT, lambda op: artifacts.version(op, name, version, owner_id=owner_id)
        )
        return artifact, await opened_bytes(self._blobs, artifact, opener)


async def opened_bytes(blobs: BlobRoom, artifact: Artifact, opener: artifacts.BlobOpener) -> bytes:
    """Fetch an artifact's bytes, decrypted and checked.

    Raises:
        IntegrityFault: The bytes were changed or are gone.
        StorageUnavailable: The store is away; or ``artifact_waits``: another server may hold them.
    """
    blob = await blobs.get(artifact.record.blob_key, since=artifact.record.created_at)
    return await aside(len(blob), lambda: opener.open(blob))


async def aside(size_bytes: int, work: Callable[[], R]) -> R:
    """Run what takes time in proportion to many bytes on a thread, so that other callers go on."""
    return await anyio.to_thread.run_sync(work) if size_bytes >= _ASIDE_BYTES_MIN else work()
