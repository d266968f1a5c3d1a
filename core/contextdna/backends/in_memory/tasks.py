"""Tasks in order of work, and what they wait for, in plain dicts."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from contextdna.backends.in_memory.records import InMemoryRecords
from contextdna.backends.in_memory.sheets import Sheets
from contextdna.values.ids import ProjectId, RecordId
from contextdna.values.principal import Reader
from contextdna.values.record import Kind, Record, VisibleRecord
from contextdna.values.task import DEPENDS_ON, TaskFilter, TaskOrder, TaskPlace, TaskStatus


class InMemoryTasks:
    """``TaskTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets
        self._records = InMemoryRecords(sheets)

    async def page(
        self,
        reader: Reader,
        where: TaskFilter,
        *,
        order: TaskOrder,
        now: datetime,
        after: TaskPlace | None,
        limit: int,
    ) -> list[VisibleRecord]:
        """List kept, visible tasks behind a place, in an order."""
        rows = [row.record for row in self._sheets.records.rows.values() if row.record.project_id == reader.project_id]
        ids = [record.id for record in rows if record.kind is Kind.TASK and _passes(record, where)]
        held_back = await self.in_the_way(reader.project_id, ids, now=now) if where.ready else {}
        seen = await self._records.read(reader, [i for i in ids if i not in held_back], now=now)
        if order is TaskOrder.NEWEST:
            behind = [item for item in seen if after is None or _age(_place(item.record)) < _age(after)]
            return sorted(behind, key=lambda item: _age(_place(item.record)), reverse=True)[:limit]
        behind = [item for item in seen if after is None or _turn(_place(item.record)) > _turn(after)]
        return sorted(behind, key=lambda item: _turn(_place(item.record)))[:limit]

    async def in_the_way(
        self, project_id: ProjectId, task_ids: Sequence[RecordId], *, now: datetime
    ) -> dict[RecordId, tuple[RecordId, ...]]:
        """Give the dependencies that stand in the way, by task, without a reader: hidden ones hold back too."""
        found: dict[RecordId, tuple[RecordId, ...]] = {}
        for source, target in sorted(self._dependencies(project_id)):
            held = self._sheets.records.rows.get((project_id, target))
            if source in task_ids and held is not None and _stands(held.record, now):
                found[source] = (*found.get(source, ()), target)
        return found

    async def reach(self, project_id: ProjectId, task_ids: Sequence[RecordId], *, limit: int) -> set[RecordId]:
        """Follow dependencies from tasks to their ends, forgotten ones too; gives those met, with the first ones."""
        edges = list(self._dependencies(project_id))
        met: dict[RecordId, None] = {}
        coming = list(task_ids)
        while coming and len(met) < limit:
            task_id = coming.pop(0)
            if task_id not in met:
                met[task_id] = None
                coming += [target for source, target in edges if source == task_id]
        return set(met)

    def _dependencies(self, project_id: ProjectId) -> Iterator[tuple[RecordId, RecordId]]:
        for link in self._sheets.links.rows.values():
            if link.project_id == project_id and link.relation == DEPENDS_ON:
                yield link.source_id, link.target_id


def _passes(record: Record, where: TaskFilter) -> bool:
    ready = not where.ready or record.type == TaskStatus.OPEN
    return ready and (not where.statuses or record.type in where.statuses) and where.assignee in ("", record.subject)


def _stands(record: Record, now: datetime) -> bool:
    kept = record.deleted_at is None and (record.retention_until is None or record.retention_until > now)
    return kept and record.type != TaskStatus.DONE


def _place(record: Record) -> TaskPlace:
    return TaskPlace(record.importance, record.created_at, record.id)


def _age(place: TaskPlace) -> tuple[datetime, RecordId]:
    return place.created_at, place.id


def _turn(place: TaskPlace) -> tuple[float, datetime, RecordId]:
    return -place.priority, place.created_at, place.id
