"""Writes that were set aside, some of whose files cannot be read."""

import errno
from datetime import timedelta
from pathlib import Path

import pytest

from contextdna import AccessDenied, IntegrityFault, NotFound, StorageUnavailable
from contextdna.backends.key_ring import create_key_file
from contextdna.backends.sealing import RingSealer
from contextdna.hub.writes_aside import WritesAside
from tests.hub.rig import START, refused

pytestmark = pytest.mark.anyio

REFUSAL = AccessDenied("the agent is retired", code="agent_retired")


@pytest.mark.parametrize("kept", [0, 1, 20, 80, -1])
async def test_a_file_that_cannot_be_read_hides_no_other_and_can_be_dropped(tmp_path: Path, kept: int) -> None:
    aside = WritesAside(tmp_path / "aside", RingSealer(create_key_file(tmp_path / "master.key"), "spool"))
    for number in range(3):
        await aside.put(f"log.{number}", b"a write", error=REFUSAL, at=START)
    bad = tmp_path / "aside" / "log.1.sealed"
    bad.write_bytes(bad.read_bytes()[:kept])
    found = {one.id: one.code for one in await aside.all()}
    assert found == {"log.0": "agent_retired", "log.1": "queued_unreadable", "log.2": "agent_retired"}
    assert await aside.get("log.0") == b"a write"
    await refused(aside.get("log.1"), IntegrityFault, "queued_unreadable")
    for name in ("log.0", "log.1"):
        await aside.drop(name, at=START)
        await refused(aside.drop(name, at=START), NotFound, "queued_unknown")
        await refused(aside.get(name), NotFound, "queued_unknown")
    assert [one.id for one in await aside.all()] == ["log.2"]
    assert aside.count == 1


async def test_what_was_dropped_is_known_until_it_would_be_done_no_more(tmp_path: Path) -> None:
    aside = WritesAside(tmp_path / "aside", RingSealer(create_key_file(tmp_path / "master.key"), "spool"))
    assert not await aside.holds("log.1")
    await aside.put("log.1", b"a write", error=REFUSAL, at=START)
    await aside.drop("log.1", at=START)
    await aside.forget_dropped(before=START)
    assert (await aside.holds("log.1"), await aside.names(), await aside.all()) == (True, {"log.1"}, [])
    assert await aside.holds("as others name it", "log.1")
    assert not any(b"a write" in path.read_bytes() for path in (tmp_path / "aside").iterdir())
    await aside.forget_dropped(before=START + timedelta(seconds=1))
    assert not await aside.holds("log.1")


async def test_a_disk_that_is_full_is_told_of_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aside = WritesAside(tmp_path / "aside", RingSealer(create_key_file(tmp_path / "master.key"), "spool"))
    monkeypatch.setattr("contextdna.hub.writes_aside.write_whole", _no_space)
    await refused(aside.put("log.1", b"a write", error=REFUSAL, at=START), StorageUnavailable, "storage_full")


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "no space")
