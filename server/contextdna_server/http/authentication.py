"""Nobody passes without a credential: the layer that every request but the open ones goes through."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from mcp.server.auth.middleware.auth_context import auth_context_var
from starlette.types import ASGIApp, Receive, Scope, Send

from contextdna import ContextDnaError, CredentialRefused, InvalidInput
from contextdna_server.http.challenges import Challenges, unavailable
from contextdna_server.http.failures import CREDENTIAL_WORKED
from contextdna_server.http.identity import Authenticator, Credential, current_credential, is_own
from contextdna_server.http.refusals import NoteRefusal, Refusal, answer

_QUERY_CREDENTIALS: Final = frozenset(
    {"access_token", "accesstoken", "api_key", "apikey", "authorization", "bearer", "token"}
)


class AuthenticationLayer:
    """Lets a request on with its credential in ``scope["state"]``, its SDK user, and ``current_credential``.

    Args:
        app: What serves the requests of known callers.
        authenticator: Judges credentials.
        note: Audits refusals of known callers; our own tokens' are audited where they are judged.
        challenges: Tells the others what to come back with.
    """

    def __init__(self, app: ASGIApp, authenticator: Authenticator, note: NoteRefusal, challenges: Challenges) -> None:
        self._app = app
        self._authenticator = authenticator
        self._note = note
        self._challenges = challenges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge a request's credential; serve it, or refuse it."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        judged = await self._judge(scope)
        if isinstance(judged, Refusal):
            await answer(judged, send)
        else:
            await self._serve(judged, scope, receive, send)

    async def _judge(self, scope: Scope) -> Credential | Refusal:
        path = scope["path"]
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        if misplaced := _misplaced(scope, given):
            return self._challenges.malformed(misplaced, path)
        authorization = given[0] if given else None
        try:
            return await self._authenticator.authenticate(authorization)
        except CredentialRefused as refused:
            if refused.principal is not None and not is_own(authorization):
                await self._note(refused.principal, refused)
            return self._challenges.unauthorized(refused, path)
        except ContextDnaError as error:
            return unavailable(error)

    async def _serve(self, credential: Credential, scope: Scope, receive: Receive, send: Send) -> None:
        user = credential.to_user()
        state = {**scope.get("state", {}), "credential": credential}
        if note_worked := state.pop(CREDENTIAL_WORKED, None):
            note_worked()
        if (connection := state.get("connection")) is not None:
            connection.is_known = True
        ours, sdks = current_credential.set(credential), auth_context_var.set(user)
        try:
            await self._app({**scope, "state": state, "user": user}, receive, send)
        finally:
            current_credential.reset(ours)
            auth_context_var.reset(sdks)


def _misplaced(scope: Scope, given: list[str]) -> InvalidInput | None:
    """Tell what is wrong with where credentials stand. Source: RFC 6750, 2 and 3.1."""
    if len(given) > 1:
        return InvalidInput(
            "the request has more than one Authorization header", code="credential_ambiguous", hint="Send one."
        )
    fields = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    if any(name.lower() in _QUERY_CREDENTIALS or is_own(f"Bearer {value}") for name, value in fields):
        return InvalidInput(
            "the request has a credential in its query string, where logs keep it",
            code="credential_in_query",
            hint="Send the header Authorization: Bearer TOKEN, and replace this token with a new one.",
        )
    return None
