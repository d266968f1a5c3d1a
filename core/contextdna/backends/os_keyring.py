"""Master keys in the operating system's keyring (extra ``keyring``)."""

from typing import Final

from contextdna.backends.key_ring import MasterKeyRing, master_key_id, new_master_key, parse_keys, write_keys
from contextdna.errors import SettingsInvalid

_SERVICE: Final = "contextdna"


def read_os_keyring(name: str = "master-keys", *, create: bool = False) -> MasterKeyRing:
    """Read the master keys kept under a name; with ``create``, put a new one there when there is none.

    Raises:
        SettingsInvalid: ``keyring_missing``, ``keyring_unavailable``, ``keyring_empty`` or ``key_file_invalid``.
    """
    try:
        import keyring
        import keyring.errors
    except ImportError as error:
        raise SettingsInvalid(
            "the package keyring is not installed",
            code="keyring_missing",
            hint="Install contextdna[keyring], or use a key file.",
        ) from error
    try:
        text = keyring.get_password(_SERVICE, name)
        if text is None and create:
            key = new_master_key()
            keyring.set_password(_SERVICE, name, write_keys({master_key_id(key): key}))
            text = keyring.get_password(_SERVICE, name)
    except keyring.errors.KeyringError as error:
        raise _no_answer() from error
    if text is None:
        raise SettingsInvalid(
            "the operating system's keyring holds no master key",
            code="keyring_empty",
            hint="Restore it from your backup, or use a key file.",
        )
    return _ring(parse_keys(text))


def add_os_keyring_key(name: str = "master-keys") -> MasterKeyRing:
    """Add a new current key to those kept under a name; the older ones stay, to open what they wrapped.

    One process at a time, as for a key file. A server that runs has read the keys already: it needs a restart.

    Raises:
        SettingsInvalid: As ``read_os_keyring``.
    """
    read_os_keyring(name)
    import keyring
    import keyring.errors

    key = new_master_key()
    try:
        keys = {**parse_keys(keyring.get_password(_SERVICE, name) or ""), master_key_id(key): key}
        keyring.set_password(_SERVICE, name, write_keys(keys))
    except keyring.errors.KeyringError as error:
        raise _no_answer() from error
    return _ring(keys)


def _ring(keys: dict[str, bytes]) -> MasterKeyRing:
    return MasterKeyRing(keys, list(keys)[-1])


def _no_answer() -> SettingsInvalid:
    return SettingsInvalid(
        "the operating system's keyring does not answer",
        code="keyring_unavailable",
        hint="Unlock it, or use a key file.",
    )
