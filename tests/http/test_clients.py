"""The SDK's own client against the whole remote server, over both transports, in both eras."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from httpx2 import HTTPStatusError
from mcp import Client, MCPError
from mcp_types import CallToolResult, LoggingMessageNotificationParams

from contextdna import Scope
from tests.http.live import DEADLINE_S, Live, live_server
from tests.server.test_subscriptions import told_of

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")]

ROUTES = [(kind, era) for kind in ("http", "sse") for era in ("legacy", "2026-07-28")]
BASE = "contextdna://projects/default"


@pytest.fixture(scope="module")
async def live(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    async with live_server(tmp_path_factory.mktemp("data")) as served:
        yield served


@asynccontextmanager
async def visiting(live: Live, kind: str, era: str, *, token: str = "", **options: Any) -> AsyncIterator[Client]:
    known = token or await live.token("ann")
    with anyio.fail_after(DEADLINE_S):
        async with Client(live.transport(kind, known), mode=era, **options) as client:
            yield client


def code_of(refused: CallToolResult) -> str:
    assert refused.is_error
    return str(json.loads(refused.content[0].text)["error"]["code"])  # type: ignore[union-attr]


@pytest.mark.parametrize(("kind", "era"), ROUTES)
async def test_a_client_works(live: Live, kind: str, era: str) -> None:
    fact = f"The harbour office of {kind} in {era} opens at six."
    async with visiting(live, kind, era) as client:
        assert {"store_memory", "retrieve_context"} <= {tool.name for tool in (await client.list_tools()).tools}
        assert not (await client.call_tool("store_memory", {"content": fact})).is_error
        found = await client.call_tool("retrieve_context", {"query": fact})
        assert found.structured_content is not None
        best = found.structured_content["hits"][0]
        assert (best["content"], best["owner"]) == (fact, "ann")
        guide = (await client.read_resource("contextdna://guide")).contents[0]
        assert "retrieve_context" in guide.text  # type: ignore[union-attr]
        prompt = await client.get_prompt("brief_me", {"task": fact})
        assert fact in prompt.messages[0].content.text  # type: ignore[union-attr]


@pytest.mark.parametrize(("kind", "era"), ROUTES)
async def test_a_client_is_told_of_changes(live: Live, kind: str, era: str) -> None:
    transport = live.transport(kind, await live.token("ann"))
    async with told_of(transport, era, BASE) as told, visiting(live, kind, era, token=await live.token("bob")) as other:
        await other.call_tool("store_memory", {"content": f"The tide turns at noon, says {kind} in {era}."})
        assert await told.next() == BASE


@pytest.mark.parametrize(("kind", "era"), ROUTES)
async def test_a_client_is_told_of_refused_calls_at_the_level_that_it_asked_for(
    live: Live, kind: str, era: str
) -> None:
    send, logged = anyio.create_memory_object_stream[LoggingMessageNotificationParams](10)

    async def note(params: LoggingMessageNotificationParams) -> None:
        send.send_nowait(params)

    with send, logged:
        async with visiting(live, kind, era, logging_callback=note, log_level="notice") as client:
            if era == "legacy":
                await client.set_logging_level("notice")  # pyright: ignore[reportDeprecated]
            refused = await client.call_tool("get_memory", {"ids": ["mem_" + "0" * 22]})
            told = await logged.receive()
    assert (told.level, told.logger) == ("notice", "contextdna")
    assert (told.data["code"], told.data["tool"]) == (code_of(refused), "get_memory")


@pytest.mark.parametrize(("kind", "era"), [("http", "2026-07-28"), ("sse", "legacy")])
async def test_a_long_call_reports_progress_and_its_client_may_leave_it(live: Live, kind: str, era: str) -> None:
    reported = anyio.Event()

    async def note(progress: float, total: float | None, message: str | None) -> None:
        reported.set()

    async with visiting(live, kind, era) as client:
        async with anyio.create_task_group() as tasks:
            arguments = {"name": "never", "timeout_s": 60}
            tasks.start_soon(lambda: client.call_tool("await_signal", arguments, progress_callback=note))
            await reported.wait()
            tasks.cancel_scope.cancel()
        again = await client.call_tool("store_memory", {"content": f"The pilot of {kind} is aboard."})
        assert not again.is_error


async def test_a_client_without_a_good_token_does_not_get_in_over_http(live: Live) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(MCPError, match="no such token"), flatten_subgroups=True):
        async with visiting(live, "http", "legacy", token="cdna_made_up"):
            pass


async def test_a_client_without_a_good_token_does_not_get_in_over_sse(live: Live) -> None:
    with pytest.raises(HTTPStatusError, match="401 Unauthorized"):
        async with visiting(live, "sse", "legacy", token="cdna_made_up"):
            pass


async def test_a_token_to_read_is_challenged_over_http(live: Live) -> None:
    token = await live.token("ann", scopes=frozenset({Scope.READ}))
    async with visiting(live, "http", "legacy", token=token) as client:
        with pytest.raises(MCPError, match="lacks the scope write") as caught:
            await client.call_tool("store_memory", {"content": "no"})
    assert caught.value.error.data["code"] == "scope_missing"


async def test_a_token_to_read_is_refused_in_the_stream_over_sse(live: Live) -> None:
    """The SDK's client would wait for ever for an answer that came as an HTTP status."""
    token = await live.token("ann", scopes=frozenset({Scope.READ}))
    async with visiting(live, "sse", "legacy", token=token) as client:
        assert code_of(await client.call_tool("store_memory", {"content": "no"})) == "scope_missing"
