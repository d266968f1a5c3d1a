"""Port: the table of records, with the access predicate inside every query.

Words used below, all judged at ``now``:

- *visible*: ``values.visibility.visible`` holds; a grant is in force while not revoked and not expired.
- *kept*: not soft-deleted, and ``retention_until`` is not reached.
- *living*: kept, and valid at T (``as_of`` of the filter, else ``now``):
  ``coalesce(valid_from, created_at) <= T`` and (no ``valid_to`` or ``valid_to > T``).

``list_recent``, ``search``, ``owned`` and ``count_visible`` see living records (with ``deleted`` set in the filter:
soft-deleted ones instead); ``read``, ``conversation`` and ``conversations`` see kept ones.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from contextdna.values.ids import ProjectId, RecordId, SessionId
from contextdna.values.principal import Reader
from contextdna.values.project import Link
from contextdna.values.record import IndexedRecord, Kind, Record, RecordRef, VisibleRecord
from contextdna.values.search import Candidate, Match, Phrase, RecordFilter
from contextdna.values.turn import ConversationSummary


class RecordTable(Protocol):
    """Records, their keyed index and their links. ``reader`` always means: only what this reader may see."""

    async def insert(self, records: Sequence[IndexedRecord]) -> None:
        """Add records and index them."""
        ...

    async def replace(self, record: IndexedRecord, *, expected_version: int, reindex: bool) -> bool:
        """Put a new version in place of ``expected_version``; False when another version stands there."""
        ...

    async def delete(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> int:
        """Remove records for good, with index entries, grants, links and statistics."""
        ...

    async def read(self, reader: Reader, record_ids: Sequence[RecordId], *, now: datetime) -> list[VisibleRecord]:
        """Fetch the kept, visible ones among ids, in the order of ids."""
        ...

    async def refs(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> list[RecordRef]:
        """Fetch access headers whether visible or not: to judge a change, and to tell denied from absent."""
        ...

    async def take(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> list[Record]:
        """Fetch whole records, deleted ones too, without a reader: for their owner's changes and for upkeep."""
        ...

    async def duplicates_of(self, record: Record, hashes: Sequence[bytes], *, now: datetime) -> dict[bytes, Record]:
        """Find kept, valid records of the project, kind, owner, level, team and swarm of ``record``, by hash."""
        ...

    async def list_recent(
        self, reader: Reader, where: RecordFilter, *, now: datetime, limit: int, offset: int = 0
    ) -> list[Candidate]:
        """List visible records, newest first."""
        ...

    async def search(
        self, reader: Reader, where: RecordFilter, match: Match, *, now: datetime, limit: int
    ) -> list[Candidate]:
        """List visible records that match, best weighted BM25 first (k1 = 1.2, b = 0.75), ties newest first."""
        ...

    async def owned(self, reader: Reader, where: RecordFilter, *, now: datetime, limit: int) -> list[RecordRef]:
        """List records owned by the reader's agent, most important first."""
        ...

    async def document_counts(self, project_id: ProjectId, phrases: Sequence[Phrase]) -> dict[Phrase, int]:
        """Count the records that hold each phrase."""
        ...

    async def indexed(self) -> int:
        """Give the number of records that scores are computed with, all projects together, as last committed."""
        ...

    async def total(self, project_id: ProjectId) -> int:
        """Count the records of a project."""
        ...

    async def has_sealed(self, project_id: ProjectId) -> bool:
        """Tell whether a project has a record whose body is encrypted, deleted or not. Asked by every search."""
        ...

    async def count_visible(self, reader: Reader, *, now: datetime) -> dict[tuple[Kind, str, str], int]:
        """Count living, visible records by kind, level label and type."""
        ...

    async def conversation(
        self,
        reader: Reader,
        session_id: SessionId,
        *,
        now: datetime,
        after: int,
        limit: int,
        before: int = 0,
        newest_first: bool = False,
    ) -> list[VisibleRecord]:
        """Read visible turns of a session behind a position and, unless it is 0, ``before`` one, from either end."""
        ...

    async def conversations(
        self, reader: Reader, *, now: datetime, limit: int, offset: int
    ) -> list[ConversationSummary]:
        """List sessions that have visible turns, the latest first."""
        ...

    async def last_position(self, project_id: ProjectId, kind: Kind, *, session_id: SessionId, subject: str) -> int:
        """Give the highest position used in a conversation (session_id) or under a subject; 0 when none."""
        ...

    async def under_subject(self, project_id: ProjectId, kind: Kind, subject: str, position: int) -> list[Record]:
        """Fetch all kept records of a subject and position, oldest first, without a reader: for counting gates."""
        ...

    async def subjects(self, reader: Reader, kind: Kind, *, now: datetime, limit: int) -> list[str]:
        """List the subjects of living, visible records of a kind, by name."""
        ...

    async def mark_deleted(
        self, project_id: ProjectId, record_ids: Sequence[RecordId], *, deleted_at: datetime | None
    ) -> None:
        """Soft-delete records, or restore them with ``None``; what is deleted keeps its time."""
        ...

    async def touch(self, project_id: ProjectId, counts: Mapping[RecordId, int], *, at: datetime) -> None:
        """Add to access counts and set the time of last access."""
        ...

    async def due(
        self, project_id: ProjectId, *, now: datetime, deleted_before: datetime, idle_before: datetime, limit: int
    ) -> list[Record]:
        """List records whose retention date or (working, episodic) idle time is over.

        Of soft-deleted ones only those whose restore window is over, whatever their date and idle time.
        """
        ...

    async def sealed_with_other_key(
        self, project_id: ProjectId, key_id: str, *, limit: int, without: Sequence[RecordId] = ()
    ) -> list[Record]:
        """List encrypted records that another key than ``key_id`` sealed, ``without`` some."""
        ...

    async def reseal(self, records: Sequence[Record]) -> None:
        """Replace only the sealed body of records."""
        ...

    async def blob_in_use(self, blob_key: str) -> bool:
        """Tell whether any record refers to a blob."""
        ...

    async def add_links(self, links: Sequence[Link]) -> None:
        """Add relationships; one that stands already stays."""
        ...

    async def remove_links(self, links: Sequence[Link]) -> int:
        """Remove relationships, whenever they were made; gives how many stood."""
        ...

    async def links_of(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> list[Link]:
        """List relationships that start at records."""
        ...
