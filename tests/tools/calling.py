"""A hub with the real server on it, called through a real in-memory client."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # comes with mcp; it carries no types
from mcp import Client
from mcp_types import CallToolResult, TextContent, Tool

from contextdna import Hub, Principal, open_hub
from contextdna_server.app import build_server
from contextdna_tools import TOOLS, AnyTool
from tests.hub.rig import settings_in


@dataclass(frozen=True)
class Caller:
    """One principal's connection."""

    hub: Hub
    client: Client
    tools: dict[str, Tool]

    async def ok(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool that must answer; text and structure say the same, and fit the schema."""
        result = await self.client.call_tool(name, arguments)
        assert not result.is_error, text_of(result)
        structured = result.structured_content
        assert isinstance(structured, dict)
        assert json.loads(text_of(result)) == structured
        schema = self.tools[name].output_schema
        assert schema is not None
        jsonschema.validate(structured, schema)
        return structured

    async def error(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool that must refuse; gives the error, which has every part."""
        result = await self.client.call_tool(name, arguments)
        assert result.is_error
        assert result.structured_content is None
        body = json.loads(text_of(result))
        assert set(body) == {"error"}
        error: dict[str, Any] = body["error"]
        assert {"code", "message", "hint", "retryable"} <= set(error)
        assert all(isinstance(error[part], str) and error[part] for part in ("code", "message", "hint")), error
        assert isinstance(error["retryable"], bool)
        assert error["code"] != "internal_error", error
        return error


def text_of(result: CallToolResult) -> str:
    """Give a result's one text."""
    [content] = result.content
    assert isinstance(content, TextContent)
    return content.text


@asynccontextmanager
async def calling(
    principal: Principal,
    mode: str,
    *,
    hub: Hub | None = None,
    roots: tuple[Path, ...] = (),
    tools: tuple[AnyTool, ...] = TOOLS,
) -> AsyncIterator[Caller]:
    """Connect as a principal, to a fresh installation in memory where none is given."""
    if hub is None:
        async with (
            open_hub(settings_in(None)) as opened,
            calling(principal, mode, hub=opened, roots=roots, tools=tools) as caller,
        ):
            yield caller
        return
    server = build_server(hub, identity=lambda: principal, tools=tools, allowed_roots=roots)
    async with Client(server, mode=mode) as client:
        listed = (await client.list_tools()).tools
        yield Caller(hub, client, {tool.name: tool for tool in listed})
