"""Ids of the calls of one connection that are not answered yet, whether or not anybody still waits for the answers.

Where a client hung up, its call goes on, and the SDK hands the answer to whoever asks under that id by then: so the id
is kept until the answer was written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import anyio
import anyio.lowlevel
from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp.types import JSONRPCError, JSONRPCRequest, JSONRPCResponse

from contextdna_server.open_calls import Ending, Incoming, OpenCalls, Outgoing


class UnansweredIds(OpenCalls):
    """The ids of one connection; a cancelled call is answered as well, in the eras with connections."""

    def __init__(self) -> None:
        super().__init__(0.0, (), Ending())

    def has(self, call_id: int | str) -> bool:
        """Tell whether a call of this id is not answered."""
        return str(call_id) in self._ids

    def received(self, item: SessionMessage) -> None:
        """Keep the id of a message's call."""
        if isinstance(item.message, JSONRPCRequest):
            self.opened(item.message.id)

    def sent(self, item: SessionMessage) -> None:
        """Forget the id of the call that a message answers."""
        if isinstance(item.message, JSONRPCResponse | JSONRPCError):
            self._ids.discard(str(item.message.id))

    async def finish(self, *, are_told: bool = False) -> None:
        """Wait for nothing: who ends a connection ends its calls."""


class _KeptIncoming(Incoming):
    def __init__(self, stream: Any, ids: UnansweredIds) -> None:
        super().__init__(stream, ids)
        self._ids = ids

    async def receive(self) -> SessionMessage | Exception:
        item = await super().receive()
        if isinstance(item, Exception) or not isinstance(item.metadata, ServerMessageMetadata):
            return item
        settle = item.metadata.on_request_unanswered
        if settle is None or not isinstance(item.message, JSONRPCRequest):
            return item
        answer = SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=item.message.id, result={}))
        return replace(item, metadata=replace(item.metadata, on_request_unanswered=self._then(settle, answer)))

    def _then(self, settle: Callable[[], Awaitable[None]], answer: SessionMessage) -> Callable[[], Awaitable[None]]:
        async def settle_and_forget() -> None:
            try:
                await settle()
            finally:
                with anyio.CancelScope(shield=True):
                    await _until_handed_out()
                self._ids.sent(answer)

        return settle_and_forget


class _KeptOutgoing(Outgoing):
    async def send(self, item: SessionMessage, /) -> None:
        await self._stream.send(item)
        await _until_handed_out()
        self._calls.sent(item)


async def _until_handed_out() -> None:
    """Let the SDK's task that has just got an answer hand it out: to whoever asks under the id at that time."""
    await anyio.lowlevel.checkpoint()


class KeepingManager(StreamableHTTPSessionManager):
    """The SDK's manager of connections, which tells the ids that are in use on each."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unanswered: WeakValueDictionary[str, UnansweredIds] = WeakValueDictionary()

    def is_unanswered(self, connection: str, call_id: int | str) -> bool:
        """Tell whether a call of this id on a connection is not answered."""
        ids = self._unanswered.get(connection)
        return ids is not None and ids.has(call_id)

    def is_open(self, connection: str) -> bool:
        """Tell whether a connection is there."""
        return connection in self._server_instances

    def _admit_session(self, requestor: Any) -> StreamableHTTPServerTransport | None:
        transport = super()._admit_session(requestor)
        if transport is None or transport.mcp_session_id is None:
            return transport
        ids, connect = UnansweredIds(), transport.connect
        self._unanswered[transport.mcp_session_id] = ids

        @asynccontextmanager
        async def connected() -> AsyncIterator[tuple[Any, Any]]:
            async with connect() as (received, sent):
                yield _KeptIncoming(received, ids), _KeptOutgoing(sent, ids)

        transport.connect = connected  # type: ignore[method-assign]  # it has no place to hook in
        return transport
