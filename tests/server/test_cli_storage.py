"""``contextdna storage migrate``."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from contextdna import open_hub
from contextdna_server.cli import main
from tests.hub.rig import ALICE, raw_database, remember, settings_in
from tests.servers.postgres import fresh_database_url


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give the data folder of an installation with a memory."""

    async def store() -> None:
        async with open_hub(settings_in(tmp_path / "data")) as hub:
            await remember(hub.bind(ALICE), "a memory")

    asyncio.run(store())
    return tmp_path / "data"


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["storage", "migrate", *map(str, args)])


def error_of(result: Result) -> Any:
    return json.loads(result.stderr.splitlines()[-1])["error"]


def test_an_installation_goes_to_postgresql_and_its_server_serves_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh_database_url()
    result = run("--from", f"sqlite:{data}", "--to", url, "--data", data, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["complete"], document["rows"]["records"], document["audit_chains"]) == (True, 1, 3)
    told = [json.loads(line)["progress"] for line in result.stderr.splitlines()]
    assert {"stage": "copy", "part": "records", "done": 0, "total": 1} in told
    assert {step["stage"] for step in told} == {"copy", "check"}
    monkeypatch.setenv("CONTEXTDNA_STORAGE__DATABASE", url)
    verified = CliRunner().invoke(main, ["audit", "verify", "--data", str(data)])
    assert verified.exit_code == 0, verified.output
    (data / "spool" / "aside").mkdir(parents=True)
    (data / "spool" / "aside" / "log.1.sealed").write_bytes(b"a write that was refused")
    back = run("--from", url, "--to", f"sqlite:{tmp_path / 'back'}", "--data", data)
    assert (back.exit_code, "LEFT BEHIND: 1 queued writes" in back.stdout) == (1, True), back.output


def test_it_tells_which_key_the_target_needs(data: Path, tmp_path: Path) -> None:
    result = run("--from", f"sqlite:{data}", "--to", f"sqlite:{tmp_path / 'next'}")
    assert result.exit_code == 0, result.output
    assert f"copy the key file {data / 'master.key'} to {tmp_path / 'next' / 'master.key'}" in result.stdout
    assert "1 records" in result.stdout
    again = run("--from", f"sqlite:{data}", "--to", f"sqlite:{tmp_path / 'next'}", "--json")
    assert (again.exit_code, error_of(again)["code"]) == (1, "move_target_not_empty")


def test_doctor_tells_of_a_target_that_is_not_complete(data: Path) -> None:
    with raw_database(data) as statement:
        statement("INSERT INTO moves VALUES ('sqlite key_1', 'run', '', '')")
    result = CliRunner().invoke(main, ["doctor", "--data", str(data), "--json"])
    found = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert (result.exit_code, found["schema"]["status"]) == (1, "fail")
    assert "move_incomplete" in found["schema"]["detail"]


def test_what_is_no_place_or_not_there_is_named_without_a_password(data: Path, tmp_path: Path) -> None:
    wrong = run("--from", f"sqlite:{data}", "--to", "mysql://bob:secret@db", "--json")
    assert (wrong.exit_code, error_of(wrong)["code"]) == (2, "place_invalid")
    away = run("--from", f"sqlite:{data}", "--to", f"postgresql://bob:secret@/none?host={tmp_path}", "--json")
    assert (away.exit_code, error_of(away)["code"]) == (1, "storage_unreachable")
    none = run("--from", f"sqlite:{tmp_path / 'none'}", "--to", f"sqlite:{tmp_path / 'next'}", "--json")
    assert (none.exit_code, error_of(none)["code"]) == (1, "no_installation")
    assert "secret" not in wrong.output + away.output
    assert not (tmp_path / "none").exists()
