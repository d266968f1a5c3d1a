"""The vectors of records. What chooses among them holds the access predicate; see the SQL fragments."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from contextdna.backends.relational.columns import json_list, level_of, record_of
from contextdna.backends.relational.records import _filter_params
from contextdna.backends.relational.statements import Executor, Row
from contextdna.values.embedding import Embedding, EmbeddingSpace, StoredEmbedding, VectorCodec
from contextdna.values.ids import ProjectId, RecordId
from contextdna.values.principal import Reader
from contextdna.values.record import Record
from contextdna.values.search import RecordFilter

_CODECS: Final = {codec.value: codec for codec in VectorCodec}


class Embeddings:
    """Fulfils ``ports.embeddings.EmbeddingTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows
        self._run = executor.run
        self._run_many = executor.run_many

    async def space(self, project_id: ProjectId) -> EmbeddingSpace | None:
        """Give a project's space; None before its first vector."""
        rows = await self._rows("embedding_space", (project_id,))
        return EmbeddingSpace(*rows[0]) if rows else None

    async def adopt(self, project_id: ProjectId, model: str, dimension: int) -> None:
        """Begin a new space for a project: vectors of the one before stand no longer."""
        await self._run("embedding_adopt", (project_id, model, dimension))

    async def missing(self, project_id: ProjectId, *, limit: int) -> list[Record]:
        """List records, soft-deleted ones too, without a standing vector; without a space, any of the project."""
        number, done_seq = await self._progress(project_id)
        return [record_of(row) for row in await self._rows("embeddings_missing", (project_id, number, limit, done_seq))]

    async def backlog(self, project_id: ProjectId) -> int:
        """Count the records that ``missing`` would list."""
        return int((await self._rows("embeddings_backlog", (project_id, *await self._progress(project_id))))[0][0])

    async def put(self, embeddings: Sequence[Embedding]) -> None:
        """Store vectors over those of earlier versions; one that would not stand, or stands already, is left out."""
        rows = [_params(embedding) for embedding in embeddings]
        await self._run_many("embedding_drop", [row[:4] for row in rows])
        await self._run_many("embedding_insert", rows)
        for project_id in {embedding.project_id for embedding in embeddings}:
            await self._run("embedding_advance", (project_id,))

    async def after(self, project_id: ProjectId, serial: int, *, limit: int) -> list[StoredEmbedding]:
        """List standing vectors behind a serial, in order; those of codec ``NOTHING`` are left out."""
        return [_stored(row) for row in await self._rows("embeddings_after", (project_id, serial, limit))]

    async def serials(self, project_id: ProjectId) -> list[int]:
        """List the serials of standing vectors, in order."""
        return [row[0] for row in await self._rows("embedding_serials", (project_id,))]

    async def of_records(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> list[StoredEmbedding]:
        """Fetch the standing vectors of records, in any order, without a reader: for records known to be visible."""
        rows = await self._rows("embeddings_of_records", (project_id, json_list(record_ids)))
        return [_stored(row) for row in rows]

    async def among(
        self, reader: Reader, where: RecordFilter, serials: Sequence[int], *, now: datetime
    ) -> dict[int, RecordId]:
        """Choose, of standing vectors by their serials, those of visible records that pass a filter."""
        params = (*_filter_params(reader, where, now), json.dumps([int(serial) for serial in serials]))
        return dict(await self._rows("embeddings_among", params))

    async def _progress(self, project_id: ProjectId) -> tuple[int, int]:
        rows = await self._rows("embedding_progress", (project_id,))
        return (rows[0][0], rows[0][1]) if rows else (0, 0)


def _params(embedding: Embedding) -> tuple[str, str, int, int, int, str, bytes, bytes]:
    return (
        embedding.project_id,
        embedding.record_id,
        embedding.version,
        embedding.space,
        int(embedding.codec),
        embedding.key_id,
        embedding.salt,
        embedding.vector,
    )


def _stored(row: Row) -> StoredEmbedding:
    serial, project_id, record_id, version, space, codec, key_id, salt, vector, level, *circle = row
    embedding = Embedding(project_id, record_id, version, space, _CODECS[codec], vector, key_id, salt)
    owner, team, swarm = circle
    return StoredEmbedding(serial, embedding, level_of(level), (owner, team, swarm))
