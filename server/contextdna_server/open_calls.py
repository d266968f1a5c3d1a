"""Calls that are running on one connection, so that its end can wait until they are answered."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextvars import Context
from types import TracebackType
from typing import Any, Final, Protocol, Self

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

UNANSWERED_METHODS: Final = frozenset({"subscriptions/listen"})
"""Calls that stay open until they are cancelled: no end waits for them. Source: MCP 2026-07-28."""

WAITING_TOOLS: Final = frozenset({"await_signal"})
"""Tools whose calls last until something happens; named here, as a start is not to wait for the tools."""

logger = logging.getLogger(__name__)


class Ending:
    """How far an end has come: `stopping` (no new calls), then `hurried` (running calls lose their grace)."""

    def __init__(self) -> None:
        self.stopping = False
        self.hurried = anyio.Event()

    def stop(self) -> None:
        """Take no new calls."""
        self.stopping = True


class OpenCalls:
    """The calls that were received and are not answered yet.

    Args:
        grace_s: How long they may go on at the end, in seconds.
        waiting_tools: Tools that only wait for something: their calls get no grace, but where they are told of the end.
        ending: How far the end has come.
    """

    def __init__(self, grace_s: float, waiting_tools: Collection[str], ending: Ending) -> None:
        self._ending = ending
        self._grace_s = grace_s
        self._waiting_tools = waiting_tools
        self._ids: set[str] = set()  # text, as a cancellation may name 7 as "7"
        self._waiting: set[str] = set()
        self._finishing = False
        self._all_answered = anyio.Event()

    def opened(self, call_id: object) -> None:
        """Count a call."""
        self._ids.add(str(call_id))

    def received(self, item: SessionMessage) -> None:
        """Count a message's call, or one less where it is cancelled."""
        match item:
            case SessionMessage(message=JSONRPCRequest(method=method, params=params) as request):
                if method not in UNANSWERED_METHODS:
                    self.opened(request.id)
                    if goes_on(method, params, self._waiting_tools):
                        self._waiting.add(str(request.id))
            case SessionMessage(message=JSONRPCNotification(method="notifications/cancelled", params=params)):
                self._close(str((params or {}).get("requestId")))
            case _:
                pass

    def sent(self, item: SessionMessage) -> None:
        """Count one call less where a message answers it."""
        if isinstance(item.message, JSONRPCResponse | JSONRPCError):
            self._close(str(item.message.id))

    def _close(self, call_id: str) -> None:
        self._ids.discard(call_id)
        self._waiting.discard(call_id)
        if self._finishing and not self._ids:
            self._all_answered.set()

    async def finish(self, *, are_told: bool = False) -> None:
        """Wait until every call is answered, the grace is over, or the end hurries.

        Args:
            are_told: Whether calls that only wait are told of the end, and so will be answered.
        """
        self._ending.stopping = self._finishing = True
        if not are_told:
            self._ids -= self._waiting
        if not self._ids:
            return
        logger.info("the connection ends: %d calls have %.1f s to finish", len(self._ids), self._grace_s)
        with anyio.move_on_after(self._grace_s):
            async with anyio.create_task_group() as tasks:
                for event in (self._all_answered, self._ending.hurried):
                    tasks.start_soon(_cancel_when, event, tasks.cancel_scope)


def goes_on(method: str, params: Mapping[str, Any] | None, waiting_tools: Collection[str]) -> bool:
    """Tell whether a call goes on until something happens, or its connection ends."""
    if method == "tools/call":
        name = (params or {}).get("name")
        return isinstance(name, str) and name in waiting_tools
    return method in UNANSWERED_METHODS


async def _cancel_when(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


class _Stream(Protocol):
    async def aclose(self) -> None: ...


class Receiving(_Stream, Protocol):
    """A stream of messages for the server, as the SDK gives it."""

    async def receive(self) -> SessionMessage | Exception:
        """Give the next message."""
        ...


class Sending(_Stream, Protocol):
    """A stream of messages of the server, as the SDK takes them."""

    async def send(self, item: SessionMessage, /) -> None:
        """Send a message."""
        ...


class Incoming:
    """Messages for the server. It cancels its calls when these end, so the end waits until they had their grace."""

    def __init__(self, stream: Receiving, calls: OpenCalls) -> None:
        self._stream = stream
        self._calls = calls

    @property
    def last_context(self) -> Context | None:
        """The context that the last message was sent in: over HTTP its caller is known by it."""
        context: Context | None = getattr(self._stream, "last_context", None)
        return context

    async def receive(self) -> SessionMessage | Exception:
        """Give the next message, or what could not be parsed as one."""
        try:
            item = await self._stream.receive()
        except anyio.EndOfStream:
            await self._calls.finish()
            raise
        if not isinstance(item, Exception):
            self._calls.received(item)
        return item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Outgoing:
    """Messages of the server; an answer closes its call."""

    def __init__(self, stream: Sending, calls: OpenCalls) -> None:
        self._stream = stream
        self._calls = calls

    async def send(self, item: SessionMessage, /) -> None:
        """Send a message."""
        await self._stream.send(item)
        self._calls.sent(item)

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
