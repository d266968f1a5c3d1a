"""Tool: read_conversation."""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, Field

from contextdna import (
    LimitExceeded,
    SessionId,
    SessionInvalid,
    Turn,
    bad_cursor,
    pack_cursor,
    told_call,
    unpack_cursor,
)
from contextdna_tools.arguments import Arguments, shown_time
from contextdna_tools.spec import READS, Call, Tool, hints

_LIMIT_MAX: Final = 100
_CHARS_MAX: Final = 200_000


class ReadConversation(Arguments):
    """Read a conversation's turns that you may see, in order or from its end, page by page; a long turn in parts."""

    conversation: str = Field("", description="Such as ses_...; default your session's")
    after: int = Field(0, description="Behind this position; -5: the last five")
    before: int = Field(0, description="Before this position")
    newest_first: bool = Field(False, description="From the end")
    limit: int = Field(50, description="1..100")
    max_chars: int = Field(20_000, description="Of all turns, 1..200000")
    cursor: str = Field("", description="Of the last answer")


class TurnView(BaseModel):
    """A turn, or a part of it."""

    position: int
    id: str
    role: str
    content: str
    agent: str = ""
    at: str = ""
    level: str = ""
    tool_calls: list[dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = None
    shared_by: str | None = None
    offset: int | None = None
    cut: bool | None = None


class ConversationPart(BaseModel):
    """Answer of read_conversation."""

    conversation: str
    turns: list[TurnView]
    cursor: str


@dataclass(frozen=True, slots=True)
class _Place:
    """The turn that a page begins with, and how much of its text was given; position 0 is no place."""

    position: int = 0
    chars: int = 0


async def read_conversation(call: Call, args: ReadConversation) -> ConversationPart:
    """Give a page of a conversation."""
    conversation = SessionId((args.conversation or args.session_id).partition(".")[0])
    _check(args, conversation)
    place = _place_of(args, conversation)
    turns = await call.workspace(args).read_conversation(conversation, limit=args.limit + 1, **_range(args, place))
    shown, following = _filled(turns, place, args)
    cursor = pack_cursor(conversation, args.newest_first, following.position, following.chars) if following else ""
    return ConversationPart(conversation=conversation, turns=shown, cursor=cursor)


def _check(args: ReadConversation, conversation: str) -> None:
    if not conversation:
        raise SessionInvalid(
            "no conversation is named, and there is no session whose it could be",
            code="session_required",
            hint="Give conversation, or a session_id.",
        )
    for name, value, maximum in (("limit", args.limit, _LIMIT_MAX), ("max_chars", args.max_chars, _CHARS_MAX)):
        if not 1 <= value <= maximum:
            raise LimitExceeded(f"{name} is out of range", code=f"{name}_out_of_range", hint=f"Use 1 to {maximum}.")
    if args.after < 0 and args.newest_first:
        raise LimitExceeded(
            "after counts from the end, and so does newest_first",
            code="after_out_of_range",
            hint="Use one of the two: limit says how many.",
        )


def _place_of(args: ReadConversation, conversation: str) -> _Place:
    if not args.cursor:
        return _Place()
    try:
        named, newest_first, position, chars = unpack_cursor(args.cursor)
    except ValueError:
        named, newest_first, position, chars = None, None, None, None
    if (
        (named, newest_first) != (conversation, args.newest_first)
        or not (isinstance(position, int) and 0 < position <= 2**53)
        or not (isinstance(chars, int) and chars >= 0)
    ):
        raise bad_cursor()
    return _Place(position, chars)


def _range(args: ReadConversation, place: _Place) -> dict[str, Any]:
    if not place.position:
        bounds = {"after": args.after, "before": args.before}
    elif args.newest_first:
        bounds = {"after": args.after, "before": place.position + 1}
    else:
        bounds = {"after": place.position - 1, "before": args.before}
    return {**bounds, "newest_first": args.newest_first}


def _filled(turns: tuple[Turn, ...], place: _Place, args: ReadConversation) -> tuple[list[TurnView], _Place | None]:
    """Fill a page; gives it, and where the next one begins. Only its first turn is cut where it does not fit."""
    shown: list[TurnView] = []
    room = args.max_chars
    for turn in turns:
        position = turn.record.position
        given = place.chars if position == place.position else 0
        text = turn.content[given:]
        size = len(text) + sum(len(told_call(called)) for called in turn.tool_calls)
        if len(shown) == args.limit or (shown and size > room):
            return shown, _Place(position)
        piece = text[:room]
        cut = len(piece) < len(text)
        shown.append(_shown(turn, piece, given=given, cut=cut))
        if cut:
            return shown, _Place(position, given + len(piece))
        room -= size
    return shown, None


def _shown(turn: Turn, piece: str, *, given: int, cut: bool) -> TurnView:
    record = turn.record
    first = given == 0
    return TurnView(
        position=record.position,
        id=record.id,
        role=record.type,
        content=piece,
        agent=record.owner_id,
        at=shown_time(record.created_at),
        level=record.level.label,
        tool_calls=[dict(called) for called in turn.tool_calls] or None if first else None,
        metadata=dict(turn.metadata) or None if first else None,
        shared_by=turn.granted_by or None,
        offset=given or None,
        cut=cut or None,
    )


READ_CONVERSATION = Tool(
    "read_conversation",
    ReadConversation,
    ConversationPart,
    read_conversation,
    hints(read_only=True, idempotent=True),
    READS,
)
