"""What must be done before a task: links between tasks that never go round."""

from collections.abc import Sequence
from typing import Final

from contextdna.domain import access
from contextdna.domain.memories import require_visible
from contextdna.domain.operation import Operation
from contextdna.errors import Conflict, LimitExceeded
from contextdna.values.ids import RecordId
from contextdna.values.project import Link
from contextdna.values.record import Kind
from contextdna.values.task import DEPENDS_ON

DEPENDENCIES_MAX: Final = 100
"""Of one task."""
REACH_MAX: Final = 10_000
"""Tasks that one may depend on through others: what a check for cycles looks through."""

_NAMED: Final = 10


async def require_tasks(op: Operation, task_ids: Sequence[RecordId]) -> None:
    """Refuse what is no task that the actor may see.

    Raises:
        NotFound: Naming the ids; what is not a task is not there either.
        LimitExceeded: ``task_dependencies_too_many``.
    """
    wanted = tuple(dict.fromkeys(task_ids))
    _check_number(len(wanted))
    await require_visible(op, wanted)
    others = tuple(ref.id for ref in await op.tx.records.refs(op.project_id, wanted) if ref.kind is not Kind.TASK)
    if others:
        raise access.absent_error(others, denied=False)


async def depend(op: Operation, task_id: RecordId, on: Sequence[RecordId]) -> None:
    """Add dependencies of a task. Judged in the transaction that writes them: two at once cannot close a circle.

    Raises:
        NotFound: One is no task that the actor sees.
        Conflict: ``task_cycle``: one of them depends on the task, if only through others.
        LimitExceeded: ``task_dependencies_too_many``.
    """
    targets = tuple(dict.fromkeys(on))
    if not targets:
        return
    await require_tasks(op, targets)
    standing = {link.target_id for link in await op.tx.records.links_of(op.project_id, [task_id]) if _is_one(link)}
    _check_number(len(standing.union(targets)))
    met = await op.tx.tasks.reach(op.project_id, targets, limit=REACH_MAX + 1)
    if task_id in met:
        raise Conflict(
            "the task would wait for itself",
            code="task_cycle",
            hint="One of these depends on the task, if only through others: take one dependency away first.",
            record_ids=(task_id,),
        )
    if len(met) > REACH_MAX:
        raise _too_many()
    await op.tx.records.add_links([Link(op.project_id, task_id, target, DEPENDS_ON, op.now) for target in targets])
    op.note(targets, dependencies_added=len(targets))


async def free(op: Operation, task_id: RecordId, of: Sequence[RecordId]) -> None:
    """Take dependencies away; one that is not there is no error."""
    if of:
        links = [Link(op.project_id, task_id, target, DEPENDS_ON, op.now) for target in dict.fromkeys(of)]
        op.note(dependencies_removed=await op.tx.records.remove_links(links))


async def check_ready(op: Operation, task_id: RecordId) -> None:
    """Refuse to begin or finish a task that waits for others; names those that the actor may see.

    Raises:
        Conflict: ``task_waits``.
    """
    waits_for = (await op.tx.tasks.in_the_way(op.project_id, [task_id], now=op.now)).get(task_id, ())
    if not waits_for:
        return
    seen = [item.record.id for item in await op.tx.records.read(op.actor.reader, waits_for, now=op.now)]
    named = f": {', '.join(seen[:_NAMED])}" if seen else ""
    raise Conflict(
        f"{len(waits_for)} of its dependencies are not done{named}",
        code="task_waits",
        hint="Do those first, or set the status blocked.",
        record_ids=(task_id, *seen[:_NAMED]),
    )


def _is_one(link: Link) -> bool:
    return link.relation == DEPENDS_ON


def _check_number(count: int) -> None:
    if count > DEPENDENCIES_MAX:
        raise _too_many()


def _too_many() -> LimitExceeded:
    return LimitExceeded(
        "too many dependencies",
        code="task_dependencies_too_many",
        hint=f"A task depends on at most {DEPENDENCIES_MAX} others, through them on {REACH_MAX}: put one in between.",
    )
