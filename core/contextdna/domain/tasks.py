"""Tasks: add, change, list; who may do what with them, and what holds them back."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from contextdna.domain import access
from contextdna.domain.dependencies import check_ready, depend, free, require_tasks
from contextdna.domain.memories import end_delegated, require_visible
from contextdna.domain.names import meant_agent
from contextdna.domain.operation import Operation
from contextdna.domain.records import new_record, require_version
from contextdna.domain.sharing import new_grant
from contextdna.domain.validation import check_agent_id, check_count, check_score, check_text
from contextdna.errors import AccessDenied, IntegrityFault, InvalidInput
from contextdna.values.event import EventName
from contextdna.values.ids import AgentId, GrantId, IdPrefix, RecordId, new_id
from contextdna.values.level import ENCRYPTED_LEVELS, Level
from contextdna.values.project import Link
from contextdna.values.record import IndexedRecord, Kind, Record
from contextdna.values.task import DEPENDS_ON, StoredTask, TaskChange, TaskDraft, TaskStatus

_TITLE_BYTES_MAX: Final = 1000
_TEXT_BYTES_MAX: Final = 64 * 1024
_IDS_MAX: Final = 100
_VERSION_MAX: Final = 2**31
_BEGUN: Final = (TaskStatus.IN_PROGRESS, TaskStatus.DONE)
"""What a task may become only when nothing stands in its way."""


async def add(op: Operation, draft: TaskDraft) -> StoredTask:
    """Add an open task; its assignee may read it.

    Raises:
        NotFound: A dependency is no task that the actor sees.
        InvalidInput: With the code of the first thing wrong.
    """
    _check_texts(title=draft.title, description=draft.description, result=None)
    check_score(draft.priority, name="priority")
    access.require_level(op.actor, draft.level)
    await require_tasks(op, draft.depends_on)
    assignee = await resolve_agent(op, draft.assignee)
    record_id = RecordId(new_id(IdPrefix.TASK, op.now))
    body = {
        "title": draft.title,
        "description": draft.description,
        "result": "",
        "result_ids": [],
        "due_at": draft.due_at.isoformat() if draft.due_at else "",
        "session_id": "",
        "delegation_id": "",
        "grant_id": await _let_read(op, record_id, assignee, owner=op.actor.agent_id),
    }
    record = new_record(
        op,
        record_id,
        Kind.TASK,
        level=draft.level,
        type=TaskStatus.OPEN.value,
        sealed=op.seal(body, record_id=record_id, level=draft.level, version=1),
        importance=draft.priority,
        subject=assignee,
    )
    await op.tx.records.insert([IndexedRecord(record, _tokens(op, draft.level, body))])
    targets = tuple(dict.fromkeys(draft.depends_on))
    await op.tx.records.add_links([Link(op.project_id, record_id, target, DEPENDS_ON, op.now) for target in targets])
    op.note([record_id], dependencies=len(targets))
    op.emit(EventName.TASK_ADDED, [record_id], subject=assignee)
    return StoredTask(record_id, 1, TaskStatus.OPEN, assignee, await _is_unknown(op, assignee))


async def update(
    op: Operation, task_id: RecordId, change: TaskChange, *, expected_version: int
) -> tuple[StoredTask, bool]:
    """Change a task; gives it, and whether it is encrypted now and was not before.

    Its owner and the role system change what they like, its assignee, and who takes it when nobody has it, status and
    result. Who may read it, by level or by
    assignment, is for its owner to say.

    Raises:
        NotFound: Absent, or not visible to the actor.
        AccessDenied: ``not_owner``.
        Conflict: ``version_conflict``, with the current version; ``task_waits``; ``task_cycle``.
        InvalidInput: The change cannot be made.
    """
    _check_change(change)
    check_count(expected_version, name="expected_version", maximum=_VERSION_MAX)
    current = await _current(op, task_id)
    require_version(current, expected_version, hint="Read the task again, then update with its version.")
    _require_may(op, current, change)
    await free(op, task_id, change.free_of)
    await depend(op, task_id, change.depend_on)
    body = open_body(op, current)
    status = change.status or TaskStatus(current.type)
    if status in _BEGUN and status.value != current.type:
        await check_ready(op, task_id)
    changed = await _apply(op, current, body, change)
    await op.tx.records.replace(
        IndexedRecord(changed, _tokens(op, changed.level, body)), expected_version=expected_version, reindex=True
    )
    if changed.level is not current.level:
        await end_delegated(op, task_id)
    op.leaves_remains = changed.level in ENCRYPTED_LEVELS and current.level not in ENCRYPTED_LEVELS
    op.note([task_id], version=changed.version)
    op.emit(EventName.TASK_UPDATED, [task_id], subject=changed.subject)
    if current.subject not in ("", changed.subject):  # whom it was taken from is told that, not who has it now
        op.emit(EventName.TASK_UPDATED, [task_id], subject=current.subject, audience=[current.subject])
    assignee = AgentId(changed.subject)
    unknown = bool(change.assignee) and await _is_unknown(op, assignee)
    return StoredTask(task_id, changed.version, status, assignee, unknown), op.leaves_remains


async def _is_unknown(op: Operation, assignee: AgentId) -> bool:
    return bool(assignee) and not await op.tx.projects.agents(op.project_id, [assignee])


async def change_dependencies(
    op: Operation, task_id: RecordId, on: Sequence[RecordId], *, no_longer: Sequence[RecordId]
) -> None:
    """Make a task depend on others, or no longer; its version stays.

    Raises:
        NotFound: Absent, or not visible to the actor.
        AccessDenied: ``not_owner``.
        Conflict: ``task_cycle``.
        InvalidInput: ``change_empty``: neither the one nor the other.
    """
    change = TaskChange(depend_on=tuple(on), free_of=tuple(no_longer))
    _check_change(change)
    current = await _current(op, task_id)
    _require_may(op, current, change)
    await free(op, task_id, no_longer)
    await depend(op, task_id, on)
    op.note([task_id])
    op.emit(EventName.TASK_UPDATED, [task_id], subject=current.subject)


def open_body(op: Operation, record: Record) -> dict[str, Any]:
    """Open a task's body.

    Raises:
        IntegrityFault: ``body_unreadable``: the row was changed.
    """
    body = op.open(record)
    try:
        TaskStatus(record.type)
        datetime.fromisoformat(body["due_at"] or op.now.isoformat())
    except ValueError:
        raise IntegrityFault(
            "a stored task is not what was written",
            code="body_unreadable",
            hint="Run `contextdna doctor` and restore the data folder from a backup.",
        ) from None
    return body


async def resolve_agent(op: Operation, name: str) -> AgentId:
    """Find the agent that the actor means: by a bare name its own delegate, where it has one of that name.

    Raises:
        InvalidInput: ``assignee_invalid``.
    """
    if not name:
        return AgentId("")
    check_agent_id(name, name="assignee")
    return await meant_agent(op, AgentId(name))


async def _let_read(op: Operation, task_id: RecordId, assignee: AgentId, *, owner: AgentId) -> str:
    """Grant an assignee its task; gives the grant's id, which an unassignment ends."""
    if assignee in ("", owner):
        return ""
    grant = replace(new_grant(op, task_id, assignee, None), assignment=True)
    await op.tx.grants.add([grant])
    return grant.id


