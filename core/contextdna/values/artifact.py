"""Artifacts: files an agent keeps; bytes in the blob store, references in the database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from contextdna.values.level import Level
from contextdna.values.record import Record


@dataclass(frozen=True, slots=True)
class ArtifactDraft:
    """An artifact as handed in."""

    name: str
    data: bytes = b""
    media_type: str = ""
    """``type/subtype``; empty: guessed by the name, else by the first bytes."""
    level: Level = Level.PROJECT
    importance: float = 0.5
    metadata: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    """Address of the object to make it from, in place of ``data``: ``s3://bucket/key``."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact's reference, opened for a reader who may see it."""

    record: Record
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    metadata: Mapping[str, Any]
    granted_by: str = ""
    held: str = ""
    """``spool`` while its bytes wait for a store that is away; empty where they are where they belong, or unasked."""


@dataclass(frozen=True, slots=True)
class ArtifactLink:
    """A URL by which whoever holds it may fetch an artifact's bytes, past the server and its access checks."""

    url: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ArtifactPage:
    """Some artifacts, the newest first; an empty cursor says that these are the last."""

    artifacts: tuple[Artifact, ...]
    cursor: str
