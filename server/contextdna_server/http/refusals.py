"""The one shape of an HTTP refusal: a JSON-RPC error body with our stable code, and what to do."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mcp_types import INVALID_REQUEST
from starlette.types import Message, Send

from contextdna import ContextDnaError, Principal

NoteRefusal = Callable[[Principal, ContextDnaError], Awaitable[None]]
"""Audits a refusal whose principal is known; it never fails, nor holds the request up."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a request is answered with in place of what it asked for."""

    error: ContextDnaError
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    rpc_code: int = INVALID_REQUEST

    def document(self, call_id: int | str | None = None) -> dict[str, Any]:
        """Give the JSON-RPC error.

        Args:
            call_id: The request's id; null where the request was not looked into. Source: JSON-RPC 2.0, 5.1.
        """
        error = self.error
        message = f"{error.message}. {error.hint}" if error.hint else error.message
        data = {"code": error.code, "message": error.message, "hint": error.hint, "retryable": error.retryable}
        return {
            "jsonrpc": "2.0",
            "id": call_id,
            "error": {"code": self.rpc_code, "message": message, "data": data},
        }

    def body(self, call_id: int | str | None = None) -> bytes:
        """Give the same as JSON."""
        return json.dumps(self.document(call_id), ensure_ascii=False, separators=(",", ":")).encode()

    def event(self, call_id: int | str) -> bytes:
        """Give the same as an event, for an answer that has begun as a stream."""
        return b"event: message\r\ndata: " + self.body(call_id) + b"\r\n\r\n"


def is_events(start: Message) -> bool:
    """Tell whether the answer that begins so is a stream of events."""
    headers = start.get("headers", ())
    return any(name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)


async def answer(refusal: Refusal, send: Send, *, call_id: int | str | None = None) -> None:
    """Write a refusal as a whole HTTP answer."""
    body = refusal.body(call_id)
    own = (("content-type", "application/json"), ("content-length", str(len(body))), ("cache-control", "no-store"))
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in (*own, *refusal.headers)]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
