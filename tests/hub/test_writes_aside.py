"""Writes that were set aside, some of whose files cannot be read."""

from pathlib import Path

import pytest

from contextdna import AccessDenied, IntegrityFault, NotFound
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
        await aside.drop(name)
        await refused(aside.drop(name), NotFound, "queued_unknown")
        await refused(aside.get(name), NotFound, "queued_unknown")
    assert [one.id for one in await aside.all()] == ["log.2"]
    assert aside.count == 1
