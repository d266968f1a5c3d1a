"""The remote server while PostgreSQL is away: which tokens are believed, and what all others are told."""

import logging
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from tests.http.running import running
from tests.servers.postgres import empty_database_url
from tests.servers.relay import relayed

pytestmark = pytest.mark.anyio

LATE_S: Final = 30
STORE: Final = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "store_memory", "arguments": {"content": "one"}},
}


async def test_callers_with_a_token_are_told_to_come_again_and_readiness_names_the_mode(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with (
        relayed(empty_database_url()) as (relay, url),
        running(tmp_path / "data", storage={"database": url}) as server,
    ):
        token, unseen = await server.token("ann"), await server.token("bea")
        async with server.client(token) as client:
            assert not (await client.call_tool("store_memory", {"content": "before"})).is_error
        async with server.http(unseen) as http:
            assert (await http.get("/readyz")).json() == {"status": "ready"}
            await relay.cut()
            with anyio.fail_after(5):
                answer = await http.post("/mcp", json=STORE)
                assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
                assert answer.json()["error"]["data"]["code"] == "storage_unreachable"
                assert (await http.get("/healthz")).status_code == 200
                await until(http, {"status": "ready", "degraded": ["database_away"]})  # a proxy goes on sending calls
        async with server.http(token) as http:
            assert '"status":"queued"' in (await http.post("/mcp", json=STORE)).text.replace("\\", "")
            await relay.open()
            await until(http, {"status": "ready"})
        async with server.client(token) as client:
            assert not (await client.call_tool("store_memory", {"content": "after"})).is_error


async def test_a_server_that_queues_nothing_is_not_ready_meanwhile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with (
        relayed(empty_database_url()) as (relay, url),
        running(tmp_path / "data", storage={"database": url, "spool": False}) as server,
        server.http() as http,
    ):
        await relay.cut()
        await until(http, {"status": "storage_unreachable", "degraded": ["database_away"]}, status=503)


async def until(http: Any, document: dict[str, Any], *, status: int = 200) -> None:
    """Ask for readiness until it is so: the database is asked once a second at most."""
    with anyio.fail_after(LATE_S):
        while True:
            answer = await http.get("/readyz")
            if answer.json() == document:
                assert answer.status_code == status
                return
            await anyio.sleep(0.02)
