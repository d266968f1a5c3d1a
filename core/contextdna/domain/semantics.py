"""Searching by meaning: which records are near a text, of those that the actor may see.

A unit of work cannot wait for an embedder: the hub embeds a call's text and reads new vectors before the call's own
transaction (``hub.semantics``). What is near is then told by what the process holds in memory; who may read it, by the
database, in one statement with the access predicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from contextdna.domain import stretches
from contextdna.domain.encryption import Binding, ProjectKeys
from contextdna.domain.operation import Operation
from contextdna.domain.recall import Recall
from contextdna.domain.vectors import Shelf, cosines, direction
from contextdna.errors import IntegrityFault, SettingsInvalid
from contextdna.values.embedding import Embedding, EmbeddingSpace, StoredEmbedding
from contextdna.values.ids import ProjectId, RecordId
from contextdna.values.level import ENCRYPTED_LEVELS, Level
from contextdna.values.search import RecordFilter

if TYPE_CHECKING:
    from contextdna.domain.vectors import Floats

_FIRST_HANDFUL_MIN = 256
_RESCORED_MIN = 200  # signatures only estimate: of what they choose, as many are compared exactly
_HANDFUL = 8
_LOOKED_AT_MAX = 10_000  # a filter that leaves so few is quicker asked from the other side
_NEWEST = 1_000


async def nearest(op: Operation, text: str, where: RecordFilter, *, limit: int) -> list[tuple[RecordId, float]]:
    """List the visible records that pass a filter and are nearest to a text, with their cosines, best first.

    Empty without an embedder, when it does not answer, and before a project has vectors. What points away from the
    text (a cosine of 0 or less) is not near.

    Raises:
        SettingsInvalid: ``embedding_model_mixed``: the project's vectors are of another model.
    """
    found = await _question(op, text)
    if found is None or op.recall is None or limit < 1:
        return []
    asked, space = found
    shelf = op.recall.shelf(op.project_id, space)
    wanted = limit if shelf.exact else max(_HANDFUL * limit, _RESCORED_MIN)
    near = await _visible(op, where, shelf, asked, limit=wanted)
    if shelf.exact:
        return near
    exact = await _compared(op, asked, [record_id for record_id, _ in near])
    return sorted(exact.items(), key=lambda pair: -pair[1])[:limit]


async def _compared(op: Operation, asked: Floats, record_ids: Sequence[RecordId]) -> dict[RecordId, float]:
    stored = await op.tx.embeddings.of_records(op.project_id, list(dict.fromkeys(record_ids)))
    opened = [(row.embedding.record_id, vector) for row in stored if (vector := open_vector(op.keys, row)) is not None]
    fitting = [(record_id, vector) for record_id, vector in opened if len(vector) == len(asked)]
    scores = cosines(asked, [vector for _, vector in fitting])
    return {record_id: score for (record_id, _), score in zip(fitting, scores, strict=True)}


def require_same_model(recall: Recall, space: EmbeddingSpace, *, project_id: ProjectId, dimension: int = 0) -> None:
    """Refuse to mix what two models say.

    Raises:
        SettingsInvalid: ``embedding_model_mixed``.
    """
    if recall.model == space.model and dimension in (0, space.dimension):
        return
    given = f"{recall.model} ({dimension} dimensions)" if dimension else recall.model
    raise SettingsInvalid(
        f"project {project_id} has vectors of {space.model} ({space.dimension} dimensions), not of {given}",
        code="embedding_model_mixed",
        hint="Run `contextdna reindex` to embed everything anew, or set search.embedder back.",
    )


def vector_binding(
    project_id: ProjectId, record_id: RecordId, *, level: Level, version: int, circle: tuple[str, str, str]
) -> Binding:
    """Say what an encrypted vector belongs to."""
    return Binding("embeddings", project_id, record_id, level, version, circle)


def open_vector(keys: ProjectKeys, stored: StoredEmbedding) -> bytes | None:
    """Give a packed vector; None where it does not open, or is not encrypted where it must be: it only ranks."""
    row: Embedding = stored.embedding
    if stored.level not in ENCRYPTED_LEVELS and not row.key_id:
        return row.vector
    binding = vector_binding(
        row.project_id, row.record_id, level=stored.level, version=row.version, circle=stored.circle
    )
    try:
        return keys.decrypt(row.vector, binding, key_id=row.key_id, salt=row.salt)
    except IntegrityFault:
        return None


async def _question(op: Operation, text: str) -> tuple[Floats, EmbeddingSpace] | None:
    """Give a text's direction and the project's space, where there are both."""
    if op.recall is None or not text.strip():
        return None
    space = await op.tx.embeddings.space(op.project_id)
    if space is None:
        return None
    require_same_model(op.recall, space, project_id=op.project_id)
    vector = op.recall.question(text)
    asked = None if vector is None else direction(vector)
    if asked is None:
        return None
    require_same_model(op.recall, space, project_id=op.project_id, dimension=len(asked))
    return asked, space


async def _visible(
    op: Operation, where: RecordFilter, shelf: Shelf, asked: Floats, *, limit: int
) -> list[tuple[RecordId, float]]:
    """Ask the database for the visible ones among the nearest, in ever larger handfuls, until there are enough."""
    near: list[tuple[RecordId, float]] = []
    looked_at = 0
    for handful in shelf.nearest_first(asked, first=max(_HANDFUL * limit, _FIRST_HANDFUL_MIN)):
        serials = [serial for serial, _ in handful]
        allowed = await op.tx.embeddings.among(op.actor.reader, where, serials, now=op.now)
        near += [(allowed[serial], score) for serial, score in handful if serial in allowed]
        looked_at += len(handful)
        if len(near) >= limit:
            break
        if looked_at >= _LOOKED_AT_MAX:
            return await _from_the_other_side(op, where, asked, near, limit=limit)
    return near[:limit]


async def _from_the_other_side(
    op: Operation, where: RecordFilter, asked: Floats, near: Sequence[tuple[RecordId, float]], *, limit: int
) -> list[tuple[RecordId, float]]:
    """Compare the newest visible records that pass the filter: where few do, that is all of them."""
    where, _ = await stretches.of_records(op, where)
    newest = await op.tx.records.list_recent(op.actor.reader, where, now=op.now, limit=_NEWEST)
    found = dict(near) | await _compared(op, asked, [candidate.id for candidate in newest])
    best = sorted(found.items(), key=lambda pair: -pair[1])
    return [(record_id, score) for record_id, score in best if score > 0.0][:limit]
