"""The least that an MCP server on this SDK can cost: one tool, `echo`, over stdio or HTTP.

`python -m benchmarks.floor_server [--own-pipes]`: with the SDK's own stdio transport, or with the product's.
`python -m benchmarks.floor_server --answer FILE`: a tool that answers with what the file holds, whatever it is asked.
`python -m benchmarks.floor_server --http HOST:PORT`: Streamable HTTP in both eras, and HTTP+SSE, as the SDK has them.
"""

import argparse
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams, TextContent, Tool

if TYPE_CHECKING:
    from mcp.server.sse import SseServerTransport
    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send

_KEEP_ALIVE_S = 75  # as the product: its clients wait while others are measured

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


def answering_server(answer: CallToolResult) -> Server[Any]:
    async def give_answer(_context: ServerRequestContext[Any], _call: CallToolRequestParams) -> CallToolResult:
        return answer

    return Server("floor", version="0", on_list_tools=list_tools, on_call_tool=give_answer)


async def serve_default(server: Server[Any]) -> None:
    async with stdio_server() as (received, sent):
        await server.run(received, sent, server.create_initialization_options())


async def serve_own_pipes() -> None:
    from contextdna_server.stdio import serve_stdio  # the default floor must not pay for this import

    await serve_stdio(floor_server())


class SseStreams:
    """Serves the streams of HTTP+SSE."""

    def __init__(self, server: Server[Any], transport: "SseServerTransport") -> None:
        self._server = server
        self._transport = transport

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        async with self._transport.connect_sse(scope, receive, send) as (received, sent):
            await self._server.run(received, sent, self._server.create_initialization_options())


def http_app() -> "Starlette":
    from mcp.server.sse import SseServerTransport
    from starlette.routing import Mount, Route

    server = floor_server()
    transport = SseServerTransport("/messages/")
    streams = Route("/sse", endpoint=SseStreams(server, transport))
    messages = Mount("/messages/", app=transport.handle_post_message)
    return server.streamable_http_app(custom_starlette_routes=[streams, messages])  # type: ignore[list-item]  # a Mount serves


async def serve_http(address: str) -> None:
    import uvicorn  # not for the floor on stdio

    host, _, port = address.rpartition(":")
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio asks for the protocol
    listening.bind((host, int(port)))
    listening.listen(2048)
    print(f"floor listens on http://{host}:{listening.getsockname()[1]}/mcp", file=sys.stderr, flush=True)
    config = uvicorn.Config(
        http_app(), http="h11", ws="none", log_config=None, access_log=False, timeout_keep_alive=_KEEP_ALIVE_S
    )
    await uvicorn.Server(config).serve([listening])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--own-pipes", action="store_true", help="use contextdna's stdio transport")
    parser.add_argument("--answer", type=Path, metavar="FILE", help="give this result of a tool, JSON, every time")
    parser.add_argument("--http", metavar="HOST:PORT", help="serve over HTTP in place of stdio")
    options = parser.parse_args()
    if options.http:
        anyio.run(partial(serve_http, options.http))
    elif options.own_pipes:
        anyio.run(serve_own_pipes)
    else:
        given = options.answer and CallToolResult.model_validate_json(options.answer.read_bytes())
        anyio.run(serve_default, answering_server(given) if given else floor_server())


if __name__ == "__main__":
    main()
