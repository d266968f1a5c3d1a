"""The real server on stdio, with faults that a test orders: `faulty_server.py DIR`, where DIR holds the data too.

- `DIR/down` exists: the program ends at once, as a server that is away.
- `DIR/TOOL.FAULT` exists: the next call of that tool meets the fault, and the file goes. Faults: `dies_before` and
  `dies_after` (the process is killed before, or after, the work is done and committed), `hangs` (no answer until the
  client gives up), `busy` (the storage is busy); `always_busy` and `always_hangs` stay.
"""

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

DIRECTORY = Path(sys.argv[1])
if (DIRECTORY / "down").exists():
    sys.exit(1)

import anyio  # noqa: E402 - a server that is away should be so at once

from contextdna import StorageUnavailable, open_hub  # noqa: E402
from contextdna_server.app import build_server  # noqa: E402
from contextdna_server.settings import Settings  # noqa: E402
from contextdna_server.stdio import serve_stdio  # noqa: E402
from contextdna_tools import TOOLS, AnyTool, Call  # noqa: E402

Serve = Callable[[Call, Any], Awaitable[Any]]


def ordered(tool: str, fault: str) -> bool:
    """Say whether the test ordered a fault for this call."""
    if (DIRECTORY / f"{tool}.always_{fault}").exists():
        return True
    order = DIRECTORY / f"{tool}.{fault}"
    if not order.exists():
        return False
    order.unlink()
    return True


def with_faults(tool: AnyTool) -> AnyTool:
    """Give a tool that meets the faults which are ordered for it."""

    async def serve(call: Call, args: Any) -> Any:
        if ordered(tool.name, "dies_before"):
            os.kill(os.getpid(), signal.SIGKILL)
        if ordered(tool.name, "hangs"):
            await anyio.sleep_forever()
        if ordered(tool.name, "busy"):
            raise StorageUnavailable("another process writes", code="storage_busy", hint="Retry.", retryable=True)
        result = await tool.serve(call, args)
        if ordered(tool.name, "dies_after"):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return replace(tool, serve=serve)


async def main() -> None:
    """Serve until the client leaves."""
    settings = Settings(command_line={"data": str(DIRECTORY)}, file={})  # type: ignore[call-arg]  # its own sources
    principal = settings.to_principal()
    async with open_hub(settings.to_hub_settings()) as hub:
        (DIRECTORY / "pid").write_text(str(os.getpid()))
        server = build_server(hub, identity=lambda: principal, tools=tuple(map(with_faults, TOOLS)))
        await serve_stdio(server)


anyio.run(main)
