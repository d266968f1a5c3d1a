"""The one shape of an HTTP refusal: a JSON-RPC error body with our stable code, and what to do."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mcp_types import INVALID_REQUEST
from starlette.types import Send

from contextdna import ContextDnaError, Principal

NoteRefusal = Callable[[Principal, ContextDnaError], Awaitable[None]]
"""Audits a refusal whose principal is known; it never fails, nor holds the request up."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a request is answered with in place of what it asked for."""

    error: ContextDnaError
    status: int
    headers: tuple[tuple[str, str], ...] = ()

    def body(self) -> bytes:
        """Give the JSON-RPC error; its id is null, as the request was not looked into. Source: JSON-RPC 2.0, 5.1."""
        error = self.error
        message = f"{error.message}. {error.hint}" if error.hint else error.message
        data = {"code": error.code, "message": error.message, "hint": error.hint, "retryable": error.retryable}
        document = {"jsonrpc": "2.0", "id": None, "error": {"code": INVALID_REQUEST, "message": message, "data": data}}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


async def answer(refusal: Refusal, send: Send) -> None:
    """Write a refusal as a whole HTTP answer."""
    body = refusal.body()
    own = (("content-type", "application/json"), ("content-length", str(len(body))), ("cache-control", "no-store"))
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in (*own, *refusal.headers)]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
