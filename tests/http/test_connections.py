"""Slow, silent and broken clients on a real connection."""

import json
import socket
import sys
from contextlib import suppress
from typing import Any

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from contextdna_server.http.slow_clients import SlowClientLayer
from contextdna_server.settings import HttpSection
from tests.http.asgi import respond, say_ok, serving, until

pytestmark = pytest.mark.anyio

_GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_a_head_that_comes_slowly_is_answered_with_408_and_its_connection_closed() -> None:
    async with serving(say_ok, HttpSection(head_timeout_s=0.1)) as served, served.connected() as client:
        await client.send(b"GET / HT")
        with anyio.move_on_after(0.06):
            await client.is_closed()
        await client.send(b"TP/1.1\r\nHost: a\r\n")  # a byte now and then wins no time
        status, headers, body = await client.read_answer()
        assert (status, headers["connection"]) == (408, "close")
        assert json.loads(body)["error"]["data"]["code"] == "head_timeout"
        assert await client.is_closed()


async def test_a_connection_without_a_word_is_closed() -> None:
    async with serving(say_ok, HttpSection(head_timeout_s=0.05)) as served, served.connected() as client:
        assert await client.is_closed()
        assert not served.server.server_state.connections


async def test_a_resting_connection_serves_again_and_the_next_head_has_its_own_time() -> None:
    async with serving(say_ok, HttpSection(head_timeout_s=0.1)) as served, served.connected() as client:
        for _ in range(2):
            await client.send(_GET)
            assert (await client.read_answer())[0] == 200
            await anyio.sleep(0.12)
        await client.send(b"GET /")
        assert (await client.read_answer())[0] == 408


async def test_a_head_on_time_leaves_the_request_all_time_it_needs() -> None:
    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        await anyio.sleep(0.15)
        await respond(send, b"done")

    async with serving(slow, HttpSection(head_timeout_s=0.05)) as served, served.connected() as client:
        await client.send(_GET)
        assert (await client.read_answer())[2] == b"done"


async def test_a_client_that_never_reads_is_cut_off_and_its_application_told() -> None:
    told = anyio.Event()

    async def flood(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
                with anyio.move_on_after(0):
                    if (await receive())["type"] == "http.disconnect":
                        return
        finally:
            told.set()

    async with serving(flood, HttpSection(write_timeout_s=0.1)) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            await until(told.is_set)
            await until(lambda: not served.server.server_state.connections)


@pytest.mark.parametrize(
    "size",
    [20_000_000, pytest.param(70_000, marks=pytest.mark.skipif(sys.platform != "linux", reason="not known elsewhere"))],
    ids=["that the server holds", "that the system holds"],
)
async def test_a_client_that_does_not_read_the_end_of_an_answer_is_cut_off(size: int) -> None:
    async def large(_scope: Scope, _receive: Receive, send: Send) -> None:
        await respond(send, b"x" * size)

    async with serving(large, HttpSection(write_timeout_s=0.1)) as served:
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.connect(("127.0.0.1", served.port))
            raw.sendall(_GET)
            await until(lambda: served.server.server_state.connections)
            await until(lambda: not served.server.server_state.connections)


async def test_a_client_that_reads_slowly_but_reads_gets_all() -> None:
    size = 8_000_000

    async def large(_scope: Scope, _receive: Receive, send: Send) -> None:
        await respond(send, b"x" * size)

    async with serving(large, HttpSection(write_timeout_s=0.1)) as served, served.connected() as client:
        await client.send(_GET)
        got = 0
        while got < size:
            got += len(await client.stream.receive(400_000))
            await anyio.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell what was taken")
async def test_a_client_that_takes_less_than_the_system_holds_back_is_not_cut_off() -> None:
    size = 40_000_000

    async def large(_scope: Scope, _receive: Receive, send: Send) -> None:
        await respond(send, b"x" * size)

    async with serving(large, HttpSection(write_timeout_s=0.1)) as served:
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
            raw.connect(("127.0.0.1", served.port))
            raw.sendall(_GET)
            connections: set[Any] = served.server.server_state.connections
            await until(lambda: any(one._waiting for one in connections))
            [protocol] = connections
            timers = {protocol._write_timer}
            while len(timers) < 4:
                with suppress(BlockingIOError):
                    assert raw.recv(20_000, socket.MSG_DONTWAIT)
                await anyio.sleep(0.01)
                timers.add(protocol._write_timer)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"\x16\x03\x01 garbage\r\n\r\n", 400, "http_invalid"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "http_invalid"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "http_invalid"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n", 400, "http_invalid"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "http_invalid"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "http_invalid"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000, 431, "head_too_large"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431, "head_too_large"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "head_too_large"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "http_invalid"),
    ],
)
async def test_what_is_not_fair_http_is_refused_in_our_shape(sent: bytes, status: int, code: str) -> None:
    async with serving(SlowClientLayer(say_ok, HttpSection()), HttpSection()) as served, served.connected() as client:
        await client.send(sent)
        answered, _, body = await client.read_answer()
        assert (answered, json.loads(body)["error"]["data"]["code"]) == (status, code)


async def test_garbage_behind_an_answer_that_has_begun_cuts_the_connection() -> None:
    async def begin(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    async with serving(begin, HttpSection()) as served, served.connected() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.stream.receive()
        await client.send(b"zz\r\n")
        assert await client.is_closed()
