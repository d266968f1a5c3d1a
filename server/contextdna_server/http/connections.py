"""Connections that no client may hold by being slow, and uvicorn's protocol with these bounds."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import sys
from typing import ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from contextdna import ContextDnaError, InvalidInput, LimitExceeded
from contextdna_server.http.refusals import Refusal
from contextdna_server.settings import HttpSection

WRITE_BYTES_MIN: Final = 16 * 1024
"""What a client must take in ``http.write_timeout_s``, of what waits for it: 500 bytes a second by default."""

_SPARE_CONNECTIONS: Final = 100
"""Connections beyond ``http.connections_max`` that are answered with 503; further ones are closed at once."""

_PROBES: Final = 4

logger = logging.getLogger(__name__)


def gated_protocol(settings: HttpSection) -> type[asyncio.Protocol]:
    """Give what uvicorn's ``Config(http=…)`` takes, with the bounds of the settings.

    ``Config`` takes ``http.keep_alive_s`` as ``timeout_keep_alive``, ``http.connections_max`` as
    ``limit_concurrency``, and ``slow_clients.HEAD_BYTES_MAX`` as ``h11_max_incomplete_event_size``.
    """

    class Gated(GatedProtocol):
        http = settings

    return Gated


class GatedProtocol(H11Protocol):
    """Serves one connection, and ends it where its client is slow.

    - A head must be whole within ``http.head_timeout_s`` from the connection, or on a connection that rested from its
      first byte; else 408 if it has begun.
    - What is written must drain, or shrink by ``WRITE_BYTES_MIN``, each ``http.write_timeout_s``.
    - A client that vanished without a word is found by TCP.
    """

    http: ClassVar[HttpSection]

    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _head_begun = False
    _unwritten = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to wait for a head."""
        super().connection_made(transport)
        # What is not taken at once is waited for; TLS pauses at high=0.
        transport.set_write_buffer_limits(high=1, low=0)
        _probe(transport.get_extra_info("socket"), self.http.write_timeout_s)
        if len(self.connections) > self.http.connections_max + _SPARE_CONNECTIONS:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
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

    def _should_upgrade(self) -> bool:
        """Stay with HTTP/1.1, whatever is asked for; uvicorn would warn each time. Source: RFC 9110, 7.8: it may."""
        return False

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not take what is written."""
        super().pause_writing()
        self._unwritten = self.transport.get_write_buffer_size()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.http.write_timeout_s, self._check_writing)

    def resume_writing(self) -> None:
        """Go on: all was taken."""
        self._stop_write_timer()
        super().resume_writing()

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

    def _check_writing(self) -> None:
        left = self.transport.get_write_buffer_size()
        if self._unwritten - left < WRITE_BYTES_MIN:
            logger.info("cut off a client that does not read what it is sent")
            self.transport.abort()
            return
        self._unwritten = left
        self._write_timer = self.loop.call_later(self.http.write_timeout_s, self._check_writing)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def _probe(sock: socket.socket | None, timeout_s: float) -> None:
    """Let the system find out that a client vanished. Source: RFC 9293, 3.8.4 (keep-alive); RFC 5482 (user timeout)."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    each_s = max(1, math.ceil(timeout_s / _PROBES))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", math.ceil(timeout_s)),
        ("TCP_KEEPINTVL", each_s),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", math.ceil(timeout_s * 1000)),
    ):
        if (option := getattr(socket, name, None)) is not None:  # each system has some of them
            try:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            except OSError:
                logger.debug("this system does not take %s=%d", name, value)
