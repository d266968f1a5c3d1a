"""Requests that stay open: ended when their credential is, and when the server is told to end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contextdna import CredentialRefused
from contextdna_server.http.crowd_allocator import CrowdAllocator
from contextdna_server.http.identity import Credential
from contextdna_server.http.refusals import Refusal, answer, is_events
from contextdna_server.http.running_calls import draining
from contextdna_server.open_calls import UNANSWERED_METHODS

RECHECK_S: Final = 1.0
"""How often the credential of an open request is judged again."""

logger = logging.getLogger(__name__)


class OpenRequests:
    """Every request that is being served, by its credential.

    What goes on until something happens, a stream, ends when the server drains; calls may finish, and those that only
    wait are told so (``RunningCalls``). All are cut off when their credential is revoked or expires: the client sees
    its connection close, and is refused when it comes again.

    Args:
        app: What serves the requests; it may use the request in ``scope["state"]["open_request"]``.
        still_good: Judges the credential that a scope was admitted with again; raises what refuses it.
        crowd: Told how many streams are open.
    """

    def __init__(
        self, app: ASGIApp, still_good: Callable[[Scope], Awaitable[None]], crowd: CrowdAllocator | None = None
    ) -> None:
        self._app = app
        self._still_good = still_good
        self._open: dict[Credential, set[OpenRequest]] = {}
        self._draining = False
        self._crowd = crowd or CrowdAllocator()
        self._count = self._most = self._streams = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and keep an eye on it."""
        is_stream = _goes_on(scope)
        request = OpenRequest(scope, receive, send, goes_on=is_stream)
        if self._draining and request.goes_on:
            request.end(_draining())
        credential = scope["state"]["credential"]
        self._open.setdefault(credential, set()).add(request)
        self._count += 1
        self._most = max(self._most, self._count)
        if is_stream:
            self._note_streams(1)
        try:
            with request.cut:
                state = {**scope["state"], "open_request": request}
                await self._app({**scope, "state": state}, request.receive, request.send)
            await request.finish()
        finally:
            self._count -= 1
            if is_stream:
                self._note_streams(-1)
            requests = self._open[credential]
            requests.discard(request)
            if not requests:
                del self._open[credential]

    def _note_streams(self, more: int) -> None:
        self._streams += more
        self._crowd.note(self._streams)

    def most(self) -> int:
        """Give how many were open at the same time since this was asked last."""
        most, self._most = self._most, self._count
        return most

    def drain(self) -> None:
        """End streams, now and from now on; calls may finish."""
        self._draining = True
        for requests in self._open.values():
            for request in requests:
                if request.goes_on:
                    request.end(_draining())

    async def watch(self) -> None:
        """Judge the credentials of open requests again and again, until cancelled."""
        while True:
            await anyio.sleep(RECHECK_S)
            for requests in list(self._open.values()):
                if requests:  # they may have ended meanwhile
                    await self._recheck(list(requests))

    async def _recheck(self, requests: list[OpenRequest]) -> None:
        try:
            await self._still_good(requests[0].scope)
        except CredentialRefused as error:
            logger.info("%d open requests end: %s", len(requests), error.code)
            for request in requests:
                request.end(Refusal(error, 401))
                request.cut.cancel()
        except Exception as error:  # noqa: BLE001 - an owned background job: nothing is known now, and it looks again
            logger.warning("open requests could not be judged again: %s", type(error).__name__)


def _goes_on(scope: Scope) -> bool:
    message = scope["state"].get("message")
    if not isinstance(message, Mapping):
        return bool(scope["method"] == "GET")
    return message.get("method") in UNANSWERED_METHODS


def _draining() -> Refusal:
    return Refusal(draining(), 503, (("Retry-After", "1"),))


class OpenRequest:
    """One open request, and how to end it: by the disconnect that what serves it is told of."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, goes_on: bool) -> None:
        self.scope = scope
        self.goes_on = goes_on
        """Whether it goes on until something happens, or the server ends."""
        self.call_id: int | str | None = None
        """The call that is to be answered with what ends it, though its answer has begun as a stream."""
        self.cut = anyio.CancelScope()
        self._ended = False
        self._receiving: set[anyio.CancelScope] = set()
        self._refusal: Refusal | None = None
        self._receive = receive
        self._send = send
        self._begun = self._complete = self._is_events = False

    def end(self, refusal: Refusal | None = None) -> None:
        """Tell what serves it that the client has left; ``refusal`` is the answer where none has begun."""
        self._refusal = refusal
        self._ended = True
        for receiving in self._receiving:
            receiving.cancel()

    async def receive(self) -> Message:
        """Give the client's next message, or its leaving."""
        if not self._ended:
            with anyio.CancelScope() as receiving:  # a task group would take ten times as long
                self._receiving.add(receiving)
                try:
                    return await self._receive()
                finally:
                    self._receiving.discard(receiving)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self._begun, self._is_events = True, is_events(message)
        self._complete = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def finish(self) -> None:
        """Complete an answer that was left in the middle: its client sees an end rather than a fault.

        The SDK leaves one where the client ends its session just as a call of it begins.
        """
        if self._complete:
            return
        if self._begun:
            await self._send({"type": "http.response.body", "body": self._last_event()})
        elif self._ended and self._refusal is not None:
            await answer(self._refusal, self._send)

    def _last_event(self) -> bytes:
        if self._refusal is None or self.call_id is None or not self._is_events:
            return b""
        return self._refusal.event(self.call_id)
