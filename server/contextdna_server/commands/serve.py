"""``contextdna serve``: the MCP server on standard input and output."""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING, Final

import click

from contextdna.errors import ContextDnaError
from contextdna_server.commands.invocation import Invocation, run_async, with_shared_options
from contextdna_server.settings import Settings
from contextdna_server.startup import collector_resting

if TYPE_CHECKING:
    import anyio
    from anyio.abc import TaskStatus

_TALKATIVE: Final = ("mcp", "aiosqlite")
"""Packages that at DEBUG repeat messages or errors, and with them memory text."""


@click.command()
@click.option("--project", "projects", multiple=True, metavar="NAME", help="Add a project; may be repeated.")
@click.option("--tools", type=click.Choice(["default", "full"]), help="Which tools are listed.")
@click.option("--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]), help="What goes to stderr.")
@with_shared_options
def serve(invocation: Invocation, projects: tuple[str, ...], tools: str | None, log_level: str | None) -> None:
    """Serve one MCP host on stdio until it leaves or a signal comes.

    The protocol has standard output for itself; messages go to standard error (with --json, errors too are JSON).
    """
    _require_streams()
    profile = {"profile": tools} if tools else None
    settings = invocation.settings(more_projects=projects, log_level=log_level, tools=profile)
    log_to_stderr(settings.log_level)

    async def run() -> None:
        await serve_on_stdio(settings)

    run_async(run)


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
        from contextdna_server.app import build_server
        from contextdna_server.stdio import MESSAGE_BYTES_MAX, serve_stdio
        from contextdna_tools import FULL_TOOLS, TOOLS, WAITING_TOOLS
    async with open_hub(settings.to_hub_settings()) as hub:
        server = build_server(
            hub,
            identity=lambda: principal,
            tools=FULL_TOOLS if settings.tools.profile == "full" else TOOLS,
            allowed_roots=settings.artifacts.allowed_roots,
        )
        await serve_stdio(
            server,
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
    if level == "DEBUG":
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel("INFO")
