"""A database or a store of artifacts that is there and refuses to write: the modes say so until it takes again."""

from collections.abc import Callable
from typing import Any

import pytest

from contextdna import ArtifactDraft, DegradedMode, Hub, ModeName, StorageUnavailable
from tests.hub.rig import ALICE, Clock, refused, remember

pytestmark = pytest.mark.anyio

DRAFT = ArtifactDraft("report.txt", b"what was found", "text/plain")


def raising(code: str) -> Callable[..., Any]:
    async def fail(*_: object, **__: object) -> None:
        raise StorageUnavailable("it cannot be written", code=code, hint="Wait.", retryable=True)

    return fail


async def test_a_full_disk_is_told_of_until_something_is_written(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = hub.bind(ALICE)
    with monkeypatch.context() as patch:
        patch.setattr(hub._door.database, "write", raising("storage_full"))
        await refused(remember(workspace, "one"), StorageUnavailable, "storage_full")
        assert list(hub.modes) == [DegradedMode(ModeName.WRITES_REFUSED, "storage_full")]
    await remember(workspace, "two")
    assert not hub.modes


async def test_a_refusal_is_told_of_for_a_minute_when_nobody_writes(
    hub: Hub, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(hub._door.database, "write", raising("storage_io_error"))
        await refused(remember(hub.bind(ALICE), "one"), StorageUnavailable, "storage_io_error")
    clock.advance(seconds=59)
    assert [mode.name for mode in hub.modes] == [ModeName.WRITES_REFUSED]
    clock.advance(seconds=1)
    assert not hub.modes


async def test_what_passes_by_itself_is_no_mode(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(hub._door.database, "write", raising("storage_busy"))
        await refused(remember(hub.bind(ALICE), "one"), StorageUnavailable, "storage_busy")
    assert not hub.modes


async def test_a_store_without_room_for_artifacts_is_told_of(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = hub.bind(ALICE)
    with monkeypatch.context() as patch:
        patch.setattr(hub._rooms.blobs._store, "put", raising("storage_full"))
        await refused(workspace.attach_artifact(DRAFT), StorageUnavailable, "storage_full")
        assert list(hub.modes) == [DegradedMode(ModeName.ARTIFACTS_REFUSED, "storage_full")]
        await remember(workspace, "memories are stored all the same")
    await workspace.attach_artifact(DRAFT)
    assert not hub.modes


async def test_an_artifact_whose_reference_stands_is_not_refused_when_the_store_goes_away(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = hub.bind(ALICE)
    with monkeypatch.context() as patch:
        patch.setattr(hub._rooms.blobs._store, "has", raising("storage_unreachable"))
        artifact = await workspace.attach_artifact(DRAFT)
    assert (await workspace.read_artifact(artifact.record.id))[1] == DRAFT.data
