"""Master keys: AES-256-GCM key wrapping, and the places that master keys come from.

A key file is text, one key a line (``mk_1a2b3c4d base64…``); the last line is the current key, the others still open
what they wrapped. Its id is the start of the key's SHA-256, so that a wrong key is told from a damaged one.
"""

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contextdna.backends.folders import flush_folder, make_folder
from contextdna.errors import IntegrityFault, SettingsInvalid, StorageUnavailable

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12  # Source: NIST SP 800-38D, 5.2.1.1: 96 bits is the recommended length
_TAG_BYTES: Final = 16
_DIGESTS: Final = b"contextdna digests"
_FILE_BYTES_MAX: Final = 1_000_000
_HEADER: Final = "# contextdna master keys. Keep this file secret and backed up: without it nothing encrypted opens.\n"


class MasterKeyRing:
    """``KeyRing`` over keys in memory.

    Args:
        keys: 32-byte keys by id.
        current_id: Which of them wraps new keys.

    Raises:
        SettingsInvalid: ``master_key_invalid``.
    """

    def __init__(self, keys: Mapping[str, bytes], current_id: str) -> None:
        if current_id not in keys or any(len(key) != KEY_BYTES for key in keys.values()):
            raise _invalid_key("a master key is missing or not 32 bytes long")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._current_id = current_id
        self._digest_key = hashlib.blake2b(_DIGESTS, key=keys[current_id], digest_size=KEY_BYTES).digest()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sorted(self._ciphers)}, current_id={self._current_id!r})"

    @property
    def current_id(self) -> str:
        """Id of the master key that wraps new keys."""
        return self._current_id

    def holds(self, master_id: str) -> bool:
        """Tell whether this ring has a master key."""
        return master_id in self._ciphers

    def wrap(self, key: bytes, associated: bytes) -> bytes:
        """Encrypt a key under the current master key: a random 12-byte nonce, then ciphertext and tag."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._ciphers[self._current_id].encrypt(nonce, key, associated)

    def unwrap(self, master_id: str, wrapped: bytes, associated: bytes) -> bytes:
        """Decrypt a key.

        Raises:
            IntegrityFault: ``wrong_key``: this ring has no such master key, or the bytes were changed.
        """
        cipher = self._ciphers.get(master_id)
        if cipher is None:
            raise _wrong_key(f"the master key {master_id} is not here")
        if len(wrapped) < _NONCE_BYTES + _TAG_BYTES:
            raise _wrong_key("a wrapped key is cut short")
        try:
            return cipher.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], associated)
        except InvalidTag as error:
            raise _wrong_key(f"a wrapped key does not open with the master key {master_id}") from error

    def digest(self, data: bytes) -> bytes:
        """Give 32 bytes that follow from data and the current master key: keyed BLAKE2b, under a key of its own."""
        return hashlib.blake2b(data, key=self._digest_key, digest_size=KEY_BYTES).digest()


class KeyFileRing:
    """``KeyRing`` over a key file, made when it is not there; read anew when another process has added a key.

    Raises:
        SettingsInvalid: As ``read_key_file``.
        StorageUnavailable: The file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ring = create_key_file(path)

    @property
    def current_id(self) -> str:
        """Id of the master key that wraps new keys."""
        return self._ring.current_id

    def wrap(self, key: bytes, associated: bytes) -> bytes:
        """Encrypt a key under the current master key."""
        return self._ring.wrap(key, associated)

    def unwrap(self, master_id: str, wrapped: bytes, associated: bytes) -> bytes:
        """Decrypt a key.

        Raises:
            IntegrityFault: ``wrong_key``.
        """
        if not self._ring.holds(master_id):
            self._ring = read_key_file(self._path)
        return self._ring.unwrap(master_id, wrapped, associated)

    def digest(self, data: bytes) -> bytes:
        """Give 32 bytes that follow from data and the current master key."""
        return self._ring.digest(data)


def new_master_key() -> bytes:
    """Make a random master key."""
    return secrets.token_bytes(KEY_BYTES)


def master_key_id(key: bytes) -> str:
    """Give a key's id: ``mk_`` and the first 8 hex digits of its SHA-256."""
    return f"mk_{hashlib.sha256(key).hexdigest()[:8]}"


def parse_master_key(text: str) -> MasterKeyRing:
    """Make a ring of keys between commas or white space, the last one current.

    Each is 64 hex digits, or base64 (standard or URL-safe) of 32 bytes.

    Raises:
        SettingsInvalid: ``master_key_invalid``.
    """
    keys = [_decode(part) for part in text.replace(",", " ").split()]
    if not keys:
        raise _invalid_key("there is no master key in the text")
    return MasterKeyRing({master_key_id(key): key for key in keys}, master_key_id(keys[-1]))


def parse_keys(text: str) -> dict[str, bytes]:
    """Read the text of a key file; the last key is the current one.

    Raises:
        SettingsInvalid: ``key_file_invalid``.
    """
    keys: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        key_id, _, encoded = line.strip().partition(" ")
        try:
            key = _decode(encoded)
        except SettingsInvalid as error:
            raise _invalid_file(number) from error
        if master_key_id(key) != key_id:
            raise _invalid_file(number)
        keys.pop(key_id, None)  # a key that is listed twice counts where it stands last
        keys[key_id] = key
    if not keys:
        raise _invalid_file(0)
    return keys


