"""How many calls and streams of a caller are open, and how long its requests may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from contextdna_server.http.limits import Callers, too_many, too_many_calls
from contextdna_server.http.refusals import NoteRefusal, Refusal, answer
from contextdna_server.settings import HttpSection

if TYPE_CHECKING:
    from contextdna_server.http.identity import Credential
    from contextdna_server.http.limits import Slot
    from contextdna_server.http.slow_clients import CallTime

_STREAM_RETRY_S: Final = 5.0


class StreamLayer:
    """Passes on what a caller may keep open; it stands inside ``LimitLayer`` and ``BodyLayer``.

    A stream is lifted out of the time that a call may take, and so is, for the time it may wait, a call of a tool that
    waits.

    Args:
        app: What serves the requests.
        settings: The bounds.
        callers: What callers are doing.
        note: Audits a refusal.
        waiting_tools: Names of tools that wait.
        wait_max_s: How long they do, in seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: HttpSection,
        *,
        callers: Callers,
        note: NoteRefusal,
        waiting_tools: frozenset[str] = frozenset(),
        wait_max_s: float = 0.0,
    ) -> None:
        self._app = app
        self._settings = settings
        self._callers = callers
        self._note = note
        self._waiting_tools = waiting_tools
        self._wait_max_s = wait_max_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        message: dict[str, Any] = scope["state"].get("message") or {}
        credential: Credential = scope["state"]["credential"]
        if refusal := self._admit(scope, message, credential):
            await self._note(credential.principal, refusal.error)
            await answer(refusal, send, call_id=message.get("id"))
            return
        self._give_time(scope["state"].get("call_time"), scope["method"], message)
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope, message: dict[str, Any], credential: Credential) -> Refusal | None:
        """Give what refuses a request; a call or stream that is let through is counted as one."""
        slot: Slot = scope["state"]["slot"]
        caller = self._callers.of(credential)
        if _is_stream(scope["method"], message):
            if caller.streams >= self._settings.streams_max:
                reason = f"{caller.streams} streams of this agent are open"
                return too_many(reason, _STREAM_RETRY_S, code="too_many_streams")
            slot.become_stream()
        elif _is_call(message):
            if slot.is_full(self._settings.calls_max):
                return too_many_calls(slot.calls)
            slot.become_call()
        return None

    def _give_time(self, call: CallTime | None, method: str, message: dict[str, Any]) -> None:
        if call is None:
            return
        call.call_id = message.get("id")
        if _is_stream(method, message):
            call.lift()
        elif message.get("method") == "tools/call" and _name(message) in self._waiting_tools:
            call.extend(self._wait_max_s)


def _is_stream(method: str, message: dict[str, Any]) -> bool:
    return method == "GET" or message.get("method") == "subscriptions/listen"


def _is_call(message: dict[str, Any]) -> bool:
    return "method" in message and "id" in message


def _name(message: dict[str, Any]) -> object:
    name = (message.get("params") or {}).get("name")
    return name if isinstance(name, str) else ""
