"""Tasks in order of work, and what they wait for. Listing holds the access predicate; see the SQL fragments."""

from collections.abc import Sequence
from datetime import datetime

from contextdna.backends.relational.columns import (
    RECORD_COLUMNS,
    json_list,
    json_list_or_none,
    micros,
    reader_params,
    record_of,
)
from contextdna.backends.relational.statements import Executor
from contextdna.values.ids import ProjectId, RecordId
from contextdna.values.principal import Reader
from contextdna.values.record import VisibleRecord
from contextdna.values.task import TaskFilter, TaskOrder, TaskPlace

_STATEMENTS = {TaskOrder.PRIORITY: "tasks_by_priority", TaskOrder.NEWEST: "tasks_newest"}


class Tasks:
    """Fulfils ``ports.tasks.TaskTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows

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
        place = (after.priority, micros(after.created_at), after.id) if after else (0.0, 0, "")
        wanted = (json_list_or_none(where.statuses), where.assignee, int(where.ready))
        rows = await self._rows(_STATEMENTS[order], (*reader_params(reader, now), *wanted, *place, limit))
        return [VisibleRecord(record_of(row), row[RECORD_COLUMNS], row[RECORD_COLUMNS + 1]) for row in rows]

    async def in_the_way(
        self, project_id: ProjectId, task_ids: Sequence[RecordId], *, now: datetime
    ) -> dict[RecordId, tuple[RecordId, ...]]:
        """Give the dependencies that stand in the way, by task, without a reader: hidden ones hold back too."""
        found: dict[RecordId, tuple[RecordId, ...]] = {}
        for task_id, target in await self._rows("tasks_in_the_way", (project_id, json_list(task_ids), micros(now))):
            found[task_id] = (*found.get(task_id, ()), target)
        return found

    async def reach(self, project_id: ProjectId, task_ids: Sequence[RecordId], *, limit: int) -> set[RecordId]:
        """Follow dependencies from tasks to their ends, forgotten ones too; gives those met, with the first ones."""
        return {row[0] for row in await self._rows("tasks_reach", (project_id, json_list(task_ids), limit))}
