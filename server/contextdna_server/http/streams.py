"""How much of a caller stays open: streams, and sessions of the protocol eras with a handshake."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any, Final

from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contextdna_server.http.headers import header_values
from contextdna_server.http.limits import CallerKey, Callers, caller_key, too_many
from contextdna_server.http.refusals import NoteRefusal, Refusal, answer
from contextdna_server.settings import HttpSection

if TYPE_CHECKING:
    from contextdna_server.http.identity import Credential
    from contextdna_server.http.limits import Slot
    from contextdna_server.http.slow_clients import CallTime

SESSIONS_MAX: Final = 50_000
"""Sessions that are remembered in all; the SDK opens 10,000 by itself."""

_STREAM_RETRY_S: Final = 5.0
_SESSION_ID: Final = MCP_SESSION_ID_HEADER.lower().encode()
_SESSION_ID_CHARS_MAX: Final = 128


class SessionCounts:
    """Which sessions are open, by caller; those that were not used for ``idle_s`` are over.

    Args:
        idle_s: Seconds.
        sessions_max: How many are remembered.
    """

    def __init__(self, idle_s: float, *, sessions_max: int = SESSIONS_MAX) -> None:
        self._idle_s = idle_s
        self._sessions_max = sessions_max
        self._used: OrderedDict[str, tuple[CallerKey, float]] = OrderedDict()
        self._counts: Counter[CallerKey] = Counter()

    def __len__(self) -> int:
        return len(self._used)

    def count(self, key: CallerKey, now: float) -> int:
        """Count a caller's sessions."""
        while self._used and (oldest := next(iter(self._used.items())))[1][1] + self._idle_s <= now:
            self.forget(oldest[0])
        return self._counts[key]

    def use(self, key: CallerKey, session_id: str, now: float) -> None:
        """Remember that a caller used, or opened, a session."""
        self.forget(session_id)
        self._used[session_id] = key, now
        self._counts[key] += 1
        if len(self._used) > self._sessions_max:
            self.forget(next(iter(self._used)))

    def owns(self, key: CallerKey, session_id: str) -> bool:
        """Tell whether a session is known as the caller's."""
        return session_id in self._used and self._used[session_id][0] == key

    def forget(self, session_id: str) -> None:
        """Count a session as over."""
        if used := self._used.pop(session_id, None):
            self._counts[used[0]] -= 1
            if not self._counts[used[0]]:
                del self._counts[used[0]]


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
        self.sessions = SessionCounts(settings.session_idle_s)
        self._opening: Counter[CallerKey] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        message: dict[str, Any] = scope["state"].get("message") or {}
        credential: Credential = scope["state"]["credential"]
        if refusal := self._admit(scope, message, credential):
            await self._note(credential.principal, refusal.error)
            await answer(refusal, send, call_id=message.get("id"))
            return
        self._give_time(scope["state"].get("call_time"), scope["method"], message)
        key, opens = caller_key(credential), _opens_session(scope, message)
        if not opens and not header_values(scope, _SESSION_ID):
            await self._app(scope, receive, send)
            return
        self._opening[key] += opens
        try:
            await self._app(scope, receive, self._watching(scope, key, opens=opens, send=send))
        finally:
            self._opening[key] -= opens
            if not self._opening[key]:
                del self._opening[key]

    def _admit(self, scope: Scope, message: dict[str, Any], credential: Credential) -> Refusal | None:
        """Give what refuses a request; a stream that is let through is counted as one."""
        slot: Slot = scope["state"]["slot"]
        caller = self._callers.of(credential)
        if _is_stream(scope["method"], message):
            if caller.streams >= self._settings.streams_max:
                reason = f"{caller.streams} streams of this agent and client are open"
                return too_many(reason, _STREAM_RETRY_S, code="too_many_streams")
            slot.become_stream()
        key = caller_key(credential)
        if _opens_session(scope, message):
            count = self.sessions.count(key, self._callers.clock()) + self._opening[key]
            if count >= self._settings.sessions_max:
                reason = f"{count} sessions of this agent and client are open"
                return too_many(
                    f"{reason}: end some with DELETE", self._settings.session_idle_s, code="too_many_sessions"
                )
        return None

    def _give_time(self, call: CallTime | None, method: str, message: dict[str, Any]) -> None:
        if call is None:
            return
        call.call_id = message.get("id")
        if _is_stream(method, message):
            call.lift()
        elif message.get("method") == "tools/call" and _name(message) in self._waiting_tools:
            call.extend(self._wait_max_s)

    def _watching(self, scope: Scope, key: CallerKey, *, opens: bool, send: Send) -> Send:
        """Read in an answer whether a session was opened, is still there, or is over."""
        asked = "" if opens else header_values(scope, _SESSION_ID)[0]

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._learn(message, key, asked=asked, is_over=scope["method"] == "DELETE")
            await send(message)

        return watch

    def _learn(self, start: Message, key: CallerKey, *, asked: str, is_over: bool) -> None:
        ok = start["status"] < 400
        if asked and self.sessions.owns(key, asked):
            if (is_over and ok) or start["status"] == 404:  # Source of 404: MCP 2025-11-25, Session Management
                self.sessions.forget(asked)
            else:
                self.sessions.use(key, asked, self._callers.clock())
        elif not asked and ok:
            for name, value in start.get("headers", ()):
                if name.lower() == _SESSION_ID and len(value) <= _SESSION_ID_CHARS_MAX:
                    self.sessions.use(key, value.decode("latin-1"), self._callers.clock())


def _is_stream(method: str, message: dict[str, Any]) -> bool:
    return method == "GET" or message.get("method") == "subscriptions/listen"


def _opens_session(scope: Scope, message: dict[str, Any]) -> bool:
    return message.get("method") == "initialize" and not header_values(scope, _SESSION_ID)


def _name(message: dict[str, Any]) -> object:
    name = (message.get("params") or {}).get("name")
    return name if isinstance(name, str) else ""
