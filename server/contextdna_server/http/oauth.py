"""Tokens of an OAuth issuer: a JWT is judged by its signature, its issuer, for whom it is, its time and its claims.

Source: RFC 7519 and RFC 8725 (JWT and how to use it safely), RFC 9068 (as access tokens), RFC 8707 (for whom).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import jwt

from contextdna import CredentialRefused, Principal
from contextdna_server.http.claims import Claims, principal_of
from contextdna_server.http.issuer_keys import IssuerKeys, PublicKey
from contextdna_server.settings import OAuthSection

_TYPES: Final = frozenset({"at+jwt", "application/at+jwt", "jwt"})
"""Values of ``typ`` in small letters; an issuer's assertions and logout tokens have others."""
_SIGNATURE_AND_ISSUER: Final[Any] = {
    "require": ["iss", "sub", "aud", "exp"],
    "verify_aud": False,  # judged here, where it is known who called
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "enforce_minimum_key_length": True,
}
_KNOWN_MAX: Final = 2000
"""Tokens whose signature is known to be good, the last used ones: those of open streams are used each second. Verifying
one takes 0.3 ms."""
_TIME_MAX: Final = 253_402_300_799
"""The last second of the year 9999."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """What a good token says."""

    principal: Principal
    client_id: str
    """The client that it was issued to; empty where the issuer does not say."""
    subject: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Verified:
    """What a signature was verified with, and what it signed."""

    kid: str
    algorithm: str
    key: PublicKey
    claims: Claims


class IssuerTokens:
    """Judges the access tokens of one issuer.

    Args:
        oauth: Whose tokens, and how their claims are read.
        audiences: Whom a token must be for: one of these.
        keys: The issuer's keys.
        clock: Gives the time.
    """

    def __init__(
        self, oauth: OAuthSection, audiences: Sequence[str], *, keys: IssuerKeys, clock: Callable[[], datetime]
    ) -> None:
        self._oauth = oauth
        self._audiences = frozenset(audiences)
        self._keys = keys
        self._clock = clock
        self._known: OrderedDict[bytes, _Verified] = OrderedDict()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Hold what fetches the issuer's keys anew, beside the callers."""
        return self._keys.renewing()

    async def judge(self, token: str) -> IssuedToken:
        """Judge a token, of a size that was bounded before.

        Raises:
            CredentialRefused: ``token_invalid``, ``token_audience``, ``token_expired`` or ``token_claims_invalid``;
                with the principal, where the issuer's signature says who it is.
            StorageUnavailable: ``issuer_unavailable``.
        """
        claims = await self._verified(token)
        subject = _named(claims["sub"])
        if not self._audiences & set(_texts(claims["aud"])):
            raise self._refused_known(
                claims,
                "the token is for another service",
                code="token_audience",
                hint="Ask the issuer for a token for this server: its resource is in the protected resource metadata.",
            )
        expires_at = self._judge_times(claims)
        return IssuedToken(principal_of(claims, self._oauth), _client_of(claims), subject, expires_at)

    async def _verified(self, token: str) -> Claims:
        """Give the claims of a token that the issuer signed; a signature is verified once while its key is kept."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.pop(digest, None)
        if known is None or await self._keys.find(known.kid, known.algorithm) is not known.key:
            known = await self._verify(token)
        self._known[digest] = known
        while len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return known.claims

    async def _verify(self, token: str) -> _Verified:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:  # its text may repeat the token
            _refuse()
        algorithm, kid, kind = header.get("alg"), header.get("kid", ""), header.get("typ", "JWT")
        if algorithm not in self._oauth.algorithms or not isinstance(kind, str) or kind.lower() not in _TYPES:
            _refuse()
        key = await self._keys.find(kid, algorithm) or _refuse()
        try:
            claims = jwt.decode(
                token, key, algorithms=[algorithm], issuer=self._oauth.issuer, options=_SIGNATURE_AND_ISSUER
            )
        except (jwt.PyJWTError, ValueError, TypeError):  # the last two: a signature or a claim of odd form
            _refuse()
        return _Verified(kid, algorithm, key, claims)

    def _judge_times(self, claims: Claims) -> datetime:
        now, leeway_s = self._clock().timestamp(), self._oauth.leeway_s
        expires = _seconds(claims["exp"])
        if any(_seconds(claims[name]) > now + leeway_s for name in ("nbf", "iat") if name in claims):
            _refuse("the token is not valid yet", hint="Set the clocks of issuer and server right.")
        if expires <= now - leeway_s:
            raise self._refused_known(
                claims, "the token has expired", code="token_expired", hint="Get a new one from its issuer."
            )
        return datetime.fromtimestamp(expires, UTC)

    def _refused_known(self, claims: Claims, message: str, *, code: str, hint: str) -> CredentialRefused:
        principal: Principal | None
        try:
            principal = principal_of(claims, self._oauth)
        except CredentialRefused:
            principal = None
        return CredentialRefused(message, code=code, hint=hint, principal=principal)


def _seconds(value: object) -> float:
    """Read a time. Source: RFC 7519, 2 (NumericDate)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse()
    if not 0 <= value <= _TIME_MAX:  # nor what is no number
        _refuse()
    return value


def _texts(value: object) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    return [item for item in listed if isinstance(item, str)]


def _client_of(claims: Claims) -> str:
    """Give the client that the token was issued to. Source: RFC 9068, 2.2; OpenID Connect Core 1.0, 2 (azp)."""
    named = (claims.get("client_id"), claims.get("azp"))
    return next((_named(name) for name in named if name is not None), "")


def _named(value: object) -> str:
    """Read an id that goes no further than comparisons: of any form, but no odd characters."""
    if not isinstance(value, str) or not value or not value.isprintable():
        _refuse()
    return value


def _refuse(message: str = "the token is not valid", *, hint: str = "Get a new one, and send it whole.") -> NoReturn:
    raise CredentialRefused(message, code="token_invalid", hint=hint) from None
