"""What doctor tells of Redis."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from contextdna_server.cli import main
from tests.servers.redis import own_server


def redis_check(data: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> dict[str, Any]:
    monkeypatch.setenv("CONTEXTDNA_STORAGE__CACHE", url)
    result = CliRunner().invoke(main, ["doctor", "--data", str(data), "--json"])
    assert result.exit_code == 0, result.output
    assert "secret-word" not in result.output
    [check] = [check for check in json.loads(result.stdout)["checks"] if check["name"] == "redis"]
    return dict(check)


def test_doctor_tells_of_redis_and_how_long_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with own_server("--maxmemory-policy", "allkeys-lru") as server:
        check = redis_check(tmp_path / "data", monkeypatch, server.url)
        assert check["status"] == "ok"
        assert " ms" in check["detail"]


def test_doctor_warns_of_redis_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with own_server() as server:
        check = redis_check(tmp_path / "data", monkeypatch, server.url)
    assert check["status"] == "warn"
    assert "allkeys-lru" in check["remedy"]


def test_redis_that_is_away_is_a_warning_since_nothing_is_in_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = redis_check(tmp_path / "data", monkeypatch, "redis://user:secret-word@127.0.0.1:1")
    assert check["status"] == "warn"
    assert "redis_unreachable" in check["detail"]
    assert check["remedy"]


@pytest.mark.parametrize("url", ["http://host", "redis+cluster://user:secret-word@host:6379/3"])
def test_a_url_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CONTEXTDNA_STORAGE__CACHE", url)
    result = CliRunner().invoke(main, ["doctor", "--data", str(tmp_path / "data"), "--json"])
    assert result.exit_code != 0
    assert "secret-word" not in result.output
