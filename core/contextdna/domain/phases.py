"""Phases: what their loop records say together.

Only of what the actor may see, the numbers of the gate aside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from contextdna.domain import loops
from contextdna.domain.cursors import bad_cursor
from contextdna.domain.operation import Operation
from contextdna.domain.packing import compact_json
from contextdna.domain.validation import check_count
from contextdna.values.ids import RecordId, is_name
from contextdna.values.loop import FollowUp, FollowUpPage, GateState, Loop, LoopPage, LoopRecord, LoopStatus
from contextdna.values.record import Kind, VisibleRecord

DEFERRED: Final = "deferred_issues"
NEXT_ACTIONS: Final = "next_actions"

_BATCH: Final = 100
_LOOKED_THROUGH_MAX: Final = 2000  # decisions, for one page of follow-ups
_ALL: Final = 999_999_999  # more follow-ups than a decision can name


async def gate(op: Operation, phase: str, iteration: int) -> GateState:
    """Tell where a phase and iteration stand against the gates.

    Raises:
        NotFound: The actor sees no record of the phase.
        LimitExceeded: ``iteration_out_of_range``.
    """
    check_count(iteration, name="iteration", maximum=loops.ITERATIONS_MAX)
    await loops.latest_iteration(op, phase)
    return await loops.gate_state(op, phase, iteration)


async def status(op: Operation, phase: str, *, iteration: int, limit: int) -> LoopStatus:
    """Tell where a phase stands; iteration 0 means the latest one that the actor sees a record of.

    Raises:
        NotFound: The actor sees no record of the phase.
        LimitExceeded: ``iteration_out_of_range`` or ``limit_out_of_range``.
    """
    check_count(iteration, name="iteration", maximum=loops.ITERATIONS_MAX, minimum=0)
    check_count(limit, name="limit", maximum=loops.LISTED_MAX)
    latest = await loops.latest_iteration(op, phase)
    standing = await _standing(op, phase, iteration or latest)
    op.note([entry.record.id for entry in standing], phase=phase, iteration=iteration or latest)
    return LoopStatus(
        gate=await loops.gate_state(op, phase, iteration or latest),
        latest_iteration=latest,
        standing=standing,
        deferred=await _follow_ups(op, DEFERRED, phase=phase, limit=limit, cursor=""),
        next_actions=await _follow_ups(op, NEXT_ACTIONS, phase=phase, limit=limit, cursor=""),
    )


async def page(
    op: Operation, phase: str, of: Sequence[Loop], *, newest_first: bool, limit: int, cursor: str
) -> LoopPage:
    """Read loop records by time, of one phase or of all.

    Raises:
        NotFound: The actor sees no record of the phase that is named.
        InvalidInput: ``cursor_invalid``.
    """
    check_count(limit, name="limit", maximum=loops.LISTED_MAX)
    await _require_seen(op, phase)
    place = await _place_of(op, cursor, phase)
    found = await op.tx.loops.page(
        op.actor.reader,
        phase=phase,
        types=[loop.label for loop in of],
        now=op.now,
        after=place.id,
        newest_first=newest_first,
        limit=limit + 1,
    )
    shown = found[:limit]
    op.note([item.record.id for item in shown], records=len(shown))
    following = cursor_behind(shown[-1].record.id) if len(found) > limit else ""
    return LoopPage(await loops.opened(op, shown), following)


async def follow_ups(op: Operation, about: str, *, phase: str, limit: int, cursor: str) -> FollowUpPage:
    """Read what decisions that none superseded name as deferred, or as to do next; of one phase or of all.

    Raises:
        NotFound: The actor sees no record of the phase that is named.
        InvalidInput: ``cursor_invalid``.
    """
    check_count(limit, name="limit", maximum=loops.LISTED_MAX)
    await _require_seen(op, phase)
    found = await _follow_ups(op, about, phase=phase, limit=limit, cursor=cursor)
    op.note([*dict.fromkeys(item.decision_id for item in found.items)], found=len(found.items))
    return found


def cursor_behind(record_id: str, given: int = 0) -> str:
    """Write where a page goes on: behind a record, of which so many follow-ups were given."""
    return f"{record_id}.{given}"


async def _require_seen(op: Operation, phase: str) -> None:
    if phase:
        await loops.latest_iteration(op, phase)


async def _standing(op: Operation, phase: str, iteration: int) -> tuple[LoopRecord, ...]:
    found = await loops.standing(op, phase, iteration, hidden=False)
    seen = await op.tx.records.read(op.actor.reader, [record.id for record in found], now=op.now)
    return await loops.opened(op, seen)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page goes on."""

    item: VisibleRecord | None = None
    given: int = 0

    @property
    def id(self) -> RecordId:
        return self.item.record.id if self.item else RecordId("")


async def _place_of(op: Operation, cursor: str, phase: str) -> _Place:
    if not cursor:
        return _Place()
    record_id, _, given = cursor.partition(".")
    formed = is_name(record_id) and given.isascii() and given.isdigit() and len(given) < 10
    seen = await op.tx.records.read(op.actor.reader, [RecordId(record_id)], now=op.now) if formed else []
    if not seen or seen[0].record.kind is not Kind.LOOP or phase not in ("", seen[0].record.subject):
        raise bad_cursor()
    return _Place(seen[0], int(given))


async def _follow_ups(op: Operation, about: str, *, phase: str, limit: int, cursor: str) -> FollowUpPage:
    place = await _place_of(op, cursor, phase)
    found: list[FollowUp] = []
    batch, after, looked_through = [place.item] if place.item else [], place.id, 0
    while True:
        for entry in await _open_decisions(op, batch):
            texts = _texts(entry.details.get(about))
            start, room = place.given if entry.record.id == place.id else 0, limit - len(found)
            found += [_follow_up(entry, text) for text in texts[start : start + room]]
            if len(texts) - start > room:
                return FollowUpPage(tuple(found), cursor_behind(entry.record.id, start + room))
        looked_through += len(batch)
        if looked_through >= _LOOKED_THROUGH_MAX:
            return FollowUpPage(tuple(found), cursor_behind(after, _ALL))
        batch = await _decisions(op, phase, after)
        if not batch:
            return FollowUpPage(tuple(found), "")
        after = batch[-1].record.id


async def _decisions(op: Operation, phase: str, after: RecordId) -> list[VisibleRecord]:
    return await op.tx.loops.page(
        op.actor.reader,
        phase=phase,
        types=[Loop.DECISION.label],
        now=op.now,
        after=after,
        newest_first=True,
        limit=_BATCH,
    )


async def _open_decisions(op: Operation, items: Sequence[VisibleRecord]) -> list[LoopRecord]:
    """Keep and open the decisions that none which the actor sees has superseded.

    What it does not see supersedes nothing here: it would tell that there is such a decision.
    """
    newer = await op.tx.loops.superseding(op.actor.reader, [item.record.id for item in items], now=op.now)
    wanted = [item for item in items if item.record.type == Loop.DECISION.label and item.record.id not in newer]
    return op.readable(wanted, lambda item: loops.open_loop(op, item))


def _texts(named: Any) -> list[str]:
    """Read what a decision's details name: texts, one text, or anything else as JSON."""
    listed = named if isinstance(named, list | tuple) else [named] if named else []
    return [text if isinstance(text, str) else compact_json(text) for text in listed]


def _follow_up(entry: LoopRecord, text: str) -> FollowUp:
    record = entry.record
    return FollowUp(
        text, record.subject, record.position, record.id, entry.decision, record.owner_id, record.created_at
    )
