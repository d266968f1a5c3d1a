"""``contextdna serve --http``: the same server over the network."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import anyio
import click
from mcp.server.lowlevel import Server

from contextdna import Hub, HubSettings, SettingsInvalid, WhenUnusable, open_hub
from contextdna_server.app import build_server
from contextdna_server.http.app import build_app, caller, check_http
from contextdna_server.http.peer_folder import socket_path
from contextdna_server.http.serving import bound_socket, peer_socket, serve_app
from contextdna_server.http.workers import (
    inherited_socket,
    supervise,
    supervisor_line,
    tell_ready,
    worker_command,
)
from contextdna_server.settings import Settings
from contextdna_tools import FULL_TOOLS, TOOLS

RUN_FOLDER: Final = "run"

logger = logging.getLogger(__name__)


def serve_http(settings: Settings, address: str, *, workers: int, descriptor: int | None) -> int:
    """Serve until a signal; gives the exit code.

    Args:
        settings: The installation's, and the remote server's.
        address: HOST:PORT to listen on; [HOST]:PORT for IPv6, port 0 for any free one.
        workers: How many processes share the port.
        descriptor: The listening socket of the process that started this worker; None in any other.

    Raises:
        ContextDnaError: The settings are not safe for this address, or the installation cannot be opened.
    """
    host, port = parse_address(address)
    check_http(settings, host)
    if workers > 1 and settings.http.peer_url:
        raise SettingsInvalid(
            "http.peer_url names one process, and several workers would share it",
            code="peer_url_shared",
            hint="Start each process by itself, with a port and an http.peer_url of its own.",
        )
    supervisor = None
    if descriptor is not None:
        listening, started = inherited_socket(descriptor), ""
        supervisor = supervisor_line()
    else:
        listening = bound_socket(host, port)
        scheme = "https" if settings.http.tls_certificate else "http"
        shown = f"[{host}]" if ":" in host else host
        started = f"contextdna listens on {scheme}://{shown}:{listening.getsockname()[1]}/mcp"
        if workers > 1:
            anyio.run(_prepare, settings)  # so that what is wrong with it is told once, and not by every worker
            return supervise(
                worker_command(),
                workers,
                listening,
                drain_s=settings.http.drain_s,
                on_ready=partial(click.echo, started, err=True),
            )

    def build(hub: Hub) -> Server[Any]:
        tools = FULL_TOOLS if settings.tools.profile == "full" else TOOLS
        return build_server(hub, identity=caller, tools=tools)  # no local files: callers are elsewhere

    serve = partial(serve_listening, settings, build, host=host, listening=listening)
    anyio.run(partial(serve, started=started, supervisor=supervisor))
    return 0


async def _prepare(settings: Settings) -> None:
    async with open_hub(_kept(settings)):
        pass


async def serve_listening(
    settings: Settings,
    build: Callable[[Hub], Server[Any]],
    *,
    host: str,
    listening: socket.socket,
    started: str = "",
    supervisor: socket.socket | None = None,
) -> None:
    """Open the installation and serve what is built around it, until a signal.

    Args:
        settings: The installation's, and the remote server's.
        build: Makes the server; its identity is ``caller``.
        host: The name or address that is listened on.
        listening: The public socket.
        started: What to say on standard error when it serves.
        supervisor: The line to the process that started this worker, which is told in its place.

    Raises:
        ContextDnaError: The installation cannot be opened.
    """

    def on_ready() -> None:
        if supervisor is not None:
            tell_ready(supervisor)
        if started:
            click.echo(started, err=True)

    async with open_hub(_kept(settings)) as hub:
        folder = settings.data / RUN_FOLDER
        http = build_app(build(hub), hub, settings, host=host, run_folder=folder)
        with peer_socket(socket_path(folder, http.server_name)) as peer:
            async with http.running():
                await serve_app(
                    http.asgi,
                    settings.http,
                    public=listening,
                    peer=peer,
                    on_drain=http.drain,
                    on_ready=on_ready,
                    supervisor=supervisor,
                )


def _kept(settings: Settings) -> HubSettings:
    """Give the hub's settings; without its file a server has no tokens, and would take all callers for strangers."""
    return replace(settings.to_hub_settings(), when_unusable=WhenUnusable.REFUSE)


def parse_address(address: str) -> tuple[str, int]:
    """Read HOST:PORT.

    Raises:
        SettingsInvalid: ``address_invalid``.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise SettingsInvalid(
            f"{address} is not an address to listen on",
            code="address_invalid",
            hint="Give HOST:PORT, such as 127.0.0.1:8000, or [::1]:8000.",
        )
    return host, int(port)
