"""Conversations: the turns of a session, in order."""

from collections.abc import Sequence
from typing import Any

from contextdna.domain import access, sessions
from contextdna.domain.operation import Operation
from contextdna.domain.records import new_record
from contextdna.domain.tool_calls import check_tool_calls, told_call
from contextdna.domain.validation import check_count, check_metadata, check_text, each_named, parse_choice
from contextdna.errors import IntegrityFault, NotFound
from contextdna.values.event import EventName
from contextdna.values.ids import IdPrefix, RecordId, SessionId
from contextdna.values.principal import Actor
from contextdna.values.record import IndexedRecord, Kind, VisibleRecord
from contextdna.values.settings import HubSettings, Limits
from contextdna.values.turn import ConversationSummary, Turn, TurnDraft

_PAGE_MAX = 200
_POSITION_MAX = 2**53
TURN_ROLES = {name: name for name in ("user", "assistant", "system", "tool")}


async def log(op: Operation, drafts: Sequence[TurnDraft]) -> tuple[RecordId, ...]:
    """Append turns to the session's conversation, in order, all or none.

    Raises:
        SessionInvalid: ``session_required``.
        InvalidInput: A turn cannot be stored.
    """
    session = await sessions.current(op)
    check_drafts(drafts, op.actor, op.settings)
    last = await op.tx.records.last_position(op.project_id, Kind.TURN, session_id=session.id, subject="")
    # At least the age of the session in ms: a position is not given out again after its turn was purged.
    position = max(last, int((op.now - session.created_at).total_seconds() * 1000))
    turns = [_turn(op, draft, position + number) for number, draft in enumerate(drafts, start=1)]
    await op.tx.records.insert(turns)
    ids = tuple(turn.record.id for turn in turns)
    op.note(ids, turns=len(ids))
    op.emit(EventName.TURN_LOGGED, ids, subject=session.id)
    return ids


def check_drafts(drafts: Sequence[TurnDraft], actor: Actor, settings: HubSettings) -> None:
    """Refuse turns that cannot be logged as a whole.

    Raises:
        InvalidInput: Code of the first thing wrong, its message naming the position in a batch.
    """
    check_count(len(drafts), name="turns", maximum=settings.limits.batch_max)
    each_named(drafts, "turns", lambda draft: _check(draft, actor, settings.limits))


def _check(draft: TurnDraft, actor: Actor, limits: Limits) -> None:
    parse_choice(draft.role, TURN_ROLES, name="role")
    check_tool_calls(draft.tool_calls, limits)
    called = len(draft.tool_calls) > 0
    check_text(draft.content, name="content", bytes_max=limits.content_bytes_max, empty_allowed=called)
    check_metadata(draft.metadata, limits)
    access.require_level(actor, draft.level)


async def read(
    op: Operation, session_id: SessionId, *, after: int, before: int, limit: int, newest_first: bool
) -> tuple[Turn, ...]:
    """Read a conversation's visible turns between two positions, in order or newest first.

    A negative ``after`` counts visible turns from the end: -5 begins with the fifth-last.

    Of a session that is the actor's business, where nothing of it is visible, that is none.

    Raises:
        NotFound: No such conversation, or none of it is visible, and the session is another's.
        LimitExceeded: ``limit_out_of_range``, ``after_out_of_range`` or ``before_out_of_range``.
    """
    check_count(limit, name="limit", maximum=_PAGE_MAX)
    check_count(after, name="after", maximum=_POSITION_MAX, minimum=-_PAGE_MAX)
    check_count(before, name="before", maximum=_POSITION_MAX, minimum=0)
    tally = _Opening(op)
    if after < 0:
        last = await _turns(op, session_id, before=before, limit=-after, newest_first=True)
        turns = tally.open(last if newest_first else last[::-1])[:limit]
    else:
        turns = await _filled(op, session_id, tally, after=after, before=before, limit=limit, newest_first=newest_first)
    if not tally.seen and not await _turns(op, session_id, limit=1):
        await _require_own(op, session_id)
    if tally.fault and not turns and after <= 0 and before == 0:
        raise tally.fault  # of the whole conversation nothing can be read
    op.note([session_id], turns=len(turns))
    return tuple(turns)


