"""A remote server in the test process: the product's app and sockets on a free port of this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from contextdna import AgentId, Hub, Principal, ProjectId, Role, Scope, TokenRequest, open_hub
from contextdna_server.app import build_server
from contextdna_server.http.app import HttpApp, build_app, caller
from contextdna_server.http.peer_folder import socket_path
from contextdna_server.http.serving import bound_socket, peer_socket, serve_app
from contextdna_server.settings import load_settings
from contextdna_tools import FULL_TOOLS, AnyTool

MODES = ("modern", "legacy", "sse")
"""Both eras over Streamable HTTP, and HTTP+SSE."""


class RemoteServer:
    """A server that runs, and who may call it."""

    def __init__(self, hub: Hub, app: HttpApp, url: str, stopping: anyio.Event) -> None:
        self.hub = hub
        self.app = app
        self.url = url
        self._stopping = stopping

    def stop(self) -> None:
        """Begin its end, as a signal does."""
        self._stopping.set()

    async def token(self, agent: str, *, role: Role = Role.AGENT, scopes: Iterable[Scope] = tuple(Scope)) -> str:
        """Make a token as an operator."""
        projects = self.hub.settings.projects
        operator = Principal(AgentId("operator"), projects, role=Role.SYSTEM)
        request = TokenRequest(AgentId(agent), tuple(map(ProjectId, projects)), role=role, scopes=frozenset(scopes))
        made = await self.hub.bind(operator, project_id=projects[0]).access_tokens.create(request)
        return made.text

    @asynccontextmanager
    async def client(self, token: str, mode: str = "modern") -> AsyncIterator[Client]:
        """Connect a client."""
        headers = {"Authorization": f"Bearer {token}"}
        if mode == "sse":
            async with Client(sse_client(f"{self.url}/sse", headers=headers), mode="legacy") as client:
                yield client
            return
        era = "legacy" if mode == "legacy" else "auto"
        async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
            transport = streamable_http_client(f"{self.url}/mcp", http_client=http)
            async with Client(transport, mode=era) as client:
                yield client

    def http(self, token: str = "") -> httpx2.AsyncClient:
        """Give a plain HTTP client."""
        headers = {"accept": "application/json, text/event-stream"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=30)


@asynccontextmanager
async def running(
    data: Path, *, tools: tuple[AnyTool, ...] = FULL_TOOLS, http: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[RemoteServer]:
    """Serve a data folder until the end of the block."""
    loaded = load_settings({"data": data, "http": {"drain_s": 5, **(http or {})}, **settings})
    listening = bound_socket("127.0.0.1", 0)
    stopping = anyio.Event()
    async with open_hub(loaded.to_hub_settings()) as hub:
        run_folder = data / "run"
        app = build_app(
            build_server(hub, identity=caller, tools=tools), hub, loaded, host="127.0.0.1", run_folder=run_folder
        )
        server = RemoteServer(hub, app, f"http://127.0.0.1:{listening.getsockname()[1]}", stopping)
        with peer_socket(socket_path(run_folder, app.server_name)) as peer:
            async with app.running(), anyio.create_task_group() as tasks:

                async def serve() -> None:
                    await serve_app(
                        app.asgi, loaded.http, public=listening, peer=peer, on_drain=app.drain, stopping=stopping
                    )

                tasks.start_soon(serve)
                yield server
                stopping.set()
