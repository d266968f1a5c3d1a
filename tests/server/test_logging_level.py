"""What a client is told in log messages, by the level that it asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import LoggingLevel, LoggingMessageNotificationParams

from contextdna import AgentId, ContextDnaError, HubSettings, Principal, ProjectId, StorageUnavailable, open_hub
from contextdna_server.app import build_server
from contextdna_server.logging_level import severity
from contextdna_tools import TOOLS, Tool

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")]

ANN = Principal(AgentId("ann"), (ProjectId("default"),))
ERAS = ("legacy", "2026-07-28")
ABSENT = "contextdna://projects/default/memories/mem_" + "0" * 22


async def logged(
    act: Callable[[Client], Awaitable[object]],
    era: str,
    level: LoggingLevel | None,
    tools: tuple[Tool[Any], ...] = TOOLS,
) -> list[LoggingMessageNotificationParams]:
    """Act as a client that asked for a level; gives what it was told, before the answer and after."""
    told: list[LoggingMessageNotificationParams] = []

    async def note(params: LoggingMessageNotificationParams) -> None:
        told.append(params)

    async with open_hub(HubSettings()) as hub:
        server = build_server(hub, identity=lambda: ANN, tools=tools)
        async with Client(server, mode=era, logging_callback=note, log_level=level) as client:
            if era == "legacy" and level is not None:
                await client.set_logging_level(level)
            await act(client)
            await client.list_tools()
    return told


async def misspelt(client: Client) -> None:
    assert (await client.call_tool("store_memory", {"contents": "a secret"})).is_error


async def absent(client: Client) -> None:
    with pytest.raises(MCPError):
        await client.read_resource(ABSENT)


def broken(error: Exception) -> tuple[Tool[Any], ...]:
    """Give a tool that fails."""
    store = TOOLS[0]

    async def fail(_call: object, _args: object) -> Any:
        raise error

    return (Tool(store.name, store.arguments, store.result, fail, store.annotations, store.scopes),)


async def stored(client: Client) -> None:
    assert (await client.call_tool("store_memory", {"content": "a secret"})).is_error


@pytest.mark.parametrize("era", ERAS)
async def test_a_refused_call_is_a_notice_without_what_was_sent(era: str) -> None:
    (told,) = await logged(misspelt, era, "notice")
    assert (told.level, told.logger) == ("notice", "contextdna")
    assert (told.data["code"], told.data["tool"], told.data["method"]) == (
        "argument_unknown",
        "store_memory",
        "tools/call",
    )
    assert "secret" not in str(told.data)


@pytest.mark.parametrize("era", ERAS)
async def test_a_refused_read_is_a_notice(era: str) -> None:
    (told,) = await logged(absent, era, "debug")
    assert (told.level, told.data["code"], told.data["method"]) == ("notice", "not_found", "resources/read")


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("act", [misspelt, absent])
async def test_nothing_below_the_level_is_told(act: Callable[[Client], Awaitable[None]], era: str) -> None:
    assert await logged(act, era, "warning") == []


@pytest.mark.parametrize("era", ERAS)
async def test_who_asked_for_no_level_is_not_told_of_refused_calls(era: str) -> None:
    assert await logged(misspelt, era, None) == []


async def test_who_asked_for_no_level_is_told_of_trouble_only_where_the_protocol_lets_the_server_choose() -> None:
    busy = broken(StorageUnavailable("busy", code="storage_busy", retryable=True))
    (told,) = await logged(stored, "legacy", None, busy)
    assert (told.level, told.data["code"]) == ("warning", "storage_busy")
    assert await logged(stored, "2026-07-28", None, busy) == []


@pytest.mark.parametrize("era", ERAS)
async def test_a_failure_of_the_server_is_an_error_with_its_reference_alone(era: str) -> None:
    (told,) = await logged(stored, era, "error", broken(LookupError("memory text")))
    assert (told.level, told.data["code"]) == ("error", "internal_error")
    assert "reference" in told.data["message"]
    assert "memory text" not in str(told.data)


def test_an_error_matters_as_much_as_there_is_to_do_about_it() -> None:
    assert severity(ContextDnaError("x", code="internal_error")) == "error"
    assert severity(StorageUnavailable("x", retryable=True)) == "warning"
    assert severity(ContextDnaError("x", code="not_found")) == "notice"


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_logging_is_announced(era: str) -> None:
    async with open_hub(HubSettings()) as hub, Client(build_server(hub, identity=lambda: ANN), mode=era) as client:
        assert client.server_capabilities.logging is not None
