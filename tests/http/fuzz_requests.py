"""Hypothesis strategies of requests: nearly what clients send, over all methods and tools, and their bytes damaged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st

from contextdna_resources import TEMPLATES
from contextdna_server.prompts import PROMPTS
from contextdna_tools import FULL_TOOLS, input_schema

TOKEN: Final = "TOKEN_OF_%s"
"""Stands in drawn bytes for a credential of a kind in ``CREDENTIALS``."""
CREDENTIALS: Final = ("system", "reader", "issued", "expired", "garbage")
KNOWN: Final = "ID_%d_ID"
"""Stands in drawn bytes for an id or a handle that the server gave in an earlier answer."""
PATHS: Final = ["/sse", "/healthz", "/readyz", "/messages/x", "/.well-known/oauth-protected-resource/mcp"]
SESSION: Final = "MCP_SESSION_ID"
STREAM: Final = "/messages/STREAM"

SCHEMAS: Final[Mapping[str, dict[str, Any]]] = {tool.name: input_schema(tool.arguments) for tool in FULL_TOOLS}
_NAMES: Final = ("alpha", "beta", "maria", "fact", "private", "team", "PROCEED", "2026-05-01", "phase-1", "semantic")
_NASTY: Final = (
    "",
    "\0",
    " ",
    "\r\n\r\n",
    "\u202e\u2028",
    "\U0001f9ec" * 40,
    "a" * 5_000,
    '"' * 99,
    "%s%n{0}{{7*7}}${x}",
    "../../etc/passwd",
    "' OR 1=1 --",
    "* NEAR/2 (",
    "contextdna://projects/alpha",
    "2026-13-45T99:99:99Z",
    "-0001-01-01",
    "9999-12-31T23:59:59.999999+14:00",
    "NaN",
    "null",
)
_NUMBERS: Final = (0, 1, -1, 2**31, 2**53 + 1, -(2**63), 10**30, 0.1, -0.0, 1e308, 5e-324)

_FITTING: Final[Mapping[str, tuple[Any, ...]]] = {
    "level": ("private", "team", "swarm", "project", "system"),
    "levels": ("private", "project"),
    "tier": ("working", "episodic", "semantic"),
    "kinds": ("memory", "turn", "artifact", "loop", "task"),
    "role": ("agent", "coordinator", "user", "assistant"),
    "project_id": ("alpha", "beta", ""),
    "loop": (2, 3, 4),
    "decision": ("PROCEED", "DEFER", "ESCALATE"),
    "action": ("accept", "decline", "revoke", "memory.store"),
    "status": ("open", "done", "idle", "active"),
    "detail": ("compact", "full"),
    "relation": ("supports", "contradicts"),
    "circle": ("team", "swarm", "project"),
    "expected_version": (1, 2),
    "timeout_s": (0, 0.05),
    "limit": (1, 5, 100),
    "base64": ("aGVsbG8=", "!"),
}
"""What lets calls get further than the check of their arguments."""

known = st.integers(0, 40).map(lambda number: KNOWN % number)
texts = st.sampled_from(_NAMES) | st.sampled_from(_NASTY) | known | known | st.text(max_size=20)
numbers = st.sampled_from(_NUMBERS) | st.integers(-3, 300) | st.floats(allow_nan=False, allow_infinity=False)
junk = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=6,
)


def rarely(draw: st.DrawFn, times: int) -> bool:
    """Tell whether this is one time of so many; Hypothesis draws the least and the greatest number more often."""
    return draw(st.integers(0, times + 1)) == times // 2


def value_of(draw: st.DrawFn, name: str, schema: Mapping[str, Any]) -> Any:
    """Give a value that fits an argument, mostly."""
    if rarely(draw, 12):
        return draw(junk)
    if name in _FITTING and not rarely(draw, 6):
        fitting = draw(st.sampled_from(_FITTING[name]))
        return [fitting] if schema.get("type") == "array" else fitting
    match schema.get("type"):
        case "string":
            return draw(known if name == "id" or name.endswith("_id") else texts)
        case "integer" | "number":
            return draw(numbers)
        case "boolean":
            return draw(st.booleans())
        case "array" if schema["items"].get("type") == "string":
            return draw(st.lists(known if "ids" in name else texts, max_size=3))
        case _:
            return draw(junk)


@st.composite
def arguments_of(draw: st.DrawFn, tool: str) -> dict[str, Any]:
    """Give arguments of a tool: what it needs, some of the others, and now and then one that it does not take."""
    properties, required = SCHEMAS[tool]["properties"], SCHEMAS[tool].get("required", [])
    chosen = draw(st.lists(st.sampled_from(sorted(properties)), max_size=3))
    arguments = {name: value_of(draw, name, properties[name]) for name in dict.fromkeys([*required, *chosen])}
    arguments.setdefault("project_id", "alpha")
    if rarely(draw, 20):
        arguments[draw(texts)] = draw(junk)
    return arguments


_NOUNS: Final = ("memories", "conversations", "artifacts", "loops", "tasks", "agents")
uris = (
    st.sampled_from([template.uri_template for template in TEMPLATES])
    | st.builds("contextdna://projects/alpha/{}/{}".format, st.sampled_from(_NOUNS), known)
    | st.builds("contextdna://projects/{}/{}?cursor={}".format, texts, st.sampled_from(_NOUNS), texts)
    | texts
)
calls = st.sampled_from(sorted(SCHEMAS)).flatmap(
    lambda tool: st.fixed_dictionaries({"name": st.just(tool), "arguments": arguments_of(tool)})
)
prompts = st.fixed_dictionaries(
    {"name": st.sampled_from([prompt.definition.name for prompt in PROMPTS]) | texts},
    optional={"arguments": st.dictionaries(st.sampled_from(["task", "session_id", "phase"]) | texts, junk, max_size=3)},
)
completions = st.fixed_dictionaries(
    {
        "ref": st.fixed_dictionaries({"type": st.sampled_from(["ref/resource", "ref/prompt"]), "uri": uris}) | junk,
        "argument": st.fixed_dictionaries({"name": texts, "value": texts}) | junk,
    },
    optional={"context": st.fixed_dictionaries({"arguments": st.dictionaries(texts, texts, max_size=2)}) | junk},
)
by_uri = st.fixed_dictionaries({"uri": uris | junk})
handshakes = st.fixed_dictionaries(
    {"protocolVersion": st.sampled_from(["2025-11-25", "2024-11-05", "1900-01-01"]) | junk},
    optional={"capabilities": st.just({}) | junk, "clientInfo": st.just({"name": "f", "version": "1"}) | junk},
)
listening = st.fixed_dictionaries(
    {"notifications": st.fixed_dictionaries({"resourceSubscriptions": st.lists(uris, max_size=3)}) | junk}
)
METHODS: Final[Mapping[str, st.SearchStrategy[Any]]] = {
    "tools/call": calls,
    "tools/list": st.just({}),
    "resources/read": by_uri,
    "resources/subscribe": by_uri,
    "resources/unsubscribe": by_uri,
    "resources/list": st.just({}),
    "resources/templates/list": st.just({}),
    "prompts/get": prompts,
    "prompts/list": st.fixed_dictionaries({"cursor": texts}),
    "completion/complete": completions,
    "initialize": handshakes,
    "ping": st.just({}),
    "logging/setLevel": st.fixed_dictionaries({"level": st.sampled_from(["debug", "error"]) | junk}),
    "server/discover": st.just({}),
    "subscriptions/listen": listening,
    "notifications/cancelled": st.fixed_dictionaries({"requestId": junk}),
    "notifications/initialized": st.just({}),
    "notifications/progress": st.fixed_dictionaries({"progressToken": junk, "progress": junk}),
}
methods = st.sampled_from(["tools/call"] * 30 + sorted(METHODS))
metas = st.dictionaries(
    st.sampled_from(["progressToken", "traceparent", "io.modelcontextprotocol/logLevel", "x"]), junk, max_size=2
)


@st.composite
def messages(draw: st.DrawFn, *, is_modern: bool) -> dict[str, Any]:
    """Give JSON-RPC messages, mostly requests."""
    method = draw(methods)
    params = draw(METHODS[method])
    if is_modern or rarely(draw, 6):
        meta = draw(metas) if rarely(draw, 4) else {}
        envelope = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": draw(junk) if rarely(draw, 20) else {},
        }
        params = {**params, "_meta": {**envelope, **meta}}
    message = {"jsonrpc": "2.0", "method": method, "params": params}
    if not method.startswith("notifications/"):
        message["id"] = draw(st.integers(0, 5) | st.text(max_size=5))
    if rarely(draw, 16):
        message[draw(st.sampled_from(["id", "method", "params", "jsonrpc", "result", "error"]))] = draw(junk)
    return message


def _header(value: object) -> str:
    """Write a text as a header that does not end early; what is not ASCII is dropped."""
    return "".join(char for char in str(value) if " " <= char <= "~").strip()[:200]


@dataclass(frozen=True)
class Damage:
    """What is done to the bytes of a request."""

    at: float
    """Where, as a share of its length."""
    drop: int
    put: bytes

    def __call__(self, data: bytes) -> bytes:
        """Damage a request."""
        at = int(self.at * len(data))
        return data[:at] + self.put + data[at + self.drop :]


damages = st.builds(
    Damage,
    at=st.floats(0, 1),
    drop=st.integers(0, 30),
    put=st.binary(max_size=6)
    | st.sampled_from(
        [
            b"\r\n",
            b"\r\n\r\n",
            b"\0",
            b"Transfer-Encoding: chunked\r\n",
            b"Content-Length: 3\r\n",
            b"Host: evil\r\n",
            b"Expect: 100-continue\r\n",
            b"Content-Encoding: gzip\r\n",
            b"[[[[",
            b"\\ud800",
            b"\xff\xfe",
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ]
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Give the bytes of requests, with ``TOKEN``, ``KNOWN``, ``SESSION`` and ``STREAM`` to be filled in."""
    is_modern = draw(st.booleans())
    message = draw(messages(is_modern=is_modern))
    body = json.dumps(message, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    path = draw(
        st.sampled_from(["/mcp"] * 8 + [STREAM, STREAM, "/sse", "/healthz", "/messages/x", "/" + _header(draw(texts))])
    )
    method = draw(st.sampled_from(["POST"] * 30 + ["GET", "DELETE", "HEAD", "OPTIONS", "PUT", "TRACE"]))
    headers = {
        "Host": "localhost",
        "Authorization": f"Bearer {TOKEN % draw(st.sampled_from(['system'] * 12 + list(CREDENTIALS)))}",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
    }
    if is_modern:
        params = message["params"] if isinstance(message["params"], dict) else {}
        headers["Mcp-Protocol-Version"] = "2026-07-28"
        headers["Mcp-Method"] = _header(message["method"])
        headers["Mcp-Name"] = _header(params.get("name", params.get("uri", "")))
    elif draw(st.booleans()):
        headers["Mcp-Session-Id"] = SESSION
    if rarely(draw, 12):
        headers[draw(st.sampled_from([*headers, "Origin", "Last-Event-ID", "X-Forwarded-For"]))] = _header(draw(texts))
    lines = [f"{method} {path.replace(' ', '%20')} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    request = Written("\r\n".join(lines).encode(), body, is_chunked=rarely(draw, 6))
    data = request.whole(is_empty=method in ("GET", "DELETE", "HEAD"))
    for damage in draw(st.lists(damages, max_size=2)) if rarely(draw, 5) else ():
        data = damage(data)
    return data


@dataclass(frozen=True)
class Written:
    """A request's head without its end, and its body."""

    head: bytes
    body: bytes
    is_chunked: bool

    def whole(self, *, is_empty: bool) -> bytes:
        """Give its bytes; the length of the body is written when what stands in it is filled in."""
        if is_empty:
            return self.head + b"\r\n\r\n"
        if self.is_chunked:
            return self.head + b"\r\nTransfer-Encoding: chunked\r\n\r\nLENGTH_HEX\r\n" + self.body + b"\r\n0\r\n\r\n"
        return self.head + b"\r\nContent-Length: LENGTH\r\n\r\n" + self.body
