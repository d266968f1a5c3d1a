"""An installation in memory that a write-ahead log keeps."""

import base64
import binascii
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contextdna import ContextQuery, HubSettings, Level, MemoryDraft, StorageUnavailable, open_hub
from contextdna.backends.segmented_log import SnapshotFolder, open_segmented_log
from tests.hub.rig import ALICE, BOB, ROOT, WRITER, Clock, remember, settings_in

pytestmark = pytest.mark.anyio

SECRET = "the vault opens at dawn"
NO_SECRET = "the door is green"
PRIVATE = (MemoryDraft(SECRET, level=Level.PRIVATE),)


@pytest.fixture
def durable(folder: Path) -> HubSettings:
    return replace(settings_in(folder), write_ahead=True)


async def test_what_is_stored_outlives_the_server(durable: HubSettings, clock: Clock) -> None:
    async with open_hub(durable, clock=clock) as hub:
        [stored] = await hub.bind(ALICE).store_memories(PRIVATE, idempotency_key="once")
        ours = await remember(hub.bind(ALICE), NO_SECRET, level=Level.PROJECT)
    async with open_hub(durable, clock=clock) as hub:
        read, _ = await hub.bind(ALICE).get_memories([stored.id, ours])
        assert [memory.content for memory in read] == [SECRET, NO_SECRET]
        found = await hub.bind(BOB).retrieve_context(ContextQuery("green door"))
        assert [hit.record.id for hit in found.hits] == [ours]
        assert await hub.bind(ALICE).store_memories(PRIVATE, idempotency_key="once") == (stored,)
        assert (await hub.bind(ROOT).verify_audit()).intact


async def test_encrypted_levels_and_what_was_purged_are_nowhere_in_the_clear(
    durable: HubSettings, folder: Path, clock: Clock
) -> None:
    async with open_hub(durable, clock=clock) as hub:
        for level in (Level.PRIVATE, Level.TEAM, Level.SYSTEM):
            await remember(hub.bind(WRITER), f"{SECRET} {level}", level=level)
        gone = await remember(hub.bind(ALICE), NO_SECRET, level=Level.PROJECT)
        await remember(hub.bind(ALICE), "it stays", level=Level.PROJECT)
    assert [text in await at_rest(folder) for text in (b"vault", b"green", b"stays")] == [False, True, True]
    async with open_hub(durable, clock=clock) as hub:
        await hub.bind(ALICE).forget_memories([gone], purge=True)
    assert [text in await at_rest(folder) for text in (b"vault", b"green", b"stays")] == [False, False, True]


async def test_a_data_folder_in_memory_has_one_server(durable: HubSettings) -> None:
    async with open_hub(durable):
        with pytest.raises(StorageUnavailable) as refused:
            async with open_hub(durable):
                pass
    assert refused.value.code == "log_in_use"


async def at_rest(folder: Path) -> bytes:
    """Give all that the log and the snapshots of a folder hold, with the bytes in it decoded."""
    return b"\n".join([part async for part in _chunks(folder / "memory")])


async def _chunks(folder: Path) -> AsyncIterator[bytes]:
    async with open_segmented_log(folder / "log") as log:
        async for entry in log.recover():
            for part in _decoded(json.loads(entry.data)):
                yield part
    snapshot = await SnapshotFolder(folder / "snapshots").load()
    for chunk in snapshot.chunks if snapshot else ():
        for part in _decoded(json.loads(chunk)):
            yield part


def _decoded(value: Any) -> Iterator[bytes]:
    if isinstance(value, list):
        for part in value:
            yield from _decoded(part)
    elif isinstance(value, str):
        yield value.encode()
        with suppress(binascii.Error):
            yield base64.b64decode(value, validate=True)
