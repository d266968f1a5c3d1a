"""The whole remote server on a port of this machine, and clients for it over both transports."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from contextdna import AgentId, Hub, ProjectId, TokenRequest, open_hub
from contextdna_server.app import build_server
from contextdna_server.http.app import build_app, caller
from contextdna_server.settings import Settings
from contextdna_tools import FULL_TOOLS

DEADLINE_S = 30.0
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Live:
    """A running server."""

    hub: Hub
    settings: Settings
    url: str

    async def token(self, agent: str, **rights: Any) -> str:
        """Make an access token."""
        operator = self.hub.bind(self.settings.to_principal())
        request = TokenRequest(AgentId(agent), (ProjectId("default"),), **rights)
        return (await operator.access_tokens.create(request)).text

    def transport(self, kind: str, token: str) -> AbstractAsyncContextManager[Any]:
        """Connect over Streamable HTTP (``http``) or HTTP+SSE (``sse``)."""
        headers = {"Authorization": f"Bearer {token}"}
        return sse_client(f"{self.url}/sse", headers) if kind == "sse" else _streamable(f"{self.url}/mcp", headers)


@asynccontextmanager
async def _streamable(url: str, headers: dict[str, str]) -> AsyncIterator[Any]:
    async with create_mcp_http_client(headers=headers) as client, streamable_http_client(url, http_client=client) as io:
        yield io


@asynccontextmanager
async def live_server(data: Path, **http: Any) -> AsyncIterator[Live]:
    """Serve the full profile on any free port."""
    settings = Settings(command_line={"data": str(data), "http": http}, file={})  # type: ignore[call-arg]  # its own sources
    async with open_hub(settings.to_hub_settings()) as hub:
        server = build_server(hub, identity=caller, tools=FULL_TOOLS)
        app = build_app(server, hub, settings, host=HOST, run_folder=data / "run")
        config = uvicorn.Config(
            app.asgi, http="h11", lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
        running = uvicorn.Server(config)
        with socket.create_server((HOST, 0)) as listening:
            async with app.running(), anyio.create_task_group() as tasks:
                tasks.start_soon(running.serve, [listening])
                with anyio.fail_after(DEADLINE_S):
                    while not running.started:  # noqa: ASYNC110 - uvicorn has no event to wait for
                        await anyio.sleep(0.005)
                yield Live(hub, settings, f"http://{HOST}:{listening.getsockname()[1]}")
                app.drain()
                running.should_exit = True
