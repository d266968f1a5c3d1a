"""Artifacts by their names: the versions of one, and each of them with its bytes."""

from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread

from contextdna.domain import artifacts
from contextdna.domain.access import Action, Caller
from contextdna.hub.blobs import BlobRoom
from contextdna.hub.door import Door
from contextdna.values.artifact import Artifact, ArtifactPage
from contextdna.values.ids import AgentId

R = TypeVar("R")

_ASIDE_BYTES_MIN = 256 * 1024  # a thread costs about what hashing so much does


class Artifacts:
    """The artifact part of a workspace. Each owner's artifacts of a name have versions of their own, from 1."""

    def __init__(self, door: Door, blobs: BlobRoom, caller: Caller) -> None:
        self._door = door
        self._blobs = blobs
        self._caller = caller

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
    """
    blob = await blobs.get(artifact.record.blob_key)
    return await aside(len(blob), lambda: opener.open(blob))


async def aside(size_bytes: int, work: Callable[[], R]) -> R:
    """Run what takes time in proportion to many bytes on a thread, so that other callers go on."""
    return await anyio.to_thread.run_sync(work) if size_bytes >= _ASIDE_BYTES_MIN else work()
