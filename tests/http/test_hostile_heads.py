"""Requests whose head, framing, host or method is an attack: each is refused, and the next one is served."""

from __future__ import annotations

import json

import anyio
import pytest

from contextdna import Outcome, Risk
from tests.http.attacked import Attacked, RawClient, message

pytestmark = pytest.mark.anyio

PING = message("ping")
LENGTH = b"Content-Length: %d\r\n" % len(PING)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
NEXT = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Smuggled: 1\r\n\r\n"
ALLOWED_HOSTS = ("localhost", "localhost:1", "LOCALHOST.", "127.0.0.1", "[::1]:8000", "memory.example.org")


def head(token: str, *lines: bytes, method: bytes = b"POST", path: bytes = b"/mcp", host: str = "localhost") -> bytes:
    usual = [
        method + b" " + path + b" HTTP/1.1",
        f"Host: {host}".encode("latin-1"),
        f"Authorization: Bearer {token}".encode(),
        b"Accept: application/json, text/event-stream",
        b"Content-Type: application/json",
    ]
    return b"\r\n".join(usual) + b"\r\n" + b"".join(lines) + b"\r\n"


async def answer_to(client: RawClient, data: bytes) -> tuple[int, str]:
    await client.send(data)
    status, _, body = await client.read_answer()
    return status, str(json.loads(body)["error"]["data"]["code"])


async def only_answer(target: Attacked, data: bytes) -> tuple[int, str]:
    """Give the one answer to bytes after which the server closes: nothing behind them is taken for a request."""
    async with target.connected() as client:
        told = await answer_to(client, data)
        assert await client.rest() == b""
    return told


# --- where a body ends ---


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((CHUNKED, LENGTH), 400),
        ((LENGTH, CHUNKED), 400),
        ((LENGTH, b"Content-Length: 5\r\n"), 400),
        ((b"Content-Length: +5\r\n",), 400),
        ((b"Content-Length: -5\r\n",), 400),
        ((b"Content-Length: 0x5\r\n",), 400),
        ((b"Content-Length: 5, 6\r\n",), 400),
        ((b"Content-Length: " + b"9" * 5000 + b"\r\n",), 400),
        ((b"Transfer-Encoding: xchunked\r\n",), 501),
        ((b"Transfer-Encoding: gzip, chunked\r\n",), 501),
        ((b"Transfer-Encoding: chunked, identity\r\n",), 501),
        ((CHUNKED, b"Transfer-Encoding: identity\r\n"), 501),
        ((b"Transfer-Encoding : chunked\r\n",), 400),
        ((b"Transfer-Encoding: \x0bchunked\r\n",), 400),
        ((b"X: a\0b\r\n", LENGTH), 400),
        ((b"X: a\rb: c\r\n", LENGTH), 400),
        ((b": nameless\r\n", LENGTH), 400),
    ],
    ids=str,
)
async def test_a_body_whose_end_is_in_doubt_is_refused_and_smuggles_nothing(
    target: Attacked, lines: tuple[bytes, ...], status: int
) -> None:
    token = await target.token("ann")
    told = await only_answer(target, head(token, *lines) + b"0\r\n\r\n" + NEXT)
    assert told == (status, "http_invalid")


@pytest.mark.parametrize(
    ("chunks", "status", "code"),
    [
        (b"zz\r\n", 400, "http_invalid"),
        (b"-5\r\n", 400, "http_invalid"),
        (b"5\r\nhelloX\r\n", 400, "http_invalid"),
        (b"1;" + b"a" * 70_000, 431, "head_too_large"),
        (b"1\r\nx\r\n0\r\n" + b"X: y\r\n" * 20_000, 431, "head_too_large"),
    ],
    ids=["no number", "negative", "too long", "extension", "trailers"],
)
async def test_broken_chunks_are_refused(target: Attacked, chunks: bytes, status: int, code: str) -> None:
    token = await target.token("ann")
    assert await only_answer(target, head(token, CHUNKED) + chunks) == (status, code)


