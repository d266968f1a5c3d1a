"""Tools: add_task, update_task, list_tasks."""

from pydantic import BaseModel, Field

from contextdna import (
    RecordId,
    StoredTask,
    Task,
    TaskChange,
    TaskDraft,
    TaskOrder,
    TaskQuery,
    TaskStatus,
    parse_choice,
    parse_level,
)
from contextdna_tools.arguments import LEVEL, Arguments, Texts, level_of, shown_time, time_of
from contextdna_tools.spec import READS, WRITES, Call, Tool, hints

STATUSES = {status.value: status for status in TaskStatus}
ORDERS = {order.value: order for order in TaskOrder}
_NOBODY = "-"  # no agent's name: it would have to begin with a letter or digit
_CHARS_MAX = 2000  # of a description or result in a list; fetch gives the whole


class AddTask(Arguments):
    """Put work on the list: for yourself, for another agent, or for whoever takes it. Name what must be done first."""

    title: str = Field(description="In one line")
    description: str = Field("", description="What is to be done")
    assignee: str = Field("", description="Agent; may read it")
    priority: float = Field(0.5, description="0..1")
    level: str = LEVEL
    due_at: str = Field("", description="ISO time")
    depends_on: Texts = Field([], description="Task ids")


class StoredTaskView(BaseModel):
    """Answer of add_task and update_task."""

    id: str
    version: int
    status: str
    assignee: str = ""
    unknown_agents: list[str] = []


async def add_task(call: Call, args: AddTask) -> StoredTaskView:
    """Add a task."""
    draft = TaskDraft(
        title=args.title,
        description=args.description,
        assignee=args.assignee,
        priority=args.priority,
        level=level_of(args.level, call.hub.settings.default_level),
        due_at=time_of(args.due_at, name="due_at"),
        depends_on=_ids(args.depends_on),
    )
    return _stored(await call.workspace(args).tasks.add(draft))


class UpdateTask(Arguments):
    """Take, move or finish a task, at the version you read. Set in_progress before you begin, done with a result. An
    assignee changes status and result."""

    id: str = Field(description="Task id")
    expected_version: int = Field(description="The version you read")
    take: bool = Field(False, description="Make it yours")
    status: str = Field("", description="open, in_progress, blocked, done, cancelled")
    result: str | None = Field(None, description="What came of it")
    result_ids: Texts | None = Field(None, description="Ids of records it made")
    title: str | None = Field(None, description="New title")
    description: str | None = Field(None, description="New text")
    assignee: str = Field("", description="New agent; - for nobody")
    priority: float | None = Field(None, description="0..1")
    level: str = Field("", description="New level")
    due_at: str = Field("", description="ISO time")
    depend_on: Texts = Field([], description="Task ids to wait for")
    free_of: Texts = Field([], description="No longer these")


async def update_task(call: Call, args: UpdateTask) -> StoredTaskView:
    """Change a task."""
    change = TaskChange(
        title=args.title,
        description=args.description,
        status=parse_choice(args.status, STATUSES, name="status") if args.status else None,
        assignee="" if args.assignee == _NOBODY else args.assignee or None,
        take=args.take,
        priority=args.priority,
        level=parse_level(args.level) if args.level else None,
        due_at=time_of(args.due_at, name="due_at"),
        result=args.result,
        result_ids=None if args.result_ids is None else _ids(args.result_ids),
        depend_on=_ids(args.depend_on),
        free_of=_ids(args.free_of),
    )
    tasks = call.workspace(args).tasks
    return _stored(await tasks.update(RecordId(args.id), change, expected_version=args.expected_version))


class ListTasks(Arguments):
    """See what is to be done: yours (mine), what can be started now (ready), or by status."""

    mine: bool = Field(False, description="Assigned to you")
    ready: bool = Field(False, description="Open, and waiting for nothing")
    statuses: Texts = Field([], description="Default: all")
    assignee: str = Field("", description="Of this agent")
    order: str = Field("priority", description="priority, newest")
    limit: int = Field(20, description="1..100")
    cursor: str = Field("", description="Of the last answer")


class TaskView(BaseModel):
    """One task."""

    id: str
    title: str
    status: str
    version: int
    priority: float = 0.5
    level: str = ""
    owner: str = ""
    created_at: str = ""
    assignee: str | None = None
    description: str | None = None
    result: str | None = None
    result_ids: list[str] | None = None
    due_at: str | None = None
    depends_on: list[str] | None = None
    waits_for: list[str] | None = None
    waiting: int | None = None
    session: str | None = None
    shared_by: str | None = None
    clipped: bool | None = None


class TaskListResult(BaseModel):
    """Answer of list_tasks."""

    tasks: list[TaskView]
    cursor: str
    truncated: bool
    empty: str | None = None


async def list_tasks(call: Call, args: ListTasks) -> TaskListResult:
    """List tasks."""
    query = TaskQuery(
        statuses=tuple(parse_choice(status, STATUSES, name="status") for status in args.statuses),
        assignee=args.assignee,
        mine=args.mine,
        ready=args.ready,
        order=parse_choice(args.order, ORDERS, name="order"),
        limit=args.limit,
        cursor=args.cursor,
    )
    page = await call.workspace(args).tasks.list(query)
    return TaskListResult(
        tasks=[_view(task) for task in page.tasks],
        cursor=page.cursor,
        truncated=bool(page.cursor),
        empty=page.empty or None,
    )


def _view(task: Task) -> TaskView:
    record = task.record
    return TaskView(
        id=record.id,
        title=task.title,
        status=task.status.value,
        version=record.version,
        priority=record.importance,
        level=record.level.label,
        owner=record.owner_id,
        created_at=shown_time(record.created_at),
        assignee=task.assignee or None,
        description=task.description[:_CHARS_MAX] or None,
        result=task.result[:_CHARS_MAX] or None,
        result_ids=[str(i) for i in task.result_ids] or None,
        due_at=shown_time(task.due_at) if task.due_at else None,
        depends_on=[str(i) for i in task.depends_on] or None,
        waits_for=[str(i) for i in task.waits_for] or None,
        waiting=task.waiting or None,
        session=task.session_id or None,
        shared_by=task.granted_by or None,
        clipped=max(len(task.description), len(task.result)) > _CHARS_MAX or None,
    )


def _ids(names: list[str]) -> tuple[RecordId, ...]:
    return tuple(RecordId(name) for name in names)


def _stored(task: StoredTask) -> StoredTaskView:
    unknown = [task.assignee] if task.assignee_unknown else []
    return StoredTaskView(
        id=task.id, version=task.version, status=task.status.value, assignee=task.assignee, unknown_agents=unknown
    )


ADD_TASK = Tool("add_task", AddTask, StoredTaskView, add_task, hints(), WRITES)
UPDATE_TASK = Tool("update_task", UpdateTask, StoredTaskView, update_task, hints(destructive=True), WRITES)
LIST_TASKS = Tool("list_tasks", ListTasks, TaskListResult, list_tasks, hints(read_only=True, idempotent=True), READS)
