"""Replicas come through the settings as secrets, and doctor tells of those that do not answer."""

from pathlib import Path

import pytest

from contextdna.errors import SettingsInvalid
from contextdna_server.settings import load_settings

URLS = ("postgresql://user:hidden@one,two/name", "postgresql://user:hidden@three/name")


@pytest.mark.parametrize("given", [f'["{URLS[0]}", "{URLS[1]}"]', URLS[1]])
def test_replicas_are_secrets(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTDNA_STORAGE__DATABASE", "postgresql://user@host/name")
    monkeypatch.setenv("CONTEXTDNA_STORAGE__POSTGRES__REPLICAS", given)
    monkeypatch.setenv("CONTEXTDNA_STORAGE__POSTGRES__REPLICA_LAG_MAX_S", "0")
    settings = load_settings({"data": tmp_path})
    assert "hidden" not in repr(settings)
    hub = settings.to_hub_settings()
    assert hub.postgres.replicas == (URLS if given.startswith("[") else URLS[1:])
    assert hub.postgres.replica_lag_max_s == 0
    assert "hidden" not in repr(hub)


def test_a_replica_that_is_no_url_is_refused_without_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTEXTDNA_STORAGE__POSTGRES__REPLICAS", "mysql://user:hidden@host/name")
    with pytest.raises(SettingsInvalid) as refused:
        load_settings({"data": tmp_path})
    assert "hidden" not in f"{refused.value} {refused.value.hint}"
    assert "SQLite" not in f"{refused.value} {refused.value.hint}"  # that is what storage.database may be


def test_replicas_of_a_file_refer_to_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICA_URL", URLS[1])
    file = tmp_path / "contextdna.toml"
    file.write_text('[storage]\ndatabase = "postgresql://host/name"\n[storage.postgres]\nreplicas = ["$REPLICA_URL"]\n')
    assert load_settings({"data": tmp_path}, config=file).to_hub_settings().postgres.replicas == URLS[1:]
