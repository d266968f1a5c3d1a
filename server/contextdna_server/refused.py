"""Answers to messages that cannot be read, whichever way they came.

Lines on stdio that the SDK's parser refuses it drops, and a caller would wait for ever: ``answers_to`` answers them.
Nothing that a message holds comes back in an answer or a log but the request's id.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from mcp_types import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, JSONRPCError, JSONRPCResponse
from pydantic import ValidationError

from contextdna import InvalidInput, LimitExceeded
from contextdna_server.lines import RefusedLine

SCANNED_CHARS_MAX: Final = 1024 * 1024
"""How far a line that is not JSON is searched for the id of its request."""

_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}:,]|[^\s"\[\]{}:,]+', re.DOTALL)
INTEGER_DIGITS_MAX: Final = 100
"""Longer integers are not read: Python refuses them from some thousands of digits on."""

# The last members of an object: nothing inside a text can look like this and end a line of JSON.
_LAST_ID: Final = re.compile(r'[{,]\s*"id"\s*:\s*(?P<id>-?\d+|"[^"\\]*")\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?}\s*\Z')

Answer = JSONRPCResponse | JSONRPCError
_Id = int | str | None

logger = logging.getLogger(__name__)


def unreadable(fault: str = "is not JSON that can be read") -> InvalidInput:
    """Say that a message cannot be read as JSON."""
    return InvalidInput(
        f"the message {fault}",
        code="message_invalid",
        hint="Send one JSON-RPC message by itself, with less nesting and shorter numbers.",
    )


def no_request(message: object) -> InvalidInput:
    """Say that JSON is no JSON-RPC message."""
    return InvalidInput(
        f"the message is {'a batch' if isinstance(message, list) else 'no JSON-RPC message'}",
        code="message_invalid",
        hint="Send one JSON-RPC 2.0 message by itself, its id a whole number or a text, its params an object.",
    )


def unstorable() -> InvalidInput:
    """Say that a message holds what is no text."""
    return InvalidInput(
        "a text holds a lone surrogate, half of a character, or bytes that are not UTF-8",
        code="text_unstorable",
        hint="Send valid Unicode text as UTF-8; cut it between characters.",
    )


_SMALLER: Final = (
    "Send less at once: split it, or attach a large file by its path: on stdio, or from s3:// where allowed."
)


def too_large(size: str, *, hint: str = _SMALLER) -> LimitExceeded:
    """Say that a message is too large.

    Args:
        size: What it has, such as "5000 bytes, over the limit".
        hint: What to do.
    """
    return LimitExceeded(
        f"the message has {size}",
        code="message_too_large",
        hint=hint,
    )


def answers_to(refusal: Exception) -> list[Answer]:
    """Give what the senders of a refused line are told; nothing for a blank line, a notification or an answer.

    Args:
        refusal: What the parser raised; pydantic keeps the line, or the message read from it, as the input at fault.
    """
    if not isinstance(refusal, ValidationError):
        logger.info("dropped a message: %s", type(refusal).__name__)
        return []
    faults = refusal.errors(include_url=False, include_context=False)
    if faults[0]["type"] not in ("json_invalid", "string_unicode"):
        whole = (fault["input"] for fault in faults if fault["type"] in ("missing", "model_type"))
        return _invalid(next(whole, None))
    line = faults[0]["input"]
    if isinstance(line, RefusedLine):
        return _too_large(line) if line.size_bytes else _invalid(json.loads(line.kept))
    return _broken(str(line)) if line.strip() else []


def _broken(line: str) -> list[Answer]:
    try:
        message = json.loads(line, parse_int=_integer)
        unstorable = has_lone_surrogate(message)
    except (ValueError, RecursionError):  # no JSON, or nested too deep
        message, unstorable = _outline(line), False
    if unstorable and isinstance(message, Mapping):
        return _unstorable(message, len(line))
    return _unreadable(message, len(line))


def _too_large(line: RefusedLine) -> list[Answer]:
    """Answer a line over the limit as far as its head tells what it is; the id may stand at its end."""
    members = members_at_ends(line.kept, line.tail)
    if not str(members.get("method", "")).startswith("notifications/"):
        members.setdefault("id", None)  # it may stand in the part that was not kept
    return _refused_call(members, too_large(f"{line.size_bytes} bytes, over the limit"))


def _unstorable(message: Mapping[str, Any], size: int) -> list[Answer]:
    logger.info("refused a message of %d characters: it holds a lone surrogate, or bytes that are not UTF-8", size)
    return _refused_call(message, unstorable())


def _refused_call(message: Mapping[str, Any], error: InvalidInput) -> list[Answer]:
    call_id = id_of(message)
    if not _awaits_answer(message):
        return []
    if message.get("method") == "tools/call" and call_id is not None:  # so that the model reads it
        from contextdna_tools import failure  # a start is not to wait for the tools

        result = failure(error.code, error.message, hint=error.hint)
        content = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        return [JSONRPCResponse(jsonrpc="2.0", id=call_id, result=content)]
    return [_error(call_id, INVALID_PARAMS, error)]


def _unreadable(message: object, size: int) -> list[Answer]:
    logger.info("refused a message of %d characters: it cannot be read as JSON", size)
    if isinstance(message, Mapping) and not _awaits_answer(message):
        return []
    return [_error(call_id, PARSE_ERROR, unreadable()) for call_id in _ids_in(message)]


def _invalid(message: object) -> list[Answer]:
    logger.info("refused a message: it is a batch, or no JSON-RPC message")
    if isinstance(message, Mapping) and not _awaits_answer(message):
        return []
    return [_error(call_id, INVALID_REQUEST, no_request(message)) for call_id in _ids_in(message)]


def _error(call_id: _Id, code: int, error: InvalidInput) -> JSONRPCError:
    from contextdna_server.protocol import protocol_error  # a start is not to wait for what it imports

    return JSONRPCError(jsonrpc="2.0", id=call_id, error=protocol_error(error).error.model_copy(update={"code": code}))


def _awaits_answer(message: Mapping[str, Any]) -> bool:
    """Tell a request, or what may have been one, from a notification and from an answer."""
    if "method" in message:
        return "id" in message
    return not message.keys() & {"result", "error"}


def _ids_in(message: object) -> list[_Id]:
    """Give the ids that wait: those of a batch's requests, for each would wait; null where none is known."""
    members = message if isinstance(message, list) else [message]
    ids = [id_of(member) for member in members if isinstance(member, Mapping) and _awaits_answer(member)]
    return [call_id for call_id in ids if call_id is not None] or [None]


