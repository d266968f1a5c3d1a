"""Vectors of records, as they are stored."""

from dataclasses import dataclass
from enum import IntEnum

from contextdna.values.ids import ProjectId, RecordId
from contextdna.values.level import Level


class VectorCodec(IntEnum):
    """How a vector's bytes were packed before encryption."""

    NOTHING = 0
    """No vector: the record has no text, or does not open."""
    INT8 = 1
    """One signed byte a dimension, in shares of the largest; its length is lost, which a cosine does not need."""


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """The one model whose vectors count in a project, and how far its vectors have changed."""

    model: str
    dimension: int
    number: int
    """Rises with each change of the model."""
    newest: int
    """The highest serial of the project's vectors; 0 when there is none."""
    gone: int
    """How many serials of the project were ever removed or replaced; what is emptied may count later."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """The vector of one version of a record; encrypted when ``key_id`` is set, as ``Sealed`` is."""

    project_id: ProjectId
    record_id: RecordId
    version: int
    space: int
    """The number of the space that it belongs to."""
    codec: VectorCodec
    vector: bytes
    key_id: str = ""
    salt: bytes = b""


@dataclass(frozen=True, slots=True)
class StoredEmbedding:
    """A vector as it lies in the database, with what its encryption is bound to."""

    serial: int
    """Order of commit. Never used twice: what is read once under a serial stays true or is gone."""
    embedding: Embedding
    level: Level
    circle: tuple[str, str, str]
    """Owner, team and swarm of the record."""
