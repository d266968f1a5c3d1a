"""Calls that take too long, and heads that are too large."""

import json

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from contextdna_server.http.slow_clients import SlowClientLayer
from contextdna_server.settings import HttpSection
from tests.http.asgi import call, say_ok

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


async def test_heads_have_a_bound() -> None:
    layer = SlowClientLayer(say_ok, HttpSection())
    assert (await call(layer, headers=[("x", "y" * 100)] * 300)).status == 200
    flood = await call(layer, headers=[("x", "y" * 100)] * 400)
    assert (flood.status, flood.code) == (431, "head_too_large")
    assert (await call(layer, query_string=b"a" * 9000)).status == 414
