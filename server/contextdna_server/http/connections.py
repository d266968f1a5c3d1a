"""Connections that no client may hold by being slow, and uvicorn's protocol with these bounds."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import ssl
import sys
from asyncio.sslproto import SSLProtocol
from typing import Any, ClassVar, Final

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.middleware.proxy_headers import _TrustedHosts
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from contextdna import ContextDnaError, InvalidInput, LimitExceeded
from contextdna_server.http.refusals import Refusal, answer
from contextdna_server.http.room import ROOMLESS_PATHS, Room
from contextdna_server.http.sent_off import sent_off
from contextdna_server.settings import HttpSection

WRITE_BYTES_MIN: Final = 16 * 1024
"""What a client must take in ``http.write_timeout_s``, of what waits for it: 500 bytes a second by default."""

STRANGER_KEEP_ALIVE_S: Final = 5
"""How long a connection may rest that never showed a good credential."""

_PROBES: Final = 4

logger = logging.getLogger(__name__)


def gated_protocol(
    settings: HttpSection, *, places: int | None = None, tls: ssl.SSLContext | None = None
) -> type[asyncio.Protocol]:
    """Give what uvicorn's ``Config(http=…)`` takes, with the bounds of the settings.

    ``Config`` takes ``http.keep_alive_s`` as ``timeout_keep_alive``, and ``slow_clients.HEAD_BYTES_MAX`` as
    ``h11_max_incomplete_event_size``; it takes no certificate and no ``limit_concurrency``.

    Args:
        settings: The bounds.
        places: How many connections are served at the same time; None: ``http.connections_max``.
        tls: Ends TLS. uvicorn would count connections from the end of their handshake on, and give that a minute.
    """

    class Gated(GatedProtocol):
        http = settings
        room = Room(settings.connections_max if places is None else places)
        proxies = _TrustedHosts(list(settings.trusted_proxies))

    if tls is None:
        return Gated
    context = tls

    class Secured(TlsProtocol):
        def __init__(self, **given: Any) -> None:
            super().__init__(Gated(**given), context)

    return Secured  # type: ignore[return-value]  # asyncio takes its like


class GatedProtocol(H11Protocol):
    """Serves one connection, and ends it where its client is slow.

    - A head must be whole within ``http.head_timeout_s`` from the connection, or on a connection that rested from its
      first byte; else 408 if it has begun.
    - What is written must drain, or the client take ``WRITE_BYTES_MIN`` of it, each ``http.write_timeout_s``.
    - A client that vanished without a word is found by TCP.
    - Where there is no room, the one that rested longest makes way. Who never showed a good credential may rest for
      ``STRANGER_KEEP_ALIVE_S``; proxies that are trusted, and other servers of the installation, are known.
    """

    http: ClassVar[HttpSection]
    room: ClassVar[Room]
    proxies: ClassVar[_TrustedHosts]

    is_known = False
    """Whether it showed a good credential. Authentication says so, by ``scope["state"]["connection"]``."""

    _wire: asyncio.Transport | None = None
    _is_made = _ends = False

    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _head_begun = False
    _waiting = _taken = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._is_made = True
        if self._wire is None:
            self.enter(transport)
        self.is_known = self.client is None or self.client[0] in self.proxies
        self._inner, self.app = self.app, self._serve
        # What is not taken at once is waited for; TLS pauses at high=0.
        transport.set_write_buffer_limits(high=1, low=0)
        _probe(transport.get_extra_info("socket"), self.http.write_timeout_s)
        self._watch_writing()
        self._await_head()

    def enter(self, wire: asyncio.Transport) -> None:
        """Count the connection, from before its handshake on.

        Args:
            wire: The transport below TLS.
        """
        self._wire = wire
        self.connections.add(self)
        self.room.enter(self)

    def leave(self) -> None:
        """Count it no more."""
        self.connections.discard(self)
        self.room.leave(self)

    def make_way(self) -> None:
        """Close at once, for another connection."""
        if self._wire is not None:
            self._wire.abort()

    def shutdown(self) -> None:
        """End as soon as no request is at work."""
        self._ends = True
        if self._is_made:
            super().shutdown()
            self._end_wire()
        else:
            self.make_way()

    def _end_wire(self) -> None:
        """Close below TLS, too: that would wait for a client's goodbye, and one that rests reads nothing."""
        is_over = self._ends and self.transport.is_closing() and not self.transport.get_write_buffer_size()
        if is_over and self._wire is not None:
            self._wire.close()  # once what it has is written

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in ROOMLESS_PATHS and not (
            self.room.serves(self) and len(self.tasks) <= self.room.places + 1
        ):
            await answer(_no_room(), send)
            return
        scope["state"]["connection"] = self
        await self._inner(scope, receive, send)

    def on_response_complete(self) -> None:
        """Rest, or go on with the next request."""
        if not self.is_known:
            self.timeout_keep_alive = min(self.config.timeout_keep_alive, STRANGER_KEEP_ALIVE_S)
        else:
            self.timeout_keep_alive = self.config.timeout_keep_alive
        super().on_response_complete()
        self._settle()
        self._end_wire()

    def _settle(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or (cycle.response_complete and not self.flow.write_paused):
            self.room.rest(self, is_known=self.is_known)
        else:
            self.room.wake(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self.leave()
        self._stop_head_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and see whether a head is whole."""
        if self.conn.their_state is h11.IDLE:
            self._head_begun = True
            self._await_head()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head_begun = False
            self._stop_head_timer()
        self._settle()

    def _should_upgrade(self) -> bool:
        """Stay with HTTP/1.1, whatever is asked for; uvicorn would warn each time. Source: RFC 9110, 7.8: it may."""
        return False

    def resume_writing(self) -> None:
        """Go on: all was taken."""
        self._waiting = 0
        super().resume_writing()
        self._settle()
        self._end_wire()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the base class's signature
        """Answer what is not HTTP, in the one shape of a refusal; uvicorn calls this where h11 refused it."""
        fault = sys.exception()
        status = fault.error_status_hint if isinstance(fault, h11.RemoteProtocolError) else 400
        if status == 431:
            self._refuse(431, LimitExceeded("the request's head is too large", code="head_too_large"))
        else:
            hint = "Send HTTP/1.1."
            self._refuse(
                status, InvalidInput("the request is not HTTP that can be read", code="http_invalid", hint=hint)
            )

    def _refuse(self, status: int, error: ContextDnaError) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # its application is told that the client is gone
            cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = Refusal(error, status).body()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        self.transport.write(self.conn.send(h11.Response(status_code=status, headers=headers)) or b"")
        self.transport.write((self.conn.send(h11.Data(data=body)) or b"") + (self.conn.send(h11.EndOfMessage()) or b""))
        self.transport.close()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.http.head_timeout_s, self._end_head)

    def _end_head(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if not self._head_begun:
            self.transport.close()
            return
        logger.info("a request's head did not arrive in time")
        self._refuse(408, InvalidInput("the request did not arrive in time", code="head_timeout", retryable=True))

    def _watch_writing(self) -> None:
        self._write_timer = self.loop.call_later(self.http.write_timeout_s, self._check_writing)

    def _check_writing(self) -> None:
        sock = self.transport.get_extra_info("socket")
        unwritten = self.transport.get_write_buffer_size()
        queued, acked = sent_off(sock) or (0, -unwritten)
        if self._waiting and queued + unwritten and acked - self._taken < min(WRITE_BYTES_MIN, self._waiting):
            logger.info("cut off a client that does not read what it is sent")
            self.transport.abort()
            return
        self._waiting, self._taken = queued + unwritten, acked
        self._watch_writing()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


class TlsProtocol(SSLProtocol):
    """Ends TLS for one connection, which counts from before the handshake; that must end as soon as a head.

    Args:
        gated: Serves what comes through.
        tls: The certificate.
    """

    def __init__(self, gated: GatedProtocol, tls: ssl.SSLContext) -> None:
        within_s = gated.http.head_timeout_s
        super().__init__(gated.loop, gated, tls, None, server_side=True, ssl_handshake_timeout=within_s)  # type: ignore[arg-type]  # as asyncio's own default and its documentation have them
        self._gated = gated

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._gated.enter(transport)  # type: ignore[arg-type]  # of a listening socket of streams
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End; what serves is told where it had begun."""
        self._gated.leave()
        super().connection_lost(exc)


def _no_room() -> Refusal:
    error = LimitExceeded(
        "the server has no room for another connection",
        code="server_busy",
        hint="Retry in a moment.",
        retryable=True,
    )
    return Refusal(error, 503, (("Retry-After", "1"), ("Connection", "close")))


def _probe(sock: socket.socket | None, timeout_s: float) -> None:
    """Let the system find out that a client vanished to which nothing is written. Source: RFC 9293, 3.8.4 (keep-alive).

    No user timeout (RFC 5482): with one Linux ends connections of clients that read, but in small pieces.
    """
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    each_s = max(1, math.ceil(timeout_s / _PROBES))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", math.ceil(timeout_s)),
        ("TCP_KEEPINTVL", each_s),
        ("TCP_KEEPCNT", _PROBES),
    ):
        if (option := getattr(socket, name, None)) is not None:  # each system has some of them
            try:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            except OSError:
                logger.debug("this system does not take %s=%d", name, value)
