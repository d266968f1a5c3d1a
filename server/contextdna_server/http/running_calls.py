"""Calls that the server works on, whether or not anybody still waits on the request that brought them.

Over HTTP+SSE a request is over when its message was taken, and in the eras with a handshake a call goes on when the
client of its request has hung up. So a call keeps the place among its caller's calls until it is done itself, its time
counts from where it begins, and one that only waits is told when the server ends: here, for every transport alike.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server

from contextdna import ContextDnaError, StorageUnavailable
from contextdna_server.handshake import LATER
from contextdna_server.http.limits import Slot, too_many_calls
from contextdna_server.http.slow_clients import call_timed_out
from contextdna_server.open_calls import UNANSWERED_METHODS
from contextdna_server.protocol import protocol_error
from contextdna_server.settings import HttpSection
from contextdna_tools import failure

COUNTED_METHODS: Final = frozenset(LATER) - UNANSWERED_METHODS

Context = ServerRequestContext[Any, Any]
_Handler = Callable[[Context, Any], Awaitable[Any]]

logger = logging.getLogger(__name__)


class RunningCalls:
    """Bounds the calls of a server, by how many one caller has and by how long each may take.

    Args:
        settings: The bounds.
        waiting_tools: Names of tools that only wait for something.
        wait_max_s: How long they may do so, in seconds, beyond what a call may take.
    """

    def __init__(self, settings: HttpSection, *, waiting_tools: Collection[str], wait_max_s: float) -> None:
        self._settings = settings
        self._waiting_tools = waiting_tools
        self._wait_max_s = wait_max_s
        self._waiting: set[anyio.CancelScope] = set()
        self._draining = False

    def keep(self, server: Server[Any]) -> None:
        """Serve the server's calls by way of this from now on."""
        for method in COUNTED_METHODS:
            if entry := server.get_request_handler(method):
                server.add_request_handler(method, entry.params_type, self._kept(entry.handler))

    def drain(self) -> None:
        """End calls that only wait, now and from now on."""
        self._draining = True
        for scope in self._waiting:
            scope.cancel()

    def _kept(self, handler: _Handler) -> _Handler:
        async def serve(ctx: Context, params: Any) -> Any:
            request: Any = ctx.request
            slot: Slot = request.scope["state"]["slot"]
            if slot.is_left and slot.is_full(self._settings.calls_max):  # others came while it was handed over
                return _refused(ctx, too_many_calls(slot.calls).error)
            with slot:
                return await self._serve(handler, ctx, params)

        return serve

    async def _serve(self, handler: _Handler, ctx: Context, params: Any) -> Any:
        if ctx.method != "tools/call" or params.name not in self._waiting_tools:
            return await self._serve_in_time(handler, ctx, params, self._settings.call_timeout_s)
        if self._draining:
            return _refused(ctx, draining())
        with anyio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                return await self._serve_in_time(handler, ctx, params, self._settings.call_timeout_s + self._wait_max_s)
            finally:
                self._waiting.discard(scope)
        return _refused(ctx, draining())

    async def _serve_in_time(self, handler: _Handler, ctx: Context, params: Any, time_s: float) -> Any:
        with anyio.move_on_after(time_s):
            return await handler(ctx, params)
        logger.info("a call was ended, its time is up")
        return _refused(ctx, call_timed_out())


def draining() -> StorageUnavailable:
    """Say that the server ends."""
    return StorageUnavailable(
        "the server is about to end", code="server_draining", hint="Ask again in a moment.", retryable=True
    )


def _refused(ctx: Context, error: ContextDnaError) -> Any:
    """Answer in place of a handler: to a tool's call so that the model reads it.

    Raises:
        MCPError: To any other.
    """
    if ctx.method == "tools/call":
        return failure(error.code, error.message, hint=error.hint, retryable=error.retryable)
    raise protocol_error(error)
