"""Real servers for the benchmarks: started as a host starts them, and called through the SDK's own client."""

import argparse
import os
import shlex
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, TextContent

FLOOR = (sys.executable, "-m", "benchmarks.floor_server")


def add_command_option(parser: argparse.ArgumentParser) -> None:
    """Declare how the product is started."""
    default = "contextdna serve"
    parser.add_argument("--command", default=default, help=f"the product; --data DIR is added (default {default})")


def command_of(options: argparse.Namespace) -> list[str]:
    """Give the product's command."""
    return shlex.split(options.command, posix=os.name == "posix")


@asynccontextmanager
async def connected(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> AsyncIterator[Client]:
    """Start a server on stdio and connect to it; it ends with the block."""
    variables = {**os.environ, **(environment or {})}
    async with Client(StdioServerParameters(command=command[0], args=list(command[1:]), env=variables)) as client:
        yield client


async def called(client: Client, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Call a tool and give its answer.

    Raises:
        RuntimeError: It answered with an error.
    """
    return checked(tool, await client.call_tool(tool, dict(arguments))).structured_content or {}


def checked(tool: str, result: CallToolResult) -> CallToolResult:
    """Give a result that is no error.

    Raises:
        RuntimeError: It is one.
    """
    if result.is_error:
        raise RuntimeError(f"{tool}: {text_of(result)}")
    return result


def text_of(result: CallToolResult) -> str:
    """Give a result's text: what a model reads."""
    return "\n".join(part.text for part in result.content if isinstance(part, TextContent))