def write_keys(keys: Mapping[str, bytes]) -> str:
    """Give the text of a key file."""
    lines = [f"{key_id} {base64.b64encode(key).decode()}\n" for key_id, key in keys.items()]
    return "".join([_HEADER, *lines])


def read_key_file(path: Path) -> MasterKeyRing:
    """Read a key file.

    Raises:
        SettingsInvalid: ``key_file_missing``, ``key_file_permissions`` or ``key_file_invalid``.
        StorageUnavailable: The file cannot be read.
    """
    keys = _read_keys(path)
    return MasterKeyRing(keys, list(keys)[-1])


def create_key_file(path: Path) -> MasterKeyRing:
    """Create a key file with one new key, or read the one that is there; never overwrites.

    Of several processes that do this at once one wins, and all read its key.

    Raises:
        SettingsInvalid: As ``read_key_file``.
        StorageUnavailable: The file cannot be written.
    """
    if not path.exists():
        with _storage_errors("created"):
            make_folder(path.parent)
            key = new_master_key()
            with _temporary_beside(path, write_keys({master_key_id(key): key})) as temporary:
                _publish_new(temporary, path)
            flush_folder(path.parent)
    return read_key_file(path)


def add_master_key(path: Path) -> MasterKeyRing:
    """Add a new current key to a key file; the older ones stay, to open what they wrapped.

    One process at a time: the caller rotates keys by hand or by a scheduled command, never in serving.

    Raises:
        SettingsInvalid: As ``read_key_file``, or ``key_file_busy``: another process is at it.
        StorageUnavailable: The file cannot be written; the old one stands.
    """
    with _storage_errors("written"), _only_one(path):
        keys = _read_keys(path)
        key = new_master_key()
        keys[master_key_id(key)] = key
        with _temporary_beside(path, write_keys(keys)) as temporary:
            temporary.replace(path)
        flush_folder(path.parent)
    return read_key_file(path)


def _read_keys(path: Path) -> dict[str, bytes]:
    with _storage_errors("read"):
        try:
            with path.open("rb") as file:
                _require_private(os.fstat(file.fileno()))
                raw = file.read(_FILE_BYTES_MAX)
        except FileNotFoundError as error:
            raise SettingsInvalid(
                f"there is no key file at {path}",
                code="key_file_missing",
                hint="Restore it from your backup; for a new installation run `contextdna keys init`.",
            ) from error
    return parse_keys(raw.decode("ascii", errors="replace"))


def _require_private(status: os.stat_result) -> None:
    if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
        raise SettingsInvalid(
            f"the key file is open to others (mode {stat.S_IMODE(status.st_mode):04o})",
            code="key_file_permissions",
            hint="Run `chmod 600` on the key file, and rotate the master key if others may have read it.",
        )


def _decode(text: str) -> bytes:
    text = text.strip()
    try:
        if len(text) == 2 * KEY_BYTES:
            key = bytes.fromhex(text)
        else:
            standard = text.replace("-", "+").replace("_", "/").rstrip("=")
            key = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise _invalid_key("the master key is neither hex nor base64") from None
    if len(key) != KEY_BYTES:
        raise _invalid_key("the master key is not 32 bytes long")
    return key


@contextlib.contextmanager
def _temporary_beside(path: Path, text: str) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        _write_private(temporary, text)
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _publish_new(temporary: Path, path: Path) -> None:
    """Give a finished file its name unless the name is taken: a reader never sees a half-written key file."""
    with contextlib.suppress(FileExistsError):
        if os.name == "nt":
            temporary.rename(path)  # on Windows a rename fails where the name is taken
        else:
            _link_new(temporary, path)


def _link_new(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # some file systems have no links (FAT, some network mounts)
        with _only_one(path):
            if not path.exists():
                temporary.replace(path)


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    lock = path.with_name(f".{path.name}.lock")
    try:
        os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError as error:
        raise SettingsInvalid(
            "another process is changing the key file",
            code="key_file_busy",
            hint=f"Wait for it; if none is running, remove {lock.name} beside the key file.",
        ) from error
    try:
        yield
    finally:
        lock.unlink()


@contextlib.contextmanager
def _storage_errors(done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(
            f"the key file cannot be {done}: {error.strerror}",
            code="key_file_unavailable",
            hint="Check the folder of the key file: it must be there, writable and not full.",
        ) from error


def _invalid_key(problem: str) -> SettingsInvalid:
    return SettingsInvalid(
        problem, code="master_key_invalid", hint="Give 32 random bytes as 64 hex digits or as base64."
    )


def _invalid_file(line: int) -> SettingsInvalid:
    return SettingsInvalid(
        f"line {line} of the master keys is damaged" if line else "there is no master key in the key file",
        code="key_file_invalid",
        hint="Restore the key file from your backup.",
    )


def _wrong_key(problem: str) -> IntegrityFault:
    return IntegrityFault(
        problem,
        code="wrong_key",
        hint="Use the key file (or key) that this database was made with, with all its older keys.",
    )
