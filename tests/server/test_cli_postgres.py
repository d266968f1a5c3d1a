"""The commands on PostgreSQL."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from contextdna import AccessDenied, MemoryDraft, ProjectId, open_hub
from contextdna.backends.key_ring import KeyFileRing
from contextdna.backends.sealing import RingSealer
from contextdna.domain.access import Caller
from contextdna.domain.queued_writes import QueuedWrite, StoreRequest, packed
from contextdna.hub.spool import SPOOL_FOLDER
from contextdna.hub.writes_aside import ASIDE_FOLDER, WritesAside
from contextdna_server.cli import main
from tests.hub.rig import ALICE, DEFAULT, START, remember, settings_in
from tests.servers.postgres import fresh_database_url

ASIDE = "wrt_01m7zzzfrmr7gwp9rvz64"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a data folder whose settings name a database without tables."""
    monkeypatch.setenv("CONTEXTDNA_STORAGE__DATABASE", fresh_database_url())
    return tmp_path / "data"


def answer(*args: str | Path, exit_code: int = 0) -> Any:
    result = CliRunner().invoke(main, [*map(str, args), "--json"])
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout) if result.stdout else json.loads(result.stderr)


def install(data: Path, url: str) -> None:
    async def store() -> None:
        async with open_hub(settings_in(data, database=url)) as hub:
            await remember(hub.bind(ALICE), "a memory")

    asyncio.run(store())


def checks(data: Path, *args: str, exit_code: int = 0) -> dict[str, str]:
    return {
        check["name"]: check["status"]
        for check in answer("doctor", "--data", data, *args, exit_code=exit_code)["checks"]
    }


def test_commands_look_at_the_database_that_the_settings_name(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh_database_url()
    monkeypatch.setenv("CONTEXTDNA_STORAGE__DATABASE", url)
    assert checks(data)["postgres"] == "ok"
    assert not data.exists()
    install(data, url)
    assert set(checks(data, "--deep").values()) == {"ok"}
    assert "sqlite" not in checks(data)
    assert {key["project"] for key in answer("keys", "list", "--data", data)["keys"]} >= {"default"}
    assert answer("audit", "verify", "--data", data)["intact"]
    assert answer("migrate", "status", "--data", data)["current"] == 1
    assert not (data / "contextdna.db").exists()


def test_the_schema_goes_back_and_forward(data: Path) -> None:
    answer("migrate", "up", "--data", data)
    assert answer("migrate", "down", "0", "--yes", "--data", data)["steps"] == [
        {"way": "down", "migration": "1 initial"}
    ]
    assert [step["name"] for step in answer("migrate", "status", "--data", data)["pending"]] == ["initial"]
    assert answer("migrate", "up", "--data", data)["current"] == 1


def test_doctor_says_what_is_wrong_with_the_server_and_no_password(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTEXTDNA_STORAGE__DATABASE", f"postgresql://bob:secret@/none?host={tmp_path}")
    result = CliRunner().invoke(main, ["doctor", "--data", str(data), "--json"])
    found = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert (result.exit_code, found["postgres"]["status"]) == (1, "fail")
    assert "storage_unreachable" in found["postgres"]["detail"]
    assert "secret" not in result.output


def test_tables_that_a_first_start_left_are_no_installation_yet(data: Path) -> None:
    answer("migrate", "up", "--data", data)
    assert set(checks(data, "--deep").values()) == {"ok"}
    assert answer("keys", "init", "--data", data)["master_key_id"]
    assert set(checks(data, "--deep").values()) == {"ok"}


def test_a_command_that_needs_an_installation_makes_none(data: Path) -> None:
    assert answer("audit", "verify", "--data", data, exit_code=1)["error"]["code"] == "no_installation"
    assert answer("migrate", "status", "--data", data)["current"] == 0


def test_writes_that_were_set_aside_are_listed_without_their_text_tried_again_and_dropped(data: Path) -> None:
    install(data, os.environ["CONTEXTDNA_STORAGE__DATABASE"])
    for number, project_id in enumerate((DEFAULT, ProjectId("gone")), start=1):
        asyncio.run(set_aside(data, f"{ASIDE}{number}", project_id))
    assert checks(data)["spool"] == "warn"
    listed = answer("spool", "--data", data)["aside"]
    both = [(f"{ASIDE}{number}", "agent_retired", "alice") for number in (1, 2)]
    assert [(one["id"], one["code"], one["agent_id"]) for one in listed] == both
    only = answer("spool", "--data", data, "--project", "default")["aside"]
    assert [one["id"] for one in only] == [f"{ASIDE}1"]
    assert "a secret" not in json.dumps(listed)
    retried = answer("spool", "--data", data, "--retry", f"{ASIDE}1")
    assert [one["id"] for one in retried["aside"]] == [f"{ASIDE}2"]
    assert retried["done"] == ["mem_01m7zzzfrmr7gwp9rvz64a"]
    assert answer("spool", "--data", data, "--drop", f"{ASIDE}1", exit_code=1)["error"]["code"] == "queued_unknown"


def test_doctor_tells_of_a_damaged_artifact_that_had_waited(data: Path) -> None:
    folder = data / "artifacts-spool" / "ab" / "cd"
    folder.mkdir(parents=True)
    (folder / f"abcd{60 * '0'}.damaged").write_bytes(b"half of it")
    assert checks(data, exit_code=1)["spool"] == "fail"


async def set_aside(data: Path, name: str, project_id: ProjectId) -> None:
    """Leave a write as a replay does that is refused."""
    request = StoreRequest((MemoryDraft("a secret"),))
    ids = ("mem_01m7zzzfrmr7gwp9rvz64a",)
    write = QueuedWrite(START, Caller(ALICE), request, ids, project_id, ALICE.agent_id, name=name)
    aside = WritesAside(data / SPOOL_FOLDER / ASIDE_FOLDER, RingSealer(KeyFileRing(data / "master.key"), "spool"))
    refusal = AccessDenied("the agent is retired", code="agent_retired")
    await aside.put(name, packed(write), error=refusal, at=START)
