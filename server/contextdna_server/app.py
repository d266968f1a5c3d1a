"""The app factory: one MCP server, the same for every transport and both protocol eras."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.inbound import x_mcp_header_map
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
    Tool,
)

from contextdna import Hub, Principal, Workspace
from contextdna_server.handshake import named_server
from contextdna_server.logging_level import log_refusal
from contextdna_server.prompts import PROMPTS, ServedPrompt
from contextdna_server.protocol import prompt_handlers, resource_handlers
from contextdna_server.served_resources import RESOURCES, ServedResources
from contextdna_server.subscriptions import subscription_handlers
from contextdna_tools import FULL_TOOLS, TOOLS, AnyTool, Call, failure, input_schema, output_schema, run_tool

Context = ServerRequestContext[Any, Any]


def build_server(
    hub: Hub,
    *,
    identity: Callable[[], Principal],
    tools: tuple[AnyTool, ...] = TOOLS,
    resources: ServedResources = RESOURCES,
    prompts: tuple[ServedPrompt, ...] = PROMPTS,
    allowed_roots: tuple[Path, ...] = (),
) -> Server[Any]:
    """Build the server around an open hub.

    Args:
        hub: The installation.
        identity: Gives the verified caller of the request at hand.
        tools: The tools that are listed.
        resources: The resources that are listed, read and watched.
        prompts: The prompts that are listed.
        allowed_roots: Folders that attach_artifact may read local files from.
    """

    def call_of(ctx: Context) -> Call:
        return Call(
            hub=hub,
            principal=identity(),
            request_id=f"{ctx.request_id}-{secrets.token_hex(4)}",
            trace_id=_trace_id(ctx),
            allowed_roots=allowed_roots,
            progress=ctx.session.report_progress,  # does nothing where the client did not ask for it
            note_refused=lambda error, tool: log_refusal(ctx, error, tool=tool),
        )

    def workspace_for(ctx: Context, project_id: str) -> Workspace:
        call = call_of(ctx)
        return hub.bind(call.principal, project_id=project_id, request_id=call.request_id, trace_id=call.trace_id)

    list_tools, call_tool = _tool_handlers(tools, call_of)
    schemas = {tool.name: input_schema(tool.arguments) for tool in tools}
    repeated = {name: schema for name, schema in schemas.items() if x_mcp_header_map(schema)}
    return named_server(
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema=repeated.get,  # arguments repeated in headers; else the SDK lists all tools at each call
        **resource_handlers(resources, workspace_for),
        **prompt_handlers(prompts, resources, workspace_for),
        **subscription_handlers(resources, workspace_for, identity),
    )


def described(tool: AnyTool) -> Tool:
    """Give a tool's definition as tools/list shows it."""
    return Tool(
        name=tool.name,
        description=tool.description,
        input_schema=input_schema(tool.arguments),
        output_schema=None if issubclass(tool.result, CallToolResult) else output_schema(tool.result),
        annotations=tool.annotations,
    )


def _tool_handlers(tools: tuple[AnyTool, ...], call_of: Callable[[Context], Call]) -> tuple[Any, Any]:
    by_name = {tool.name: tool for tool in tools}
    listed = ListToolsResult(tools=[described(tool) for tool in tools])

    async def list_tools(_ctx: Context, _params: PaginatedRequestParams | None) -> ListToolsResult:
        return listed

    async def call_tool(ctx: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        tool = by_name.get(params.name)
        if tool is None:
            return _unknown(params.name, by_name)
        return await run_tool(tool, params.arguments or {}, call_of(ctx))

    return list_tools, call_tool


def _unknown(name: str, listed: Iterable[str]) -> CallToolResult:
    if any(tool.name == name for tool in FULL_TOOLS):
        hint = "An operator lists it with `contextdna serve --tools full`, or the setting tools.profile."
        return failure("tool_unknown", f"{name} is in the full profile, which this server does not list", hint=hint)
    return failure("tool_unknown", "no such tool", hint=f"Tools: {', '.join(listed)}.")


def _trace_id(ctx: Context) -> str:
    """Take the W3C trace id that a client sends in ``_meta.traceparent``, when it is well-formed."""
    parent = (ctx.meta or {}).get("traceparent", "") if isinstance(ctx.meta, dict) else ""
    parts = parent.split("-") if isinstance(parent, str) else []
    if len(parts) != 4 or len(parts[1]) != 32 or not all(char in "0123456789abcdef" for char in parts[1]):
        return ""
    return parts[1]
