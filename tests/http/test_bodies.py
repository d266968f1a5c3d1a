"""Bodies: so much, in such a time, as JSON, once; and what becomes of a connection whose body was not read."""

import json
from typing import Any

import anyio
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contextdna_server.http.bodies import BodyLayer
from contextdna_server.http.limits import Callers, LimitLayer, Slot
from contextdna_server.http.slow_clients import SlowClientLayer
from contextdna_server.settings import HttpSection
from tests.http.asgi import (
    Answer,
    Notes,
    admitted,
    call,
    credential,
    respond,
    say_ok,
    scope_of,
    serving,
    signed_in,
)

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
_PING = b'{"jsonrpc":"2.0","id":7,"method":"ping"}'


async def posted(body: bytes | list[bytes], *, notes: Notes | None = None, **settings: Any) -> Answer:
    section = HttpSection(**settings)
    callers = Callers(section)
    layer = admitted(BodyLayer(say_ok, section, note=notes or Notes()), section, callers)
    answer = await call(layer, headers=JSON, body=body)
    assert callers.body_bytes == callers.of(credential()).body_bytes == 0
    return answer


def layered(app: ASGIApp, settings: HttpSection | None = None) -> ASGIApp:
    settings = settings or HttpSection()
    return admitted(BodyLayer(app, settings, note=Notes()), settings)


async def test_a_message_in_parts_is_passed_on_whole_and_read() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(scope["state"]["message"])
        first = await receive()
        assert (first["body"], first["more_body"]) == (_PING, False)
        assert (await receive())["type"] == "http.disconnect"
        await respond(send)

    assert (await call(layered(app), headers=JSON, body=[_PING[:9], b"", _PING[9:]])).status == 200
    assert seen == json.loads(_PING)


async def test_a_body_over_the_limit_is_refused_with_its_id_and_audited() -> None:
    notes = Notes()
    answer = await posted([_PING, b" " * 50, b" " * 50], notes=notes, body_bytes_max=100)
    assert (answer.status, answer.code, json.loads(answer.body)["id"]) == (413, "message_too_large", 7)
    assert notes.told == [("ann", "message_too_large")]


async def test_a_declared_body_over_the_limit_is_refused_before_it_comes() -> None:
    layer = layered(say_ok, HttpSection(body_bytes_max=100))
    answer = await call(layer, headers={**JSON, "content-length": "101"}, body=[])
    assert (answer.status, answer.code) == (413, "message_too_large")


async def test_a_body_that_comes_slowly_is_refused() -> None:
    async def never() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    layer = layered(say_ok, HttpSection(body_timeout_s=0.01))
    await layer(scope_of(headers=list(JSON.items())), never, send)
    assert sent[0]["status"] == 408
    assert b'"body_timeout"' in sent[1]["body"]


async def test_bodies_together_have_a_bound() -> None:
    answer = await posted([b" " * 60, b" " * 60], body_bytes_max=200, bodies_bytes_max=100)
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "server_busy", "1")


async def test_a_caller_has_a_share_of_the_room_for_bodies_until_its_calls_are_done() -> None:
    over = anyio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await over.wait()
        await respond(send)

    settings = HttpSection(body_bytes_max=100, bodies_bytes_max=800)
    callers = Callers(settings)
    layer = LimitLayer(BodyLayer(app, settings, note=Notes()), settings, callers=callers, note=Notes())
    statuses: dict[str, list[int]] = {"ann": [], "bob": []}

    async def ask(who: str, body: bytes | list[bytes] = _PING + b" " * 60) -> None:
        statuses[who].append((await call(signed_in(layer, credential(who)), headers=JSON, body=body)).status)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask, "ann")
        await anyio.wait_all_tasks_blocked()
        assert statuses == {"ann": [503], "bob": []}  # with two of them, and 200 bytes, it has its share
        assert callers.body_bytes == 2 * len(_PING + b" " * 60)
        tasks.start_soon(ask, "bob")
        await anyio.wait_all_tasks_blocked()
        assert not statuses["bob"]
        over.set()
    assert statuses == {"ann": [503, 200, 200], "bob": [200]}
    assert callers.body_bytes == 0


async def test_a_body_counts_as_long_as_its_call_though_its_request_is_over() -> None:
    settings = HttpSection()
    callers = Callers(settings)
    caller = callers.of(credential())
    slot = Slot(caller, callers)
    with slot:
        assert slot.take_bytes(70)
        slot.become_call()
        with slot:
            pass
        assert (caller.body_bytes, callers.body_bytes) == (70, 70)
    assert callers.body_bytes == 0
    with slot:  # the call that was handed over
        assert (caller.body_bytes, callers.body_bytes) == (70, 70)
    assert (caller.is_idle, caller.body_bytes, callers.body_bytes) == (True, 0, 0)


