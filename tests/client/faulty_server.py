"""The real server on stdio, with faults that a test orders: a program that waits with all imported, and forks.

`faulty_server.py SOCKET` serves whoever comes over the socket with a folder and three file descriptors, as
`launcher.py` does, each in a process of its own; it ends with its standard input. In the folder, which holds the data:

- `TOOL.FAULT` exists: the next call of that tool meets the fault, and the file goes. Faults: `dies_before` and
  `dies_after` (the process is killed before, or after, the work is done and committed), `hangs` (no answer until the
  client gives up), `busy` (the storage is busy); `always_busy` and `always_hangs` stay.
- `noted` stands in place of a fault where a test only wants to know that the call was carried out.
"""

import os
import select
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from contextdna import StorageUnavailable, open_hub
from contextdna_server.app import build_server
from contextdna_server.settings import Settings
from contextdna_server.stdio import serve_stdio
from contextdna_tools import FULL_TOOLS, AnyTool, Call

Serve = Callable[[Call, Any], Awaitable[Any]]


def ordered(folder: Path, tool: str, fault: str) -> bool:
    """Say whether the test ordered a fault for this call."""
    if (folder / f"{tool}.always_{fault}").exists():
        return True
    order = folder / f"{tool}.{fault}"
    if not order.exists():
        return False
    order.unlink()
    return True


def with_faults(tool: AnyTool, folder: Path) -> AnyTool:
    """Give a tool that meets the faults which are ordered for it."""

    async def serve(call: Call, args: Any) -> Any:
        if ordered(folder, tool.name, "dies_before"):
            os.kill(os.getpid(), signal.SIGKILL)
        if ordered(folder, tool.name, "hangs"):
            await anyio.sleep_forever()
        if ordered(folder, tool.name, "busy"):
            raise StorageUnavailable("another process writes", code="storage_busy", hint="Retry.", retryable=True)
        result = await tool.serve(call, args)
        ordered(folder, tool.name, "noted")
        if ordered(folder, tool.name, "dies_after"):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return replace(tool, serve=serve)


async def serve(folder: Path) -> None:
    """Serve until the client leaves."""
    chosen = {"data": str(folder), "limits": {"content_bytes_max": 64 * 1024}}
    settings = Settings(command_line=chosen, file={})  # type: ignore[call-arg]  # its own sources
    principal = settings.to_principal()
    async with open_hub(settings.to_hub_settings()) as hub:
        (folder / "pid").write_text(str(os.getpid()))
        faulty = tuple(with_faults(tool, folder) for tool in FULL_TOOLS)
        await serve_stdio(build_server(hub, identity=lambda: principal, tools=faulty))


def fork(connection: socket.socket) -> None:
    """Serve one client in a process of its own. The connection ends with it, and the launcher with that."""
    folder, descriptors, *_ = socket.recv_fds(connection, 4096, 3)
    if os.fork():
        for descriptor in descriptors:
            os.close(descriptor)
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    try:
        anyio.run(serve, Path(os.fsdecode(folder)))
    finally:
        os._exit(0)


def main() -> None:
    """Fork for each who comes."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who has died is gone at once
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(sys.argv[1])
        listening.listen()
        os.write(1, b"ready\n")
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            with connection:
                fork(connection)


if __name__ == "__main__":
    main()
