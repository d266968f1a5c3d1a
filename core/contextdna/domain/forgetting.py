"""Forgetting: soft-delete with a way back, purge for good, and which of one's memories a selection means."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from contextdna.domain import access, events
from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_count
from contextdna.errors import AccessDenied, Conflict, InvalidInput
from contextdna.values.event import EventName
from contextdna.values.ids import AgentId, RecordId
from contextdna.values.memory import ForgetReport, MemorySelection
from contextdna.values.principal import Role
from contextdna.values.record import Kind, Record, RecordRef
from contextdna.values.search import RecordFilter

_SELECTION_MAX = 10_000


async def forget(
    op: Operation,
    record_ids: Sequence[RecordId],
    selection: MemorySelection,
    *,
    purge: bool,
    confirm: int | None,
) -> tuple[ForgetReport, tuple[str, ...]]:
    """Soft-delete or purge memories: by ids, or the actor's own by selection.

    A selection only counts unless ``confirm`` gives the number that it matches.

    Returns:
        The report, and the blob keys that purged records leave.

    Raises:
        NotFound: An id is absent or not visible; nothing was changed.
        AccessDenied: ``not_owner``, or ``append_only`` for a loop record.
        Conflict: ``count_changed``: ``confirm`` is not what the selection matches now.
        InvalidInput: ``selection_empty``: neither ids nor a selection.
    """
    if record_ids:
        check_count(len(record_ids), name="ids", maximum=op.settings.limits.batch_max)
        wanted = tuple(dict.fromkeys(record_ids))
        refs = await op.tx.records.refs(op.project_id, wanted)
        await access.require_changeable(op.tx, op.actor, wanted, refs, now=op.now)
        _refuse_loops(op, refs)
    else:
        wanted = await _selected(op, selection)
        if confirm is None or confirm == len(wanted) == 0:
            op.note(matched=len(wanted), dry_run=True)
            return ForgetReport(wanted[:100], len(wanted), dry_run=True, purged=False, restorable_until=None), ()
        if confirm != len(wanted):
            raise Conflict(
                f"the selection matches {len(wanted)} memories now, not {confirm}",
                code="count_changed",
                hint="Look at the dry run again, then confirm its count.",
            )
    return await _forget(op, wanted, purge=purge)


def _refuse_loops(op: Operation, refs: Iterable[RecordRef | Record]) -> None:
    """Keep loop records from their authors: whoever could take a low confidence back could open a gate."""
    loops = tuple(ref.id for ref in refs if ref.kind is Kind.LOOP)
    if loops and op.actor.reader.role is not Role.SYSTEM:
        raise AccessDenied(
            "loop records are append-only",
            code="append_only",
            hint="Record a newer one; only the role system removes loop records.",
            record_ids=loops,
        )


async def _forget(op: Operation, wanted: tuple[RecordId, ...], *, purge: bool) -> tuple[ForgetReport, tuple[str, ...]]:
    blobs: tuple[str, ...] = ()
    until = None
    if purge:
        purged = await op.tx.records.take(op.project_id, wanted)
        blobs = tuple(record.blob_key for record in purged if record.blob_key)
        await op.tx.records.delete(op.project_id, wanted)
        op.leaves_remains = True
        events.emit_purged(op, purged)
    else:
        await op.tx.records.mark_deleted(op.project_id, wanted, deleted_at=op.now)
        until = await _restorable_until(op, wanted)
        await events.emit_of(op, EventName.MEMORY_FORGOTTEN, wanted)
    op.note(wanted[:100], forgotten=len(wanted), purged=purge)
    report = ForgetReport(wanted[:100], len(wanted), dry_run=False, purged=purge, restorable_until=until)
    return report, blobs


async def _restorable_until(op: Operation, forgotten: Sequence[RecordId]) -> datetime:
    """Give the end of the first restore window: what was forgotten before keeps its own."""
    batch = forgotten[: op.settings.limits.batch_max]
    times = [record.deleted_at or op.now for record in await op.tx.records.take(op.project_id, batch)]
    return min(times, default=op.now) + timedelta(days=op.settings.retention.restore_window_days)


async def restore(op: Operation, record_ids: Sequence[RecordId]) -> tuple[RecordId, ...]:
    """Bring soft-deleted memories back within their restore window.

    Raises:
        NotFound: An id is absent, purged, past its window, or not changeable by the actor; nothing was changed.
        Conflict: ``not_forgotten``: a memory was not forgotten; nothing was changed.
    """
    check_count(len(record_ids), name="ids", maximum=op.settings.limits.batch_max)
    wanted = tuple(dict.fromkeys(record_ids))
    window = timedelta(days=op.settings.retention.restore_window_days)
    there = {record.id: record for record in await op.tx.records.take(op.project_id, wanted)}
    over = {i for i, record in there.items() if _is_over(record, window, op.now)}
    refused = tuple(i for i in wanted if i not in there or i in over or not access.may_change(op.actor, there[i]))
    if refused:
        raise access.absent_error(refused, denied=any(i in there for i in refused))
    kept = tuple(i for i in wanted if there[i].deleted_at is None)
    if kept:
        raise Conflict(
            f"not forgotten: {', '.join(kept[:10])}",
            code="not_forgotten",
            hint="Restore only what forget_memory removed.",
            record_ids=kept,
        )
    _refuse_loops(op, there.values())
    await op.tx.records.mark_deleted(op.project_id, wanted, deleted_at=None)
    await op.tx.records.touch(op.project_id, dict.fromkeys(wanted, 1), at=op.now)  # or the idle sweep takes it at once
    op.note(wanted, restored=len(wanted))
    await events.emit_of(op, EventName.MEMORY_RESTORED, wanted)
    return wanted


def _is_over(record: Record, window: timedelta, now: datetime) -> bool:
    outlived = record.retention_until is not None and record.retention_until <= now
    return outlived or (record.deleted_at is not None and record.deleted_at + window < now)


async def _selected(op: Operation, selection: MemorySelection) -> tuple[RecordId, ...]:
    if selection.is_empty():
        raise InvalidInput(
            "neither ids nor a filter", code="selection_empty", hint="Name ids, or narrow by type, tier, tag or age."
        )
    where = replace(owned_filter(op, selection), ever=True)
    refs = await op.tx.records.owned(op.actor.reader, where, now=op.now, limit=_SELECTION_MAX)
    return tuple(ref.id for ref in refs)


def owned_filter(op: Operation, selection: MemorySelection) -> RecordFilter:
    """Turn a selection of the actor's own memories into a filter."""
    return RecordFilter(
        kinds=(Kind.MEMORY,),
        types=selection.memory_types,
        tiers=selection.tiers,
        tag_tokens=op.spaces.open.tags(selection.tags),
        sealed_tag_tokens=op.spaces.sealed.tags(selection.tags),
        owner_id=AgentId(op.actor.agent_id),
        min_importance=selection.min_importance,
        until=selection.older_than,
    )
