"""Wrapped keys as the database keeps them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from contextdna.values.ids import ProjectId


class KeyPurpose(StrEnum):
    """What a project key is for."""

    ROOT = "root"
    """Source of the index, hash and audit keys (HKDF); never rotated, only re-wrapped."""
    DATA = "data"
    """Encrypts bodies; a new version is added at each rotation."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A project key encrypted by the master key ``master_id`` (12-byte nonce, AES-256-GCM)."""

    key_id: str
    project_id: ProjectId
    purpose: KeyPurpose
    version: int
    master_id: str
    wrapped: bytes
    created_at: datetime