async def test_a_trailer_is_no_header(target: Attacked) -> None:
    body = b"%x\r\n%b\r\n0\r\nAuthorization: Bearer %b\r\n\r\n"
    token = await target.token("ann")
    async with target.connected() as client:
        told = await answer_to(client, head("x", CHUNKED) + body % (len(PING), PING, token.encode()))
    assert told == (401, "token_invalid")


async def test_requests_in_one_packet_are_answered_each_in_its_turn(target: Attacked) -> None:
    token = await target.token("ann")
    refused = head(token, LENGTH, b"Mcp-Session-Id: stolen\r\n") + PING
    async with target.connected() as client:
        await client.send(NEXT * 20 + refused + NEXT + head("x", LENGTH) + PING + NEXT)
        statuses = [(await client.read_answer())[0] for _ in range(24)]
    assert statuses == [200] * 20 + [404, 200, 401, 200]


# --- how large a head is ---


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"X: " + b"y" * 40_000 + b"\r\n"], 431),
        ([b"X: " + b"y" * 1_000_000 + b"\r\n"], 431),
        ([b"X-%d: y\r\n" % number for number in range(5_000)], 431),
        ([b"Cookie: a=b\r\n"] * 50_000, 431),
    ],
    ids=["long", "very long", "many", "very many"],
)
async def test_a_flood_of_headers_is_refused(target: Attacked, lines: list[bytes], status: int) -> None:
    async with target.connected() as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.send_or_break, head("x", *lines, LENGTH) + PING)
        told, _, body = await client.read_answer()
    assert (told, json.loads(body)["error"]["data"]["code"]) == (status, "head_too_large")


async def test_a_long_address_is_refused(target: Attacked) -> None:
    async with target.connected() as client:
        assert await answer_to(client, head("x", LENGTH, path=b"/mcp?" + b"y" * 9_000) + PING) == (
            414,
            "head_too_large",
        )


# --- which host, and from which page ---


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "evil.localhost",
        "localhost@evil.example",
        "localhost, evil.example",
        "localhost/x",
        "localhost#",
        "localhost:",
        "localhost:a",
        "localhost%00",
        "localhost\\",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",  # noqa: S104 - a name that clients send
        "[::ffff:127.0.0.1]",
        "[::1%25lo]",
        "127.0.0.1.nip.io",
        "localhost\xa0",
        "\xb2\xb9",
    ],
)
async def test_a_host_that_this_server_is_not_is_refused(target: Attacked, host: str) -> None:
    """DNS rebinding: a page's own name that points here is no name of this server."""
    token = await target.token("ann")
    async with target.connected() as client:
        assert await answer_to(client, head(token, LENGTH, host=host) + PING) == (421, "host_not_allowed")


@pytest.mark.parametrize("host", ALLOWED_HOSTS)
async def test_its_own_hosts_are_served(target: Attacked, host: str) -> None:
    async with target.connected() as client:
        assert await answer_to(client, head("x", LENGTH, host=host) + PING) == (401, "token_invalid")


async def test_a_host_is_named_once(target: Attacked) -> None:
    assert await only_answer(target, head("x", b"Host: localhost\r\n", LENGTH) + PING) == (400, "http_invalid")
    unnamed = head("x", LENGTH).replace(b"Host: localhost\r\n", b"") + PING
    assert await only_answer(target, unnamed) == (400, "http_invalid")
    assert await only_answer(target, b"GET /mcp HTTP/1.0\r\n\r\n") == (421, "host_not_allowed")


async def test_an_address_that_names_another_host_is_not_followed(target: Attacked) -> None:
    token = await target.token("ann")
    for path in (b"http://evil.example/mcp", b"//evil.example/mcp", b"https://localhost/mcp"):
        async with target.connected() as client:
            assert await answer_to(client, head(token, LENGTH, path=path) + PING) == (404, "path_unknown")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "http://evil.example#localhost",
        "https://memory.example.org.evil.example",
        "https://memory.example.org:444",
        "http://memory.example.org",
        "null",
        "",
        "file://",
        "chrome-extension://abcdef",
        "http://localhost, https://evil.example",
    ],
)
async def test_pages_from_elsewhere_are_refused_though_the_token_is_good(target: Attacked, origin: str) -> None:
    token = await target.token("ann")
    for method in ("POST", "GET", "DELETE", "OPTIONS"):
        asks = {"origin": origin, "access-control-request-method": "POST"}
        answer = await target.send(token, PING if method == "POST" else None, method=method, headers=asks)
        assert (answer.status, answer.code) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in answer.headers