async def _current(op: Operation, task_id: RecordId) -> Record:
    taken = await op.tx.records.take(op.project_id, [task_id])
    tasks = [record for record in taken if record.kind is Kind.TASK and _kept(record, op.now)]
    may = bool(tasks) and access.may_change(op.actor, tasks[0])
    if may or (tasks and await op.tx.records.read(op.actor.reader, [task_id], now=op.now)):
        return tasks[0]
    refs = await op.tx.records.refs(op.project_id, [task_id])
    raise access.absent_error((task_id,), denied=access.hides(op.actor, refs))


def _require_may(op: Operation, current: Record, change: TaskChange) -> None:
    """Refuse whoever is neither owner nor role system, nor an assignee who keeps to status and result."""
    over = current.type in (TaskStatus.DONE, TaskStatus.CANCELLED)  # what is over is its owner's to open again
    assigned = current.subject == op.actor.agent_id or (change.take and not current.subject and not over)
    reopens = over and change.status not in (None, current.type)
    if access.may_change(op.actor, current) or (assigned and change.is_of_assignee() and not reopens):
        return
    what = "an assignee changes status and result only" if assigned else "only owner and assignee change a task"
    what = f"the task is {current.type}: only its owner opens it again" if assigned and reopens else what
    raise AccessDenied(what, code="not_owner", hint="Ask the owner to change it.", record_ids=(current.id,))


