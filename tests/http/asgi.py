"""Calls an ASGI layer without a server, and serves one on a loopback port with the product's protocol class."""

import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contextdna import AgentId, ContextDnaError, Principal, ProjectId
from contextdna_server.http.connections import gated_protocol
from contextdna_server.http.identity import Credential
from contextdna_server.http.limits import Callers, LimitLayer
from contextdna_server.settings import HttpSection

Headers = dict[str, str]


def credential(agent: str = "ann", client: str = "c1") -> Credential:
    principal = Principal(AgentId(agent), (ProjectId("default"),))
    return Credential(principal, client_id=client, issuer="here", subject=agent)


@dataclass
class Answer:
    status: int = 0
    headers: Headers = field(default_factory=dict)
    body: bytes = b""

    @property
    def error(self) -> dict[str, Any]:
        return dict(json.loads(self.body)["error"])

    @property
    def code(self) -> str:
        return str(self.error["data"]["code"])


def scope_of(method: str = "POST", path: str = "/mcp", *, headers: list[tuple[str, str]], **more: Any) -> Scope:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": raw,
        "client": ("192.0.2.1", 5000),
        "state": {},
        **more,
    }


async def call(
    app: ASGIApp,
    method: str = "POST",
    *,
    headers: Headers | list[tuple[str, str]] | None = None,
    body: bytes | list[bytes] = b"",
    **more: Any,
) -> Answer:
    """Send one request; a list is a body in parts."""
    named = list(headers.items()) if isinstance(headers, dict) else headers or []
    parts = [body] if isinstance(body, bytes) else list(body)
    given = Answer()

    async def receive() -> Message:
        if not parts:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert not given.status, "an answer begins once"
            given.status = message["status"]
            given.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
        else:
            given.body += message.get("body", b"")

    await app(scope_of(method, headers=named, **more), receive, send)
    return given


async def say_ok(_scope: Scope, receive: Receive, send: Send) -> None:
    """Read the request, and answer 200 with its body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await respond(send, body)


async def respond(
    send: Send, body: bytes = b"", *, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


class Notes:
    """A ``NoteRefusal`` that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    async def __call__(self, principal: Principal, error: ContextDnaError) -> None:
        self.told.append((principal.agent_id, error.code))


def signed_in(app: ASGIApp, caller: Credential | None = None) -> ASGIApp:
    """Put a layer where authentication would be."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["credential"] = caller or credential()
        await app(scope, receive, send)

    return serve


def admitted(app: ASGIApp, settings: HttpSection, callers: Callers | None = None) -> ASGIApp:
    """Put a layer where authentication and the limits of callers would be."""
    return signed_in(LimitLayer(app, settings, callers=callers or Callers(settings), note=Notes()))


@dataclass
class Client:
    """A raw connection."""

    stream: anyio.abc.SocketStream
    _read: bytes = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send(data)

    async def read_answer(self) -> tuple[int, Headers, bytes]:
        """Read one answer with a Content-Length."""
        while b"\r\n\r\n" not in self._read:
            self._read += await self._more()
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines[1:])}
        size = int(headers.get("content-length", "0"))
        while len(self._read) < size:
            self._read += await self._more()
        body, self._read = self._read[:size], self._read[size:]
        return int(lines[0].split()[1]), headers, body

    async def is_closed(self) -> bool:
        """Wait for the server's end, throwing away what it sends."""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                await self._more()
        return True

    async def _more(self) -> bytes:
        with anyio.fail_after(5):
            return await self.stream.receive()


@dataclass
class Served:
    port: int
    server: uvicorn.Server

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            yield Client(stream)


@asynccontextmanager
async def serving(app: ASGIApp, settings: HttpSection, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Served]:
    """Serve with uvicorn and the product's protocol."""
    config = uvicorn.Config(
        app, http=gated_protocol(settings, tls=tls), lifespan="off", log_config=None, access_log=False, ws="none"
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await server.startup(sockets=[listening])
        try:
            yield Served(listening.getsockname()[1], server)
        finally:
            server.force_exit = True
            await server.shutdown(sockets=[listening])


async def until(condition: Callable[[], object]) -> None:
    """Wait for what no event tells."""
    with anyio.fail_after(5):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.005)
