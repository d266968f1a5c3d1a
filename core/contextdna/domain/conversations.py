"""Conversations: the turns of a session, in order."""

from collections.abc import Sequence

from contextdna.domain import access, sessions
from contextdna.domain.operation import Operation
from contextdna.domain.records import new_record
from contextdna.domain.validation import check_count, check_metadata, check_text, parse_choice
from contextdna.values.event import EventName
from contextdna.values.ids import IdPrefix, RecordId, SessionId, new_id
from contextdna.values.record import IndexedRecord, Kind, VisibleRecord
from contextdna.values.turn import ConversationSummary, Turn, TurnDraft

TURN_ROLES = {name: name for name in ("user", "assistant", "system", "tool")}


async def log(op: Operation, drafts: Sequence[TurnDraft]) -> tuple[RecordId, ...]:
    """Append turns to the session's conversation, in order, all or none.

    Raises:
        SessionInvalid: ``session_required``.
        InvalidInput: A turn cannot be stored.
    """
    limits = op.settings.limits
    session = await sessions.current(op)
    check_count(len(drafts), name="turns", maximum=limits.batch_max)
    for draft in drafts:
        parse_choice(draft.role, TURN_ROLES, name="role")
        check_text(draft.content, name="content", bytes_max=limits.content_bytes_max)
        check_metadata(draft.metadata, limits)
        access.require_level(op.actor, draft.level)
    position = await op.tx.records.last_position(op.project_id, Kind.TURN, session_id=session.id, subject="")
    turns = [_turn(op, draft, position + number) for number, draft in enumerate(drafts, start=1)]
    await op.tx.records.insert(turns)
    ids = tuple(turn.record.id for turn in turns)
    op.note(ids, turns=len(ids))
    op.emit(EventName.TURN_LOGGED, ids, subject=session.id)
    return ids


async def read(op: Operation, session_id: SessionId, *, after: int, limit: int) -> tuple[Turn, ...]:
    """Read a conversation's visible turns after a position, in order; a negative position counts from the end.

    Raises:
        NotFound: No such conversation, or none of it is visible.
    """
    check_count(limit, name="limit", maximum=200)
    reader = op.actor.reader
    last = await op.tx.records.last_position(op.project_id, Kind.TURN, session_id=session_id, subject="")
    start = after if after >= 0 else max(0, last + after)
    seen = await op.tx.records.conversation(reader, session_id, now=op.now, after=start, limit=limit)
    if not seen and not await op.tx.records.conversation(reader, session_id, now=op.now, after=0, limit=1):
        raise access.absent_error((session_id,), denied=last > 0)
    op.note([session_id], turns=len(seen))
    return tuple(open_turn(op, item) for item in seen)


async def summaries(op: Operation, *, limit: int, offset: int) -> list[ConversationSummary]:
    """List conversations that have visible turns, the latest first."""
    check_count(limit, name="limit", maximum=200)
    found = await op.tx.records.conversations(op.actor.reader, now=op.now, limit=limit, offset=offset)
    op.note(conversations=len(found))
    return found


def open_turn(op: Operation, item: VisibleRecord) -> Turn:
    """Open one turn."""
    body = op.open(item.record)
    return Turn(item.record, body["content"], body.get("metadata", {}), item.granted_by)


def _turn(op: Operation, draft: TurnDraft, position: int) -> IndexedRecord:
    record_id = new_id(IdPrefix.TURN, op.now)
    body = {"content": draft.content, "metadata": dict(draft.metadata)}
    sealed = op.seal(body, record_id=record_id, level=draft.level, version=1)
    record = new_record(op, record_id, Kind.TURN, level=draft.level, type=draft.role, sealed=sealed, position=position)
    tokens = op.index(draft.level).tokens(draft.content, limit=op.settings.limits.indexed_tokens_max)
    return IndexedRecord(record, tokens)
