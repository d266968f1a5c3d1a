"""Who calls over HTTP: the credential of a request, verified before anything else looks at it."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken as SdkAccessToken
from starlette.types import Scope

from contextdna import AccessToken, CredentialRefused, Principal, StorageUnavailable
from contextdna_server.http.issuer_keys import IssuerKeys
from contextdna_server.http.metadata import resource_urls
from contextdna_server.http.oauth import IssuerTokens
from contextdna_server.settings import Settings

OWN_ISSUER: Final = "contextdna"
"""Stands as the issuer of our own tokens and of the local user; no issuer of others, whose identifiers are URLs."""
OWN_PREFIX: Final = "cdna_"
"""What our own tokens begin with; a JWT holds dots, and they do not."""

_SCHEME: Final = "bearer"
_TOKEN_CHARS_MAX: Final = 16 * 1024
_TOKEN_FORM: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""Source: RFC 6750, 2.1."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A verified caller, and what proved it. The token itself is not kept here."""

    principal: Principal
    client_id: str
    """The token's id, or the client that an issuer gave it to."""
    issuer: str
    subject: str
    expires_at: datetime | None = None

    @property
    def owner(self) -> str:
        """Digest of whom a connection belongs to: client, issuer and subject, and what they may do.

        Another token of the same subject that may do less is another owner: on a stream it would be told of what was
        subscribed to with the first. A token that only is newer is none. Source: MCP 2025-11-25, security practices.
        """
        who = self.principal
        rights = [sorted(who.project_ids), who.team_id, who.swarm_id, who.role, sorted(who.scopes)]
        whole = json.dumps([self.client_id, self.issuer, self.subject, who.agent_id, rights])
        return hashlib.sha256(whole.encode()).hexdigest()[:32]

    def to_user(self) -> AuthenticatedUser:
        """Give what the SDK knows the owner of a session by: client, issuer, and as subject our owner."""
        token = SdkAccessToken(
            token="",
            client_id=self.client_id,
            scopes=sorted(scope.value for scope in self.principal.scopes),
            expires_at=None if self.expires_at is None else int(self.expires_at.timestamp()),
            subject=self.owner,
            claims={"iss": self.issuer},
        )
        return AuthenticatedUser(token)


current_credential: ContextVar[Credential] = ContextVar("contextdna_credential")
"""The credential of the request at hand."""


class OwnTokens(Protocol):
    """Judges tokens that this installation made: the hub."""

    async def authenticate(self, token_text: str) -> AccessToken:
        """Give what a token says.

        Raises:
            CredentialRefused: It is no token, or no longer one. What is known of its bearer is audited.
        """


class Authenticator:
    """Tells who a request's ``Authorization`` header is from.

    Args:
        hub: Judges our own tokens.
        settings: Whether there are tokens of an issuer, and callers without any.
        clock: Gives the time.
        timer: Gives seconds that never go back: the age of the issuer's keys.

    Raises:
        SettingsInvalid: ``oauth_incomplete``: tokens of an issuer are taken, but it is not said for which server.
    """

    def __init__(
        self,
        hub: OwnTokens,
        settings: Settings,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._local = settings.to_principal() if settings.http.anonymous else None
        self._clock = clock
        self._oauth = settings.oauth
        self._issued = _issuer_tokens(settings, clock, timer) if settings.oauth.issuer else None

    def running(self) -> AbstractAsyncContextManager[None]:
        """Hold what tokens of an issuer are judged with; without it a caller may wait for an issuer that hangs."""
        return nullcontext() if self._issued is None else self._issued.running()

    async def authenticate(self, authorization: str | None) -> Credential:
        """Judge a header; None stands for a request that has none.

        Raises:
            CredentialRefused: It is nobody's who may call; with the principal, where that is known.
            StorageUnavailable: Nothing can be said now.
        """
        if authorization is None:
            return self._anonymous()
        token = token_in(authorization)
        if token.startswith(OWN_PREFIX):
            return _own(await self._hub.authenticate(token))
        if self._issued is None:
            raise _invalid()
        issued = await self._issued.judge(token)
        return Credential(issued.principal, issued.client_id, self._oauth.issuer, issued.subject, issued.expires_at)

    async def recheck(self, scope: Scope) -> None:
        """Judge again the credential that a request was admitted with.

        Raises:
            CredentialRefused: It is revoked, its time is over, or its key was withdrawn.
            StorageUnavailable: Nothing can be said now.
        """
        credential: Credential = scope["state"]["credential"]
        header = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        try:
            await self.authenticate(None if header is None else header.decode("latin-1"))
        except StorageUnavailable:
            if credential.issuer == OWN_ISSUER:
                raise
            self._require_unexpired(credential)

    def _require_unexpired(self, credential: Credential) -> None:
        leeway = timedelta(seconds=self._oauth.leeway_s)
        if credential.expires_at is not None and credential.expires_at + leeway <= self._clock():
            raise CredentialRefused(
                "the token has expired",
                code="token_expired",
                hint="Get a new one from its issuer.",
                principal=credential.principal,
            )

    def _anonymous(self) -> Credential:
        if self._local is None:
            raise CredentialRefused(
                "the request has no credential",
                code="credential_missing",
                hint="Send the header Authorization: Bearer TOKEN.",
            )
        return Credential(self._local, "anonymous", OWN_ISSUER, self._local.agent_id)


def is_own(authorization: str | None) -> bool:
    """Tell whether a header holds a token that this installation made, or one that looks like it."""
    scheme, _, rest = (authorization or "").partition(" ")
    return scheme.lower() == _SCHEME and rest.lstrip(" ").startswith(OWN_PREFIX)


def token_in(authorization: str) -> str:
    """Give the token of a header, bounded in size and form.

    Raises:
        CredentialRefused: There is none.
    """
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() != _SCHEME:
        raise CredentialRefused(
            "the credential is of a kind that is not taken",
            code="credential_unsupported",
            hint="Send the header Authorization: Bearer TOKEN.",
        )
    token = rest.strip(" ")
    if len(token) > _TOKEN_CHARS_MAX or not _TOKEN_FORM.fullmatch(token):
        raise _invalid()
    return token


def _own(token: AccessToken) -> Credential:
    return Credential(token.principal, token.id, OWN_ISSUER, token.agent_id, token.expires_at)


def _issuer_tokens(settings: Settings, clock: Callable[[], datetime], timer: Callable[[], float]) -> IssuerTokens:
    oauth = settings.oauth
    keys = IssuerKeys(
        oauth.issuer, jwks_url=oauth.jwks_url, cache_s=oauth.jwks_cache_s, stale_s=oauth.jwks_stale_s, timer=timer
    )
    return IssuerTokens(oauth, oauth.audience or resource_urls(settings), keys=keys, clock=clock)


def _invalid() -> CredentialRefused:
    return CredentialRefused("the token is not valid", code="token_invalid", hint="Get a new one, and send it whole.")
