"""Envelope encryption: a master key wraps each project's keys, which seal bodies and key the index.

Source: AES-256-GCM with 96-bit random nonces, NIST SP 800-38D; HKDF-SHA256, RFC 5869. Each sealed record has a key of
its own, BLAKE2b(data key, salt): the salt lies in the record's row, so a purged row leaves nothing that opens a copy
of the ciphertext, and no key ever seals so much that random nonces could meet.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from contextdna.domain.packing import pack, unpack
from contextdna.errors import IntegrityFault
from contextdna.ports.database import Transaction
from contextdna.ports.storage import KeyRing
from contextdna.values.ids import IdPrefix, ProjectId, new_id
from contextdna.values.key import KeyPurpose, WrappedKey
from contextdna.values.record import Sealed

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_SALT_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Binding:
    """What a ciphertext belongs to: moved to another row, level or version, it does not open."""

    table: str
    project_id: ProjectId
    record_id: str
    level: int
    version: int
    circle: tuple[str, ...] = ()
    """Owner, team and swarm: who edits the row to widen its readers makes it unreadable."""

    def associated(self, key_id: str) -> bytes:
        """Give the associated data under a key."""
        parts = (self.table, self.project_id, self.record_id, str(self.level), key_id, str(self.version), *self.circle)
        return "\x1f".join(parts).encode()


@dataclass(frozen=True, slots=True)
class ProjectKeys:
    """A project's keys, unwrapped; lives in memory only."""

    project_id: ProjectId
    index_key: bytes = field(repr=False)
    sealed_index_key: bytes = field(repr=False)
    hash_key: bytes = field(repr=False)
    sealed_hash_key: bytes = field(repr=False)
    audit_key: bytes = field(repr=False)
    token_key: bytes = field(repr=False)
    data_keys: Mapping[str, bytes] = field(repr=False)
    current_key_id: str
    generation: int
    """Of the newest data key: where the database tells another, a rotation has happened since."""

    def content_hash(self, content: str | bytes, *, encrypted: bool) -> bytes:
        """Hash content (16 bytes): equality without disclosure. What is encrypted never equals what is plain."""
        data = content.encode() if isinstance(content, str) else content
        key = self.sealed_hash_key if encrypted else self.hash_key
        return hashlib.blake2b(data, key=key, digest_size=16).digest()

    def name_hash(self, name: str, *, encrypted: bool) -> str:
        """Hash a name (32 hex digits), as ``content_hash`` does."""
        return self.content_hash("name\x1f" + name, encrypted=encrypted).hex()

    def seal(
        self, body: Mapping[str, Any], binding: Binding, *, encrypted: bool, compress_over_bytes: int = 4096
    ) -> Sealed:
        """Pack a body and, where its level asks for it, encrypt it."""
        data, codec = pack(body, compress_over_bytes=compress_over_bytes)
        if not encrypted:
            return Sealed(data=data, codec=codec)
        ciphertext, salt = self.encrypt(data, binding)
        return Sealed(data=ciphertext, codec=codec, key_id=self.current_key_id, salt=salt)

    def open(self, sealed: Sealed, binding: Binding, *, encrypted: bool) -> dict[str, Any]:
        """Undo ``seal``; what must be encrypted and is not does not open either.

        Raises:
            IntegrityFault: ``body_unreadable``: the row was changed, or belongs elsewhere.
        """
        data = sealed.data
        if encrypted or sealed.key_id:
            data = self.decrypt(data, binding, key_id=sealed.key_id, salt=sealed.salt)
        return unpack(data, sealed.codec)

    def encrypt(self, data: bytes, binding: Binding) -> tuple[bytes, bytes]:
        """Encrypt bytes under the current data key; gives (nonce + ciphertext + tag, salt)."""
        salt = secrets.token_bytes(_SALT_BYTES)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        cipher = AESGCM(_record_key(self.data_keys[self.current_key_id], salt))
        return nonce + cipher.encrypt(nonce, data, binding.associated(self.current_key_id)), salt

    def decrypt(self, data: bytes, binding: Binding, *, key_id: str, salt: bytes) -> bytes:
        """Undo ``encrypt``.

        Raises:
            IntegrityFault: ``body_unreadable``.
        """
        data_key = self.data_keys.get(key_id)
        try:
            if data_key is None:
                raise InvalidTag
            cipher = AESGCM(_record_key(data_key, salt))
            return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], binding.associated(key_id))
        except (InvalidTag, ValueError) as error:
            raise IntegrityFault(
                f"record {binding.record_id} does not open: it was changed, or its key is missing",
                code="body_unreadable",
                hint="Run `contextdna audit verify` and restore the data folder from a backup.",
            ) from error