async def test_a_client_that_leaves_in_its_body_is_not_answered() -> None:
    assert (await posted([])).status == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/jsonx"}, 415),
        ({"content-type": "application/json; charset=utf-16"}, 415),
        ({**JSON, "content-encoding": "gzip"}, 415),
        ({"content-type": 'Application/JSON; charset="UTF-8"', "content-encoding": "identity"}, 200),
    ],
)
async def test_only_plain_json_is_taken(headers: dict[str, str], status: int) -> None:
    layer = layered(say_ok)
    assert (await call(layer, headers=headers, body=_PING)).status == status


async def test_a_request_that_takes_no_body_is_refused_with_one() -> None:
    layer = layered(say_ok)
    assert (await call(layer, "GET", headers={"content-length": "5"})).code == "message_invalid"
    assert (await call(layer, "DELETE", headers={"transfer-encoding": "chunked"})).status == 400
    assert (await call(layer, "DELETE", headers={"content-length": "0"})).status == 200


async def test_what_is_no_message_is_refused_with_its_id() -> None:
    answer = await posted(b'{"jsonrpc":"2.0","id":"a","method":')
    assert (answer.status, answer.code, answer.error["code"]) == (400, "message_invalid", -32700)
    assert json.loads(answer.body)["id"] == "a"


# --- on a real connection ---


def request(body: bytes, *extra: str, length: int | None = None) -> bytes:
    head = ["POST /mcp HTTP/1.1", "Host: a", "Content-Type: application/json", *extra]
    head.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*head, "", ""]).encode() + body


def outer(settings: HttpSection, *, linger_s: float = 0.05) -> SlowClientLayer:
    return SlowClientLayer(layered(say_ok, settings), settings, linger_s=linger_s)


async def test_a_refused_body_that_has_come_leaves_the_connection_open_for_the_next_request() -> None:
    settings = HttpSection(body_bytes_max=100)
    async with serving(outer(settings), settings) as served, served.connected() as client:
        await client.send(request(b"{" + b" " * 500))
        status, headers, _ = await client.read_answer()
        assert (status, "connection" in headers) == (413, False)
        await client.send(request(_PING))
        assert (await client.read_answer())[2] == _PING


async def test_a_body_that_never_ends_is_refused_at_once_and_its_connection_closed() -> None:
    settings = HttpSection(body_bytes_max=1000)
    async with serving(outer(settings), settings) as served, served.connected() as client:
        await client.send(request(b"{" + b" " * 5000, length=10**9))
        status, headers, body = await client.read_answer()
        assert (status, headers["connection"]) == (413, "close")
        assert json.loads(body)["error"]["data"]["code"] == "message_too_large"
        assert await client.is_closed()


async def test_a_sender_that_is_slow_to_look_still_reads_why_it_was_refused() -> None:
    settings = HttpSection(body_bytes_max=1000)
    async with serving(outer(settings, linger_s=2), settings) as served, served.connected() as client:
        await client.send(request(b"", length=400_000))
        for _ in range(40):  # a reset would throw the answer away
            await client.send(b" " * 10_000)
        assert (await client.read_answer())[0] == 413
        assert await client.is_closed()


async def test_one_that_asks_before_it_sends_is_refused_without_the_body() -> None:
    settings = HttpSection(body_bytes_max=1000)
    async with serving(outer(settings), settings) as served, served.connected() as client:
        await client.send(request(b"", "Expect: 100-continue", length=5000))
        assert (await client.read_answer())[0] == 413
        assert await client.is_closed()


async def test_one_that_asks_before_it_sends_may_send_what_is_fair() -> None:
    settings = HttpSection()
    async with serving(outer(settings), settings) as served, served.connected() as client:
        await client.send(request(b"", "Expect: 100-continue", length=len(_PING)))
        assert (await client.read_answer())[0] == 100
        await client.send(_PING)
        assert (await client.read_answer())[0] == 200


async def test_a_body_in_drops_is_refused_in_time() -> None:
    settings = HttpSection(body_timeout_s=0.1)
    async with serving(outer(settings), settings) as served, served.connected() as client:
        await client.send(request(b"{", length=100))
        with anyio.move_on_after(0.05):
            await client.is_closed()
        await client.send(b" ")
        status, headers, _ = await client.read_answer()
        assert (status, headers["connection"]) == (408, "close")
        assert await client.is_closed()


async def test_a_refused_message_is_no_part_of_the_next_one() -> None:
    settings = HttpSection(body_bytes_max=100)
    async with serving(outer(settings), settings) as served, served.connected() as client:
        smuggled = request(_PING)
        await client.send(request(b" " * 200 + smuggled) + request(_PING))
        assert (await client.read_answer())[0] == 413
        assert (await client.read_answer())[2] == _PING


async def test_a_body_whose_length_is_given_twice_is_refused_and_its_connection_closed() -> None:
    settings = HttpSection()
    async with serving(outer(settings), settings) as served, served.connected() as client:
        await client.send(request(b"0\r\n\r\n" + _PING, "Transfer-Encoding: chunked", length=len(_PING)))
        status, headers, body = await client.read_answer()
        assert (status, headers["connection"]) == (400, "close")
        assert json.loads(body)["error"]["data"]["code"] == "http_invalid"
        assert await client.is_closed()
