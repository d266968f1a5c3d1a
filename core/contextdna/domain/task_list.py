"""Tasks as their reader may see them: one, or a page of many."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from contextdna.domain import access
from contextdna.domain.cursors import bad_cursor, pack_cursor, unpack_cursor
from contextdna.domain.names import near_agents
from contextdna.domain.operation import Operation
from contextdna.domain.tasks import open_body, resolve_agent
from contextdna.domain.validation import check_count
from contextdna.errors import InvalidInput
from contextdna.values.ids import AgentId, DelegationId, RecordId, SessionId
from contextdna.values.record import Kind, VisibleRecord
from contextdna.values.task import DEPENDS_ON, Task, TaskFilter, TaskPage, TaskPlace, TaskQuery

_LISTED_MAX: Final = 100


async def get(op: Operation, task_id: RecordId) -> Task:
    """Open one task.

    Raises:
        NotFound: Absent, no task, or not visible to the actor.
    """
    read = await op.tx.records.read(op.actor.reader, [task_id], now=op.now)
    tasks = [item for item in read if item.record.kind is Kind.TASK]
    if not tasks:
        refs = await op.tx.records.refs(op.project_id, [task_id])
        raise access.absent_error((task_id,), denied=not read and access.hides(op.actor, refs))
    op.note([task_id])
    return (await open_tasks(op, tasks))[0]


async def listing(op: Operation, query: TaskQuery) -> TaskPage:
    """List tasks that the actor may see.

    Raises:
        InvalidInput: ``cursor_invalid``, ``assignee_invalid``, ``assignee_twice``.
        LimitExceeded: ``limit_out_of_range``.
    """
    check_count(query.limit, name="limit", maximum=_LISTED_MAX)
    if query.mine and query.assignee:
        raise InvalidInput("mine and an assignee", code="assignee_twice", hint="Give one of the two.")
    assignee = AgentId(op.actor.agent_id) if query.mine else await resolve_agent(op, query.assignee)
    found = await op.tx.tasks.page(
        op.actor.reader,
        TaskFilter(query.statuses, assignee, query.ready),
        order=query.order,
        now=op.now,
        after=_read_cursor(op, query),
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    tasks = await open_tasks(op, page)
    op.note([task.record.id for task in tasks], tasks=len(tasks))
    cursor = _write_cursor(op, query, page[-1]) if len(found) > query.limit else ""
    return TaskPage(tuple(tasks), cursor, "" if tasks else await _explain(op, query, assignee))


async def _explain(op: Operation, query: TaskQuery, assignee: AgentId) -> str:
    """Say why there are no tasks: what was searched, what is visible there, and who may have been meant."""
    if query.cursor:
        return "There are no further tasks."
    counts = await op.tx.records.count_visible_tasks(op.actor.reader, now=op.now)
    scope = f"project {op.project_id}, as agent {op.actor.agent_id}"
    if not counts:
        return f"No task is visible in {scope} yet."
    by_status = ", ".join(f"{records} {status}" for status, records in sorted(counts.items()))
    said = f"No task matches in {scope}; visible there: {by_status}."
    near = await near_agents(op, assignee) if assignee else ()
    return f"{said} No agent of that name is known; near: {', '.join(near)}." if near else said


async def open_tasks(op: Operation, items: Sequence[VisibleRecord]) -> list[Task]:
    """Open tasks, each with what the actor may see of its dependencies and results."""
    ids = [item.record.id for item in items]
    links = [link for link in await op.tx.records.links_of(op.project_id, ids) if link.relation == DEPENDS_ON]
    waits = await op.tx.tasks.in_the_way(op.project_id, ids, now=op.now)
    bare = op.readable(items, lambda item: _open(op, item))
    named = dict.fromkeys([link.target_id for link in links] + [i for task in bare for i in task.result_ids])
    shown = {item.record.id for item in await op.tx.records.read(op.actor.reader, list(named), now=op.now)}
    whole = []
    for task in bare:
        targets = [link.target_id for link in links if link.source_id == task.record.id]
        in_the_way = waits.get(task.record.id, ())
        whole.append(
            replace(
                task,
                result_ids=tuple(i for i in task.result_ids if i in shown),
                depends_on=tuple(i for i in targets if i in shown),
                waits_for=tuple(i for i in in_the_way if i in shown),
                waiting=len(in_the_way),
            )
        )
    return whole


def _open(op: Operation, item: VisibleRecord) -> Task:
    body = open_body(op, item.record)
    return Task(
        record=item.record,
        title=body["title"],
        description=body["description"],
        result=body["result"],
        result_ids=tuple(RecordId(i) for i in body["result_ids"]),
        due_at=datetime.fromisoformat(body["due_at"]) if body["due_at"] else None,
        session_id=SessionId(body["session_id"]),
        delegation_id=DelegationId(body["delegation_id"]),
        depends_on=(),
        waits_for=(),
        waiting=0,
        granted_by=item.granted_by,
    )


def _cursor_key(op: Operation, query: TaskQuery) -> str:
    text = f"{replace(query, cursor='', limit=0)!r}|{op.actor.reader!r}"
    return hashlib.blake2b(text.encode(), key=op.keys.hash_key, digest_size=8).hexdigest()


def _write_cursor(op: Operation, query: TaskQuery, last: VisibleRecord) -> str:
    record = last.record
    return pack_cursor(record.importance, record.created_at.isoformat(), record.id, _cursor_key(op, query))


def _read_cursor(op: Operation, query: TaskQuery) -> TaskPlace | None:
    if not query.cursor:
        return None
    try:
        priority, created_at, task_id, key = unpack_cursor(query.cursor)
        at = datetime.fromisoformat(str(created_at))
    except ValueError as error:
        raise bad_cursor() from error
    if not isinstance(priority, int | float) or not isinstance(task_id, str) or at.tzinfo is None:
        raise bad_cursor()
    if key != _cursor_key(op, query) or not 0 <= priority <= 1:
        raise bad_cursor()
    return TaskPlace(float(priority), at, RecordId(task_id))
