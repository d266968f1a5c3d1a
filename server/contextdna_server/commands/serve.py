"""``contextdna serve``: the MCP server on standard input and output, or over HTTP."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from contextdna.errors import ContextDnaError
from contextdna_server.commands.invocation import Invocation, run_async, with_shared_options
from contextdna_server.settings import Settings
from contextdna_server.startup import collector_resting

if TYPE_CHECKING:
    import anyio
    from anyio.abc import TaskStatus
    from mcp.server.lowlevel import Server

TALKATIVE: Final = {
    "mcp": "INFO",
    "mcp.shared.jsonrpc_dispatcher": "ERROR",  # its one warning repeats the id of a call, any text of the client's
    "aiosqlite": "INFO",
    "sse_starlette": "INFO",
    "httpx2": "WARNING",
    "httpcore2": "INFO",
}
"""Packages that repeat messages, errors or addresses below these levels, and with them memory text or secrets."""


@click.command()
@click.option("--project", "projects", multiple=True, metavar="NAME", help="Add a project; may be repeated.")
@click.option("--tools", type=click.Choice(["default", "full"]), help="Which tools are listed.")
@click.option("--http", "address", metavar="HOST:PORT", help="Serve over HTTP in place of stdio.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, help="Processes that share the port.")
@click.option("--anonymous", is_flag=True, help="With --http on loopback: calls without a token are the local user's.")
@click.option("--tls-certificate", type=click.Path(path_type=Path, dir_okay=False), help="PEM file of the certificate.")
@click.option("--tls-key", type=click.Path(path_type=Path, dir_okay=False), help="PEM file of its private key.")
@click.option("--socket", "descriptor", type=int, hidden=True)
@click.option("--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]), help="What goes to stderr.")
@with_shared_options
def serve(
    invocation: Invocation,
    *,
    projects: tuple[str, ...],
    tools: str | None,
    address: str | None,
    workers: int,
    anonymous: bool,
    tls_certificate: Path | None,
    tls_key: Path | None,
    descriptor: int | None,
    log_level: str | None,
) -> None:
    """Serve one MCP host on stdio until it leaves or a signal comes; with --http, many over the network.

    On stdio the protocol has standard output for itself; messages go to standard error (with --json, errors too are
    JSON). Over HTTP the server is at /mcp (Streamable HTTP) and /sse; make tokens with `contextdna token create`.
    """
    if address is None:
        _require_no_http_option(click.get_current_context())
    profile = {"profile": tools} if tools else None
    http = {"anonymous": anonymous or None, "tls_certificate": tls_certificate, "tls_key": tls_key}
    settings = invocation.settings(
        more_projects=projects,
        log_level=log_level,
        tools=profile,
        http={name: value for name, value in http.items() if value is not None} or None,
    )
    log_to_stderr(settings.log_level)
    if address is not None:
        from contextdna_server.commands.serve_http import serve_http

        sys.exit(serve_http(settings, address, workers=workers, descriptor=descriptor))
    _require_streams()

    async def run() -> None:
        await serve_on_stdio(settings)

    run_async(run)


def _require_no_http_option(context: click.Context) -> None:
    """Refuse options of the remote server where stdio is served, which would ignore them.

    Raises:
        UsageError: There is one.
    """
    for name in ("workers", "anonymous", "tls_certificate", "tls_key"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} is for --http HOST:PORT")


def _require_streams() -> None:
    """Refuse to begin without the two streams; a file opened later would get the free descriptor.

    Raises:
        ContextDnaError: ``stdio_closed``.
    """
    closed = [name for name, stream in (("input", sys.stdin), ("output", sys.stdout)) if stream is None]
    if closed:
        raise ContextDnaError(
            f"standard {' and '.join(closed)} is closed: there is no host to serve",
            code="stdio_closed",
            hint="Let an MCP host start this command, with pipes for standard input and output.",
        )


async def serve_on_stdio(settings: Settings) -> None:
    """Open the installation and serve it.

    Raises:
        ContextDnaError: The installation cannot be opened.
    """
    import anyio

    async with anyio.create_task_group() as tasks:
        if sys.platform != "win32":
            await tasks.start(_cancel_at_signal, tasks.cancel_scope)
        await _open_and_serve(settings)
        tasks.cancel_scope.cancel()


async def _open_and_serve(settings: Settings) -> None:
    from contextdna import open_hub

    principal = settings.to_principal()
    with collector_resting():
        from contextdna_server.handshake import early_server
        from contextdna_server.open_calls import WAITING_TOOLS
        from contextdna_server.stdio import MESSAGE_BYTES_MAX, serve_stdio

    def build() -> Server[Any]:
        with collector_resting():
            from contextdna_server.app import build_server
            from contextdna_tools import FULL_TOOLS, TOOLS
        return build_server(
            hub,
            identity=lambda: principal,
            tools=FULL_TOOLS if settings.tools.profile == "full" else TOOLS,
            allowed_roots=settings.artifacts.allowed_roots,
        )

    async with open_hub(settings.to_hub_settings()) as hub:
        await serve_stdio(
            early_server(build),
            message_bytes_max=max(MESSAGE_BYTES_MAX, settings.limits.artifact_bytes_max * 3 // 2),
            waiting_tools=WAITING_TOOLS,
        )


async def _cancel_at_signal(scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    """Give up opening at SIGTERM or SIGINT; ``serve_stdio`` puts its own receiver in place of this one."""
    import anyio

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


def log_to_stderr(level: str) -> None:
    """Send the log to standard error: standard output belongs to the protocol."""
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name, least in TALKATIVE.items():
        logging.getLogger(name).setLevel(max(logging.getLevelName(level), logging.getLevelName(least)))
