"""Tasks: work to be done, by whom, and what must be done first."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from contextdna.values.ids import AgentId, DelegationId, RecordId, SessionId
from contextdna.values.level import Level
from contextdna.values.record import Record

DEPENDS_ON: Final = "depends_on"
"""The relation of the link from a task to one that must be done first."""


class TaskStatus(StrEnum):
    """Where a task stands; the record's ``type``."""

    OPEN = "open"
    IN_PROGRESS = "in_progress"
    BLOCKED = "blocked"
    DONE = "done"
    CANCELLED = "cancelled"


class TaskOrder(StrEnum):
    """How tasks are listed."""

    PRIORITY = "priority"
    """The highest priority first; of equal ones the oldest."""
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class TaskDraft:
    """A task to be added."""

    title: str
    description: str = ""
    assignee: str = ""
    """The agent that is to do it; empty: nobody yet."""
    priority: float = 0.5
    level: Level = Level.PROJECT
    due_at: datetime | None = None
    depends_on: tuple[RecordId, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskChange:
    """What of a task changes; None leaves it."""

    title: str | None = None
    description: str | None = None
    status: TaskStatus | None = None
    assignee: str | None = None
    """Empty takes it from whoever has it."""
    take: bool = False
    """Assign it to the caller, who sees it already."""
    priority: float | None = None
    level: Level | None = None
    due_at: datetime | None = None
    result: str | None = None
    result_ids: tuple[RecordId, ...] | None = None
    depend_on: tuple[RecordId, ...] = ()
    """Dependencies to add."""
    free_of: tuple[RecordId, ...] = ()
    """Dependencies to take away."""

    def is_empty(self) -> bool:
        """Tell whether nothing changes."""
        return self == TaskChange()

    def is_of_assignee(self) -> bool:
        """Tell whether this is what an assignee may change, or who takes a task that nobody has: status and result."""
        own = TaskChange(status=self.status, result=self.result, result_ids=self.result_ids, take=self.take)
        return self == own


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task as it stands after a write."""

    id: RecordId
    version: int
    status: TaskStatus
    assignee: AgentId
    assignee_unknown: bool = False
    """Whether the project has never seen whom it was just assigned to: it may still come, or the name is mistyped."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as its reader may see it."""

    record: Record
    title: str
    description: str
    result: str
    result_ids: tuple[RecordId, ...]
    """What it brought, as far as the reader may see it."""
    due_at: datetime | None
    session_id: SessionId
    """The session in which it was last started; empty when outside of one."""
    delegation_id: DelegationId
    """The delegation that this session belongs to, if any."""
    depends_on: tuple[RecordId, ...]
    """What must be done first, as far as the reader may see it."""
    waits_for: tuple[RecordId, ...]
    """Those of ``depends_on`` that are not done."""
    waiting: int
    """How many dependencies are not done, hidden ones too."""
    granted_by: str = ""

    @property
    def status(self) -> TaskStatus:
        """Where it stands."""
        return TaskStatus(self.record.type)

    @property
    def assignee(self) -> AgentId:
        """Who is to do it; empty for nobody."""
        return AgentId(self.record.subject)

    @property
    def ready(self) -> bool:
        """Whether it can be started: it is open, and all that it depends on is done."""
        return self.status is TaskStatus.OPEN and self.waiting == 0


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks count; empty means any."""

    statuses: tuple[TaskStatus, ...] = ()
    assignee: AgentId = AgentId("")
    ready: bool = False
    """Only open ones whose dependencies are all done."""


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """A question for tasks."""

    statuses: tuple[TaskStatus, ...] = ()
    assignee: str = ""
    mine: bool = False
    """Those that the caller is to do."""
    ready: bool = False
    order: TaskOrder = TaskOrder.PRIORITY
    limit: int = 50
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Tasks in the order asked for; an empty cursor means that there are no more."""

    tasks: tuple[Task, ...]
    cursor: str
    empty: str = ""
    """Where there are none: what was searched, and how many tasks are visible there."""


class TaskPlace(NamedTuple):
    """A task's place in every order."""

    priority: float
    created_at: datetime
    id: RecordId
