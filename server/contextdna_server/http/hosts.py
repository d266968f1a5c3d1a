"""Who may call from where: the host a request is for, the web page it comes from, and what browsers ask beforehand.

A page of any origin may make a browser send requests to this machine, under a name that its owner points here (DNS
rebinding). So a request must be for a host that this server is, and a page must be of an origin that is allowed.
Source: MCP 2025-11-25, Transports, Security Warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contextdna import AccessDenied, ContextDnaError, SettingsInvalid
from contextdna_server.endpoints import is_loopback
from contextdna_server.http.headers import header_values
from contextdna_server.http.refusals import Refusal, answer
from contextdna_server.settings import HttpSection

_HOST: Final = re.compile(
    r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::(?P<port>\d{1,5}|\*))?", re.ASCII
)
_LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
_ALL_ADDRESSES: Final = ("", "0.0.0.0", "::", "[::]")  # noqa: S104 - compared with, not bound to
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}

_METHODS: Final = b"GET, POST, DELETE"
_REQUEST_HEADERS: Final = frozenset(
    {"accept", "authorization", "content-type", "last-event-id", "traceparent", "tracestate"}
)
_MCP_HEADERS: Final = re.compile(r"mcp-[a-z0-9-]{1,100}", re.ASCII)
_EXPOSED: Final = b"Mcp-Session-Id, WWW-Authenticate, Retry-After"
_PREFLIGHT_AGE_S: Final = b"600"
_HEADERS_ASKED_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Allowed:
    """The hosts and origins that are let through, as ``host`` or ``host:port`` and ``scheme://host:port``.

    Without a port, or with one of ``*``, any port is meant; a port in an origin is that of its scheme if none is given.
    """

    hosts: frozenset[str]
    origins: frozenset[str]

    def host(self, text: str) -> bool:
        """Judge a value of the header Host."""
        match = _HOST.fullmatch(text.lower())
        if match is None:
            return False
        return match["name"] in self.hosts or f"{match['name']}:{match['port']}" in self.hosts

    def origin(self, text: str) -> bool:
        """Judge a value of the header Origin."""
        known = _origin(text)
        return known is not None and (known in self.origins or f"{known.rpartition(':')[0]}:*" in self.origins)


def check_hosts(settings: HttpSection, bound_host: str) -> Allowed:
    """Give what is let through by a server that is bound to a host.

    Args:
        settings: Their hosts, origins and public URL count.
        bound_host: What the server listens on: a name or an address.

    Raises:
        SettingsInvalid: A host or origin is none, or the server would not know its own name.
    """
    hosts = [_checked_host(text) for text in settings.allowed_hosts]
    origins = [_checked_origin(text) for text in settings.allowed_origins]
    if settings.public_url:
        public = _checked_origin(settings.public_url)
        hosts.append(_hosts_of(public))
        origins.append(public)
    if is_loopback(bound_host):
        hosts += _LOOPBACK_NAMES
        origins += [f"{scheme}://{name}:*" for scheme in _DEFAULT_PORTS for name in _LOOPBACK_NAMES]
    if bound_host not in _ALL_ADDRESSES:
        hosts.append(
            _checked_host(f"[{bound_host}]" if ":" in bound_host.strip("[]") and bound_host[0] != "[" else bound_host)
        )
    if not hosts:
        raise SettingsInvalid(
            "the server is bound to all addresses, and no setting tells by which name clients call it",
            code="hosts_missing",
            hint="Set http.public_url, or http.allowed_hosts to the names and addresses that clients use.",
        )
    return Allowed(frozenset(hosts), frozenset(origins))


def public_path(settings: HttpSection) -> str:
    """Give the path that the public URL has, where a proxy serves more; unquoted, without a slash at its end."""
    return unquote(urlsplit(settings.public_url).path).rstrip("/")


class PublicPathLayer:
    """Takes the path of the public URL off a request's: some proxies do, others pass it on.

    Args:
        app: What serves the requests.
        public_path: What ``public_path`` gave.
    """

    def __init__(self, app: ASGIApp, public_path: str) -> None:
        self._app = app
        self._prefix = public_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if self._prefix and scope["type"] == "http" and scope["path"].startswith(f"{self._prefix}/"):
            scope = {**scope, "path": scope["path"].removeprefix(self._prefix)}
        await self._app(scope, receive, send)


class HostLayer:
    """Lets through what is for this server and from an allowed page, and answers what browsers ask beforehand.

    Args:
        app: What serves the requests.
        allowed: What ``check_hosts`` gave.
    """

    def __init__(self, app: ASGIApp, allowed: Allowed) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origins = header_values(scope, b"origin")
        if refusal := self._judge(header_values(scope, b"host"), origins):
            await answer(refusal, send)
        elif not origins:
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS" and header_values(scope, b"access-control-request-method"):
            await _answer_preflight(origins[0], header_values(scope, b"access-control-request-headers"), send)
        else:
            await self._app(scope, receive, _readable_by(origins[0], send))

    def _judge(self, hosts: list[str], origins: list[str]) -> Refusal | None:
        if len(hosts) != 1 or not self._allowed.host(hosts[0]):
            # Source of the status: RFC 9110, 15.5.20.
            return Refusal(_refused("host", code="host_not_allowed"), 421)
        if len(origins) > 1 or (origins and not self._allowed.origin(origins[0])):
            # Source of the status: MCP 2025-11-25, Transports.
            return Refusal(_refused("origin", code="origin_not_allowed"), 403, (("Vary", "Origin"),))
        return None


def _refused(what: str, *, code: str) -> ContextDnaError:
    return AccessDenied(
        f"the request's {what} is not allowed here",
        code=code,
        hint=f"Call the server by its own address, or let its operator add yours to http.allowed_{what}s.",
    )


async def _answer_preflight(origin: str, asked: Iterable[str], send: Send) -> None:
    """Tell a browser what an allowed page may send. Source: the Fetch standard, CORS protocol."""
    names = [name.strip().lower() for name in ",".join(asked).split(",")[:_HEADERS_ASKED_MAX]]
    allowed = [name for name in names if name in _REQUEST_HEADERS or _MCP_HEADERS.fullmatch(name)]
    headers = [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", ", ".join(allowed).encode("ascii")),
        (b"access-control-max-age", _PREFLIGHT_AGE_S),
        (b"vary", b"Origin, Access-Control-Request-Headers"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _readable_by(origin: str, send: Send) -> Send:
    """Let a page read the answer, refusals too."""
    own = [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"Origin"),
    ]

    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            others = [h for h in message.get("headers", ()) if not h[0].lower().startswith(b"access-control-")]
            message = {**message, "headers": [*others, *own]}
        await send(message)

    return send_with


def _origin(text: str) -> str | None:
    """Write an origin with its port; None for what is none, such as ``null``. Source: RFC 6454, 6.2."""
    scheme, found, rest = text.lower().partition("://")
    match = _HOST.fullmatch(rest)
    if not found or match is None or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme, re.ASCII):
        return None
    return f"{scheme}://{match['name']}:{match['port'] or _DEFAULT_PORTS.get(scheme, '')}"


def _hosts_of(origin: str) -> str:
    return origin.partition("://")[2].rpartition(":")[0]


def _checked_host(text: str) -> str:
    match = _HOST.fullmatch(text.lower())
    if match is None:
        raise _invalid("http.allowed_hosts", text, "a name or an address, such as memory.example.org or [::1]:8000")
    return match["name"] if match["port"] in (None, "*") else f"{match['name']}:{match['port']}"


def _checked_origin(text: str) -> str:
    parts = urlsplit(text)
    origin = _origin(f"{parts.scheme}://{parts.netloc}")
    if origin is None or "@" in text:
        raise _invalid("http.allowed_origins or http.public_url", text, "such as https://app.example.org")
    return origin


def _invalid(name: str, text: str, form: str) -> SettingsInvalid:
    return SettingsInvalid(f"{name}: {text!r} cannot be used", code="setting_invalid", hint=f"Write {form}.")