async def _apply(op: Operation, current: Record, body: dict[str, Any], change: TaskChange) -> Record:
    """Make the next version of a task; its body is changed in place."""
    for name in ("title", "description", "result"):
        value = getattr(change, name)
        body[name] = body[name] if value is None else value
    if change.due_at is not None:
        body["due_at"] = change.due_at.isoformat()
    if change.result_ids is not None:
        await require_visible(op, [i for i in change.result_ids if i not in body["result_ids"]])
        body["result_ids"] = list(dict.fromkeys(change.result_ids))
    if change.status is TaskStatus.IN_PROGRESS and current.type != TaskStatus.IN_PROGRESS:
        body.update(await _place_of_work(op))
    level = current.level if change.level is None else change.level
    if level is not current.level:
        _require_owner(op, current, "only the owner changes who may read")
        access.require_level(op.actor, level)
        reader = op.actor.reader  # the owner: the new circle is the one that it belongs to now
        current = replace(current, team_id=reader.team_id, swarm_id=reader.swarm_id)
    assignee = await _reassign(op, current, body, change)
    version = current.version + 1
    return replace(
        current,
        version=version,
        updated_at=op.now,
        type=(change.status or TaskStatus(current.type)).value,
        level=level,
        importance=current.importance if change.priority is None else change.priority,
        subject=assignee,
        sealed=op.seal(body, record_id=current.id, level=level, version=version, current=current),
    )


async def _reassign(op: Operation, current: Record, body: dict[str, Any], change: TaskChange) -> AgentId:
    """Give a task to another agent, and what it may read with it; who takes one itself reads it already."""
    assignee = await _next_assignee(op, current, change)
    if assignee == current.subject and not await _lost_it(op, current, body, change):
        return assignee
    if change.take:
        await require_visible(op, [current.id])
    elif assignee and current.level is not Level.PROJECT:  # another's task is not the role system's to show around
        _require_owner(op, current, "only the owner lets an agent read a task of this level")
    if body["grant_id"]:
        await op.tx.grants.revoke(op.project_id, [GrantId(body["grant_id"])], at=op.now)
    body["grant_id"] = "" if change.take else await _let_read(op, current.id, assignee, owner=current.owner_id)
    return assignee


async def _lost_it(op: Operation, current: Record, body: Mapping[str, Any], change: TaskChange) -> bool:
    """Tell whether an owner assigns its task to who has it and may not read it by that, as who took it once."""
    owner = current.owner_id
    if not change.assignee or owner != op.actor.agent_id or owner == current.subject:
        return False
    grants = await op.tx.grants.active_for(op.project_id, [current.id], AgentId(current.subject), now=op.now)
    return body["grant_id"] not in [grant.id for grant in grants]


async def _next_assignee(op: Operation, current: Record, change: TaskChange) -> AgentId:
    if change.take:
        return AgentId(op.actor.agent_id)
    return AgentId(current.subject) if change.assignee is None else await resolve_agent(op, change.assignee)


def _require_owner(op: Operation, current: Record, what: str) -> None:
    if current.owner_id != op.actor.agent_id:
        raise AccessDenied(what, code="not_owner", hint="Ask the owner to change it.", record_ids=(current.id,))


async def _place_of_work(op: Operation) -> Mapping[str, str]:
    """Name the session that a task is started in, and the delegation that this session belongs to."""
    session = await op.tx.sessions.get(op.actor.session_id) if op.actor.session_id else None
    return {"session_id": session.id if session else "", "delegation_id": session.delegation_id if session else ""}


def _check_change(change: TaskChange) -> None:
    if change.is_empty():
        raise InvalidInput("nothing to change", code="change_empty", hint="Give at least one new value.")
    if change.take and change.assignee is not None:
        raise InvalidInput("take and an assignee", code="assignee_twice", hint="Give one of the two.")
    _check_texts(title=change.title, description=change.description, result=change.result)
    if change.priority is not None:
        check_score(change.priority, name="priority")
    check_count(len(change.result_ids or ()), name="result_ids", minimum=0, maximum=_IDS_MAX)
    check_count(len(change.free_of), name="free_of", minimum=0, maximum=_IDS_MAX)


def _check_texts(*, title: str | None, description: str | None, result: str | None) -> None:
    if title is not None:
        check_text(title, name="title", bytes_max=_TITLE_BYTES_MAX)
    check_text(description or "", name="description", bytes_max=_TEXT_BYTES_MAX, empty_allowed=True)
    check_text(result or "", name="result", bytes_max=_TEXT_BYTES_MAX, empty_allowed=True)


def _tokens(op: Operation, level: Level, body: Mapping[str, Any]) -> tuple[str, ...]:
    text = "\n".join((body["title"], body["description"], body["result"]))
    return op.tokens(text, level)


def _kept(record: Record, now: datetime) -> bool:
    return record.deleted_at is None and (record.retention_until is None or record.retention_until > now)