class Vault:
    """Holds the key ring and the project keys it has unwrapped."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._projects: dict[ProjectId, ProjectKeys] = {}

    async def keys(self, tx: Transaction, project_id: ProjectId) -> ProjectKeys:
        """Give a project's keys, reading them when not held yet, or when another process has rotated them since.

        Raises:
            IntegrityFault: ``wrong_key``, or ``keys_missing`` for a project without keys.
        """
        held = self._projects.get(project_id)
        if held is not None and held.generation == await tx.keys.generation(project_id):
            return held
        keys = self._unwrap(project_id, await tx.keys.all(project_id))
        self._projects[project_id] = keys
        return keys

    async def create(self, tx: Transaction, project_id: ProjectId, *, now: datetime) -> None:
        """Make and keep the keys of a new project."""
        for purpose in KeyPurpose:
            await tx.keys.add(self._new_key(project_id, purpose, 1, now))

    async def add_data_key(self, tx: Transaction, project_id: ProjectId, *, now: datetime) -> str:
        """Add the next version of a project's data key and give its id; later seals use it."""
        rows = await tx.keys.all(project_id)
        version = 1 + max(row.version for row in rows if row.purpose is KeyPurpose.DATA)
        key = self._new_key(project_id, KeyPurpose.DATA, version, now)
        await tx.keys.add(key)
        return key.key_id

    async def rewrap(self, tx: Transaction) -> int:
        """Wrap every key that an older master key wraps under the current one; gives how many."""
        stale = [row for row in await tx.keys.all() if row.master_id != self._ring.current_id]
        for row in stale:
            associated = _key_binding(row)
            plain = self._ring.unwrap(row.master_id, row.wrapped, associated)
            await tx.keys.rewrap(_with_wrapping(row, self._ring.current_id, self._ring.wrap(plain, associated)))
        return len(stale)

    def seal_text(self, text: str, purpose: str) -> str:
        """Encrypt a short text under the master key, so that any process of the installation and nobody else opens it.

        Args:
            text: What to seal.
            purpose: What it is for; it opens for no other purpose.
        """
        wrapped = self._ring.wrap(text.encode(), f"sealed {purpose}".encode())
        return f"{self._ring.current_id}.{base64.urlsafe_b64encode(wrapped).rstrip(b'=').decode()}"

    def open_text(self, sealed: str, purpose: str) -> str:
        """Decrypt what ``seal_text`` gave.

        Raises:
            IntegrityFault: ``wrong_key``: it was not sealed by this installation, or not for this purpose.
        """
        master_id, _, encoded = sealed.partition(".")
        try:
            wrapped = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except ValueError as error:
            raise IntegrityFault("a sealed text is not base64", code="wrong_key") from error
        return self._ring.unwrap(master_id, wrapped, f"sealed {purpose}".encode()).decode()

    def digest(self, purpose: str, *parts: str) -> bytes:
        """Give 32 bytes that every process of the installation gives for the same parts, and nobody else can tell."""
        return self._ring.digest(json.dumps([purpose, *parts]).encode())

    def forget(self, project_id: ProjectId) -> None:
        """Drop a project's unwrapped keys so that the next use reads them anew."""
        self._projects.pop(project_id, None)

    def _new_key(self, project_id: ProjectId, purpose: KeyPurpose, version: int, now: datetime) -> WrappedKey:
        bare = WrappedKey(
            key_id=new_id(IdPrefix.KEY, now),
            project_id=project_id,
            purpose=purpose,
            version=version,
            master_id=self._ring.current_id,
            wrapped=b"",
            created_at=now,
        )
        secret = secrets.token_bytes(_KEY_BYTES)
        return _with_wrapping(bare, bare.master_id, self._ring.wrap(secret, _key_binding(bare)))

    def _unwrap(self, project_id: ProjectId, rows: list[WrappedKey]) -> ProjectKeys:
        data_rows = sorted((row for row in rows if row.purpose is KeyPurpose.DATA), key=lambda row: row.version)
        roots = [row for row in rows if row.purpose is KeyPurpose.ROOT]
        if not data_rows or len(roots) != 1:
            raise IntegrityFault(
                f"project {project_id or '(installation)'} has no keys",
                code="keys_missing",
                hint="Restore the data folder from a backup.",
            )
        root = self._plain(roots[0])
        return ProjectKeys(
            project_id=project_id,
            index_key=_derive(root, "index"),
            sealed_index_key=_derive(root, "index sealed"),
            hash_key=_derive(root, "hash"),
            sealed_hash_key=_derive(root, "hash sealed"),
            audit_key=_derive(root, "audit"),
            token_key=_derive(root, "tokens"),
            data_keys={row.key_id: self._plain(row) for row in data_rows},
            current_key_id=data_rows[-1].key_id,
            generation=max(row.version for row in rows),
        )

    def _plain(self, row: WrappedKey) -> bytes:
        return self._ring.unwrap(row.master_id, row.wrapped, _key_binding(row))


def _record_key(data_key: bytes, salt: bytes) -> bytes:
    return hashlib.blake2b(salt, key=data_key, digest_size=_KEY_BYTES, person=b"contextdna-rec").digest()


def _derive(root: bytes, use: str) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=None, info=f"contextdna {use}".encode()).derive(root)


def _key_binding(row: WrappedKey) -> bytes:
    return "\x1f".join(("keys", row.project_id, row.purpose, str(row.version), row.key_id)).encode()


def _with_wrapping(row: WrappedKey, master_id: str, wrapped: bytes) -> WrappedKey:
    return WrappedKey(row.key_id, row.project_id, row.purpose, row.version, master_id, wrapped, row.created_at)
