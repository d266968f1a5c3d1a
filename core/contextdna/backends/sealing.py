"""Sealing under the master key of an installation, for what lies outside its database."""

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contextdna.errors import IntegrityFault
from contextdna.ports.storage import KeyRing

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12  # Source: NIST SP 800-38D, 5.2.1.1
_LENGTH_BYTES: Final = 2


class RingSealer:
    """``Sealer`` with AES-256-GCM: what one process seals, every process of the installation opens.

    Each sealer seals under a random key of its own, which goes, wrapped by the master key, in front of what it sealed.
    So no key seals more than one process writes, and a new master key needs no sealing anew.

    Args:
        ring: The installation's master keys.
        purpose: What is sealed; it opens for no other purpose.
    """

    def __init__(self, ring: KeyRing, purpose: str) -> None:
        self._ring = ring
        self._bound = f"sealing key {purpose}".encode()
        key = secrets.token_bytes(_KEY_BYTES)
        head = b"\0".join((ring.current_id.encode(), ring.wrap(key, self._bound)))
        self._head = len(head).to_bytes(_LENGTH_BYTES, "big") + head
        self._cipher = AESGCM(key)
        self._ciphers = {head: self._cipher}

    def seal(self, data: bytes, associated: bytes) -> bytes:
        """Encrypt; it opens with the same associated data only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self._head + nonce + self._cipher.encrypt(nonce, data, associated)

    def is_current(self, sealed: bytes) -> bool:
        """Tell whether sealed data is under the master key that this seals under, not under an older one."""
        return _master_id(sealed[_LENGTH_BYTES:]) == _master_id(self._head[_LENGTH_BYTES:])

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Decrypt.

        Raises:
            IntegrityFault: ``wrong_key``.
        """
        length = int.from_bytes(sealed[:_LENGTH_BYTES], "big")
        head, body = sealed[_LENGTH_BYTES : _LENGTH_BYTES + length], sealed[_LENGTH_BYTES + length :]
        try:
            return self._cipher_of(head).decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], associated)
        except (InvalidTag, ValueError) as error:
            raise IntegrityFault(
                "sealed data does not open with the master key",
                code="wrong_key",
                hint="Bring back the key file of this installation, or set CONTEXTDNA_MASTER_KEY.",
            ) from error

    def _cipher_of(self, head: bytes) -> AESGCM:
        known = self._ciphers.get(head)
        if known is None:
            master_id, _, wrapped = head.partition(b"\0")
            known = AESGCM(self._ring.unwrap(master_id.decode("utf-8", "replace"), wrapped, self._bound))
            self._ciphers[head] = known
        return known


def _master_id(head: bytes) -> bytes:
    return head.partition(b"\0")[0]
