"""The stored form that memories, turns, artifacts, loop records and tasks share."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

from contextdna.values.ids import AgentId, ProjectId, RecordId, SessionId
from contextdna.values.level import Level


class Kind(StrEnum):
    """The five nouns that carry an access level."""

    MEMORY = "memory"
    TURN = "turn"
    ARTIFACT = "artifact"
    LOOP = "loop"
    TASK = "task"


class Tier(StrEnum):
    """How long a memory is meant to live: working and episodic ones age out, semantic and shared ones stay."""

    WORKING = "working"
    EPISODIC = "episodic"
    SEMANTIC = "semantic"
    SHARED = "shared"


class Codec(IntEnum):
    """How a body's bytes were packed before encryption."""

    JSON = 0
    JSON_ZSTD = 1


@dataclass(frozen=True, slots=True)
class Sealed:
    """A record's body at rest: packed JSON, encrypted when ``key_id`` is set.

    Encrypted data is a 12-byte nonce followed by AES-256-GCM ciphertext and tag; ``salt`` makes the record's own
    key from the project's data key, so that deleting the row shreds the record.
    """

    data: bytes
    codec: Codec = Codec.JSON
    key_id: str = ""
    salt: bytes = b""


@dataclass(frozen=True, slots=True)
class Record:
    """What the database knows of a record: where it belongs, who may see it, when it lives, and its sealed body."""

    id: RecordId
    project_id: ProjectId
    kind: Kind
    level: Level
    owner_id: AgentId
    team_id: str
    swarm_id: str
    session_id: SessionId
    type: str
    """memory_type of a memory, role of a turn, media type of an artifact, loop name, status of a task."""
    tier: str
    importance: float
    position: int
    """Turn number in its conversation, version number of an artifact's name, iteration of a loop record; else 0."""
    subject: str
    """Phase of a loop record, keyed hash of an artifact's name, assignee of a task; else empty."""
    version: int
    created_at: datetime
    updated_at: datetime
    valid_from: datetime | None
    valid_to: datetime | None
    superseded_by: str
    retention_until: datetime | None
    deleted_at: datetime | None
    content_hash: bytes
    """Keyed hash of the content under the project's hash key: equal contents, equal hashes."""
    tag_tokens: tuple[str, ...]
    blob_key: str
    """Where an artifact's bytes lie in the blob store; else empty."""
    sealed: Sealed

    @property
    def ref(self) -> "RecordRef":
        """Enough of it to judge access."""
        return RecordRef(self.id, self.project_id, self.kind, self.level, self.owner_id, self.team_id, self.swarm_id)


@dataclass(frozen=True, slots=True)
class IndexedRecord:
    """A record on its way in, with the keyed tokens that make it searchable."""

    record: Record
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VisibleRecord:
    """A record that a reader may see, and how it came to see it."""

    record: Record
    granted_by: str = ""
    """The agent that shared it, when only a grant makes it visible; else empty."""
    access_count: int = 0


@dataclass(frozen=True, slots=True)
class RecordRef:
    """Enough of a record to judge access and to name it in the audit log, never its body."""

    id: RecordId
    project_id: ProjectId
    kind: Kind
    level: Level
    owner_id: AgentId
    team_id: str
    swarm_id: str
