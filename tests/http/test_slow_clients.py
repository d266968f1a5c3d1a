"""Calls that take too long, and heads that are too large."""

import json
from pathlib import Path

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from contextdna_server.http.identity import Authenticator, Credential
from contextdna_server.http.slow_clients import SlowClientLayer
from contextdna_server.settings import HttpSection
from tests.http.asgi import call, say_ok
from tests.http.running import running

pytestmark = pytest.mark.anyio

_SHORT = HttpSection(call_timeout_s=0.01)


async def test_a_call_that_takes_too_long_is_ended_and_answered() -> None:
    ended = anyio.Event()

    async def slow(_scope: Scope, _receive: Receive, _send: Send) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    answer = await call(SlowClientLayer(slow, _SHORT))
    assert (answer.status, answer.code) == (504, "call_timed_out")
    assert answer.error["data"]["retryable"]
    assert ended.is_set()


async def test_a_call_whose_events_have_begun_is_told_in_an_event() -> None:
    async def slow(scope: Scope, _receive: Receive, send: Send) -> None:
        scope["state"]["call_time"].call_id = 9
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": ping\r\n\r\n", "more_body": True})
        await anyio.sleep_forever()

    answer = await call(SlowClientLayer(slow, _SHORT))
    assert answer.status == 200
    event = json.loads(answer.body.partition(b"data: ")[2])
    assert (event["id"], event["error"]["data"]["code"]) == (9, "call_timed_out")


@pytest.fixture
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextdna_server.http.slow_clients.TOLD_S", 0)


@pytest.mark.usefixtures("told_at_once")
@pytest.mark.parametrize("comes", ["before", "after"])
@pytest.mark.parametrize("more", ["extend", "lift"])
async def test_a_call_that_the_end_of_the_server_cuts_off_is_told_so(comes: str, more: str) -> None:
    async def slow(scope: Scope, _receive: Receive, _send: Send) -> None:
        call_time = scope["state"]["call_time"]
        call_time.call_id = 9
        if comes == "before":
            layer.drain()
        if more == "lift":
            call_time.lift()
        else:
            call_time.extend(60)
        layer.drain()  # the server of clients and the one of peers share it
        await anyio.sleep_forever()

    layer = SlowClientLayer(slow, HttpSection(drain_s=0.01))
    if comes == "after":
        layer.drain()
    answer = await call(layer)
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "server_ended", "1")
    assert answer.error["data"]["retryable"]
    assert json.loads(answer.body)["id"] == 9


async def test_a_call_whose_own_time_is_up_before_the_server_ends_is_told_that() -> None:
    async def slow(_scope: Scope, _receive: Receive, _send: Send) -> None:
        layer.drain()
        await anyio.sleep_forever()

    layer = SlowClientLayer(slow, _SHORT)
    assert (await call(layer)).code == "call_timed_out"


@pytest.mark.usefixtures("told_at_once")
async def test_a_server_that_ends_while_its_database_hangs_answers_every_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hung = anyio.Event()

    async def hang(_authenticator: Authenticator, _authorization: str | None) -> Credential:
        hung.set()
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(Authenticator, "authenticate", hang)
    answers = []
    async with running(tmp_path, http={"drain_s": 0.01}) as server, anyio.create_task_group() as tasks:

        async def ask() -> None:
            async with server.http("a-token") as http:
                answers.append(await http.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"}))

        tasks.start_soon(ask)
        await hung.wait()
        server.stop()
    [answer] = answers
    assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (503, "server_ended")
    assert not [record for record in caplog.records if record.name == "uvicorn.error" and record.exc_info]


async def test_heads_have_a_bound() -> None:
    layer = SlowClientLayer(say_ok, HttpSection())
    assert (await call(layer, headers=[("x", "y" * 100)] * 300)).status == 200
    flood = await call(layer, headers=[("x", "y" * 100)] * 400)
    assert (flood.status, flood.code) == (431, "head_too_large")
    assert (await call(layer, query_string=b"a" * 9000)).status == 414
