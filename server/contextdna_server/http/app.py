"""The remote server as one ASGI application: every layer that a request passes, and the transports behind them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import anyio
from mcp.server.lowlevel import Server
from starlette.types import ASGIApp, Receive, Scope, Send

from contextdna import ContextDnaError, Hub, IntegrityFault, InvalidInput, NotFound, Principal, SettingsInvalid
from contextdna_server.endpoints import is_loopback
from contextdna_server.http.affinity import Peers, TransportSessions, new_server_name
from contextdna_server.http.authentication import AuthenticationLayer
from contextdna_server.http.bodies import BodyLayer
from contextdna_server.http.boundary import BoundaryLayer
from contextdna_server.http.challenges import Challenges
from contextdna_server.http.crowd_allocator import CrowdAllocator, allocator_switch
from contextdna_server.http.failures import FailureLayer
from contextdna_server.http.hosts import HostLayer, PublicPathLayer, check_hosts, public_path
from contextdna_server.http.http_sse import MESSAGES_PATH, SSE_PATH, HttpSse
from contextdna_server.http.identity import Authenticator, current_credential
from contextdna_server.http.limits import Callers, LimitLayer
from contextdna_server.http.metadata import MetadataLayer
from contextdna_server.http.note import RefusalNotes
from contextdna_server.http.open_requests import OpenRequests
from contextdna_server.http.refusals import Refusal, answer
from contextdna_server.http.returned_memory import MemoryReturn
from contextdna_server.http.room import HEALTH_PATH, READY_PATH
from contextdna_server.http.running_calls import RunningCalls
from contextdna_server.http.scope_checks import ScopeLayer
from contextdna_server.http.slow_clients import SlowClientLayer
from contextdna_server.http.streamable_http import MCP_PATH, StreamableHttp
from contextdna_server.http.streams import StreamLayer
from contextdna_server.http.tls import tls_of
from contextdna_server.open_calls import WAITING_TOOLS
from contextdna_server.settings import Settings

_MESSAGES_PURPOSE: Final = "messages"
_READY_S: Final = 1.0
_READY_WITHIN_S: Final = 5.0
_QUEUED_FOR: Final = ("storage_unreachable", "storage_timeout")
"""What a database answers, or we for it, that writes are queued for."""


@dataclass(slots=True)
class HttpApp:
    """The application, and what its server needs besides."""

    asgi: ASGIApp
    server_name: str
    """Names the socket that other servers reach this one by."""
    _streamable: StreamableHttp
    _sse: HttpSse
    _peers: Peers
    _open_requests: OpenRequests
    _running_calls: RunningCalls
    _notes: RefusalNotes
    _authenticator: Authenticator
    _slow_clients: SlowClientLayer

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hold what the application works with; enter it before the first request."""
        async with (
            self._notes.running(),
            self._authenticator.running(),
            self._peers.opened(),
            self._streamable.running(),
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(self._open_requests.watch)
            tasks.start_soon(MemoryReturn(self._most_open).run)
            yield
            tasks.cancel_scope.cancel()

    def _most_open(self) -> int:
        return self._open_requests.most() + self._streamable.most() + self._sse.most()

    def drain(self) -> None:
        """Begin to end: streams end, calls go on for a while."""
        self._running_calls.drain()
        self._open_requests.drain()
        self._sse.drain()
        self._slow_clients.drain()


def caller() -> Principal:
    """Give the verified caller of the request at hand: the identity that the server is built with."""
    return current_credential.get().principal


def check_http(settings: Settings, host: str) -> None:
    """Refuse to listen where the settings would let in who should not be.

    Args:
        settings: What is allowed.
        host: The name or address to listen on.

    Raises:
        SettingsInvalid: ``anonymous_exposed``, ``tls_incomplete``, ``tls_unusable``, ``hosts_missing`` or
            ``setting_invalid``.
    """
    http = settings.http
    check_hosts(http, host)
    if http.anonymous and not is_loopback(host):
        raise SettingsInvalid(
            f"callers without a credential are let in, and {host} can be reached from other machines",
            code="anonymous_exposed",
            hint="Listen on 127.0.0.1, or leave anonymous out and make tokens with `contextdna token create`.",
        )
    tls_of(http)


def build_app(server: Server[Any], hub: Hub, settings: Settings, *, host: str, run_folder: Path) -> HttpApp:
    """Put the transports and every layer around a server.

    A request passes, from outside in: time limits on the wire, health, host and origin, what else needs no credential,
    its credential, limits per caller, its body, scopes, and the watch over open requests.

    Args:
        server: What is served; its identity is ``caller``.
        hub: The installation, for credentials and for the audit of refusals.
        settings: What is allowed.
        host: The name or address that is listened on.
        run_folder: Where the sockets of servers of this installation are.

    Raises:
        SettingsInvalid: As ``check_http``, or ``oauth_incomplete``.
    """
    check_http(settings, host)
    name = settings.http.peer_url or new_server_name()
    peers = Peers(run_folder)
    note = RefusalNotes(hub)
    callers = Callers(settings.http)
    streamable = StreamableHttp(
        server,
        sessions=TransportSessions(hub, name),
        peers=peers,
        note=note,
        json_replies=settings.http.json_replies,
        idle_s=settings.http.session_idle_s,
        sessions_max=settings.http.sessions_max,
    )
    sse = HttpSse(
        server,
        name=hub.seal_text(name, _MESSAGES_PURPOSE),
        own=name,
        read_name=_name_reader(hub),
        peers=peers,
        note=note,
        grace_s=settings.http.drain_s,
        public_path=public_path(settings.http),
    )
    authenticator = Authenticator(hub, settings)
    challenges = Challenges(settings)
    readiness = _Readiness(hub)
    served = _Routes({MCP_PATH: (streamable, "GET, POST, DELETE"), SSE_PATH: (sse.serve_stream, "GET")}, sse)
    running_calls = RunningCalls(settings.http, waiting_tools=WAITING_TOOLS, wait_max_s=settings.work.wait_max_s)
    running_calls.keep(server)
    open_requests = OpenRequests(served, authenticator.recheck, CrowdAllocator(allocator_switch()))
    app: ASGIApp = StreamLayer(
        open_requests,
        settings.http,
        callers=callers,
        note=note,
        waiting_tools=WAITING_TOOLS,
        wait_max_s=settings.work.wait_max_s,
    )
    app = ScopeLayer(app, note, challenges)
    app = BodyLayer(app, settings.http, note=note)
    app = LimitLayer(app, settings.http, callers=callers, note=note)
    app = AuthenticationLayer(app, authenticator, note, challenges)
    app = FailureLayer(app, settings.http)
    app = MetadataLayer(app, settings)
    app = HostLayer(app, check_hosts(settings.http, host))
    app = PublicPathLayer(_HealthRoutes(app, readiness), public_path(settings.http))
    slow_clients = SlowClientLayer(BoundaryLayer(app), settings.http)
    return HttpApp(
        slow_clients,
        name,
        streamable,
        sse,
        peers,
        open_requests,
        running_calls,
        note,
        authenticator,
        slow_clients,
    )


class _HealthRoutes:
    """Tells load balancers and containers, which ask by address, how the server is; it gives nothing else away."""

    def __init__(self, app: ASGIApp, readiness: _Readiness) -> None:
        self._app = app
        self._routes = {HEALTH_PATH: readiness.serve_health, READY_PATH: readiness.serve_ready}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(scope["path"]) if scope["method"] in ("GET", "HEAD") else None
        await (route or self._app)(scope, receive, send)


def _name_reader(hub: Hub) -> Callable[[str], str | None]:
    @lru_cache(maxsize=256)
    def read(sealed: str) -> str:
        return hub.open_text(sealed, _MESSAGES_PURPOSE)

    def read_or_none(sealed: str) -> str | None:
        try:
            return read(sealed)
        except IntegrityFault:
            return None

    return read_or_none


class _Routes:
    """Which transport has which path; a path that nothing has is told what there is."""

    def __init__(self, paths: dict[str, tuple[ASGIApp, str]], sse: HttpSse) -> None:
        self._paths = paths
        self._sse = sse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        served, methods = self._paths.get(path, (None, ""))
        if path.startswith(f"{MESSAGES_PATH}/"):
            served, methods = self._sse.serve_message, "POST"
        if served is None:
            error = NotFound(
                "nothing is here", code="path_unknown", hint=f"The server is at {MCP_PATH}, or {SSE_PATH}."
            )
            await answer(Refusal(error, 404), send)
        elif scope["method"] not in methods.split(", "):
            unfit = InvalidInput("the method does not fit the path", code="method_not_allowed", hint=f"Use {methods}.")
            await answer(Refusal(unfit, 405, (("Allow", methods),)), send)
        else:
            await served(scope, receive, send)


class _Readiness:
    """Whether the server lives, and whether it can serve calls now. Needs no credential and tells nothing else."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._asked_at = 0.0
        self._problem = ""
        self._asking = anyio.Lock()

    async def serve_health(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer that the process lives."""
        await _say(send, 200, {"status": "ok"})

    async def serve_ready(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer whether calls can be served now; the database is asked at most once a second.

        A server that queues writes while the database is away serves: were it out of turn, nobody would queue any.
        """
        problem = await self._ask()
        degraded = [str(mode.name) for mode in self._hub.modes]
        document = {"status": problem or "ready", **({"degraded": degraded} if degraded else {})}
        await _say(send, 503 if problem else 200, document)

    async def _ask(self) -> str:
        async with self._asking:
            if anyio.current_time() - self._asked_at > _READY_S:
                try:
                    self._problem = "storage_timeout"
                    with anyio.move_on_after(_READY_WITHIN_S):
                        await self._hub.check()
                        self._problem = ""
                except ContextDnaError as error:
                    self._problem = error.code
                if self._problem in _QUEUED_FOR and self._hub.queues_writes:
                    self._problem = ""
                self._asked_at = anyio.current_time()
            return self._problem


async def _say(send: Send, status: int, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send(
        {"type": "http.response.start", "status": status, "headers": [*headers, (b"cache-control", b"no-store")]}
    )
    await send({"type": "http.response.body", "body": body})
