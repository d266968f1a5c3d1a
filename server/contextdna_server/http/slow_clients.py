"""What bounds a request from outside: the size of its head, the time of a call, and a body that nobody reads.

``connections.gated_protocol`` does the same for what happens below requests: heads that come slowly, and clients that
do not read.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Final

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contextdna import InvalidInput, LimitExceeded, StorageUnavailable
from contextdna_server.http.headers import header_values
from contextdna_server.http.refusals import Refusal, answer, is_events
from contextdna_server.settings import HttpSection

HEAD_BYTES_MAX: Final = 32 * 1024
"""Headers of a request, names and values together."""

TARGET_BYTES_MAX: Final = 8192
"""Path and query of a request. Source: RFC 9110, 4.1 asks for 8000 at least."""

TOLD_S: Final = 0.5
"""How much later than ``http.drain_s`` calls are cut off, so that what ends by itself just then can tell of it."""

LINGER_S: Final = 1.0
"""How long the rest of a body is taken, and thrown away, so that its sender reads the answer. Source: RFC 9112, 9.6."""

LINGER_BYTES_MAX: Final = 16 * 1024 * 1024
"""Well over ``http.body_bytes_max``: a proxy that cannot write on takes that for a fault of the server."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class CallTime:
    """How long a request may take, in ``scope["state"]["call_time"]`` for what knows the request better.

    Attributes:
        call_id: The id to answer under when time is up.
    """

    _scope: anyio.CancelScope
    call_id: int | str | None = None
    _end: float = math.inf

    def lift(self) -> None:
        """Let it take any time: it is a stream."""
        self._scope.deadline = self._end

    def extend(self, seconds: float) -> None:
        """Let it take longer."""
        self._scope.deadline = min(self._scope.deadline + seconds, self._end)

    def end_at(self, end: float) -> None:
        """Let it take no longer than the server is there, by the event loop's clock."""
        self._end = end
        self._scope.deadline = min(self._scope.deadline, end)

    @property
    def refusal(self) -> Refusal:
        """What its client is told when time is up."""
        if self._scope.deadline < self._end:
            return Refusal(call_timed_out(), 504)  # RFC 9110, 15.6.5
        return Refusal(_server_ended(), 503, (("Retry-After", "1"),))


class SlowClientLayer:
    """Ends calls that take too long, or longer than the server is there; closes connections with half a request.

    Such is one that was answered before it was read.

    Args:
        app: What serves the requests.
        settings: The bounds.
        linger_s: How long the rest of a body is taken after the answer.
    """

    def __init__(self, app: ASGIApp, settings: HttpSection, *, linger_s: float = LINGER_S) -> None:
        self._app = app
        self._settings = settings
        self._linger_s = linger_s
        self._times: set[CallTime] = set()
        self._end = math.inf

    def drain(self) -> None:
        """Give calls ``http.drain_s`` from now on."""
        if self._end == math.inf:  # servers that share this are each told of the end
            self._end = anyio.current_time() + self._settings.drain_s + TOLD_S
            for call_time in self._times:
                call_time.end_at(self._end)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, linger_s=self._linger_s)
        if refusal := _judge_head(scope):
            await answer(refusal, exchange.send)
            return
        with anyio.move_on_after(self._settings.call_timeout_s) as cancel_scope:
            call_time = scope.setdefault("state", {})["call_time"] = CallTime(cancel_scope)
            call_time.end_at(self._end)
            self._times.add(call_time)
            try:
                await self._app(scope, exchange.receive, exchange.send)
            finally:
                self._times.discard(call_time)
        if cancel_scope.cancelled_caught:
            logger.info("a call was ended, its time is up")
            await exchange.time_out(call_time.refusal, call_time.call_id)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, linger_s: float) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._linger_s = linger_s
        self._has_rest = bool(header_values(scope, b"transfer-encoding")) or any(
            value != "0" for value in header_values(scope, b"content-length")
        )
        self._begun = self._complete = self._is_events = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._has_rest = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message.get("more_body", False):
            await self._send(message)
        else:
            self._complete = True
            if self._has_rest:
                await self._send({**message, "more_body": True})
                await self._throw_rest_away()
                message = {"type": "http.response.body", "body": b""}
            await self._send(message)

    async def _begin(self, start: Message) -> None:
        self._begun = True
        if self._has_rest and not header_values(self._scope, b"expect"):
            with anyio.move_on_after(0):  # what has come already
                await self.receive()
        headers = list(start.get("headers", ()))
        self._is_events = is_events(start)
        if self._has_rest:
            headers = [header for header in headers if header[0].lower() != b"connection"]
            headers.append((b"connection", b"close"))
        await self._send({**start, "headers": headers})

    async def _throw_rest_away(self) -> None:
        size = 0
        with anyio.move_on_after(self._linger_s):
            while self._has_rest and size <= LINGER_BYTES_MAX:
                size += len((await self.receive()).get("body", b""))

    async def time_out(self, refusal: Refusal, call_id: int | str | None) -> None:
        """Tell a client that its call is ended; where the answer cannot take that any more, the server cuts it off."""
        if not self._begun:
            await answer(refusal, self.send, call_id=call_id)
        elif self._is_events and not self._complete:
            event = refusal.event(call_id) if call_id is not None else b""
            await self.send({"type": "http.response.body", "body": event})


def _judge_head(scope: Scope) -> Refusal | None:
    if len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > TARGET_BYTES_MAX:
        return _head_too_large("address", TARGET_BYTES_MAX, 414)  # RFC 9110, 15.5.15
    if sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD_BYTES_MAX:
        return _head_too_large("head", HEAD_BYTES_MAX, 431)  # RFC 6585, 5
    if header_values(scope, b"transfer-encoding") and header_values(scope, b"content-length"):
        # What stands in front may have ended the body elsewhere. Source: RFC 9112, 6.1 and 11.2.
        error = InvalidInput("the body's length is given twice", code="http_invalid", hint="Send Content-Length alone.")
        return Refusal(error, 400, (("Connection", "close"),))
    return None


def _head_too_large(what: str, bytes_max: int, status: int) -> Refusal:
    error = LimitExceeded(
        f"the request's {what} has more than {bytes_max} bytes", code="head_too_large", hint="Send fewer headers."
    )
    return Refusal(error, status)


def call_timed_out() -> StorageUnavailable:
    """Say that a call's time is up."""
    return StorageUnavailable(
        "the call took too long and was ended",
        code="call_timed_out",
        hint="What it was to change may be changed or not: look, then retry, with an idempotency_key.",
        retryable=True,
    )


def _server_ended() -> StorageUnavailable:
    return StorageUnavailable(
        "the server ended before the call was done",
        code="server_ended",
        hint="What it was to change may be changed or not: look, then retry, with an idempotency_key.",
        retryable=True,
    )
