"""Port: loop records in the order they were appended, and the links between them.

Every query holds the access predicate. Words as in ``ports.records``: what is read is *kept* and *visible* at ``now``.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from contextdna.values.ids import AgentId, ProjectId, RecordId
from contextdna.values.principal import Reader
from contextdna.values.project import Link
from contextdna.values.record import Record, VisibleRecord


class LoopTable(Protocol):
    """What is asked of loop records alone."""

    async def page(
        self,
        reader: Reader,
        *,
        phase: str,
        types: Sequence[str],
        now: datetime,
        after: RecordId,
        newest_first: bool,
        limit: int,
    ) -> list[VisibleRecord]:
        """List loop records by time, those of one time as they were appended.

        Args:
            reader: Who asks.
            phase: Of which phase; of all when empty.
            types: Which loops, by name; all when empty.
            now: The time that access is judged at.
            after: List what comes behind this record, in the order asked for; from the start when empty.
            newest_first: The latest first, instead of the oldest.
            limit: How many at most.
        """
        ...

    async def latest_iteration(self, reader: Reader, phase: str, *, now: datetime) -> int:
        """Give the highest iteration of a phase; 0 when the reader sees nothing of it."""
        ...

    async def standing(
        self, reader: Reader, phase: str, iteration: int, *, now: datetime, hidden: bool
    ) -> list[Record]:
        """List an iteration's records that no link supersedes, as they were appended: the one rule of what stands.

        Args:
            reader: Who asks.
            phase: Of which phase.
            iteration: Of which iteration.
            now: The time that access is judged at.
            hidden: Count every record that is not deleted, for the gates; else only what the reader sees stands, and
                only that supersedes.
        """
        ...

    async def count(self, project_id: ProjectId, phase: str, iteration: int, *, owner_id: AgentId) -> int:
        """Count an agent's records of an iteration that are not deleted, whether they stand or not."""
        ...

    async def superseding(
        self, reader: Reader, record_ids: Sequence[RecordId], *, now: datetime
    ) -> dict[RecordId, RecordId]:
        """Give what first took the place of records, by record: only what the reader may see."""
        ...

    async def references(self, reader: Reader, record_ids: Sequence[RecordId], *, now: datetime) -> list[Link]:
        """List links that start at records and end at what the reader may see, of any kind.

        By where they start, then by what they end at, as it was appended.
        """
        ...
