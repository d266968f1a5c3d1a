"""The remote server as one ASGI application: every layer that a request passes, and the transports behind them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from mcp.server.lowlevel import Server
from starlette.types import ASGIApp, Receive, Scope, Send

from contextdna import ContextDnaError, Hub, IntegrityFault, NotFound, Principal
from contextdna_server.http.affinity import Peers, TransportSessions
from contextdna_server.http.identity import current_credential
from contextdna_server.http.open_requests import OpenRequests
from contextdna_server.http.refusals import Refusal, answer
from contextdna_server.http.transports import MCP_PATH, MESSAGES_PATH, SSE_PATH, HttpSse, StreamableHttp
from contextdna_server.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HttpApp:
    """The application, and what its server needs besides."""

    asgi: ASGIApp
    streamable: StreamableHttp
    peers: Peers
    open_requests: OpenRequests

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hold what the application works with; enter it before the first request."""
        async with self.peers.opened(), self.streamable.running(), anyio.create_task_group() as tasks:
            tasks.start_soon(self.open_requests.watch)
            yield
            tasks.cancel_scope.cancel()
