"""The least that an MCP server on this SDK can cost: one tool, `echo`, over stdio.

`python -m benchmarks.floor_server [--own-pipes]`: with the SDK's own stdio transport, or with the product's.
"""

import argparse
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams, TextContent, Tool

ECHO = Tool(
    name="echo",
    description="Answer with the same text.",
    input_schema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
)


async def list_tools(_context: ServerRequestContext[Any], _page: PaginatedRequestParams | None) -> ListToolsResult:
    return ListToolsResult(tools=[ECHO])


async def call_tool(_context: ServerRequestContext[Any], call: CallToolRequestParams) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=(call.arguments or {})["text"])])


def floor_server() -> Server[Any]:
    return Server("floor", version="0", on_list_tools=list_tools, on_call_tool=call_tool)


async def serve_default() -> None:
    server = floor_server()
    async with stdio_server() as (received, sent):
        await server.run(received, sent, server.create_initialization_options())


async def serve_own_pipes() -> None:
    from contextdna_server.stdio import serve_stdio  # the default floor must not pay for this import

    await serve_stdio(floor_server())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--own-pipes", action="store_true", help="use contextdna's stdio transport")
    anyio.run(serve_own_pipes if parser.parse_args().own_pipes else serve_default)


if __name__ == "__main__":
    main()
