"""Port: the vectors of records.

Words as in ``ports.records``. A vector *stands* while its record is there in the version, and its project in the
space, that it was made for. When a record's version or key moves on, or the record is purged, the vector's bytes go in
the same transaction. Vectors answer nothing by themselves: ``among`` says which records a reader may have by them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from contextdna.values.embedding import Embedding, EmbeddingSpace, StoredEmbedding
from contextdna.values.ids import ProjectId, RecordId
from contextdna.values.principal import Reader
from contextdna.values.record import Record
from contextdna.values.search import RecordFilter


class EmbeddingTable(Protocol):
    """Vectors, one for each record, all of a project in one space."""

    async def space(self, project_id: ProjectId) -> EmbeddingSpace | None:
        """Give a project's space; None before its first vector."""
        ...

    async def adopt(self, project_id: ProjectId, model: str, dimension: int) -> None:
        """Begin a new space for a project: vectors of the one before stand no longer."""
        ...

    async def missing(self, project_id: ProjectId, *, limit: int) -> list[Record]:
        """List records, soft-deleted ones too, without a standing vector; without a space, any of the project."""
        ...

    async def backlog(self, project_id: ProjectId) -> int:
        """Count the records that ``missing`` would list."""
        ...

    async def put(self, embeddings: Sequence[Embedding]) -> None:
        """Store vectors over those of earlier versions; one that would not stand, or stands already, is left out."""
        ...

    async def after(self, project_id: ProjectId, serial: int, *, limit: int) -> list[StoredEmbedding]:
        """List standing vectors behind a serial, in order; those of codec ``NOTHING`` are left out."""
        ...

    async def serials(self, project_id: ProjectId) -> list[int]:
        """List the serials of standing vectors, in order."""
        ...

    async def of_records(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> list[StoredEmbedding]:
        """Fetch the standing vectors of records, in any order, without a reader: for records known to be visible."""
        ...

    async def among(
        self, reader: Reader, where: RecordFilter, serials: Sequence[int], *, now: datetime
    ) -> dict[int, RecordId]:
        """Choose, of standing vectors by their serials, those of visible records that pass a filter."""
        ...