def id_of(message: Mapping[str, Any]) -> int | str | None:
    """Give the id that an answer is waited for under; None for one that cannot be given back."""
    call_id = message.get("id")
    if isinstance(call_id, float) and call_id.is_integer():
        return int(call_id)  # clients without integers compare it as a number
    if isinstance(call_id, bool) or not isinstance(call_id, int | str) or has_lone_surrogate(call_id):
        return None
    return call_id


def has_lone_surrogate(value: object) -> bool:
    """Tell whether a text in a JSON value holds half of a character."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _integer(digits: str) -> int | None:
    """Read an integer; one of thousands of digits, which Python refuses, counts as unknown."""
    return int(digits) if len(digits) <= INTEGER_DIGITS_MAX else None


def _outline(line: str) -> dict[str, Any] | None:
    """Read the plain members of the outermost object; None if the line ends inside, with no id."""
    members, depth = _members(line)
    return members if "id" in members or (depth == 0 and members) else None


def members_at_ends(head: str, tail: str) -> dict[str, Any]:
    """Read the plain members of the outermost object at the head of a message, and its id where it stands last."""
    members, _ = _members(head)
    last = _LAST_ID.search(tail)
    if last and "id" not in members:
        members["id"] = _plain(last["id"])
    return members


def _members(line: str) -> tuple[dict[str, Any], int]:
    """Read the plain members of the outermost object, without recursion; gives the depth that the line ends at, too."""
    members: dict[str, Any] = {}
    if not line.lstrip().startswith("{"):
        return members, 0
    depth, key, last = 0, "", ""
    for match in _TOKEN.finditer(line[:SCANNED_CHARS_MAX]):
        part = match[0]
        if depth == 1 and key and part not in ":,]}":
            members.setdefault(key, _plain(part))
        if part in "[{":
            depth += 1
        elif part in "]}":
            depth -= 1
        elif depth == 1 and part == ":":
            key = last.strip('"')
        elif depth == 1:
            key, last = "", part
    return members, depth


def _plain(part: str) -> Any:
    """Read a text or a number; None for anything else."""
    try:
        return json.loads(part, parse_int=_integer)
    except (ValueError, RecursionError):
        return None
