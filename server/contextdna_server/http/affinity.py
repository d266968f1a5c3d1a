"""Many servers behind one address: a request that belongs to a connection of another server is handed to that one.

2026-07-28 requests stand alone and need nothing of this. The eras with a handshake keep a connection in the process
that opened it, under a transport session id. Ours is sealed text that names the server, the connection and whose it is,
so that any server of the installation can tell a good id from a made-up or a stolen one, and where it belongs; there is
no table of servers, and nothing to keep in step. A connection whose server has ended, or that was idle for too long, is
not missed: its calls are served one by one. Only its notifications are gone with it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
from starlette.types import Message, Scope, Send

from contextdna import Hub, IntegrityFault
from contextdna_server.http.identity import Credential
from contextdna_server.http.peer_folder import is_own_socket, socket_path

if TYPE_CHECKING:
    import httpx2

SESSION_HEADER: Final = b"mcp-session-id"
FORWARDED_HEADER: Final = b"x-contextdna-forwarded"
_PURPOSE: Final = "transport session"
_CONNECT_S: Final = 1.0
_UNUSED_S: Final = 60.0
"""After this long without a request the connections to a server are closed, when those to another are made."""

_NAME_CHARS_MAX: Final = 1024
_HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection"}
)
"""Headers that concern one connection only. Source: RFC 9110, 7.6.1."""


@dataclass(frozen=True, slots=True)
class TransportSession:
    """What a transport session id says."""

    server: str
    connection: str
    owner: str


class TransportSessions:
    """Makes and reads the transport session ids of an installation.

    Args:
        hub: Whose key seals them.
        server: Names this server.
    """

    def __init__(self, hub: Hub, server: str) -> None:
        self.server = server
        self._hub = hub

    def name(self, connection: str, credential: Credential) -> str:
        """Give the id that a client gets for a connection of this server."""
        said = json.dumps([self.server, connection, credential.owner])
        return self._hub.seal_text(said, _PURPOSE)

    def read(self, name: str) -> TransportSession | None:
        """Tell what an id says; None for one that this installation did not give."""
        if len(name) > _NAME_CHARS_MAX:
            return None
        try:
            return TransportSession(*json.loads(self._hub.open_text(name, _PURPOSE)))
        except IntegrityFault:
            return None


class PeerGone(Exception):
    """The server that a connection belongs to does not answer."""


class PeerLost(Exception):
    """The server that a connection belongs to ended before it had answered; what it did is not known."""


class Peers:
    """The other servers of the installation on this machine, reached by sockets in its data folder.

    A server is named by its socket's random name, or by the address in ``http.peer_url`` where servers run on several
    machines. Names come from sealed ids only, so that nobody can make a server connect anywhere.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Close all connections at the end."""
        try:
            yield
        finally:
            for line in list(self._lines.values()):
                await line.client.aclose()

    async def forward(self, server: str, scope: Scope, send: Send, *, body: bytes) -> None:
        """Hand a request to the server that it belongs to, and its answer to the client.

        Raises:
            PeerGone: The server does not answer, or its socket may be another user's; nothing was sent.
            PeerLost: It ended before it answered, or in the middle of that.
        """
        import httpx2

        if not _is_address(server) and not is_own_socket(socket_path(self._folder, server)):
            await self._leave(server)
            raise PeerGone(server)
        line = await self._line(server)
        async with line.in_use() as client:
            try:
                response = await client.send(_request(client, server, scope, body=body), stream=True)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                await self._leave(server, line)
                raise PeerGone(server) from error
            except httpx2.TransportError as error:
                raise PeerLost(server) from error
            try:
                await send(_start_of(response))
                async for chunk in response.aiter_raw():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            except httpx2.TransportError as error:
                raise PeerLost(server) from error
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()

    async def _line(self, server: str) -> _Line:
        if server not in self._lines:
            for other, line in list(self._lines.items()):
                if line.is_unused():
                    await self._leave(other, line)
        if server not in self._lines:  # made meanwhile, maybe
            self._lines[server] = _Line(_client(None if _is_address(server) else socket_path(self._folder, server)))
        return self._lines[server]

    async def _leave(self, server: str, line: _Line | None = None) -> None:
        """Have no more to do with a server; another line to it than the one that is meant stays."""
        found = self._lines.get(server)
        if found is not None and line in (None, found):
            del self._lines[server]
            await found.leave()


class _Line:
    """The connections to one other server. Calls share them: they are closed when it is left and no call is on them."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client
        self._uses = 0
        self._used_at = anyio.current_time()
        self._is_left = False

    def is_unused(self) -> bool:
        """Tell whether no request used it for long."""
        return not self._uses and anyio.current_time() - self._used_at > _UNUSED_S

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[httpx2.AsyncClient]:
        """Keep it open for a request."""
        self._uses += 1
        try:
            yield self.client
        finally:
            self._uses -= 1
            self._used_at = anyio.current_time()
            await self._settle()

    async def leave(self) -> None:
        """Close it, now or after the last request on it."""
        self._is_left = True
        await self._settle()

    async def _settle(self) -> None:
        if self._is_left and not self._uses:
            with anyio.CancelScope(shield=True):
                await self.client.aclose()


def _client(socket: Path | None) -> httpx2.AsyncClient:
    import httpx2

    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
    transport = httpx2.AsyncHTTPTransport(uds=str(socket) if socket else None, limits=limits, trust_env=False)
    timeout = httpx2.Timeout(None, connect=_CONNECT_S)
    return httpx2.AsyncClient(transport=transport, timeout=timeout, trust_env=False)


def _request(client: httpx2.AsyncClient, server: str, scope: Scope, *, body: bytes) -> httpx2.Request:
    headers = [(name, value) for name, value in scope["headers"] if name not in _HOP_BY_HOP]
    return client.build_request(
        scope["method"],
        _url(server, scope),
        headers=[*headers, (FORWARDED_HEADER, b"1")],
        content=body if scope["method"] == "POST" else None,
    )


def new_server_name() -> str:
    """Name a server's socket."""
    return secrets.token_hex(8)


def _is_address(server: str) -> bool:
    return server.startswith(("http://", "https://"))


def _url(server: str, scope: Scope) -> httpx2.URL:
    import httpx2

    base = httpx2.URL(server if _is_address(server) else "http://peer")
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    return base.copy_with(raw_path=base.raw_path.rstrip(b"/") + target)


def _start_of(response: httpx2.Response) -> Message:
    headers = [(name.lower(), value) for name, value in response.headers.raw]
    return {
        "type": "http.response.start",
        "status": response.status_code,
        "headers": [(name, value) for name, value in headers if name not in _HOP_BY_HOP],
    }
