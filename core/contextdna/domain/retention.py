"""Retention: what is over is purged, in batches; the audit log never is."""

from dataclasses import dataclass
from datetime import timedelta

from contextdna.domain import endings
from contextdna.domain.events import emit_purged
from contextdna.domain.operation import Operation

_BATCH = 100  # as many ids as an audit entry names


@dataclass(frozen=True, slots=True)
class Swept:
    """What a whole sweep did."""

    purged: int
    """How many records went."""
    sessions_closed: int
    """How many sessions were past their end."""


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What one batch of a sweep did."""

    purged: int
    sessions_closed: int
    more: bool
    """Whether something else may be due."""
    blob_keys: tuple[str, ...]
    """Blobs that purged records leave behind."""

    @property
    def finished(self) -> bool:
        """True when nothing more is due."""
        return not self.more


async def sweep(op: Operation) -> SweepReport:
    """Purge one batch of records whose retention date, restore window or idle time is over; end overdue sessions."""
    retention = op.settings.retention
    due = await op.tx.records.due(
        op.project_id,
        now=op.now,
        deleted_before=op.now - timedelta(days=retention.restore_window_days),
        idle_before=op.now - timedelta(days=retention.idle_days),
        limit=_BATCH,
    )
    ids = [record.id for record in due]
    await op.tx.records.delete(op.project_id, ids)
    rows = _BATCH * 10
    events = await op.tx.events.delete_before(op.now - timedelta(days=retention.event_days), limit=rows)
    answers = await op.tx.requests.delete_answers_before(
        op.now - timedelta(days=retention.idempotency_days), limit=rows
    )
    states = await op.tx.states.delete_expired(op.project_id, now=op.now, limit=rows)
    long_over = op.now - timedelta(days=retention.idle_days)
    grants = await op.tx.grants.delete_ended(op.project_id, before=long_over, limit=rows)
    op.leaves_remains = bool(ids)
    signals = await op.tx.signals.delete_expired(op.project_id, now=op.now, limit=rows)
    op.note(ids, purged=len(ids))
    closed = await endings.close_expired(op)
    emit_purged(op, due)
    more = len(ids) == _BATCH or closed.more or rows in (events, answers, states, grants, signals)
    return SweepReport(len(ids), closed.sessions, more, tuple(record.blob_key for record in due if record.blob_key))
