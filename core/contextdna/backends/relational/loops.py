"""Loop records by time, and the links between them. Every query holds the access predicate; see the SQL fragments."""

from collections.abc import Sequence
from datetime import datetime

from contextdna.backends.relational.columns import (
    RECORD_COLUMNS,
    json_list,
    json_list_or_none,
    moment,
    reader_params,
    record_of,
)
from contextdna.backends.relational.statements import Executor
from contextdna.values.ids import AgentId, ProjectId, RecordId
from contextdna.values.principal import Reader
from contextdna.values.project import Link
from contextdna.values.record import Record, VisibleRecord


class Loops:
    """Fulfils ``ports.loops.LoopTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows

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
        """List loop records by time, those of one time as they were appended."""
        rows = await self._rows(
            "loops_newest" if newest_first else "loops_oldest",
            (*reader_params(reader, now), phase, json_list_or_none(types), after, limit),
        )
        return [VisibleRecord(record_of(row), row[RECORD_COLUMNS], row[RECORD_COLUMNS + 1]) for row in rows]

    async def latest_iteration(self, reader: Reader, phase: str, *, now: datetime) -> int:
        """Give the highest iteration of a phase; 0 when the reader sees nothing of it."""
        return int((await self._rows("loops_latest_iteration", (*reader_params(reader, now), phase)))[0][0])

    async def standing(
        self, reader: Reader, phase: str, iteration: int, *, now: datetime, hidden: bool
    ) -> list[Record]:
        """List an iteration's records that no link supersedes, as they were appended."""
        rows = await self._rows("loops_standing", (*reader_params(reader, now), phase, iteration, int(hidden)))
        return [record_of(row) for row in rows]

    async def count(self, project_id: ProjectId, phase: str, iteration: int, *, owner_id: AgentId) -> int:
        """Count an agent's records of an iteration that are not deleted, whether they stand or not."""
        return int((await self._rows("loops_count", (project_id, phase, iteration, owner_id)))[0][0])

    async def superseding(
        self, reader: Reader, record_ids: Sequence[RecordId], *, now: datetime
    ) -> dict[RecordId, RecordId]:
        """Give what first took the place of records, by record: only what the reader may see."""
        rows = await self._rows("loops_superseding", (*reader_params(reader, now), json_list(record_ids)))
        return {row[0]: row[1] for row in rows}

    async def references(self, reader: Reader, record_ids: Sequence[RecordId], *, now: datetime) -> list[Link]:
        """List links that start at records and end at what the reader may see, of any kind."""
        rows = await self._rows("loops_references", (*reader_params(reader, now), json_list(record_ids)))
        return [Link(row[0], row[1], row[2], row[3], moment(row[4])) for row in rows]
