"""Loop records by time, and the links between them, in plain dicts."""

from collections.abc import Sequence
from datetime import datetime

from contextdna.backends.in_memory.records import InMemoryRecords
from contextdna.backends.in_memory.sheets import Sheets, StoredRecord
from contextdna.values.ids import AgentId, ProjectId, RecordId
from contextdna.values.loop import SUPERSEDES
from contextdna.values.principal import Reader
from contextdna.values.project import Link
from contextdna.values.record import Kind, Record, VisibleRecord


class InMemoryLoops:
    """``LoopTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets
        self._records = InMemoryRecords(sheets)

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
        start = self._sheets.records.rows.get((reader.project_id, after))
        if after and start is None:
            return []
        wanted = []
        for row in self._loops(reader.project_id, newest_first=newest_first):
            behind = start is None or (_place(row) < _place(start) if newest_first else _place(row) > _place(start))
            if behind and phase in ("", row.record.subject) and (not types or row.record.type in types):
                wanted.append(row.record.id)
        return (await self._records.read(reader, wanted, now=now))[:limit]

    async def latest_iteration(self, reader: Reader, phase: str, *, now: datetime) -> int:
        """Give the highest iteration of a phase; 0 when the reader sees nothing of it."""
        rows = [row for row in self._loops(reader.project_id, newest_first=False) if row.record.subject == phase != ""]
        seen = await self._records.read(reader, [row.record.id for row in rows], now=now)
        return max((item.record.position for item in seen), default=0)

    async def standing(
        self, reader: Reader, phase: str, iteration: int, *, now: datetime, hidden: bool
    ) -> list[Record]:
        """List an iteration's records that no link supersedes, as they were appended."""
        rows = [row for row in self._loops(reader.project_id, newest_first=False) if row.record.deleted_at is None]
        rows = [row for row in rows if row.record.subject == phase != "" and row.record.position == iteration]
        seen = {item.record.id for item in await self._records.read(reader, [r.record.id for r in rows], now=now)}
        counted = [row for row in rows if hidden or row.record.id in seen]
        ids = {row.record.id for row in counted}
        links = [link for link in self._links(reader.project_id) if link.relation == SUPERSEDES]
        superseded = {link.target_id for link in links if link.source_id in ids}
        standing = [row for row in counted if row.record.id not in superseded]
        return [row.record for row in sorted(standing, key=lambda row: row.serial)]

    async def count(self, project_id: ProjectId, phase: str, iteration: int, *, owner_id: AgentId) -> int:
        """Count an agent's records of an iteration that are not deleted, whether they stand or not."""
        own = [row.record for row in self._loops(project_id, newest_first=False) if row.record.owner_id == owner_id]
        own = [record for record in own if record.deleted_at is None and record.position == iteration]
        return sum(record.subject == phase != "" for record in own)

    async def superseding(
        self, reader: Reader, record_ids: Sequence[RecordId], *, now: datetime
    ) -> dict[RecordId, RecordId]:
        """Give what first took the place of records, by record: only what the reader may see."""
        links = [link for link in self._links(reader.project_id) if link.relation == SUPERSEDES]
        links = [link for link in links if link.target_id in record_ids]
        seen = await self._records.read(reader, [link.source_id for link in links], now=now)
        loops = {item.record.id for item in seen if item.record.kind is Kind.LOOP}
        links = [link for link in links if link.source_id in loops]
        links.sort(key=lambda link: self._serial(link.project_id, link.source_id), reverse=True)
        return {link.target_id: link.source_id for link in links}

    async def references(self, reader: Reader, record_ids: Sequence[RecordId], *, now: datetime) -> list[Link]:
        """List links that start at records and end at what the reader may see, of any kind."""
        links = [link for link in self._links(reader.project_id) if link.source_id in record_ids]
        seen = await self._records.read(reader, [link.target_id for link in links], now=now)
        ends = {item.record.id for item in seen}
        links = [link for link in links if link.target_id in ends]
        return sorted(
            links, key=lambda link: (link.source_id, self._serial(link.project_id, link.target_id), link.relation)
        )

    def _loops(self, project_id: ProjectId, *, newest_first: bool) -> list[StoredRecord]:
        rows = [row for row in self._sheets.records.rows.values() if row.record.project_id == project_id]
        rows = [row for row in rows if row.record.kind is Kind.LOOP]
        return sorted(rows, key=_place, reverse=newest_first)

    def _serial(self, project_id: ProjectId, record_id: RecordId) -> int:
        return self._sheets.records.rows[project_id, record_id].serial

    def _links(self, project_id: ProjectId) -> list[Link]:
        return [link for link in self._sheets.links.rows.values() if link.project_id == project_id]


def _place(row: StoredRecord) -> tuple[datetime, int]:
    return (row.record.created_at, row.serial)
