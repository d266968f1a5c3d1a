"""The same memory over every transport, behind one server or several."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import uvicorn
from mcp import Client, MCPError
from mcp_types import CallToolResult

from contextdna import AgentId, Principal, Role, TokenId
from contextdna_server.http.held_sessions import HeldSessions
from contextdna_server.http.serving import bound_socket
from tests.http.balancer import RoundRobin
from tests.http.running import MODES, RemoteServer, running

pytestmark = pytest.mark.anyio

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
RETRIEVE = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {"name": "retrieve_context", "arguments": {"query": "release"}},
}


def contents_of(result: CallToolResult) -> list[str]:
    assert not result.is_error, result
    assert result.structured_content is not None
    return [hit["content"] for hit in result.structured_content["hits"]]


@asynccontextmanager
async def balanced(*servers: RemoteServer) -> AsyncIterator[RemoteServer]:
    """Put a load balancer before servers of one installation."""
    app = RoundRobin([server.url for server in servers])
    config = uvicorn.Config(app, http="h11", lifespan="off", log_config=None)
    front = uvicorn.Server(config)
    listening = bound_socket("127.0.0.1", 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(front.serve, [listening])
        port = listening.getsockname()[1]
        yield RemoteServer(servers[0].hub, servers[0].app, f"http://127.0.0.1:{port}", anyio.Event())
        front.should_exit = front.force_exit = True
    await app.aclose()


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_stores_and_finds(tmp_path: Path, mode: str) -> None:
    async with running(tmp_path) as server:
        token = await server.token("maria")
        async with server.client(token, mode) as client:
            stored = await client.call_tool("store_memory", {"content": "The release is on Thursday."})
            assert not stored.is_error
            assert stored.structured_content is not None
            assert stored.structured_content["agent"] == "maria"
            assert contents_of(await client.call_tool("retrieve_context", {"query": "release"})) == [
                "The release is on Thursday."
            ]
            assert (await client.read_resource("contextdna://guide")).contents


@pytest.mark.parametrize("mode", ["modern", "sse"])
async def test_a_public_address_with_a_path_serves_with_and_without_it(tmp_path: Path, mode: str) -> None:
    async with running(tmp_path, http={"public_url": "https://memory.example.org/our%20base/"}) as server:
        token = await server.token("maria")
        for path in ("", "/our%20base"):
            seen = RemoteServer(server.hub, server.app, server.url + path, anyio.Event())
            with anyio.fail_after(10):
                async with seen.client(token, mode) as client:
                    await client.call_tool("retrieve_context", {"query": "release"})


@pytest.mark.parametrize("mode", MODES)
async def test_requests_may_come_to_any_server(tmp_path: Path, mode: str) -> None:
    async with (
        running(tmp_path) as first,
        running(tmp_path) as second,
        balanced(first, second) as front,
        front.client(await first.token("maria"), mode) as client,
    ):
        for number in range(4):
            assert not (await client.call_tool("store_memory", {"content": f"release step {number}"})).is_error
            assert len(contents_of(await client.call_tool("retrieve_context", {"query": "release"}))) == number + 1


async def told_of_a_change(client: Client, other: Client) -> str:
    """Subscribe by one client, change by another, and give what the first was told."""
    uri = "contextdna://projects/default"
    async with client.listen(resource_subscriptions=[uri]) as notes:
        await other.call_tool("store_memory", {"content": "a change"})
        with anyio.fail_after(10):
            note: Any = await anext(aiter(notes))
            return str(note)


async def test_listeners_hear_of_changes_at_other_servers(tmp_path: Path) -> None:
    async with running(tmp_path) as first, running(tmp_path) as second, balanced(first, second) as front:
        token = await first.token("maria")
        async with front.client(token) as client, second.client(token) as other:
            assert "contextdna://projects/default" in await told_of_a_change(client, other)


async def opened(http: Any) -> str:
    """Initialize a connection, and give its transport session id."""
    answer = await http.post("/mcp", json=INITIALIZE)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["mcp-session-id"])


async def test_calls_go_on_when_the_server_of_their_connection_has_ended(tmp_path: Path) -> None:
    async with running(tmp_path) as first:
        token = await first.token("maria")
        async with first.http(token) as http:
            session = await opened(http)
    async with running(tmp_path) as second, second.http(token) as http:
        answer = await http.post("/mcp", json=RETRIEVE, headers={"mcp-session-id": session})
        assert answer.status_code == 200
        stream = await http.get("/mcp", headers={"mcp-session-id": session})
        assert stream.status_code == 405, "its stream went with it"
        assert stream.json()["error"]["data"]["code"] == "connection_ended"


async def test_what_is_about_a_connection_is_refused_where_it_has_ended(tmp_path: Path) -> None:
    """Agreed to, nobody would ever be told; and clients initialize anew at 404, by the protocol."""
    async with running(tmp_path) as server, server.http(await server.token("maria")) as http:
        ended = {"mcp-session-id": await opened(http)}
        server.app._streamable._connected._server_instances.clear()
        uri = {"uri": "contextdna://projects/default"}
        for method, params in (
            ("resources/subscribe", uri),
            ("resources/unsubscribe", uri),
            ("logging/setLevel", {"level": "debug"}),
            ("initialize", INITIALIZE["params"]),
        ):
            asked = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
            answer = await http.post("/mcp", json=asked, headers=ended)
            assert (answer.status_code, answer.json()["id"]) == (404, 7), method
            assert answer.json()["error"]["data"]["code"] == "connection_ended"
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        assert (await http.post("/mcp", json=cancelled, headers=ended)).status_code == 404, "nothing is cancelled"
        assert (await http.post("/mcp", json=RETRIEVE, headers=ended)).status_code == 200


async def test_what_is_about_a_connection_is_refused_without_one(tmp_path: Path) -> None:
    async with running(tmp_path) as server, server.http(await server.token("maria")) as http:
        uri = {"uri": "contextdna://projects/default"}
        for method, params in (("logging/setLevel", {"level": "debug"}), ("resources/subscribe", uri)):
            answer = await http.post("/mcp", json={"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
            assert (answer.status_code, answer.json()["id"]) == (400, 7), method
            assert answer.json()["error"]["data"]["code"] == "connection_missing"


async def test_an_era_without_connections_is_asked_for_none(tmp_path: Path) -> None:
    async with running(tmp_path) as server, server.http(await server.token("maria")) as http:
        info = {"name": "x", "version": "1"}
        prefix = "io.modelcontextprotocol/"
        meta = {
            f"{prefix}protocolVersion": "2026-07-28",
            f"{prefix}clientInfo": info,
            f"{prefix}clientCapabilities": {},
        }
        asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
        headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list", "mcp-session-id": "made-up"}
        answer = await http.post("/mcp", json=asked, headers=headers)
        assert answer.status_code == 200, answer.text
        assert "mcp-session-id" not in answer.headers


async def test_calls_go_on_after_a_long_idle_time(tmp_path: Path) -> None:
    async with (
        running(tmp_path, http={"session_idle_s": 0.1}) as server,
        server.http(await server.token("maria")) as http,
    ):
        session = await opened(http)
        await anyio.sleep(0.3)
        answer = await http.post("/mcp", json=RETRIEVE, headers={"mcp-session-id": session})
        assert answer.status_code == 200


async def test_a_connection_that_was_ended_is_gone(tmp_path: Path) -> None:
    async with running(tmp_path) as server, server.http(await server.token("maria")) as http:
        session = await opened(http)
        assert (await http.delete("/mcp", headers={"mcp-session-id": session})).status_code == 200
        answer = await http.post("/mcp", json=RETRIEVE, headers={"mcp-session-id": session})
        assert answer.status_code == 404


async def test_a_call_that_ran_when_its_connection_was_ended_is_to_be_looked_for(tmp_path: Path) -> None:
    """Told that there was no such connection, its client would take it for not done."""
    async with (
        running(tmp_path, http={"json_replies": True}) as server,
        server.http(await server.token("maria")) as http,
    ):
        named = {"mcp-session-id": await opened(http)}
        waiting = {"name": "await_signal", "arguments": {"name": "never", "timeout_s": 30}}
        answers: list[Any] = []

        async def call() -> None:
            answers.append(await http.post("/mcp", json={**RETRIEVE, "params": waiting}, headers=named))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                while not server.app._running_calls._waiting:
                    await anyio.lowlevel.checkpoint()
                await http.delete("/mcp", headers=named)
        error = answers[0].json()["error"]["data"]
        assert (answers[0].status_code, answers[0].json()["id"], error["code"]) == (404, 2, "connection_ended")
        assert "Look whether" in error["hint"]


async def test_a_fault_of_a_connection_that_is_there_is_no_end_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as server, server.http(await server.token("maria")) as http:
        named = {"mcp-session-id": await opened(http)}

        async def fail(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b"a memory"})

        monkeypatch.setattr(server.app._streamable._connected, "handle_request", fail)
        answer = await http.post("/mcp", json=RETRIEVE, headers=named)
        assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (500, "internal_error")


async def test_a_connection_of_another_is_refused_as_if_it_were_not_there(tmp_path: Path) -> None:
    async with running(tmp_path / "a") as server, running(tmp_path / "b") as elsewhere:
        async with server.http(await server.token("maria")) as http:
            stolen = await opened(http)
        async with elsewhere.http(await elsewhere.token("otto")) as http:
            foreign = await opened(http)
        async with server.http(await server.token("otto")) as thief:
            for session in (stolen, foreign, stolen[:-2], "0" * 32):
                answer = await thief.post("/mcp", json=RETRIEVE, headers={"mcp-session-id": session})
                assert answer.status_code == 404
                assert answer.json()["error"]["data"]["code"] == "transport_session_unknown"


async def test_connections_over_the_bounds_are_ended_whoever_opened_them(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        streamable = server.app._streamable
        streamable._held = HeldSessions(3, all_max=5)
        for agent in ("maria", "otto", "nina"):
            async with server.http(await server.token(agent)) as http:
                sessions = [await opened(http) for _ in range(4)]
                answer = await http.post("/mcp", json=RETRIEVE, headers={"mcp-session-id": sessions[0]})
                assert answer.status_code == 200, "its calls are served by themselves"
        assert len(streamable._held) == len(streamable._connected._server_instances) == 5


async def test_calls_need_no_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as server, server.http(await server.token("maria")) as http:
        answer = await http.post("/mcp", json=RETRIEVE)
        assert answer.status_code == 200
        assert "mcp-session-id" not in answer.headers


async def test_nobody_calls_without_a_token(tmp_path: Path) -> None:
    async with running(tmp_path) as server, server.http() as http:
        for method, path in (("POST", "/mcp"), ("GET", "/sse"), ("POST", "/messages/x"), ("GET", "/nothing")):
            answer = await http.request(method, path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/readyz")).status_code == 200


async def test_health_is_told_by_whatever_name_a_load_balancer_asks(tmp_path: Path) -> None:
    async with running(tmp_path) as server, server.http(await server.token("maria")) as http:
        for path in ("/healthz", "/readyz"):
            assert (await http.get(path, headers={"Host": "10.0.0.7:8000"})).status_code == 200
        assert (await http.post("/mcp", json=RETRIEVE, headers={"Host": "10.0.0.7:8000"})).status_code == 421


async def test_open_requests_end_when_their_token_is_revoked(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        token = await server.token("maria")
        async with server.client(token) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(revoke, server, token)
                with pytest.raises(MCPError):
                    await client.call_tool("await_signal", {"name": "never", "timeout_s": 30})
            with pytest.raises(MCPError):
                await client.call_tool("retrieve_context", {"query": "anything"})


async def revoke(server: RemoteServer, token: str) -> None:
    await anyio.sleep(0.1)
    projects = server.hub.settings.projects
    operator = server.hub.bind(Principal(AgentId("operator"), projects, role=Role.SYSTEM), project_id=projects[0])
    await operator.access_tokens.revoke(TokenId(token.removeprefix("cdna_").rpartition("_")[0]))
