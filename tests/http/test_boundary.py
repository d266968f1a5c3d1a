"""What nobody foresaw: an answer with a reference, and nothing of the error's text."""

import logging

import pytest
from starlette.types import Receive, Scope, Send

from contextdna_server.http.boundary import BoundaryLayer
from contextdna_server.settings import HttpSection
from tests.http.asgi import call, serving

pytestmark = pytest.mark.anyio

SECRET = "the tide table"


async def test_a_failure_is_answered_with_a_reference_that_the_log_tells_more_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ValueError(SECRET)

    answer = await call(BoundaryLayer(fail), "POST")
    assert (answer.status, answer.code) == (500, "internal_error")
    reference = answer.error["data"]["message"].rpartition(" ")[2]
    assert reference in caplog.text
    assert "ValueError" in caplog.text
    assert SECRET not in caplog.text + answer.body.decode()


async def test_an_answer_that_fails_in_the_middle_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        raise ValueError(SECRET)

    caplog.set_level(logging.DEBUG)
    async with serving(BoundaryLayer(fail), HttpSection()) as served, served.connected() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await client.is_closed()
    assert SECRET not in caplog.text
