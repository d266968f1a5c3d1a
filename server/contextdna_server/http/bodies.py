"""Reads the bodies of requests: so much, in such a time, as JSON, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contextdna import ContextDnaError, InvalidInput, LimitExceeded, StorageUnavailable
from contextdna_server.http.headers import header_values
from contextdna_server.http.message_sizes import check_size
from contextdna_server.http.messages import MessageRefused, call_id_in, read_message
from contextdna_server.http.refusals import NoteRefusal, Refusal, answer
from contextdna_server.lines import HEAD_BYTES
from contextdna_server.refused import too_large
from contextdna_server.settings import HttpSection

if TYPE_CHECKING:
    from contextdna_server.http.identity import Credential
    from contextdna_server.http.limits import Slot

_BUSY_RETRY_S: Final = "1"

SDK_BODY_BYTES_MAX: Final = 1 << 40
"""For the SDK's own limit: ``BodyLayer``, before it, has ours."""


class _Refused(Exception):
    def __init__(self, refusal: Refusal, call_id: int | str | None = None) -> None:
        super().__init__(refusal.error.message)
        self.refusal = refusal
        self.call_id = call_id


class _Gone(Exception):
    """The client left before its body was whole."""


class BodyLayer:
    """Passes requests on whose body is one JSON-RPC message of a fair size, or that have none; inside ``LimitLayer``.

    What the message asks for stands in ``scope["state"]["message"]`` for what comes after: its members but the result,
    and of its params the name. A refusal tells the id of the request where it can be made out, and is audited.

    Args:
        app: What serves the requests.
        settings: The bounds of bodies.
        note: Audits a refusal.
    """

    def __init__(self, app: ASGIApp, settings: HttpSection, *, note: NoteRefusal) -> None:
        self._app = app
        self._settings = settings
        self._note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        slot: Slot = scope["state"]["slot"]
        try:
            if scope["method"] == "POST":
                receive = await self._read_message(scope, receive, slot)
            else:
                _check_empty(scope)
        except _Gone:
            return
        except _Refused as refused:
            slot.drop_body()
            await self._refuse(scope, send, refused)
            return
        await self._app(scope, receive, send)

    async def _refuse(self, scope: Scope, send: Send, refused: _Refused) -> None:
        credential: Credential | None = scope["state"].get("credential")
        if credential is not None:
            await self._note(credential.principal, refused.refusal.error)
        await answer(refused.refusal, send, call_id=refused.call_id)

    async def _read_message(self, scope: Scope, receive: Receive, slot: Slot) -> Receive:
        _check_type(scope)
        if (_header(scope, b"content-length") or 0) > self._settings.body_bytes_max:
            raise self._too_large()
        body = await self._read(receive, slot)
        scope["state"]["message"] = _outline(body)
        return replayed(body, receive)

    async def _read(self, receive: Receive, slot: Slot) -> bytes:
        body = bytearray()
        try:
            with anyio.fail_after(self._settings.body_timeout_s):
                await self._collect(body, receive, slot)
        except TimeoutError:
            error = InvalidInput(
                f"the body did not arrive within {self._settings.body_timeout_s:g} s",
                code="body_timeout",
                hint="Send the request again, at once.",
                retryable=True,
            )
            raise _Refused(Refusal(error, 408), _begun_id(body)) from None  # RFC 9110, 15.5.9
        return bytes(body)

    async def _collect(self, body: bytearray, receive: Receive, slot: Slot) -> None:
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise _Gone
            part = message.get("body", b"")
            if len(body) + len(part) > self._settings.body_bytes_max:
                raise self._too_large(_begun_id(body + part[:HEAD_BYTES]))
            if not slot.take_bytes(len(part)):
                raise _busy()
            body += part
            if not message.get("more_body", False):
                return

    def _too_large(self, call_id: int | str | None = None) -> _Refused:
        error = too_large(f"more than {self._settings.body_bytes_max} bytes, the limit")
        return _Refused(Refusal(error, 413), call_id)  # RFC 9110, 15.5.14


def _outline(body: bytes) -> dict[str, Any]:
    """Read a message, and give what the layers look at; the rest would be held beside what the SDK reads."""
    try:
        message = read_message(body)
    except MessageRefused as refused:
        raise _Refused(Refusal(refused.error, 400, rpc_code=refused.rpc_code), refused.call_id) from None
    try:
        check_size(message, len(body))
    except LimitExceeded as error:
        raise _Refused(Refusal(error, 413), message.get("id")) from None
    outline = {name: message[name] for name in ("jsonrpc", "id", "method") if name in message}
    name = (message.get("params") or {}).get("name")
    return {**outline, "params": {"name": name}} if isinstance(name, str) else outline


def _busy() -> _Refused:
    error = StorageUnavailable(
        "too many large requests are at work, of this agent or of all",
        code="server_busy",
        hint="Retry in a moment.",
        retryable=True,
    )
    return _Refused(Refusal(error, 503, (("Retry-After", _BUSY_RETRY_S),)))


def _begun_id(body: bytearray) -> int | str | None:
    return call_id_in(body[:HEAD_BYTES].decode("utf-8", "replace"))


def replayed(body: bytes, receive: Receive) -> Receive:
    """Give the body once, and then what comes after it: the end of the connection."""
    given = False

    async def replay() -> Message:
        nonlocal given, body
        if given:
            return await receive()
        given, whole, body = True, body, b""
        return {"type": "http.request", "body": whole, "more_body": False}

    return replay


async def body_of(receive: Receive) -> bytes:
    """Read a body, which ``BodyLayer`` has bounded."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _check_type(scope: Scope) -> None:
    """Refuse what is not plain JSON in UTF-8. Source: RFC 9110, 15.5.16; RFC 8259, 8.1."""
    types = header_values(scope, b"content-type")
    media_type, _, parameters = (types[0] if len(types) == 1 else "").lower().partition(";")
    charset = parameters.partition("charset=")[2].strip().strip('"')
    if media_type.strip() != "application/json" or charset not in ("", "utf-8"):
        raise _unsupported(
            "the body is not declared as JSON", "Content-Type: application/json", code="content_type_unsupported"
        )
    if any(value.strip().lower() != "identity" for value in header_values(scope, b"content-encoding")):
        raise _unsupported("the body is compressed", "it without Content-Encoding", code="content_encoding_unsupported")


def _unsupported(message: str, what: str, *, code: str) -> _Refused:
    return _Refused(Refusal(InvalidInput(message, code=code, hint=f"Send {what}."), 415))


def _check_empty(scope: Scope) -> None:
    """Refuse a body where none means anything. Source: RFC 9110, 9.3.1 and 9.3.5."""
    if _header(scope, b"content-length") or header_values(scope, b"transfer-encoding"):
        error: ContextDnaError = InvalidInput(
            f"a request with {scope['method'][:20]} takes no body",
            code="message_invalid",
            hint="Send messages with POST.",
        )
        raise _Refused(Refusal(error, 400))


def _header(scope: Scope, name: bytes) -> int | None:
    """Read a header that is a number; the HTTP parser has refused what is none."""
    values = header_values(scope, name)
    return int(values[0]) if values and values[0].isdecimal() else None
