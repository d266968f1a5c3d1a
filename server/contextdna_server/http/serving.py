"""Running the remote server: sockets, and an end that lets calls finish."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

import anyio
import uvicorn
from sse_starlette.sse import AppStatus
from starlette.types import ASGIApp

from contextdna import SettingsInvalid
from contextdna_server.http.connections import gated_protocol
from contextdna_server.http.peer_folder import make_private
from contextdna_server.http.room import SPARE_CONNECTIONS, out_of_files_handler
from contextdna_server.http.slow_clients import HEAD_BYTES_MAX
from contextdna_server.http.tls import tls_of
from contextdna_server.settings import HttpSection

BACKLOG: Final = 2048
_ACCEPT_AT_ONCE: Final = 32
"""Connections are taken in such parts: all that wait at once would use up the files before any is closed."""

_OTHER_FILES: Final = 200 + SPARE_CONNECTIONS + 4 * _ACCEPT_AT_ONCE
"""Files that are not connections with a place: the database, peers, the log, connections that come or go."""

_CUT_OFF_S: Final = 3
"""How long calls that the application cuts off after ``http.drain_s`` may take to stop and to be answered."""

_UNFINISHED: Final = ".new"

logger = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """uvicorn's server, told of its end before it waits for open connections; it ends with exit code 0."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_drain: Callable[[], None],
        with_signals: bool,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._on_drain = on_drain
        self._on_ready = on_ready
        self._with_signals = with_signals

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take connections, a few at a time; as many as ever may wait for that."""
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(BACKLOG)
        if self._on_ready is not None:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams first: they would hold the end up until its time is over."""
        self._on_drain()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGTERM and SIGINT, hurry at SIGINT after that; unlike uvicorn, do not raise them again at the end.

        A worker gets two in an orderly end: of a terminal or service manager, which reach all processes, and of its
        supervisor.
        """
        if not self._with_signals:
            yield
            return
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _frame: object) -> None:
        self.force_exit = self.should_exit and number == signal.SIGINT
        self.should_exit = True


def bound_socket(host: str, port: int) -> socket.socket:
    """Bind the public address.

    Raises:
        SettingsInvalid: ``address_unusable``.
    """
    listening: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise SettingsInvalid(
            f"the address {host}:{port} cannot be used: {error.strerror or error}",
            code="address_unusable",
            hint="Choose another with --http HOST:PORT, or end what uses it.",
        ) from error
    listening.set_inheritable(True)
    return listening


@contextlib.contextmanager
def peer_socket(path: Path) -> Iterator[socket.socket | None]:
    """Bind the socket that the other servers of the installation reach this one by.

    There is none where the OS has no such, or its folder may be another user's. Then what other servers would hand over
    they serve themselves.
    """
    if not hasattr(socket, "AF_UNIX") or sys.platform == "win32":
        yield None
        return
    try:
        make_private(path.parent)
    except SettingsInvalid as error:
        logger.warning("other servers cannot reach this one: %s. %s", error.message, error.hint)
        yield None
        return
    _sweep(path.parent)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unfinished = path.with_suffix(_UNFINISHED)
    try:
        listening.bind(str(unfinished))
        unfinished.chmod(0o600)
        listening.listen(BACKLOG)
        unfinished.rename(path)  # only now: one that does not listen yet looks like that of a server that was killed
        yield listening
    finally:
        listening.close()
        path.unlink(missing_ok=True)
        unfinished.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove the sockets of servers that were killed."""
    for path in folder.glob("*.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue


async def serve_app(
    app: ASGIApp,
    settings: HttpSection,
    *,
    public: socket.socket,
    peer: socket.socket | None,
    on_drain: Callable[[], None],
    on_ready: Callable[[], None] | None = None,
    stopping: anyio.Event | None = None,
    supervisor: socket.socket | None = None,
) -> None:
    """Serve an ASGI application until SIGTERM or SIGINT; then streams end, calls finish, and this returns.

    Args:
        app: The application.
        settings: TLS, and how long calls may take to finish.
        public: The listening socket of clients.
        peer: The listening socket of the installation's other servers.
        on_drain: Told when the end begins.
        on_ready: Told when clients are served.
        stopping: Ends the server in place of signals.
        supervisor: The line to the process that started this worker; its end ends the server, too.
    """
    AppStatus.enable_automatic_graceful_drain = False  # it would end streams that calls are still to be answered on
    config = _config(app, settings, places=allow_connections(settings.connections_max), tls=tls_of(settings))
    others: list[DrainingServer] = []

    def drain() -> None:
        on_drain()
        for server in others:  # at the same time: each gets http.drain_s, and who waits for this process waits once
            server.should_exit = True

    main = DrainingServer(config, on_drain=drain, with_signals=stopping is None, on_ready=on_ready)
    async with _quiet_accepting(), anyio.create_task_group() as tasks:
        if peer is not None:
            others.append(DrainingServer(_config(app, settings), on_drain=on_drain, with_signals=False))
            tasks.start_soon(others[0].serve, [peer])
        if stopping is not None:
            tasks.start_soon(_stop_when, stopping, main)
        async with anyio.create_task_group() as watching:
            if supervisor is not None:
                watching.start_soon(_stop_without, supervisor, main)
            await main.serve([public])
            watching.cancel_scope.cancel()
        for server in others:
            server.should_exit, server.force_exit = True, main.force_exit
        if stopping is not None:
            stopping.set()


async def _stop_when(stopping: anyio.Event, server: uvicorn.Server) -> None:
    await stopping.wait()
    server.should_exit = True


async def _stop_without(supervisor: socket.socket, server: uvicorn.Server) -> None:
    with contextlib.suppress(ConnectionResetError):
        while True:
            await anyio.wait_readable(supervisor)
            if not supervisor.recv(1):
                break
    logger.warning("the process that started this worker is gone: it ends")
    server.should_exit = True


@contextlib.asynccontextmanager
async def _quiet_accepting() -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(out_of_files_handler(before))
    try:
        yield
    finally:
        loop.set_exception_handler(before)


def _config(
    app: ASGIApp, settings: HttpSection, *, places: int | None = None, tls: ssl.SSLContext | None = None
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=gated_protocol(settings, places=places, tls=tls),
        backlog=_ACCEPT_AT_ONCE,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,  # its lines would hold query strings
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=round(settings.keep_alive_s),
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        timeout_graceful_shutdown=math.ceil(settings.drain_s) + _CUT_OFF_S,
    )


def allow_connections(wanted: int) -> int:
    """Let this process have as many open files as its connections take, as far as the system lets it.

    Returns:
        How many connections there are files for.
    """
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    files = needed if hard == resource.RLIM_INFINITY else max(soft, min(needed, hard))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    except (OSError, ValueError):  # macOS has a bound besides
        files = soft
    if files >= needed:
        return wanted
    places = max(files - _OTHER_FILES, files // 2)
    logger.warning("the system gives %d files, which is enough for %d connections of %d", files, places, wanted)
    return places
