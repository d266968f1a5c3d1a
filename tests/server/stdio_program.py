"""A small MCP server for the tests of the stdio transport; run as a program: `stdio_program.py DIR [GRACE_S]`.

It leaves files in DIR: `started` when a slow call runs, `finished` or `cancelled` when it ended, `closed` at teardown.
"""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams, TextContent, Tool

from contextdna_server.stdio import serve_stdio

NOTES = Path(sys.argv[1])
GRACE_S = float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
OBJECT = {"type": "object"}


async def list_tools(_context: ServerRequestContext[Any], _page: PaginatedRequestParams | None) -> ListToolsResult:
    return ListToolsResult(tools=[Tool(name=name, input_schema=OBJECT) for name in TOOLS])


async def call_tool(_context: ServerRequestContext[Any], call: CallToolRequestParams) -> CallToolResult:
    text = await TOOLS[call.name](call.arguments or {})
    return CallToolResult(content=[TextContent(type="text", text=text)])


async def size(arguments: dict[str, Any]) -> str:
    return str(len(arguments["text"]))


async def echo(arguments: dict[str, Any]) -> str:
    return str(arguments["text"])


async def shout(_arguments: dict[str, Any]) -> str:
    """Write to standard output in every way that a library might, and try to take the client's next message."""
    print("a print")  # noqa: T201 - the stray output under test
    os.write(1, b"a raw write\n")
    await anyio.run_process([sys.executable, "-c", "print('a child')"], stdout=None, stderr=subprocess.DEVNULL)
    return f"stdin: {sys.stdin.read()!r}"


async def slow(_arguments: dict[str, Any]) -> str:
    """Run until the test writes `release`; also served as `wait`, a tool that only waits."""
    (NOTES / "started").touch()
    try:
        while not (NOTES / "release").exists():  # noqa: ASYNC110 - another process sets it
            await anyio.sleep(0.01)
        (NOTES / "finished").touch()
    except anyio.get_cancelled_exc_class():
        (NOTES / "cancelled").touch()
        raise
    return "done"


TOOLS = {"size": size, "echo": echo, "shout": shout, "slow": slow, "wait": slow}


async def main() -> None:
    server: Server[Any] = Server("stdio-program", on_list_tools=list_tools, on_call_tool=call_tool)
    try:
        await serve_stdio(server, grace_s=GRACE_S, waiting_tools={"wait"})
        os.write(1, b"")  # descriptor 1 is usable again
    finally:
        (NOTES / "closed").touch()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    anyio.run(main)
