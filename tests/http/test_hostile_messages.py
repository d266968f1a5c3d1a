"""Bodies that are bombs, no messages, or not what their headers say: refused, kept nowhere and not repeated."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from contextdna import Risk
from tests.http.attacked import ENVELOPE, MODERN, Attacked, message

pytestmark = pytest.mark.anyio

TEXT = "the tide table of 1911"
"""Stands in hostile bodies, and nowhere in an answer or a log."""
INITIALIZE = message(
    "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "a", "version": "1"}
)


def with_argument(value: str, name: str = "content") -> bytes:
    """Write a call with a value as it stands."""
    said = message("tools/call", call_id="x", name="store_memory", arguments={name: "?"}).decode()
    return said.replace('"?"', value).encode()


# --- bombs ---


@pytest.mark.parametrize(
    "value",
    [
        "[" * 65 + "]" * 65,
        "[" * 1_000_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "[" + "0," * 1_000_000 + "0]",
        "{" + ",".join(f'"k{number}":0' for number in range(100_000)) + "}",
        "[" + '{"a":[' * 30 + "0" + "]}" * 30 + ",[]" * 100_000 + "]",
        "9" * 1_000_000,
        "-" + "9" * 101,
        "0." + "1" * 5_000,
        "1e" + "9" * 5_000,
        '{"a":1,"a":2}',
        '{"a":1,"\\u0061":2}',
        "NaN",
        "-Infinity",
        "0x10",
        "'a'",
        "// a",
        '"a\nb"',
        '"\\x41"',
        '"\\ud800',
    ],
    ids=lambda value: value[:12],
)
async def test_json_that_costs_or_means_too_much_is_refused_and_audited(target: Attacked, value: str) -> None:
    name = target.stranger()
    answer = await target.send(await target.token(name), with_argument(value))
    assert (answer.status, answer.code) == (400, "message_invalid")
    assert answer.message["id"] == "x"
    assert len(answer.text) < 1_000
    assert (await target.audited(name, "message_invalid")).draft.risk is Risk.HIGH


@pytest.mark.parametrize(
    "value", [b'"\\ud800"', b'"a\\udc00b"', b'"a\\u0000"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\xaf"']
)
async def test_what_is_no_text_is_refused(target: Attacked, value: bytes) -> None:
    body = with_argument("?").replace(b"?", value)
    answer = await target.send(await target.token(target.stranger()), body)
    assert answer.code == "text_unstorable"


@pytest.mark.parametrize("value", ["1e999", "-1e999", "9" * 99, "1.5", "true", "[]", "{}", "null"])
async def test_a_number_of_any_size_or_kind_is_no_failure(target: Attacked, value: str) -> None:
    token = await target.token("ann")
    for name in ("importance", "retention_days", "tags", "metadata"):
        answer = await target.send(token, with_argument(value, name))
        assert answer.status == 200
        assert answer.code in ("argument_invalid", "content_empty"), answer.text


@pytest.mark.parametrize("kind", ["text/plain", "", "application/json, text/plain", "application/json; charset=utf-7"])
async def test_what_is_not_declared_as_json_is_refused(target: Attacked, kind: str) -> None:
    """A page of another origin may send these kinds without asking first."""
    name = target.stranger()
    answer = await target.send(await target.token(name), message("ping"), headers={"content-type": kind})
    assert (answer.status, answer.code) == (415, "content_type_unsupported")
    await target.audited(name, "content_type_unsupported")


async def test_a_compressed_body_is_refused(target: Attacked) -> None:
    token = await target.token("ann")
    for coding in ("gzip", "deflate", "br", "identity, gzip"):
        answer = await target.send(token, b"\x1f\x8b" + b"\0" * 99, headers={"content-encoding": coding})
        assert (answer.status, answer.code) == (415, "content_encoding_unsupported")


# --- what is no message ---


@pytest.mark.parametrize(
    "said",
    [
        [],
        [{"jsonrpc": "2.0", "id": 1, "method": "ping"}],
        [{"jsonrpc": "2.0", "id": number, "method": "tools/list"} for number in range(1000)],
        "ping",
        7,
        None,
        {},
        {"id": 1, "method": "ping"},
        {"jsonrpc": "1.0", "id": 1, "method": "ping"},
        {"jsonrpc": 2.0, "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": None, "method": "ping"},
        {"jsonrpc": "2.0", "id": True, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1.5, "method": "ping"},
        {"jsonrpc": "2.0", "id": [TEXT], "method": "ping"},
        {"jsonrpc": "2.0", "id": {"a": TEXT}, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1, "method": None},
        {"jsonrpc": "2.0", "id": 1, "method": ["ping"]},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [TEXT]},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": TEXT},
        {"jsonrpc": "2.0", "id": 1, "result": TEXT},
        {"jsonrpc": "2.0", "id": 1, "error": TEXT},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": TEXT, "message": TEXT}},
        {"jsonrpc": "2.0", "result": {"a": TEXT}},
    ],
    ids=lambda said: json.dumps(said)[:60],
)
async def test_what_is_no_message_is_refused_on_every_transport(target: Attacked, said: object) -> None:
    target.secret(TEXT)
    token, body = await target.token(target.stranger()), json.dumps(said).encode()
    opened = await target.send(token, INITIALIZE)
    async with target.streaming(token) as (endpoint, _):
        for path, headers in (
            ("/mcp", {}),
            ("/mcp", {"mcp-session-id": opened.headers["mcp-session-id"]}),
            ("/mcp", {"mcp-protocol-version": MODERN}),
            (endpoint, {}),
        ):
            answer = await target.send(token, body, path=path, headers=headers)
            assert (answer.status, answer.code) == (400, "message_invalid"), path
            assert TEXT not in answer.text


@pytest.mark.parametrize("call_id", [0, -1, 10**90, "", "0", "x" * 10_000, "\u0000", "\u202e", "{{7919*7907}}", "true"])
async def test_an_id_comes_back_as_it_was(target: Attacked, call_id: object) -> None:
    answer = await target.send(await target.token("ann"), message("ping", call_id=call_id))
    assert (answer.status, answer.message["id"]) == (200, call_id)


@pytest.mark.parametrize(
    "method",
    ["", "\0", "tools/call\0", "tools\x00/call", "TOOLS/CALL", "tools/call ", "__class__", "../tools/call", "rpc.x"],
)
async def test_a_method_that_is_none_is_not_found(target: Attacked, method: str) -> None:
    token = await target.token("ann", scopes=["read"])  # type: ignore[list-item]  # a scope is a text
    answer = await target.send(token, message(method, name="store_memory", arguments={"content": TEXT}))
    assert (answer.status, answer.message["error"]["code"]) == (200, -32601)
    alone = await target.send(
        token,
        message(method, _meta=ENVELOPE),
        headers={"mcp-protocol-version": MODERN, "mcp-method": method.replace("\0", "").strip()},
    )
    assert alone.status in (400, 404)


@pytest.mark.parametrize(
    "name", ["", "\0", "store_memory\0", "STORE_MEMORY", "{{7919*7907}}", "../store_memory", 5, None, ["a"], {}]
)
async def test_a_tool_that_is_none_is_not_found(target: Attacked, name: object) -> None:
    token = await target.token("ann")
    answer = await target.send(token, message("tools/call", name=name, arguments={"content": target.secret(TEXT)}))
    assert answer.status == 200
    if isinstance(name, str):
        assert answer.code == "tool_unknown"
        assert "62615533" not in answer.text
    else:
        assert answer.message["error"]["code"] == -32602
    assert TEXT not in answer.text


# --- headers that say another thing than the body ---


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp-method": "tools/list"},
        {"mcp-method": ""},
        {"mcp-method": "tools/call, tools/list"},
        {"mcp-name": "list_projects"},
        {"mcp-name": ""},
        {"mcp-name": "=?base64?bGlzdF9wcm9qZWN0cw==?="},
        {"mcp-name": "=?base64?!?="},
        {"mcp-protocol-version": "2025-11-25, 2026-07-28"},
        {"mcp-protocol-version": "2099-01-01"},
    ],
    ids=str,
)
async def test_headers_that_differ_from_the_body_are_refused_and_nothing_is_done(
    target: Attacked, headers: dict[str, str]
) -> None:
    """What stands in front may have let the request through by its headers. Source: MCP 2026-07-28, transports."""
    name = target.stranger()
    usual = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "store_memory"}
    body = message("tools/call", name="store_memory", arguments={"content": TEXT}, _meta=ENVELOPE)
    answer = await target.send(await target.token(name), body, headers={**usual, **headers})
    assert answer.status == 400
    assert answer.message["error"]["code"] in (-32020, -32602), answer.text
    assert not await target.entries(name)


async def test_routing_headers_given_twice_are_refused(target: Attacked) -> None:
    name = target.stranger()
    token = await target.token(name)
    body = message("tools/call", name="store_memory", arguments={"content": TEXT}, _meta=ENVELOPE)
    for twice in ("Mcp-Method: tools/list", "Mcp-Name: list_projects", "Mcp-Protocol-Version: 2025-11-25"):
        head = (
            f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            f"Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
            f"Mcp-Protocol-Version: {MODERN}\r\nMcp-Method: tools/call\r\nMcp-Name: store_memory\r\n{twice}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        async with target.connected() as client:
            await client.send(head.encode() + body)
            assert (await client.read_answer())[0] == 400
    assert not await target.entries(name)


@pytest.mark.parametrize("meta", [None, [], "x", {}, {**ENVELOPE, "io.modelcontextprotocol/clientCapabilities": [[]]}])
async def test_a_request_that_stands_alone_says_of_whom_it_is(target: Attacked, meta: Any) -> None:
    headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/list"}
    answer = await target.send(await target.token("ann"), message("tools/list", _meta=meta), headers=headers)
    assert (answer.status, answer.message["error"]["code"]) == (400, -32602)


# --- where messages go ---


@pytest.mark.parametrize(
    "name", ["", "x", "..", "%2e%2e", "../mcp", "%00", "%ff", "a/b", "x" * 4_000, "{name}", "0" * 32]
)
async def test_a_stream_server_that_was_made_up_is_not_found(target: Attacked, name: str) -> None:
    agent = target.stranger()
    token = await target.token(agent)
    head = (
        f"POST /messages/{name}?session_id={'0' * 32} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(message('ping'))}\r\n\r\n"
    )
    async with target.connected() as client:
        await client.send(head.encode() + message("ping"))
        status, _, body = await client.read_answer()
    assert (status, json.loads(body)["error"]["data"]["code"]) == (404, "transport_session_unknown")
    assert (await target.audited(agent, "transport_session_unknown")).draft.risk is Risk.HIGH


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?session_id=",
        "?session_id=tide-table",
        "?session_id=%00",
        "?session_id={0}&session_id={0}",
        "?SESSION_ID={0}",
    ],
)
async def test_a_stream_that_was_made_up_is_not_found_and_not_logged(target: Attacked, query: str) -> None:
    target.secret("tide-table")
    token = await target.token(target.stranger())
    async with target.streaming(token) as (endpoint, _):
        path, _, named = endpoint.partition("?session_id=")
        answer = await target.send(token, message("ping"), path=path + query.format(named))
        assert (answer.status, answer.code) == (404, "transport_session_unknown")


# --- floods ---


async def test_a_flood_of_notifications_is_taken_and_kept_nowhere(target: Attacked) -> None:
    token = await target.token("ann")
    opened = await target.send(token, INITIALIZE)
    headers = {"mcp-session-id": opened.headers["mcp-session-id"]}
    floods: list[tuple[str, dict[str, Any]]] = [
        ("notifications/cancelled", {"requestId": "never", "reason": target.secret(TEXT)}),
        ("notifications/cancelled", {"requestId": {"a": TEXT}}),
        ("notifications/progress", {"progressToken": "never", "progress": 1}),
        ("notifications/initialized", {}),
        ("notifications/roots/list_changed", {}),
        ("notifications/made_up", {"text": TEXT}),
        ("tools/call", {"name": "store_memory", "arguments": {"content": TEXT}}),
    ]

    async def flood(method: str, params: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode()
        for number in range(20):
            answer = await target.send(token, body, headers=headers if number % 2 else None)
            assert answer.status == 202

    async with anyio.create_task_group() as tasks:
        for method, params in floods:
            tasks.start_soon(flood, method, params)
    assert (await target.send(token, message("ping"), headers=headers)).result == {}
    assert not (await target.call(token, "search", query=TEXT)).said["results"]
