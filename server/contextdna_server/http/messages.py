"""Reads the body of a request as one JSON-RPC message, and refuses what costs more to read than it may say.

Bounds are checked on the text, before anything is built of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from mcp_types import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR

from contextdna import InvalidInput
from contextdna_server.lines import TAIL_BYTES, asks_under_an_odd_id
from contextdna_server.refused import (
    INTEGER_DIGITS_MAX,
    has_lone_surrogate,
    id_of,
    members_at_ends,
    no_request,
    unreadable,
    unstorable,
)

DEPTH_MAX: Final = 64
"""Objects and lists inside each other: a tool's arguments take 16 below the four of the call."""

VALUES_MAX: Final = 100_000
"""Members and items in all: so many take some 20 MB once they are read."""

MEMBERS_MAX: Final = 10_000
"""Members of one object; what is kept as JSON, of 64 KiB, has fewer. Readers of names go through them one by one."""

_HEAD_CHARS: Final = 64 * 1024
"""How far a broken body is searched for the id: other requests wait meanwhile."""

NUMBER_CHARS_MAX: Final = INTEGER_DIGITS_MAX

_TEXT: Final = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL
)  # an open end matches too: no part is gone over twice
_SIGNS: Final = re.compile(r"[\[\]{},]")
_OPENING: Final = frozenset("[{")


class MessageRefused(Exception):
    """A body is no message that can be served.

    Attributes:
        error: What is wrong with it.
        rpc_code: The code of JSON-RPC for that.
        call_id: The id of the request, where it can be made out.
    """

    def __init__(self, error: InvalidInput, rpc_code: int, call_id: int | str | None) -> None:
        super().__init__(error.message)
        self.error = error
        self.rpc_code = rpc_code
        self.call_id = call_id


def read_message(body: bytes) -> Mapping[str, Any]:
    """Read a request, a notification or an answer.

    Raises:
        MessageRefused: It is none, or out of bounds.
    """
    text, is_utf8 = _decoded(body)
    try:
        _check_bulk(text)
        message: object = json.loads(
            text, object_pairs_hook=_members, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
    except _Fault as fault:
        raise MessageRefused(unreadable(str(fault)), PARSE_ERROR, call_id_in(text)) from None
    except (ValueError, RecursionError):
        raise MessageRefused(unreadable(), PARSE_ERROR, call_id_in(text)) from None
    if not _is_message(message):
        raise MessageRefused(no_request(message), INVALID_REQUEST, _id_in(message))
    if (not is_utf8 or "\\u" in text) and has_lone_surrogate(message):
        raise MessageRefused(unstorable(), INVALID_PARAMS, _id_in(message))
    return message


def call_id_in(text: str) -> int | str | None:
    """Make the id out in a text that is not, or not all of, a message."""
    return id_of(members_at_ends(text[:_HEAD_CHARS], text[-TAIL_BYTES:]))


def _decoded(body: bytes) -> tuple[str, bool]:
    """Decode a body, and tell whether it is UTF-8; what is not becomes lone surrogates."""
    try:
        return body.decode(), True
    except UnicodeDecodeError:
        return body.decode("utf-8", "surrogateescape"), False


class _Fault(ValueError):
    """What is wrong with a text that may well be JSON: the end of the sentence that begins with "the message"."""


def _check_bulk(text: str) -> None:
    opened = text.count("{") + text.count("[")
    if opened <= DEPTH_MAX and opened + text.count(",") <= VALUES_MAX:
        return  # even if none of them stands within a text
    depth = values = 0
    for match in _SIGNS.finditer(_TEXT.sub("", text)):
        sign = match[0]
        if sign == ",":
            values += 1
        elif sign in _OPENING:
            depth, values = depth + 1, values + 1
        else:
            depth -= 1
        if depth > DEPTH_MAX:
            raise _Fault(f"is nested deeper than {DEPTH_MAX}")
        if values > VALUES_MAX:
            raise _Fault(f"holds more than {VALUES_MAX} values")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, whose names must differ: readers do not agree on which one counts. Source: RFC 8259, 4."""
    if len(pairs) > MEMBERS_MAX:
        raise _Fault(f"holds an object of more than {MEMBERS_MAX} members")
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Fault("names a member of an object twice")
    return members


def _integer(digits: str) -> int:
    _check_number(digits)
    return int(digits)


def _float(digits: str) -> float:
    _check_number(digits)
    return float(digits)


def _check_number(digits: str) -> None:
    if len(digits) > NUMBER_CHARS_MAX:
        raise _Fault(f"holds a number of more than {NUMBER_CHARS_MAX} digits")


def _constant(name: str) -> float:
    raise _Fault(f"holds {name}, which is not JSON")


def _is_message(message: object) -> TypeGuard[dict[str, Any]]:
    """Tell a JSON-RPC message that MCP knows. Source: JSON-RPC 2.0; MCP has named params and no id of null."""
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0" or asks_under_an_odd_id(message):
        return False
    if "method" in message:
        return isinstance(message["method"], str) and isinstance(message.get("params"), dict | None)
    return _is_answer(message)


def _is_answer(message: dict[str, Any]) -> bool:
    """Tell an answer in MCP's form: others would come back in the SDK's refusal and, over HTTP+SSE, in its log."""
    call_id, error = message.get("id"), message.get("error")
    is_named = isinstance(call_id, int | str) and not isinstance(call_id, bool)
    if isinstance(message.get("result"), dict):
        return is_named
    if not isinstance(error, dict) or "id" not in message or "result" in message:
        return False
    is_told = isinstance(error.get("code"), int) and isinstance(error.get("message"), str)
    return is_told and (is_named or call_id is None)


def _id_in(message: object) -> int | str | None:
    return id_of(message) if isinstance(message, dict) else None
