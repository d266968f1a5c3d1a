"""What doctor and `contextdna spool` tell of queued writes, while PostgreSQL is away and a server has its slot."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from contextdna import AccessDenied
from contextdna.backends.key_ring import KeyFileRing
from contextdna.backends.sealing import RingSealer
from contextdna.backends.segmented_log import open_segmented_log
from contextdna.hub.spool import SPOOL_FOLDER
from contextdna.hub.writes_aside import ASIDE_FOLDER, WritesAside
from contextdna_server.cli import main
from tests.hub.rig import START


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a data folder whose settings name a server that is away."""
    monkeypatch.setenv("CONTEXTDNA_STORAGE__DATABASE", f"postgresql://bob@/none?host={tmp_path}")
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


def call(*args: str | Path) -> Any:
    return CliRunner().invoke(main, [*map(str, args)])


def spool_check(data: Path) -> tuple[str, str]:
    checks = json.loads(call("doctor", "--data", data, "--json").stdout)["checks"]
    return next((one["status"], one["detail"]) for one in checks if one["name"] == "spool")


def queued(data: Path, count: int, *, meanwhile: Callable[[], None]) -> None:
    """Leave writes in a slot, and do something while its owner is there."""

    async def run() -> None:
        slot = data / SPOOL_FOLDER / "0"
        async with open_segmented_log(slot, sealer=RingSealer(KeyFileRing(data / "master.key"), "spool")) as log:
            for number in range(count + 1):
                unit = await log.begin()
                await log.write_entry(unit, f"write {number}".encode())
                await log.commit(unit)
            await log.forget(1)
            await asyncio.to_thread(meanwhile)

    asyncio.run(run())


def test_what_waits_is_counted_while_its_owner_works_and_the_database_is_away(data: Path) -> None:
    assert spool_check(data)[0] == "ok"

    def look() -> None:
        assert spool_check(data) == ("warn", "8 queued writes wait for PostgreSQL")
        told = call("spool", "--data", data)
        assert (told.exit_code, told.stdout.splitlines()[0]) == (0, "No write is set aside.")
        assert "Waiting for PostgreSQL: 8." in told.stdout

    queued(data, 8, meanwhile=look)


def test_what_waits_is_told_of_though_the_settings_name_no_postgresql_any_more(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued(data, 2, meanwhile=lambda: None)
    monkeypatch.delenv("CONTEXTDNA_STORAGE__DATABASE")
    assert spool_check(data) == ("fail", "2 queued writes wait for PostgreSQL, and storage.database names none")


def test_a_damaged_slot_is_told_of_with_what_can_be_read(data: Path) -> None:
    queued(data, 4, meanwhile=lambda: None)
    [segment] = (data / SPOOL_FOLDER / "0").glob("*.wal")
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    segment.write_bytes(damaged)
    assert spool_check(data) == ("fail", "slots of queued writes cannot be read to their end: 0 [log_damaged]")
    [slot] = json.loads(call("spool", "--data", data, "--json").stdout)["slots"]
    assert (slot["number"], slot["problem"], 0 < slot["waiting"] < 4) == (0, "log_damaged", True)
    assert "Slot 0 is left as it is" in call("spool", "--data", data).stdout


def test_a_slot_that_cannot_be_read_hides_no_other(data: Path) -> None:
    queued(data, 2, meanwhile=lambda: None)
    (data / SPOOL_FOLDER / "0").rename(data / SPOOL_FOLDER / "1")
    (data / SPOOL_FOLDER / "0" / f"{1:020}.wal").mkdir(parents=True)
    assert spool_check(data) == ("fail", "slots of queued writes cannot be read to their end: 0 [storage_io_error]")
    slots = json.loads(call("spool", "--data", data, "--json").stdout)["slots"]
    assert [(slot["problem"], slot["waiting"]) for slot in slots] == [("storage_io_error", 0), ("", 2)]


def test_what_is_set_aside_is_listed_without_the_database_and_retry_excludes_drop(data: Path) -> None:
    aside = WritesAside(data / SPOOL_FOLDER / ASIDE_FOLDER, RingSealer(KeyFileRing(data / "master.key"), "spool"))
    refusal = AccessDenied("the agent is retired", code="agent_retired")
    asyncio.run(aside.put("log.1", b"of another version", error=refusal, at=START))
    [one] = json.loads(call("spool", "--data", data, "--json").stdout)["aside"]
    assert (one["id"], one["code"]) == ("log.1", "agent_retired")
    assert call("spool", "--data", data, "--retry", "log.1", "--drop", "log.1").exit_code == 2
    assert call("spool", "--data", data.with_name("none")).exit_code == 1
    assert not data.with_name("none").exists()
