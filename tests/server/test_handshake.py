"""The server that shakes hands early is the one that serves later."""

import subprocess
import sys

import pytest
from mcp import Client

from contextdna import AgentId, HubSettings, Principal, ProjectId, Role, open_hub
from contextdna_server.app import build_server
from contextdna_server.handshake import early_server
from contextdna_server.open_calls import WAITING_TOOLS
from contextdna_tools import FULL_TOOLS

pytestmark = pytest.mark.anyio

CALLER = Principal(AgentId("ann"), (ProjectId("default"),), role=Role.SYSTEM)


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_it_tells_what_the_later_one_would(era: str) -> None:
    async with open_hub(HubSettings()) as hub:
        later = build_server(hub, identity=lambda: CALLER)
        early = early_server(lambda: later)
        assert later._request_handlers.keys() == early._request_handlers.keys()
        for method, entry in later._request_handlers.items():
            assert entry.params_type is early._request_handlers[method].params_type
        async with Client(later, mode=era) as one, Client(early, mode=era) as other:
            assert one.server_capabilities == other.server_capabilities
            assert one.server_info == other.server_info
            assert one.instructions == other.instructions
            assert await one.list_tools() == await other.list_tools()


async def test_it_builds_the_later_one_when_that_is_needed_and_once() -> None:
    built = 0
    async with open_hub(HubSettings()) as hub:

        def build() -> object:
            nonlocal built
            built += 1
            return build_server(hub, identity=lambda: CALLER)

        async with Client(early_server(build), mode="legacy") as client:  # type: ignore[arg-type]
            assert built == 0
            await client.list_tools()
            await client.call_tool("store_memory", {"content": "kept"})
            await client.read_resource("contextdna://guide")
            assert built == 1


def test_a_start_does_not_wait_for_tools_and_resources() -> None:
    """Runs in a process of its own: here everything is imported already."""
    code = (
        "import sys, contextdna, contextdna_server.handshake, contextdna_server.stdio;"
        "import contextdna_server.commands.serve;"
        "print([name for name in sys.modules if name.startswith(('contextdna_tools', 'contextdna_resources',"
        " 'contextdna.backends.in_memory', 'contextdna_server.http'))])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == "[]"


def test_the_tools_that_wait_are_tools() -> None:
    assert {tool.name for tool in FULL_TOOLS} >= WAITING_TOOLS
