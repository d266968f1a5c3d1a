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
        raise SettingsInvalid(
            "the operating system's keyring does not answer",
            code="keyring_unavailable",
            hint="Unlock it, or use a key file.",
        ) from error
    if text is None:
        raise SettingsInvalid(
            "the operating system's keyring holds no master key",
            code="keyring_empty",
            hint="Restore it from your backup, or use a key file.",
        )
    keys = parse_keys(text)
    return MasterKeyRing(keys, list(keys)[-1])
