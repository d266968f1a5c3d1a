"""A call that a credential is not for is refused before it is served, with the scopes to come back with.

The hub judges every action again; this layer is where HTTP clients learn what to ask their issuer for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from contextdna import AccessDenied
from contextdna import Scope as CredentialScope
from contextdna_server.http.challenges import Challenges
from contextdna_server.http.http_sse import MESSAGES_PATH
from contextdna_server.http.identity import Credential
from contextdna_server.http.refusals import NoteRefusal, answer
from contextdna_tools import FULL_TOOLS, AnyTool

_READ: Final = frozenset({CredentialScope.READ})
_READING: Final = ("resources/", "prompts/", "completion/", "subscriptions/")
"""What the names of methods begin with that give what is stored."""


class ScopeLayer:
    """Refuses messages whose credential lacks a scope.

    Args:
        app: What serves the others.
        note: Audits refusals.
        challenges: Tells which scopes to come back with.
        tools: Those that can be called.
    """

    def __init__(
        self,
        app: ASGIApp,
        note: NoteRefusal,
        challenges: Challenges,
        *,
        tools: Iterable[AnyTool] = FULL_TOOLS,
    ) -> None:
        self._app = app
        self._note = note
        self._challenges = challenges
        self._tools = {tool.name: tool.scopes for tool in tools}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at what a message asks for; pass it on, or refuse it."""
        state = scope.get("state", {})
        message = state.get("message")
        needed = self._needed(message)
        if scope["path"].startswith(f"{MESSAGES_PATH}/"):
            needed = frozenset()  # its answer comes in a stream, with the hub's refusal: clients wait for no other
        if not needed:
            await self._app(scope, receive, send)
            return
        credential: Credential = state["credential"]
        held = credential.principal.scopes
        if needed <= held:
            await self._app(scope, receive, send)
            return
        missing = " ".join(sorted(needed - held))
        error = AccessDenied(
            f"the credential lacks the scope {missing}",
            code="scope_missing",
            hint="Ask the issuer, or the operator, for a token with the scopes that the challenge names.",
            scopes=needed,
        )
        await self._note(credential.principal, error)
        await answer(self._challenges.insufficient(error, scope["path"], needed | held), send, call_id=_id_of(message))

    def _needed(self, message: Any) -> frozenset[CredentialScope]:
        method = message.get("method") if isinstance(message, dict) else None
        if not isinstance(method, str):
            return frozenset()
        if method == "tools/call":
            params = message.get("params")
            name = params.get("name") if isinstance(params, dict) else None
            return self._tools.get(name, frozenset()) if isinstance(name, str) else frozenset()
        return _READ if method.startswith(_READING) else frozenset()


def _id_of(message: dict[str, Any]) -> int | str | None:
    given = message.get("id")
    return given if isinstance(given, int | str) else None