async def _require_own(op: Operation, session_id: SessionId) -> None:
    """Refuse a conversation without a visible turn, but where the actor may know its session anyway.

    Raises:
        NotFound: It is not there, or another's.
    """
    used = await op.tx.records.last_position(op.project_id, Kind.TURN, session_id=session_id, subject="") > 0
    try:
        known = await sessions.get(op, session_id)
    except NotFound:
        raise access.absent_error((session_id,), denied=used) from None
    if known.session.agent_id != op.actor.agent_id:
        op.miss([session_id], hidden=[session_id] if used else [])


class _Opening:
    """Opens turns, damaged ones aside, which the audit entry counts."""

    def __init__(self, op: Operation) -> None:
        self._op = op
        self._damaged = 0
        self.seen = 0
        self.fault: IntegrityFault | None = None

    def open(self, items: Sequence[VisibleRecord]) -> list[Turn]:
        turns = []
        self.seen += len(items)
        for item in items:
            try:
                turns.append(open_turn(self._op, item))
            except IntegrityFault as fault:
                self.fault = fault
                self._damaged += 1
                self._op.note(unreadable=self._damaged)
        return turns


async def _filled(
    op: Operation,
    session_id: SessionId,
    tally: _Opening,
    *,
    after: int,
    before: int,
    limit: int,
    newest_first: bool,
) -> list[Turn]:
    """Open as many turns as are wanted, whatever is damaged among them: fewer are the end."""
    turns: list[Turn] = []
    while len(turns) < limit:
        wanted = limit - len(turns)
        seen = await _turns(op, session_id, after=after, before=before, limit=wanted, newest_first=newest_first)
        turns += tally.open(seen)
        if len(seen) < wanted:
            break
        if newest_first:
            before = seen[-1].record.position
        else:
            after = seen[-1].record.position
    return turns


async def _turns(
    op: Operation,
    session_id: SessionId,
    *,
    limit: int,
    after: int = 0,
    before: int = 0,
    newest_first: bool = False,
) -> list[VisibleRecord]:
    return await op.tx.records.conversation(
        op.actor.reader,
        session_id,
        now=op.now,
        after=after,
        before=before,
        limit=limit,
        newest_first=newest_first,
    )


async def summaries(op: Operation, *, limit: int, offset: int) -> list[ConversationSummary]:
    """List conversations that have visible turns, the latest first."""
    check_count(limit, name="limit", maximum=_PAGE_MAX)
    found = await op.tx.records.conversations(op.actor.reader, now=op.now, limit=limit, offset=offset)
    op.note(conversations=len(found))
    return found


def open_turn(op: Operation, item: VisibleRecord) -> Turn:
    """Open one turn."""
    body = op.open(item.record)
    calls = tuple(body.get("tool_calls", ()))
    return Turn(item.record, body["content"], body.get("metadata", {}), item.granted_by, calls)


def _turn(op: Operation, draft: TurnDraft, position: int) -> IndexedRecord:
    record_id = op.new_id(IdPrefix.TURN)
    body: dict[str, Any] = {"content": draft.content, "metadata": dict(draft.metadata)}
    if draft.tool_calls:
        body["tool_calls"] = [dict(call) for call in draft.tool_calls]
    sealed = op.seal(body, record_id=record_id, level=draft.level, version=1)
    record = new_record(op, record_id, Kind.TURN, level=draft.level, type=draft.role, sealed=sealed, position=position)
    text = "\n".join((draft.content, *map(told_call, draft.tool_calls)))
    tokens = op.tokens(text, draft.level)
    return IndexedRecord(record, tokens)