# --- methods and protocols that nothing here speaks ---


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "CONNECT", "PUT", "PATCH", "BREW", "GETT", "M-SEARCH"])
@pytest.mark.parametrize("path", ["/mcp", "/sse", "/messages/x"])
async def test_other_methods_are_refused_and_repeat_nothing(target: Attacked, method: str, path: str) -> None:
    token = await target.token("ann")
    answer = await target.send(token, None, method=method, path=path, headers={"x-told": "repeat-me"})
    assert answer.status == 405
    assert answer.headers["allow"]
    assert "repeat-me" not in answer.text
    assert token not in answer.text
    assert (await target.send("", None, method=method, path=path)).status == 401


async def test_a_tunnel_is_not_opened(target: Attacked) -> None:
    token = await target.token("ann")
    async with target.connected() as client:
        assert await answer_to(client, head(token, method=b"CONNECT", path=b"evil.example:443")) == (
            404,
            "path_unknown",
        )
        assert await answer_to(client, head(token, method=b"OPTIONS", path=b"*")) == (404, "path_unknown")


@pytest.mark.parametrize(
    "data",
    [
        b"GET /healthz\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 99,
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"\r\n\r\n\0\0\0\0\r\n\r\n",
        b"GET  /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /he\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=str,
)
async def test_what_is_not_http_is_refused(target: Attacked, data: bytes) -> None:
    assert await only_answer(target, data + NEXT) == (400, "http_invalid")


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c", b"TLS/1.0"])
async def test_a_connection_stays_what_it_is(
    target: Attacked, protocol: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    asks = b"Connection: Upgrade\r\nUpgrade: %b\r\nSec-WebSocket-Key: AAAA\r\nSec-WebSocket-Version: 13\r\n" % protocol
    async with target.connected() as client:
        told = await answer_to(client, head("x", asks, method=b"GET"))
        assert told == (401, "token_invalid")
        await client.send(NEXT)
        assert (await client.read_answer())[0] == 200
    assert not [record for record in caplog.records if "pip install" in record.getMessage()]


async def test_old_http_is_answered_and_its_connection_closed(target: Attacked) -> None:
    for line in (b"", CHUNKED):
        old = head("x", line, LENGTH).replace(b"HTTP/1.1", b"HTTP/1.0") + PING
        status, _ = await only_answer(target, old + NEXT)
        assert status in (400, 401)


# --- how large a body is ---


@pytest.mark.parametrize("is_declared", [True, False], ids=["declared", "chunked"])
async def test_a_body_of_5_mib_is_refused_and_audited(target: Attacked, is_declared: bool) -> None:
    name = target.stranger()
    token = await target.token(name)
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    line = b"Content-Length: 5242880\r\n" if is_declared else CHUNKED
    async with target.connected() as client:
        await client.send(head(token, line))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.send_or_break, b"a" * 5_242_880 if is_declared else chunk * 80 + b"0\r\n\r\n")
            status, _, body = await client.read_answer()
    assert (status, json.loads(body)["error"]["data"]["code"]) == (413, "message_too_large")
    entry = await target.audited(name, "message_too_large")
    assert (entry.draft.outcome, entry.draft.risk) == (Outcome.DENIED, Risk.HIGH)


async def test_a_body_that_is_announced_but_not_sent_is_not_waited_for_by_others(target: Attacked) -> None:
    token = await target.token("ann")
    async with target.connected() as client:
        await client.send(head(token, b"Expect: 100-continue\r\n", b"Content-Length: 4000000\r\n"))
        assert (await target.send(token, PING)).status == 200
