"""What a message may hold beside what agents store: it is held until it is answered."""

import json
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from contextdna import LimitExceeded
from contextdna_server.http.bodies import BodyLayer
from contextdna_server.http.message_sizes import SMALL_BYTES_MAX, SMALL_VALUES_MAX, check_size
from contextdna_server.settings import HttpSection
from tests.http.asgi import Notes, admitted, call, respond

LARGE = "a" * SMALL_BYTES_MAX
MANY: list[Any] = [{}] * SMALL_VALUES_MAX

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "x", "version": "1", "icons": [{"src": "data:" + "a" * 8000}]},
    "io.modelcontextprotocol/clientCapabilities": {"experimental": {"x": {}}, "extensions": {"a/b": {}}, "roots": {}},
    "io.modelcontextprotocol/logLevel": "debug",
    "progressToken": 7,
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": ",".join(f"vendor{number}=value" for number in range(32)),
    "baggage": "b" * 8192,
    "org.example/own": {"a": [1, 2, 3]},
}
URIS = [f"contextdna://project/default/memory/mem_01m7xjnwxnr45z2qbj2{number:03}" + "v" * 100 for number in range(200)]


def check(method: str | None, **params: Any) -> None:
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "params": params}
    if method is not None:
        message["method"] = method
    check_size(message, len(json.dumps(message)))


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": URIS}, "_meta": ENVELOPE}),
        ("initialize", {"capabilities": {"experimental": {"x": {}}}, "clientInfo": {"name": "a" * 8000}}),
        ("tools/call", {"name": "store_memory", "arguments": {"content": LARGE, "tags": MANY}, "_meta": ENVELOPE}),
        ("tools/call", {"name": "await_signal", "arguments": {"names": ["a" * 100] * 20}, "_meta": ENVELOPE}),
        ("tools/call", {"name": ["await_signal"], "arguments": {"content": LARGE}}),
        ("prompts/get", {"name": "brief_me", "arguments": {"task": "\U0001f44d" * 8000}, "_meta": ENVELOPE}),
        ("notifications/progress", {"progressToken": 7}),
    ],
)
def test_what_clients_send_is_taken(method: str, params: dict[str, Any]) -> None:
    check(method, **params)


@pytest.mark.parametrize("bulk", [LARGE, MANY])
@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": []}}),
        ("tools/call", {"name": "store_memory", "arguments": {"content": "a"}}),
        ("tools/call", {"name": "await_signal", "arguments": {}}),
        ("initialize", {}),
        ("resources/read", {"uri": "contextdna://me"}),
        ("completion/complete", {}),
        ("notifications/cancelled", {"requestId": 1}),
        ("unknown", {}),
        (None, {}),
    ],
)
def test_bulk_beside_it_is_refused(method: str | None, params: dict[str, Any], bulk: Any) -> None:
    with pytest.raises(LimitExceeded, match=r"^the message has more than [0-9]+ ") as refused:
        check(method, **params, _meta={"x": bulk, LARGE[:10]: 1})
    assert refused.value.code == "message_too_large"


def test_bulk_in_other_places_of_what_stores_nothing_is_refused() -> None:
    for name in (None, "await_signal"):
        with pytest.raises(LimitExceeded):
            check("tools/call" if name else "initialize", name=name, arguments={"x": MANY}, capabilities={"x": MANY})
    with pytest.raises(LimitExceeded):
        check("tools/call", name="store_memory", _meta={LARGE + "a": 1})


@pytest.mark.anyio
async def test_it_is_refused_under_its_id_and_layers_are_given_no_more_than_they_look_at() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(scope["state"]["message"])
        await respond(send)

    layer = admitted(BodyLayer(app, HttpSection(), note=Notes()), HttpSection())
    for size in (10, SMALL_BYTES_MAX):
        params = {"name": "a", "arguments": {"content": "b"}, "_meta": {"x": "a" * size}}
        message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
        body = json.dumps(message).encode()
        answer = await call(layer, headers={"content-type": "application/json"}, body=body)
    assert seen == [{"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "a"}}]
    assert (answer.status, answer.code, json.loads(answer.body)["id"]) == (413, "message_too_large", 7)
