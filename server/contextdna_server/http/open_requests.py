"""Requests that stay open: ended when their credential is, and when the server is told to end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contextdna import ContextDnaError
from contextdna_server.http.identity import Credential
from contextdna_server.http.refusals import Refusal, answer

RECHECK_S: Final = 1.0
"""How often the credential of an open request is judged again."""

logger = logging.getLogger(__name__)


class OpenRequests:
    """Every request that is being served, by its credential.

    A stream (GET, or subscriptions/listen) ends when the server drains; a call may finish. Both are cut off when their
    credential is revoked or expires: the client sees its connection close, and is refused when it comes again.

    Args:
        app: What serves the requests.
        still_good: Judges the credential that a scope was admitted with again; raises what refuses it.
    """

    def __init__(self, app: ASGIApp, still_good: Callable[[Scope], Awaitable[None]]) -> None:
        self._app = app
        self._still_good = still_good
        self._open: dict[Credential, set[_Open]] = {}
        self._draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and keep an eye on it."""
        request = _Open(scope, receive, send)
        if self._draining and request.is_stream:
            request.ended.set()
        credential = scope["state"]["credential"]
        self._open.setdefault(credential, set()).add(request)
        try:
            with request.cut:
                await self._app(scope, request.receive, request.send)
            await request.finish()
        finally:
            requests = self._open[credential]
            requests.discard(request)
            if not requests:
                del self._open[credential]

    def drain(self) -> None:
        """End the streams, now and from now on; calls go on."""
        self._draining = True
        for requests in self._open.values():
            for request in requests:
                if request.is_stream:
                    request.ended.set()

    async def watch(self) -> None:
        """Judge the credentials of open requests again and again, until cancelled."""
        while True:
            await anyio.sleep(RECHECK_S)
            for requests in list(self._open.values()):
                await self._recheck(list(requests))

    async def _recheck(self, requests: list[_Open]) -> None:
        try:
            await self._still_good(requests[0].scope)
        except ContextDnaError as error:
            if error.retryable:  # the database is away: nothing is known
                return
            logger.info("%d open requests end: %s", len(requests), error.code)
            for request in requests:
                request.refused = error
                request.ended.set()
                request.cut.cancel()


class _Open:
    """One open request, and how to end it: by the disconnect that its server is told of."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.is_stream = scope["method"] == "GET" or _listens(scope["state"].get("message"))
        self.ended = anyio.Event()
        self.cut = anyio.CancelScope()
        self.refused: ContextDnaError | None = None
        self._receive = receive
        self._send = send
        self._begun = self._complete = False

    async def receive(self) -> Message:
        message: Message = {"type": "http.disconnect"}
        if self.ended.is_set():
            return message

        async def take(scope: anyio.CancelScope) -> None:
            nonlocal message
            message = await self._receive()
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take, tasks.cancel_scope)
            await self.ended.wait()
            tasks.cancel_scope.cancel()
        return message

    async def send(self, message: Message) -> None:
        self._begun = self._begun or message["type"] == "http.response.start"
        self._complete = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def finish(self) -> None:
        """Complete an answer that was ended in the middle: its client sees an end rather than a fault."""
        if self._complete or not self.ended.is_set():
            return
        if self._begun:
            await self._send({"type": "http.response.body", "body": b""})
        elif self.refused is not None:
            await answer(Refusal(self.refused, 401), self._send)


def _listens(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("method") == "subscriptions/listen"
