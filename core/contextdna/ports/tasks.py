"""Port: tasks in order of work, and what they wait for.

Words as in ``ports.records``. A dependency is a link ``depends_on`` between two tasks; it *stands in the way* while its
target is kept and not done. What was forgotten stands in nobody's way.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from contextdna.values.ids import ProjectId, RecordId
from contextdna.values.principal import Reader
from contextdna.values.record import VisibleRecord
from contextdna.values.task import TaskFilter, TaskOrder, TaskPlace


class TaskTable(Protocol):
    """What is asked of tasks alone."""

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
        ...

    async def in_the_way(
        self, project_id: ProjectId, task_ids: Sequence[RecordId], *, now: datetime
    ) -> dict[RecordId, tuple[RecordId, ...]]:
        """Give the dependencies that stand in the way, by task, without a reader: hidden ones hold back too."""
        ...

    async def reach(self, project_id: ProjectId, task_ids: Sequence[RecordId], *, limit: int) -> set[RecordId]:
        """Follow dependencies from tasks to their ends, forgotten ones too; gives those met, the first ones included.

        At most ``limit`` of them: a full answer may be cut short.
        """
        ...
