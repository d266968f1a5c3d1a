"""The vectors of records in plain dicts. What stands is told at each look, so nothing need be emptied."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from contextdna.backends.in_memory.records import InMemoryRecords
from contextdna.backends.in_memory.sheets import Sheets
from contextdna.values.embedding import Embedding, EmbeddingSpace, StoredEmbedding, VectorCodec
from contextdna.values.ids import ProjectId, RecordId
from contextdna.values.principal import Reader
from contextdna.values.record import Record
from contextdna.values.search import RecordFilter


class InMemoryEmbeddings:
    """``EmbeddingTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets

    async def space(self, project_id: ProjectId) -> EmbeddingSpace | None:
        """Give a project's space; None before its first vector."""
        held = self._sheets.embedding_spaces.rows.get(project_id)
        if held is None:
            return None
        model, dimension, number = held
        newest = max((serial for serial, row in self._all() if row.project_id == project_id), default=0)
        standing = sum(1 for _ in self._standing(project_id))
        put = self._sheets.embedding_serial.rows.get(project_id, 0)
        return EmbeddingSpace(model, dimension, number, newest, put - standing)

    async def adopt(self, project_id: ProjectId, model: str, dimension: int) -> None:
        """Begin a new space for a project: vectors of the one before stand no longer."""
        held = self._sheets.embedding_spaces.rows.get(project_id)
        self._sheets.embedding_spaces.change()[project_id] = (model, dimension, held[2] + 1 if held else 1)

    async def missing(self, project_id: ProjectId, *, limit: int) -> list[Record]:
        """List records, soft-deleted ones too, without a standing vector; without a space, any of the project."""
        standing = {row.record_id for _, row, _ in self._standing(project_id)}
        records = [row.record for row in self._sheets.records.rows.values() if row.record.project_id == project_id]
        return [record for record in records if record.id not in standing][:limit]

    async def backlog(self, project_id: ProjectId) -> int:
        """Count the records that ``missing`` would list."""
        return len(await self.missing(project_id, limit=len(self._sheets.records.rows)))

    async def put(self, embeddings: Sequence[Embedding]) -> None:
        """Store vectors over those of earlier versions; one that would not stand, or stands already, is left out."""
        rows = self._sheets.embeddings.change()
        for embedding in embeddings:
            key = (embedding.project_id, embedding.record_id)
            held = rows.get(key)
            if not self._stands(embedding) or (held is not None and self._stands(held[1])):
                continue
            counts = self._sheets.embedding_serial.change()
            for counted in (None, embedding.project_id):
                counts[counted] = counts.get(counted, 0) + 1
            rows[key] = (counts[None], embedding)

    async def after(self, project_id: ProjectId, serial: int, *, limit: int) -> list[StoredEmbedding]:
        """List standing vectors behind a serial, in order; those of codec ``NOTHING`` are left out."""
        found = [stored for stored in self._vectors(project_id) if stored.serial > serial]
        return sorted(found, key=lambda stored: stored.serial)[:limit]

    async def serials(self, project_id: ProjectId) -> list[int]:
        """List the serials of standing vectors, in order."""
        return sorted(stored.serial for stored in self._vectors(project_id))

    async def of_records(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> list[StoredEmbedding]:
        """Fetch the standing vectors of records, in any order, without a reader: for records known to be visible."""
        wanted = set(record_ids)
        return [stored for stored in self._vectors(project_id) if stored.embedding.record_id in wanted]

    async def among(
        self, reader: Reader, where: RecordFilter, serials: Sequence[int], *, now: datetime
    ) -> dict[int, RecordId]:
        """Choose, of standing vectors by their serials, those of visible records that pass a filter."""
        records = InMemoryRecords(self._sheets)
        passing = {row.record.id for row in records._filtered(reader, where, now)}
        wanted = set(serials)
        found = [stored for stored in self._vectors(reader.project_id) if stored.serial in wanted]
        return {one.serial: one.embedding.record_id for one in found if one.embedding.record_id in passing}

    def _all(self) -> list[tuple[int, Embedding]]:
        return list(self._sheets.embeddings.rows.values())

    def _standing(self, project_id: ProjectId) -> Iterator[tuple[int, Embedding, Record]]:
        for serial, row in self._all():
            if row.project_id == project_id and self._stands(row):
                yield serial, row, self._sheets.records.rows[project_id, row.record_id].record

    def _vectors(self, project_id: ProjectId) -> Iterator[StoredEmbedding]:
        for serial, row, record in self._standing(project_id):
            if row.codec is not VectorCodec.NOTHING:
                circle = (record.owner_id, record.team_id, record.swarm_id)
                yield StoredEmbedding(serial, row, record.level, circle)

    def _stands(self, row: Embedding) -> bool:
        held = self._sheets.records.rows.get((row.project_id, row.record_id))
        space = self._sheets.embedding_spaces.rows.get(row.project_id)
        if held is None or space is None or held.record.version != row.version or space[2] != row.space:
            return False
        return row.key_id in ("", held.record.sealed.key_id)
