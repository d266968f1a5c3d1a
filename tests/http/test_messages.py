"""Which bodies are messages, and what is said of the others."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import jsonrpc_message_adapter

from contextdna_server.http.messages import DEPTH_MAX, MEMBERS_MAX, VALUES_MAX, MessageRefused, read_message


def in_params(value: str) -> bytes:
    return f'{{"jsonrpc":"2.0","id":"x","method":"m","params":{{"a":{value}}}}}'.encode()


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/initialized", "params": {}},
        {"jsonrpc": "2.0", "id": "a", "result": {}},
        {"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": "no"}},
        {"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"text": "[{" * 500 + ',"' * 200_000}},
    ],
)
def test_messages_are_read(message: dict[str, Any]) -> None:
    assert read_message(json.dumps(message).encode()) == message


@pytest.mark.parametrize(
    ("body", "rpc_code", "code", "call_id"),
    [
        (b"", -32700, "message_invalid", None),
        (b"null", -32600, "message_invalid", None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"m"}]', -32600, "message_invalid", None),
        (b'{"jsonrpc":"1.0","id":1,"method":"m"}', -32600, "message_invalid", 1),
        (b'{"jsonrpc":"2.0","id":true,"method":"m"}', -32600, "message_invalid", None),
        (b'{"jsonrpc":"2.0","id":null,"method":"m"}', -32600, "message_invalid", None),
        (b'{"jsonrpc":"2.0","id":2.0,"method":"m"}', -32600, "message_invalid", 2),
        (b'{"jsonrpc":"2.0","id":3,"method":4}', -32600, "message_invalid", 3),
        (b'{"jsonrpc":"2.0","id":3,"method":"m","params":[1]}', -32600, "message_invalid", 3),
        (b'{"jsonrpc":"2.0","id":3}', -32600, "message_invalid", 3),
        (b'{"jsonrpc":"2.0","id":3,"method":"m","params":[]}', -32600, "message_invalid", 3),
        (b'{"jsonrpc":"2.0","id":3,"result":"text"}', -32600, "message_invalid", 3),
        (b'{"jsonrpc":"2.0","result":{}}', -32600, "message_invalid", None),
        (b'{"jsonrpc":"2.0","id":1.5,"result":{}}', -32600, "message_invalid", None),
        (b'{"jsonrpc":"2.0","id":3,"error":"text"}', -32600, "message_invalid", 3),
        (b'{"jsonrpc":"2.0","id":3,"error":{"code":"a","message":"b"}}', -32600, "message_invalid", 3),
        (b'{"jsonrpc":"2.0","error":{"code":1,"message":"b"}}', -32600, "message_invalid", None),
        (b'{"jsonrpc":"2.0","id":3,"method":"m"', -32700, "message_invalid", 3),
        (b'{"method":"m","params":{"a":[[[,"id":5,"jsonrpc":"2.0"}', -32700, "message_invalid", 5),
        (b'{"jsonrpc":"2.0","id":"x","id":"y","method":"m"}', -32700, "message_invalid", "x"),
        (in_params('{"b":1,"b":2}'), -32700, "message_invalid", "x"),
        (in_params("NaN"), -32700, "message_invalid", "x"),
        (in_params("9" * 101), -32700, "message_invalid", "x"),
        (in_params("0." + "9" * 101), -32700, "message_invalid", "x"),
        (in_params("[" * 5000 + "]" * 5000), -32700, "message_invalid", "x"),
        (in_params("[" * DEPTH_MAX + "]" * DEPTH_MAX), -32700, "message_invalid", "x"),
        (in_params("[" + "[]," * VALUES_MAX + "0]"), -32700, "message_invalid", "x"),
        (in_params("[" + "0," * VALUES_MAX + "0]"), -32700, "message_invalid", "x"),
        (in_params(json.dumps(dict.fromkeys(map(str, range(MEMBERS_MAX + 1))))), -32700, "message_invalid", "x"),
        (in_params('"\\ud800"'), -32602, "text_unstorable", "x"),
        (in_params('{"\\udc00":1}'), -32602, "text_unstorable", "x"),
        (in_params('"?"').replace(b"?", b"\xff"), -32602, "text_unstorable", "x"),
        (in_params("?").replace(b"?", b"\xff"), -32700, "message_invalid", "x"),
        (b'{"jsonrpc":"2.0","id":"x","method":"\xff"}', -32602, "text_unstorable", "x"),
        (b'{"jsonrpc":"2.0","id":"\xff","method":"m"}', -32602, "text_unstorable", None),
        ("\ufeff{}".encode(), -32700, "message_invalid", None),
        ('{"jsonrpc":"2.0","id":1,"method":"m"}'.encode("utf-16"), -32700, "message_invalid", None),
        (b'\\"' * 500_000, -32700, "message_invalid", None),
        (b"[" * 1_000_000, -32700, "message_invalid", None),
    ],
)
def test_what_is_no_message_is_refused(body: bytes, rpc_code: int, code: str, call_id: int | str | None) -> None:
    with pytest.raises(MessageRefused) as refused:
        read_message(body)
    assert (refused.value.rpc_code, refused.value.error.code, refused.value.call_id) == (rpc_code, code, call_id)


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert read_message(in_params('"\\ud83e\\uddec"'))["params"] == {"a": "\U0001f9ec"}


MEMBERS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0")},
    optional={
        "id": st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
        "method": st.sampled_from(["ping", "initialize", ""]) | st.none() | st.integers(),
        "params": st.none() | st.just({}) | st.just([]) | st.integers(),
        "result": st.none() | st.just({}) | st.just([]) | st.text(max_size=3),
        "error": st.none()
        | st.fixed_dictionaries(
            {}, optional={"code": st.integers() | st.text(max_size=1), "message": st.text() | st.none()}
        ),
    },
)


@given(MEMBERS)
def test_what_is_read_the_sdk_takes(said: dict[str, Any]) -> None:
    """What it does not take it would repeat in its answer and, over HTTP+SSE, in a log."""
    with suppress(MessageRefused):
        jsonrpc_message_adapter.validate_python(read_message(json.dumps(said).encode()), by_name=False)


@given(st.binary(max_size=60) | st.text('{}[]",:\\u0dnull1 .eE', max_size=60).map(str.encode))
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    try:
        message = read_message(body)
    except MessageRefused:
        return
    assert message["jsonrpc"] == "2.0"
