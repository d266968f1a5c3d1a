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
from contextdna.values.search import (
    EVERYTHING,
    Candidate,
    IndexStatistics,
    Match,
    Neighbour,
    Phrase,
    RecordFilter,
    Stretch,
)
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
        self,
        reader: Reader,
        where: RecordFilter,
        match: Match,
        *,
        now: datetime,
        limit: int,
        offset: int = 0,
        within: Stretch = EVERYTHING,
    ) -> list[Candidate]:
        """List visible records of a stretch that match, in the order of their arrival, the last first.

        Raises:
            ValueError: A phrase is empty, a required one has no form, or a token is not of ``a-z0-9``.
        """
        ...

    async def arrival(self, project_id: ProjectId, match: Match, *, place: int) -> int:
        """Give where in the order of arrival the last record that matches stands (place 1), the one before it, …

        Visible or not, to bound what a search looks at; 0 where fewer match.

        Raises:
            ValueError: As for ``search``.
        """
        ...

    async def moment(
        self, project_id: ProjectId, *, place: int, since: datetime | None = None, until: datetime | None = None
    ) -> datetime | None:
        """Give when the newest record of a time was created (place 1), the one before it, …

        Visible or not, to bound what a list looks at; None where there are fewer.
        """
        ...

    async def candidates(
        self, reader: Reader, where: RecordFilter, record_ids: Sequence[RecordId], *, now: datetime
    ) -> list[Candidate]:
        """Give the visible records among ids that pass the filter, in no promised order."""
        ...

    async def neighbours(
        self, reader: Reader, where: RecordFilter, record_ids: Sequence[RecordId], *, now: datetime, within_s: float
    ) -> list[Neighbour]:
        """Give what stands beside records, as far as it is visible and passes the filter.

        Beside a turn: up to ``NEIGHBOURS_MAX`` places before and after it in its conversation. Beside a memory: as
        many memories before and after it of the same owner, session and level, arrived within ``within_s`` seconds.
        Beside any record: those it is linked with, by the newest 50 links in each direction.
        """
        ...

    async def owned(self, reader: Reader, where: RecordFilter, *, now: datetime, limit: int) -> list[RecordRef]:
        """List records owned by the reader's agent, most important first."""
        ...

    async def statistics(
        self, project_id: ProjectId, phrases: Sequence[Phrase], *, missing: Sequence[Phrase] = (), revision: int = 0
    ) -> IndexStatistics:
        """Count the records of a project, their words, and the records that hold each phrase.

        Phrases that were ``missing`` at a revision are counted only when the index is of another one now.
        """
        ...

    async def next_change(self, reader: Reader, *, now: datetime) -> datetime | None:
        """Give when, after now, the first of these is reached; None where none is.

        The begin or end of a record's validity, its retention date, its creation by a clock that is ahead, for all
        records of the project; and the expiry of a grant to the reader's agent.
        """
        ...

    async def total(self, project_id: ProjectId) -> int:
        """Count the records of a project."""
        ...

    async def count_visible(
        self, reader: Reader, *, now: datetime, since: datetime | None = None
    ) -> dict[tuple[Kind, str, str], int]:
        """Count living, visible records that were created since, by kind, level label and type."""
        ...

    async def count_visible_tasks(self, reader: Reader, *, now: datetime) -> dict[str, int]:
        """Count living, visible tasks by status: what ``count_visible`` says of them."""
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
