"""More connections than a server has room for."""

import errno
import json
import logging
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from contextdna_server.http.connections import GatedProtocol
from contextdna_server.http.room import Room, out_of_files_handler
from contextdna_server.settings import HttpSection
from tests.http.asgi import respond, say_ok, serving, until
from tests.http.test_serving import self_signed

pytestmark = pytest.mark.anyio

_GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


class Guest:
    def __init__(self) -> None:
        self.is_gone = False

    def make_way(self) -> None:
        self.is_gone = True


def test_who_rested_longest_makes_way_and_strangers_before_the_known() -> None:
    room = Room(3, spare=1)
    known, busy, first, *others = guests = [Guest() for _ in range(6)]
    for guest in guests[:3]:
        room.enter(guest)
        room.wake(guest)
    room.rest(known, is_known=True)
    room.rest(first, is_known=False)
    room.enter(others[0])
    assert [guest.is_gone for guest in guests] == [False, False, True, False, False, False]
    room.wake(others[0])
    room.enter(others[1])
    assert known.is_gone
    room.wake(others[1])
    room.enter(others[2])
    assert not room.serves(others[2])
    assert room.serves(busy)
    room.rest(busy, is_known=True)
    assert room.serves(others[2])
    assert busy.is_gone


def test_a_connection_that_is_told_off_makes_way_for_the_next_one() -> None:
    room = Room(1, spare=1)
    guests = [Guest() for _ in range(3)]
    for guest in guests:
        room.enter(guest)
        room.wake(guest)
    assert [guest.is_gone for guest in guests] == [False, True, False]
    assert len(room) == 2
    room.leave(guests[0])
    assert room.serves(guests[2])


async def test_idle_connections_make_way_for_new_ones() -> None:
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving(say_ok, HttpSection(connections_max=2)))
        clients = []
        for _ in range(3):
            clients.append(await stack.enter_async_context(served.connected()))
            await clients[-1].send(_GET)
            assert (await clients[-1].read_answer())[0] == 200
        assert await clients[0].is_closed()
        await clients[1].send(_GET)
        assert (await clients[1].read_answer())[0] == 200


async def test_where_all_are_at_work_a_new_one_is_told_to_come_again_and_how_the_server_is() -> None:
    going_on = anyio.Event()

    async def wait(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["path"] == "/":
            await going_on.wait()
        await respond(send)

    async with serving(wait, HttpSection(connections_max=1)) as served, served.connected() as busy:
        await busy.send(_GET)
        await until(lambda: served.server.server_state.tasks)
        async with served.connected() as late:
            await late.send(_GET)
            status, headers, body = await late.read_answer()
            assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
            assert json.loads(body)["error"]["data"]["code"] == "server_busy"
            assert await late.is_closed()
        async with served.connected() as asking:
            await asking.send(_HEALTH)
            assert (await asking.read_answer())[0] == 200
            going_on.set()
            assert (await busy.read_answer())[0] == 200
            await asking.send(_GET)
            assert (await asking.read_answer())[0] == 200, "the other rests, and makes way"


async def test_only_who_showed_a_credential_may_rest_for_long() -> None:
    async def serve(scope: Scope, _receive: Receive, send: Send) -> None:
        scope["state"]["connection"].is_known = scope["path"] == "/known"
        await respond(send)

    async with serving(serve, HttpSection()) as served, served.connected() as client:
        for path, within_s in (("/", 5), ("/known", served.server.config.timeout_keep_alive)):
            await client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert (await client.read_answer())[0] == 200
            (connection,) = served.server.server_state.connections
            assert isinstance(connection, GatedProtocol)
            assert connection.timeout_keep_alive == within_s


async def test_a_connection_without_a_handshake_counts_and_has_no_more_time_than_a_head(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with serving(say_ok, HttpSection(head_timeout_s=0.2, connections_max=2), tls=tls) as served:
        connections = served.server.server_state.connections
        async with served.connected() as silent:
            await until(lambda: connections)
            assert await silent.is_closed()
        await until(lambda: not connections)
        async with served.connected() as oldest, served.connected():
            trusted = ssl.create_default_context(cafile=certificate)
            async with await anyio.connect_tcp("127.0.0.1", served.port, ssl_context=trusted) as client:
                await client.send(_GET)
                assert (await client.receive()).startswith(b"HTTP/1.1 200")
                assert await oldest.is_closed()


def test_a_want_of_files_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    others = []
    handle = out_of_files_handler(lambda _loop, context: others.append(context))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            handle(None, {"exception": OSError(errno.EMFILE, "Too many open files")})  # type: ignore[arg-type]  # unused
    handle(None, {"message": "something else"})  # type: ignore[arg-type]
    assert len(caplog.records) == len(others) == 1
