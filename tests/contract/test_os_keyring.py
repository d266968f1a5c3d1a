"""Master keys in the operating system's keyring; the keyring itself is a double."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from contextdna.backends.os_keyring import add_os_keyring_key, read_os_keyring
from contextdna.errors import SettingsInvalid
from contextdna.hub.opening import DATABASE_FILE, open_ring
from contextdna.values.settings import HubSettings


class KeyringError(Exception):
    """Stands for ``keyring.errors.KeyringError``."""


class Vault(ModuleType):
    """Stands for the package ``keyring``."""

    def __init__(self) -> None:
        super().__init__("keyring")
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False
        self.errors = ModuleType("keyring.errors")
        self.errors.KeyringError = KeyringError  # type: ignore[attr-defined]  # a double is built by hand

    def get_password(self, service: str, name: str) -> str | None:
        if self.locked:
            raise KeyringError
        return self.kept.get((service, name))

    def set_password(self, service: str, name: str, text: str) -> None:
        self.kept[service, name] = text


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Vault:
    double = Vault()
    monkeypatch.setitem(sys.modules, "keyring", double)
    monkeypatch.setitem(sys.modules, "keyring.errors", double.errors)
    return double


def test_a_key_is_made_once_and_read_again(vault: Vault) -> None:
    ring = read_os_keyring(create=True)
    assert read_os_keyring(create=True).current_id == read_os_keyring().current_id == ring.current_id
    assert read_os_keyring().unwrap(ring.current_id, ring.wrap(b"key", b""), b"") == b"key"


def test_an_added_key_is_current_and_the_older_one_still_opens(vault: Vault) -> None:
    first = read_os_keyring(create=True)
    wrapped = first.wrap(b"key", b"")
    added = add_os_keyring_key()
    assert read_os_keyring().current_id == added.current_id != first.current_id
    assert read_os_keyring().unwrap(first.current_id, wrapped, b"") == b"key"


def test_no_key_is_added_to_an_empty_or_locked_keyring(vault: Vault) -> None:
    for locked in (False, True):
        vault.locked = locked
        with pytest.raises(SettingsInvalid) as refused:
            add_os_keyring_key()
        assert refused.value.code == ("keyring_unavailable" if locked else "keyring_empty")
    assert vault.kept == {}


def test_of_two_first_starts_both_use_the_key_that_stayed(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    read_os_keyring(create=True)
    [stayed] = vault.kept.values()
    vault.kept.clear()
    monkeypatch.setattr(vault, "set_password", lambda service, name, _: vault.kept.update({(service, name): stayed}))
    assert read_os_keyring(create=True).current_id == read_os_keyring().current_id


def test_a_database_whose_keyring_is_empty_gets_no_new_key(vault: Vault, tmp_path: Path) -> None:
    settings = HubSettings(data_dir=tmp_path, os_keyring=True)
    ring = open_ring(settings)
    (tmp_path / DATABASE_FILE).touch()
    assert open_ring(settings).current_id == ring.current_id
    vault.kept.clear()
    with pytest.raises(SettingsInvalid) as refused:
        open_ring(settings)
    assert refused.value.code == "key_missing"
    assert vault.kept == {}


def test_an_empty_keyring_is_told(vault: Vault) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        read_os_keyring()
    assert refused.value.code == "keyring_empty"
    assert vault.kept == {}


def test_a_locked_keyring_is_told(vault: Vault) -> None:
    vault.locked = True
    with pytest.raises(SettingsInvalid) as refused:
        read_os_keyring(create=True)
    assert refused.value.code == "keyring_unavailable"


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(SettingsInvalid) as refused:
        read_os_keyring()
    assert refused.value.code == "keyring_missing"
    assert "contextdna[keyring]" in refused.value.hint
