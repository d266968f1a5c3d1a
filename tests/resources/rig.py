"""A hub in memory and a server with the real handlers on it, for tests that speak through a real client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.server.lowlevel import Server
from mcp_types import BlobResourceContents, TextResourceContents

from contextdna import (
    AgentId,
    BeginRequest,
    Hub,
    HubSettings,
    Level,
    MemoryDraft,
    Principal,
    ProjectId,
    Role,
    TurnDraft,
    Workspace,
    open_hub,
)
from contextdna_server.prompts import PROMPTS
from contextdna_server.protocol import prompt_handlers, resource_handlers
from contextdna_server.served_resources import RESOURCES

DEFAULT = ProjectId("default")
OTHER = ProjectId("other")
ALICE = Principal(AgentId("alice"), (DEFAULT,), team_id="core", swarm_id="lift")
BOB = Principal(AgentId("bob"), (DEFAULT,), team_id="edge", swarm_id="lift")
ROOT = Principal(AgentId("root"), (DEFAULT, OTHER), role=Role.SYSTEM)


@dataclass(frozen=True)
class Rig:
    """An installation with the projects ``default`` and ``other``, and the client's protocol era."""

    hub: Hub
    mode: str

    def workspace(self, principal: Principal, *, handle: str = "", project_id: str = "") -> Workspace:
        return self.hub.bind(principal, session_id=handle, project_id=project_id)

    def server(self, principal: Principal) -> Server[Any]:
        def workspace_for(_ctx: object, project_id: str) -> Workspace:
            return self.workspace(principal, project_id=project_id)

        return Server(
            "test", **resource_handlers(RESOURCES, workspace_for), **prompt_handlers(PROMPTS, RESOURCES, workspace_for)
        )

    def client(self, principal: Principal) -> Client:
        return Client(self.server(principal), mode=self.mode)

    async def remember(self, principal: Principal, content: str, **fields: Any) -> str:
        """Store a memory; gives its id."""
        stored = await self.workspace(principal).store_memories([MemoryDraft(content, **fields)])
        return stored[0].id

    async def begin(self, principal: Principal) -> str:
        """Begin a session; gives its handle."""
        return (await self.workspace(principal).begin_session(BeginRequest(principal.agent_id))).handle

    async def say(self, principal: Principal, handle: str, *contents: str, level: Level = Level.PROJECT) -> str:
        """Log turns in a session; gives its public id."""
        drafts = [TurnDraft("user", content, level=level) for content in contents]
        for start in range(0, len(drafts), 100):
            await self.workspace(principal, handle=handle).log_turns(drafts[start : start + 100])
        return handle.partition(".")[0]


@asynccontextmanager
async def open_rig(mode: str) -> AsyncIterator[Rig]:
    """Open a fresh installation in memory."""
    async with open_hub(HubSettings(projects=(DEFAULT, OTHER))) as hub:
        yield Rig(hub, mode)


async def read_text(client: Client, uri: str) -> TextResourceContents:
    """Read a resource that is one text."""
    contents = (await client.read_resource(uri)).contents
    assert len(contents) == 1
    assert isinstance(contents[0], TextResourceContents)
    return contents[0]


async def read_blob(client: Client, uri: str) -> BlobResourceContents:
    """Read a resource that is one blob."""
    contents = (await client.read_resource(uri)).contents
    assert len(contents) == 1
    assert isinstance(contents[0], BlobResourceContents)
    return contents[0]


async def refusal(client: Client, uri: str) -> MCPError:
    """Read a resource that must be refused; gives the error."""
    with pytest.raises(MCPError) as caught:
        await client.read_resource(uri)
    return caught.value


def data_of(error: MCPError) -> dict[str, Any]:
    """Give what an error says beside its message, without the URI that was asked for."""
    return {name: value for name, value in (error.error.data or {}).items() if name != "uri"}
