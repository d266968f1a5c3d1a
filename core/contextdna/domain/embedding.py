"""Embedding: records without a vector become texts, vectors become rows, and rows become what a process holds."""

from collections.abc import Sequence
from dataclasses import dataclass

from contextdna.domain.encryption import ProjectKeys
from contextdna.domain.operation import Operation, open_body
from contextdna.domain.readable import readable
from contextdna.domain.recall import TEXT_CHARS_MAX, Recall
from contextdna.domain.semantics import open_vector, require_same_model, vector_binding
from contextdna.domain.vectors import FLOAT_BYTES, pack_vector
from contextdna.errors import IntegrityFault
from contextdna.ports.database import Transaction
from contextdna.values.embedding import Embedding, VectorCodec
from contextdna.values.ids import ProjectId
from contextdna.values.level import ENCRYPTED_LEVELS
from contextdna.values.record import Record

_GONE_MIN = 64
_GONE_SHARE = 50  # what stands no longer is let go when it is more than one of so many
_PAGE = 5_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record that has no vector, and the text to embed; empty when there is none, or it does not open."""

    record: Record
    text: str


async def waiting(tx: Transaction, keys: ProjectKeys, *, limit: int) -> list[Waiting]:
    """List what is to be embedded of a project."""
    records = await tx.embeddings.missing(keys.project_id, limit=limit)
    return [Waiting(record, _text_of(keys, record)) for record in records]


def _text_of(keys: ProjectKeys, record: Record) -> str:
    try:
        text = readable(record.kind, open_body(keys, record))
    except (IntegrityFault, KeyError, TypeError):  # damaged: it must not hold up the others
        return ""
    return text[:TEXT_CHARS_MAX].strip()


async def keep(
    tx: Transaction, keys: ProjectKeys, recall: Recall, batch: Sequence[Waiting], vectors: Sequence[bytes]
) -> bool:
    """Store the vectors of a batch (empty ones for empty texts); what has moved on meanwhile is left out.

    False where none is stored: a project's first batch without a single text tells no dimension.

    Raises:
        SettingsInvalid: ``embedding_model_mixed``: the project's vectors are of another model by now.
    """
    dimension = max(map(len, vectors), default=0) // FLOAT_BYTES
    space = await tx.embeddings.space(keys.project_id)
    if space is None:
        if not dimension:
            return False
        await tx.embeddings.adopt(keys.project_id, recall.model, dimension)
        space = await tx.embeddings.space(keys.project_id)
        if space is None:
            raise RuntimeError("a space that was adopted is there")
    require_same_model(recall, space, project_id=keys.project_id, dimension=dimension)
    await tx.embeddings.put(
        [_embedding(keys, item.record, vector, space=space.number) for item, vector in zip(batch, vectors, strict=True)]
    )
    return True


def _embedding(keys: ProjectKeys, record: Record, vector: bytes, *, space: int) -> Embedding:
    packed = pack_vector(vector) if vector else b""
    codec = VectorCodec.INT8 if packed else VectorCodec.NOTHING
    if not packed or record.level not in ENCRYPTED_LEVELS:
        return Embedding(record.project_id, record.id, record.version, space, codec, packed)
    binding = vector_binding(
        record.project_id,
        record.id,
        level=record.level,
        version=record.version,
        circle=(record.owner_id, record.team_id, record.swarm_id),
    )
    ciphertext, salt = keys.encrypt(packed, binding)
    return Embedding(record.project_id, record.id, record.version, space, codec, ciphertext, keys.current_key_id, salt)


async def adopt(op: Operation, *, dimension: int) -> bool:
    """Make the model at work that of the project; gives whether another one was before.

    Args:
        op: The operation; without an embedder it changes nothing.
        dimension: Of the model's vectors.
    """
    if op.recall is None:
        return False
    space = await op.tx.embeddings.space(op.project_id)
    if space is not None and (space.model, space.dimension) == (op.recall.model, dimension):
        return False
    await op.tx.embeddings.adopt(op.project_id, op.recall.model, dimension)
    op.note(model=op.recall.model, dimension=dimension)
    return space is not None


async def catch_up(tx: Transaction, keys: ProjectKeys, recall: Recall, project_id: ProjectId) -> bool:
    """Read a page of vectors that this process does not hold yet; True when it holds all that stand.

    For a transaction that reads: what is not committed may never be.
    """
    space = await tx.embeddings.space(project_id)
    if space is None or space.model != recall.model:
        return True
    shelf = recall.shelf(project_id, space)
    gone = space.gone - shelf.gone
    if shelf.newest == space.newest and gone <= _GONE_MIN:
        return True
    page = await tx.embeddings.after(project_id, shelf.newest, limit=_PAGE)
    opened = [(row.serial, vector) for row in page if (vector := open_vector(keys, row)) is not None]
    fitting = [(serial, vector) for serial, vector in opened if len(vector) == space.dimension]
    finished = len(page) < _PAGE
    shelf = shelf.with_more(
        [serial for serial, _ in fitting],
        [vector for _, vector in fitting],
        newest=space.newest if finished else page[-1].serial,
        bytes_max=recall.project_bytes_max,
    )
    if finished and gone > max(_GONE_MIN, shelf.count // _GONE_SHARE):
        shelf = shelf.keeping(await tx.embeddings.serials(project_id), gone=space.gone)
    recall.keep_shelf(project_id, shelf)
    return finished
