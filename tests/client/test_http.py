"""The client over Streamable HTTP: the SDK's own server application around the product, on a socket of this machine."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from mcp import StdioServerParameters

from contextdna import Hub, open_hub
from contextdna.client import Memory, Refused, ServerAway, connect
from contextdna_server.app import build_server
from contextdna_server.settings import Settings
from tests.client.rig import DEADLINE_S, Time

pytestmark = pytest.mark.anyio

TOKEN = "a token of the tests"
Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


class Site:
    """A server on a port that stays the same, up or down."""

    def __init__(self, hub: Hub, settings: Settings) -> None:
        self._hub = hub
        self._principal = settings.to_principal()
        self.time = Time()
        self.status = 0
        """What it answers instead of serving, when not 0."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def connect(self, *, token: str = TOKEN, path: str = "/mcp", **retry: Any) -> Memory:
        url = f"http://127.0.0.1:{self.port}{path}"
        return connect(url, token=token, retry=self.time.retry(**retry), timeout_s=DEADLINE_S)

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        server = build_server(self._hub, identity=lambda: self._principal)
        app = self._guarded(server.streamable_http_app(json_response=True))
        running = uvicorn.Server(uvicorn.Config(app, http="h11", log_level="critical", timeout_graceful_shutdown=1))
        with socket.create_server(("127.0.0.1", self.port)) as listening:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(running.serve, [listening])
                with anyio.fail_after(DEADLINE_S):
                    while not running.started:  # noqa: ASYNC110 - uvicorn has no event to wait for
                        await anyio.sleep(0.005)
                yield
                running.should_exit = True

    def _guarded(self, app: App) -> App:
        async def guarded(scope: Scope, receive: Any, send: Any) -> None:
            headers = dict(scope.get("headers", ()))
            known = headers.get(b"authorization") == f"Bearer {TOKEN}".encode()
            status = self.status or (0 if known else 401)
            if scope["type"] == "http" and status:
                await send({"type": "http.response.start", "status": status, "headers": []})
                await send({"type": "http.response.body", "body": b""})
            else:
                await app(scope, receive, send)

        return guarded


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    settings = Settings(command_line={"data": str(tmp_path)}, file={})  # type: ignore[call-arg]  # its own sources
    async with open_hub(settings.to_hub_settings()) as hub:
        yield Site(hub, settings)


async def test_a_run_works_over_http(site: Site) -> None:
    async with site.up(), site.connect() as memory:
        await memory.store("The report service listens on port 9000.")
        async with memory.run("drone", task="Ask the report service") as run:
            assert "port 9000" in run.briefing
            run.learn("It answers quickly.")
            run.result = "It is up."
        assert run.report.complete
        assert not run.report.degraded
        assert run.report.calls == run.report.attempts == 2


async def test_without_a_server_the_body_runs(site: Site) -> None:
    async with site.connect(attempts=2) as memory:
        async with memory.run("drone") as run:
            assert (await run.store("A fact.")).status == "queued"
        assert [item.what for item in run.report.unstored] == ["memory", "end of session"]
        assert not any(item.uncertain for item in run.report.unstored)
    assert site.time.waits == [0.2] * 3


async def test_a_server_that_goes_and_comes_back_gets_all(site: Site) -> None:
    async with site.connect(attempts=2) as memory:
        async with site.up():
            run = memory.run("drone")
            await run.__aenter__()
            assert (await run.log("assistant", "one")).ids
        assert (await run.log("assistant", "two")).ids == ()
        assert (await run.store("A fact.")).status == "queued"
        assert run.report.waiting == 2
        async with site.up():
            await run.__aexit__(None, None, None)
            assert run.report.complete, run.report
            turns = (await memory.retrieve(kinds=["turn"])).hits
            assert sorted(turn.content for turn in turns) == ["one", "two"]


async def test_a_gateway_without_its_server_is_a_server_that_is_away(site: Site) -> None:
    async with site.up(), site.connect(attempts=2) as memory:
        async with memory.run("drone") as run:
            site.status = 503
            assert (await run.retrieve("anything")).degraded
            site.status = 0
            assert not (await run.retrieve("anything")).degraded
        assert run.report.complete


async def test_a_result_that_is_too_large_for_http_takes_no_lesson_with_it(site: Site) -> None:
    async with site.up(), site.connect() as memory:
        async with memory.run("drone") as run:
            run.learn("Results may be large.")
            run.result = "x" * (5 * 1024 * 1024)
        assert [(item.what, item.code, item.uncertain) for item in run.report.unstored] == [
            ("result", "request_too_large", False)
        ]
        assert run.report.ended
        assert [hit.content for hit in (await memory.retrieve()).hits] == ["Results may be large."]
    assert site.time.waits == []


@pytest.mark.parametrize(("token", "path", "code"), [("", "/mcp", "unauthorised"), (TOKEN, "/x", "no_server_there")])
async def test_a_wrong_token_or_url_is_no_outage(site: Site, token: str, path: str, code: str) -> None:
    async with site.up(), site.connect(token=token, path=path) as memory:
        with pytest.raises(Refused) as refused:
            async with memory.run("drone"):
                pytest.fail("the body ran")
    assert refused.value.code == code
    assert TOKEN not in str(refused.value)
    assert site.time.waits == []


async def test_a_token_that_is_withdrawn_is_told(site: Site) -> None:
    async with site.up(), site.connect() as memory:
        await memory.retrieve("anything")
        site.status = 401
        with pytest.raises(Refused) as refused:
            await memory.retrieve("anything")
        assert refused.value.code == "unauthorised"


async def test_no_error_shows_the_url_or_the_token(site: Site) -> None:
    async with site.connect(path="/mcp?key=secret", attempts=1) as memory:
        with pytest.raises(ServerAway) as away:
            await memory.retrieve("anything")
    assert "secret" not in str(away.value)
    assert TOKEN not in repr(memory)


def test_a_token_is_only_for_a_url() -> None:
    with pytest.raises(ValueError, match="token"):
        connect(StdioServerParameters(command="contextdna"), token=TOKEN)
    with pytest.raises(ValueError, match="timeout_s"):
        connect("http://localhost/mcp", timeout_s=0)
