"""Streamable HTTP in both protocol eras, as the SDK has it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from typing import Any, Final
from weakref import WeakValueDictionary

import anyio
from mcp.server.lowlevel import Server
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types import INTERNAL_ERROR
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.types import Message, Receive, Scope, Send

from contextdna import InvalidInput, NotFound
from contextdna_server.http.affinity import (
    FORWARDED_HEADER,
    SESSION_HEADER,
    PeerGone,
    Peers,
    TransportSession,
    TransportSessions,
)
from contextdna_server.http.bodies import SDK_BODY_BYTES_MAX, body_of, replayed
from contextdna_server.http.forwarding import call_id_of, forwarded
from contextdna_server.http.headers import first_header, header_of, with_header
from contextdna_server.http.held_sessions import Ended, HeldSessions
from contextdna_server.http.limits import caller_key
from contextdna_server.http.open_requests import OpenRequest
from contextdna_server.http.refusals import NoteRefusal, Refusal, answer
from contextdna_server.http.unanswered_ids import KeepingManager
from contextdna_server.open_calls import WAITING_TOOLS, goes_on
from contextdna_server.subscriptions import Hearing
from contextdna_tools import unforeseen

MCP_PATH: Final = "/mcp"

_DELETED_MAX: Final = 10_000
_FORGET_S: Final = 10.0
_MISSING: Final = 404
_FAILED: Final = 500
_WITHHELD: Final = (_MISSING, _FAILED)
"""What the SDK answers where a connection is not there, and where it was ended while it served a call, or it failed."""

_OF_CONNECTION: Final = frozenset({"logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
"""Requests that say something of a connection: to agree without one would promise what nobody is ever told."""

_OF_ENDED: Final = _OF_CONNECTION | {"initialize", "notifications/cancelled"}
"""What is refused on one that has ended: there its calls are known to no other request."""

_VERSION_HEADER: Final = MCP_PROTOCOL_VERSION_HEADER.encode()


class StreamableHttp:
    """Streamable HTTP at one path. Connections of the eras with a handshake may belong to another server.

    Args:
        server: What is served.
        sessions: Makes and reads transport session ids.
        peers: The other servers.
        note: Audits refusals.
        json_replies: Whether calls are always answered as plain JSON.
        idle_s: When a connection without requests is forgotten.
        sessions_max: How many connections one caller may have here.
    """

    def __init__(
        self,
        server: Server[Any],
        *,
        sessions: TransportSessions,
        peers: Peers,
        note: NoteRefusal,
        json_replies: bool,
        idle_s: float,
        sessions_max: int,
    ) -> None:
        def manager(*, stateless: bool) -> KeepingManager:
            return KeepingManager(
                server,
                json_response=json_replies,
                stateless=stateless,
                session_idle_timeout=None if stateless else idle_s,
                max_request_body_size=SDK_BODY_BYTES_MAX,
                max_sessions=None,  # they are counted here
            )

        self._connected = manager(stateless=False)
        self._alone = manager(stateless=True)
        self._sessions = sessions
        self._peers = peers
        self._note = note
        self._held = HeldSessions(sessions_max)
        self._idle_s = idle_s
        self._deleted: OrderedDict[str, None] = OrderedDict()
        self._running: set[tuple[str, str]] = set()
        self._hearing: WeakValueDictionary[str, Hearing] = WeakValueDictionary()

    def most(self) -> int:
        """Give how many connections were kept here at the same time since this was asked last."""
        return self._held.most()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hold what the connections live in."""
        async with AsyncExitStack() as stack:
            for manager in (self._connected, self._alone):
                await stack.enter_async_context(manager.run())
            tasks = await stack.enter_async_context(anyio.create_task_group())
            tasks.start_soon(self._forget_unused)
            yield
            tasks.cancel_scope.cancel()

    async def _forget_unused(self) -> None:
        """Count connections as over that the SDK has ended, until cancelled."""
        while True:
            await anyio.sleep(min(self._idle_s, _FORGET_S))
            self._held.forget_unused(self._idle_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request here, or where its connection is."""
        given = header_of(scope, SESSION_HEADER)
        if given is None or not _has_connections(scope):
            await self._serve_unnamed(with_header(scope, SESSION_HEADER, None), receive, send)
            return
        session = self._sessions.read(given)
        credential = scope["state"]["credential"]
        if session is None or session.owner != credential.owner or session.connection in self._deleted:
            await self._refuse(scope, send)
        elif session.server == self._sessions.server:
            await self._serve_once(session, scope, receive, send)
        elif header_of(scope, FORWARDED_HEADER) is not None:
            await self._serve_alone(scope, receive, send)  # its server's socket is ours now
        else:
            await self._serve_there(session, scope, receive, send)

    async def _serve_unnamed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what names no connection: a request that stands alone, or one that opens a connection."""
        opens = _method_of(scope) == "initialize"
        if _has_connections(scope) and _method_of(scope) in _OF_CONNECTION:
            await answer(_no_connection(), send, call_id=call_id_of(scope))
            return
        if scope["method"] == "POST" and not opens:
            await self._alone.handle_request(scope, receive, send)
            return
        opened = ""

        async def send_noted(message: Message) -> None:
            nonlocal opened
            if message["type"] == "http.response.start" and message["status"] == 200:
                opened = first_header(message["headers"], SESSION_HEADER) or ""
            await send(message)

        await self._connected.handle_request(scope, receive, self._naming(scope, send_noted))
        session = self._sessions.read(opened) if opened else None
        if session is not None:
            key = caller_key(scope["state"]["credential"])
            await self._end(self._held.add(session.connection, key, scope["user"]), scope)

    async def _end(self, connections: Iterable[Ended], scope: Scope) -> None:
        """End connections to make room, as their clients could."""
        for connection, owner in connections:
            ending = {**with_header(scope, SESSION_HEADER, connection), "method": "DELETE", "user": owner}
            await self._connected.handle_request(ending, _nothing, _nowhere)

    async def _serve_once(self, session: TransportSession, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request unless one of its id runs: the SDK knows them by the text of it, and would answer one only.

        Source: MCP 2025-11-25, Basic: an id must not have been used before in the session.
        """
        call_id = call_id_of(scope)
        call = session.connection, str(call_id)
        if call_id is None:
            await self._serve_here(session, scope, receive, send)
        elif call in self._running or self._connected.is_unanswered(session.connection, call_id):
            error = InvalidInput(
                "a call of this id is running", code="call_id_in_use", hint="Give each call of a session another id."
            )
            await answer(Refusal(error, 400), send, call_id=call_id)
        else:
            self._running.add(call)
            try:
                await self._serve_here(session, scope, receive, send)
            finally:
                self._running.discard(call)

    async def _serve_here(self, session: TransportSession, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request on its connection; where that is gone, by itself."""
        withheld = 0

        async def send_unless_gone(message: Message) -> None:
            nonlocal withheld
            if message["type"] == "http.response.start" and message["status"] in _WITHHELD:
                withheld = message["status"]
            if not withheld:
                await send(message)

        body = await body_of(receive) if scope["method"] == "POST" else b""
        if scope["method"] == "DELETE":
            self._note_deleted(session.connection)  # at once: the SDK fails where a call comes while it ends
        hearing = self._hearing.setdefault(session.connection, Hearing())
        inner = with_header(scope, SESSION_HEADER, session.connection)
        inner["state"] = {**scope["state"], "hearing": hearing}
        named = self._naming(scope, send_unless_gone)
        self._held.begin(session.connection)
        try:
            with hearing.on_stream() if scope["method"] == "GET" else nullcontext():
                await self._connected.handle_request(inner, replayed(body, receive), named)
        finally:
            over = self._held.finish(session.connection)
            if over:
                with anyio.CancelScope(shield=True):
                    await self._end(over, scope)
        if withheld == _MISSING:
            self._held.forget(session.connection)
            await self._serve_alone(scope, replayed(body, receive), send)
        elif withheld:
            await answer(self._failed(session), send, call_id=call_id_of(scope))

    def _failed(self, session: TransportSession) -> Refusal:
        """Say what became of a call that the SDK gave up: it may have been done, wholly or not at all."""
        if session.connection in self._deleted or not self._connected.is_open(session.connection):
            error = NotFound(
                "the connection was ended while the call ran",
                code="connection_ended",
                hint="Look whether it was done; for more, initialize a new connection.",
            )
            return Refusal(error, _MISSING)
        failure = unforeseen("a request on a connection", RuntimeError("the SDK gave it up, and logs why"))
        return Refusal(failure, _FAILED, rpc_code=INTERNAL_ERROR)

    def _note_deleted(self, connection: str) -> None:
        self._held.forget(connection)
        self._deleted[connection] = None
        while len(self._deleted) > _DELETED_MAX:
            self._deleted.popitem(last=False)

    async def _serve_there(self, session: TransportSession, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to its connection's server; where that is gone, serve it by itself."""
        request: OpenRequest = scope["state"]["open_request"]
        if _waits(scope):  # nothing else here knows of its call
            request.goes_on, request.call_id = True, call_id_of(scope)
        body = await body_of(receive) if scope["method"] == "POST" else b""
        try:
            await forwarded(self._peers, session.server, scope, receive, send, body=body)
        except PeerGone:
            await self._serve_alone(scope, replayed(body, receive), send)

    async def _serve_alone(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a call whose connection is gone. It has no stream, and nothing to delete. Source: MCP, transports."""
        error = NotFound("the connection has ended", code="connection_ended", hint="Initialize a new one.")
        if _method_of(scope) in _OF_ENDED:
            await answer(Refusal(error, _MISSING), send, call_id=call_id_of(scope))
            return
        if scope["method"] == "POST":
            await self._alone.handle_request(with_header(scope, SESSION_HEADER, None), receive, send)
            return
        await answer(Refusal(error, 405, (("Allow", "POST"),)), send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        """Answer a made-up, a deleted and a stolen id alike."""
        refusal = _unknown_session()
        await self._note(scope["state"]["credential"].principal, refusal.error)
        await answer(refusal, send)

    def _naming(self, scope: Scope, send: Send) -> Send:
        """Put our id in place of the SDK's in the answer."""

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [self._named(scope, header) for header in message["headers"]]}
            await send(message)

        return send_named

    def _named(self, scope: Scope, header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        name, value = header
        if name.lower() != SESSION_HEADER:
            return header
        given = header_of(scope, SESSION_HEADER)
        return name, (given or self._sessions.name(value.decode(), scope["state"]["credential"])).encode()


def _no_connection() -> Refusal:
    """Refuse what is about a connection and names none. Source: MCP 2025-11-25, transports, Session Management."""
    error = InvalidInput(
        "the request is about a connection, and names none",
        code="connection_missing",
        hint="Initialize one, and send its Mcp-Session-Id.",
    )
    return Refusal(error, 400)


def _unknown_session() -> Refusal:
    error = NotFound(
        "no such transport session", code="transport_session_unknown", hint="Initialize a new one, without the id."
    )
    return Refusal(error, 404)


def _has_connections(scope: Scope) -> bool:
    """Tell whether a request is of an era with connections, by the header that the SDK tells it by.

    2026-07-28 has none: an id that its request names says nothing. Without a version it is an older one.
    """
    version = header_of(scope, _VERSION_HEADER)
    return version is None or version in HANDSHAKE_PROTOCOL_VERSIONS


def _method_of(scope: Scope) -> str:
    """Give what a message asks for; empty where there is none, or where it is an answer."""
    message = scope["state"].get("message")
    return str(message.get("method", "")) if isinstance(message, dict) else ""


def _waits(scope: Scope) -> bool:
    """Tell whether a request is a call that lasts until something happens."""
    message = scope["state"].get("message")
    return isinstance(message, dict) and goes_on(str(message.get("method")), message.get("params"), WAITING_TOOLS)


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _nowhere(_message: Message) -> None:
    """Take an answer that nobody waits for."""
