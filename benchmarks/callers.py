"""Clients that call tools over each transport of a remote server, and read every answer."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Protocol

from benchmarks.http1 import Address, Connection, data_in, message_in

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
MCP_PATH, SSE_PATH = "/mcp", "/sse"
_CLIENT = {"name": "benchmark", "version": "1"}
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": _CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}
_INITIALIZE = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": _CLIENT}
_SESSION = "mcp-session-id"
_OK, _ACCEPTED = 200, 202
_ANSWER_S = 60.0

Message = dict[str, Any]


class Refused(RuntimeError):
    """A request was answered with an error.

    Args:
        text: What it says.
        answer: The whole answer.
    """

    def __init__(self, text: str, answer: Message | None = None) -> None:
        super().__init__(text)
        self.answer = answer or {}


class Caller(Protocol):
    """One client."""

    async def connect(self) -> None:
        """Open what calls need; again after a connection broke."""

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Message:
        """Call a tool and give the result.

        Raises:
            Refused: It is an error.
            OSError: The connection broke.
            ValueError: The answer is no message.
        """

    async def leave(self) -> None:
        """Close what is open."""


class _Plain:
    """What all clients have: a number for each request, one connection for them, and a credential."""

    def __init__(self, address: Address, token: str) -> None:
        self.address = address
        self.headers = {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"}
        self._numbers = count(1)
        self._connection: Connection | None = None

    async def _open(self) -> Connection:
        if self._connection is None:
            self._connection = await Connection.opened(self.address)
        return self._connection

    def _request(self, method: str, params: Mapping[str, Any]) -> Message:
        return {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": params}

    async def leave(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class ModernCaller(_Plain):
    """2026-07-28 over Streamable HTTP: every request stands alone."""

    async def connect(self) -> None:
        await self.leave()
        await self._open()

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Message:
        return await self._ask("tools/call", tool, {"name": tool, "arguments": arguments})

    async def read(self, uri: str) -> Message:
        """Read a resource and give the result.

        Raises:
            Refused, OSError, ValueError: As ``call``.
        """
        return await self._ask("resources/read", uri, {"uri": uri})

    async def _ask(self, method: str, name: str, params: Mapping[str, Any]) -> Message:
        message = self._request(method, {**params, "_meta": _META})
        named = {"mcp-protocol-version": MODERN, "mcp-method": method, "mcp-name": name}
        connection = await self._open()
        answer = await connection.ask("POST", MCP_PATH, {**self.headers, **named}, _packed(message))
        return _result(message, answer.message())


class SessionCaller(_Plain):
    """2025-11-25 over Streamable HTTP: a session, made by a handshake."""

    async def connect(self) -> None:
        await self.leave()
        await self.initialize()
        done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        answer = await (await self._open()).ask("POST", MCP_PATH, self.headers, _packed(done))
        if answer.status != _ACCEPTED:
            raise Refused(f"{answer.status}: {answer.body[:200]!r}")

    async def initialize(self) -> None:
        """Open a session, and no more than that."""
        self.headers.pop(_SESSION, None)
        message = self._request("initialize", _INITIALIZE)
        connection = await self._open()
        answer = await connection.ask("POST", MCP_PATH, self.headers, _packed(message))
        _result(message, answer.message())
        self.headers |= {_SESSION: answer.headers[_SESSION], "mcp-protocol-version": LEGACY}

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Message:
        message = self._request("tools/call", {"name": tool, "arguments": arguments})
        connection = await self._open()
        answer = await connection.ask("POST", MCP_PATH, self.headers, _packed(message))
        return _result(message, answer.message())

    async def end(self) -> None:
        """End the session, as a client should."""
        await (await self._open()).ask("DELETE", MCP_PATH, self.headers)
        await self.leave()


class SseCaller(_Plain):
    """HTTP+SSE: messages go by POST, and answers come in a stream."""

    def __init__(self, address: Address, token: str) -> None:
        super().__init__(address, token)
        self._stream: Connection | None = None
        self._path = ""
        self._awaited: dict[int, asyncio.Future[Message]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        await self.leave()
        self._stream = await Connection.opened(self.address)
        events = await self._stream.stream(SSE_PATH, self.headers)
        self._path = data_in(await anext(events)).decode()

        async def read() -> None:
            with contextlib.suppress(OSError, EOFError):
                async for event in events:
                    self._take(message_in(event))
            self._fail()

        self._reading = asyncio.create_task(read())
        await self._exchange(self._request("initialize", _INITIALIZE))
        await self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Message:
        return await self._exchange(self._request("tools/call", {"name": tool, "arguments": arguments}))

    async def leave(self) -> None:
        await super().leave()
        if self._reading is not None:
            self._reading.cancel()
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _exchange(self, message: Message) -> Message:
        awaited: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._awaited[message["id"]] = awaited
        try:
            await self._post(message)
            async with asyncio.timeout(_ANSWER_S):
                return _result(message, await awaited)
        finally:
            self._awaited.pop(message["id"], None)

    async def _post(self, message: Message) -> None:
        answer = await (await self._open()).ask("POST", self._path, self.headers, _packed(message))
        if answer.status != _ACCEPTED:
            raise Refused(f"{answer.status}: {answer.body[:200]!r}")

    def _take(self, message: Message) -> None:
        awaited = self._awaited.get(message.get("id", 0))
        if awaited is not None and not awaited.done():
            awaited.set_result(message)

    def _fail(self) -> None:
        for awaited in self._awaited.values():
            if not awaited.done():
                awaited.set_exception(ConnectionError("the stream ended"))


TRANSPORTS: Mapping[str, Callable[[Address, str], Caller]] = {
    f"Streamable HTTP, {MODERN}": ModernCaller,
    f"Streamable HTTP, {LEGACY}": SessionCaller,
    "HTTP+SSE": SseCaller,
}
"""What makes a client of each transport."""


def _packed(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()


def _result(request: Message, answer: Message) -> Message:
    """Give the result of a request.

    Raises:
        Refused: The answer is an error, or another request's.
    """
    result: Message | None = answer.get("result")
    if answer.get("id") != request["id"] or result is None or result.get("isError"):
        raise Refused(f"{request['method']}: {json.dumps(answer)[:300]}", answer)
    return result
