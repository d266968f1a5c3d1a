"""Tasks: work that agents give each other, and what must be done first."""

from collections.abc import Sequence

from contextdna.domain import task_list, tasks
from contextdna.domain.access import Action, Caller
from contextdna.hub.door import Door
from contextdna.hub.remains import Remains
from contextdna.values.ids import RecordId
from contextdna.values.task import StoredTask, Task, TaskChange, TaskDraft, TaskPage, TaskQuery


class Tasks:
    """The task part of a workspace."""

    def __init__(self, door: Door, remains: Remains, caller: Caller) -> None:
        self._door = door
        self._remains = remains
        self._caller = caller

    async def add(self, draft: TaskDraft) -> StoredTask:
        """Add an open task. Its assignee may read it, whatever its level.

        Raises:
            NotFound: A dependency is no task that the caller sees.
        """
        return await self._door.write(self._caller, Action.ADD_TASK, lambda op: tasks.add(op, draft))

    async def update(self, task_id: RecordId, change: TaskChange, *, expected_version: int) -> StoredTask:
        """Change a task: its owner and the role system all of it, its assignee status and result.

        Whoever sees a task that nobody has may take it.

        Raises:
            Conflict: ``version_conflict``, with ``current_version``; ``task_waits``: it cannot begin or be done before
                what it depends on; ``task_cycle``.
        """
        stored, sealed_now = await self._door.write(
            self._caller,
            Action.UPDATE_TASK,
            lambda op: tasks.update(op, task_id, change, expected_version=expected_version),
        )
        if sealed_now:
            await self._remains.shred()
        return stored

    async def depend(
        self, task_id: RecordId, on: Sequence[RecordId] = (), *, no_longer: Sequence[RecordId] = ()
    ) -> None:
        """Make a task wait until others are done, or no longer.

        Raises:
            Conflict: ``task_cycle``: one of them waits for this task, if only through others.
        """
        await self._door.write(
            self._caller,
            Action.UPDATE_TASK,
            lambda op: tasks.change_dependencies(op, task_id, on, no_longer=no_longer),
        )

    async def get(self, task_id: RecordId) -> Task:
        """Open one task."""
        return await self._door.read(self._caller, Action.READ_TASK, lambda op: task_list.get(op, task_id), touch=True)

    async def list(self, query: TaskQuery = TaskQuery()) -> TaskPage:  # noqa: B008 - frozen
        """List tasks that the caller may see."""
        return await self._door.read(self._caller, Action.LIST_TASKS, lambda op: task_list.listing(op, query))
