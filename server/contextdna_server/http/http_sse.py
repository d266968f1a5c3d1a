"""HTTP+SSE, as the SDK has it: for older clients."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs

import anyio
from mcp.server.lowlevel import Server
from mcp.server.sse import SseServerTransport
from starlette.types import Message, Receive, Scope, Send

from contextdna import NotFound
from contextdna_server.http.affinity import FORWARDED_HEADER, PeerGone, Peers
from contextdna_server.http.bodies import SDK_BODY_BYTES_MAX, body_of
from contextdna_server.http.forwarding import forwarded
from contextdna_server.http.headers import header_of
from contextdna_server.http.open_requests import OpenRequest
from contextdna_server.http.refusals import NoteRefusal, Refusal, answer
from contextdna_server.http.unsent_answers import CountedIncoming, CountedOutgoing, UnsentAnswers
from contextdna_server.open_calls import WAITING_TOOLS, Ending, OpenCalls

SSE_PATH: Final = "/sse"
MESSAGES_PATH: Final = "/messages"

_STREAM_NAME: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


class HttpSse:
    """HTTP+SSE: a stream at one path, messages at another. Deprecated by the protocol, still what some clients speak.

    Args:
        server: What is served.
        name: This server, sealed: part of the path that messages go to.
        read_name: Tells which server a sealed name means; None for one that was made up.
        own: This server's name.
        peers: The other servers.
        note: Audits refusals.
        grace_s: How long running calls may take to finish at the end.
        public_path: What clients' addresses have before our paths.
    """

    def __init__(
        self,
        server: Server[Any],
        *,
        name: str,
        own: str,
        read_name: Callable[[str], str | None],
        peers: Peers,
        note: NoteRefusal,
        grace_s: float,
        public_path: str = "",
    ) -> None:
        self._server = server
        self._own = own
        self._read_name = read_name
        self._peers = peers
        self._note = note
        self._grace_s = grace_s
        self._draining = anyio.Event()
        self._calls = self._most = 0
        self._transport = SseServerTransport(
            f"{public_path}{MESSAGES_PATH}/{name}", max_request_body_size=SDK_BODY_BYTES_MAX
        )

    async def serve_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a client for as long as it holds its stream, which the answers to its calls come on."""
        request: OpenRequest = scope["state"]["open_request"]
        request.goes_on = False  # it ends by itself, when its calls are answered
        calls = OpenCalls(self._grace_s, WAITING_TOOLS, Ending())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_when_drained, calls, request)
            async with self._transport.connect_sse(scope, receive, send) as (received, sent):
                options = self._server.create_initialization_options()
                unsent = UnsentAnswers(self._note_calls)
                try:
                    incoming = CountedIncoming(received, calls, unsent)
                    await self._server.run(incoming, CountedOutgoing(sent, calls, unsent), options)
                finally:
                    unsent.close()
            tasks.cancel_scope.cancel()

    def _note_calls(self, more: int) -> None:
        self._calls += more
        self._most = max(self._most, self._calls)

    def most(self) -> int:
        """Give how many calls were not done, or their answers not sent, at the same time since this was asked last."""
        most, self._most = self._most, self._calls
        return most

    def drain(self) -> None:
        """End the streams as their calls are answered."""
        self._draining.set()

    async def _end_when_drained(self, calls: OpenCalls, request: OpenRequest) -> None:
        await self._draining.wait()
        await calls.finish(are_told=True)
        request.end()

    async def serve_message(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a message for a stream, here or where that is."""
        server = self._read_name(scope["path"].removeprefix(f"{MESSAGES_PATH}/"))
        if server is None:
            await self._refuse(scope, send)
        elif server == self._own:
            await self._take(scope, receive, send)
        elif header_of(scope, FORWARDED_HEADER) is not None:
            await self._refuse(scope, send)
        else:
            try:
                await forwarded(self._peers, server, scope, receive, send, body=await body_of(receive))
            except PeerGone:
                await self._refuse(scope, send)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _names_stream(scope):
            await self._refuse(scope, send)
            return
        is_missing = False

        async def send_unless_missing(message: Message) -> None:
            nonlocal is_missing
            is_missing = is_missing or (message["type"] == "http.response.start" and message["status"] == 404)
            if not is_missing:
                await send(message)

        await self._transport.handle_post_message(scope, receive, send_unless_missing)
        if is_missing:
            await self._refuse(scope, send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        """Answer a made-up, an ended and a stolen stream alike."""
        error = NotFound(
            "no such stream", code="transport_session_unknown", hint=f"Open a new one with GET {SSE_PATH}."
        )
        await self._note(scope["state"]["credential"].principal, error)
        await answer(Refusal(error, 404), send)


def _names_stream(scope: Scope) -> bool:
    """Tell whether a message names a stream in the one form that names are given in: the SDK would log any other."""
    named = parse_qs(scope["query_string"].decode("latin-1")).get("session_id", [])
    return len(named) == 1 and _STREAM_NAME.fullmatch(named[0]) is not None
