"""The public keys of an OAuth issuer: fetched when they are first needed, kept for a while, asked for again.

Source: RFC 7517 (keys), RFC 8414 and OpenID Connect Discovery 1.0 (where they are), RFC 7518, 3.1 (algorithms).
"""

from __future__ import annotations

import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import anyio
import httpx2
from anyio.abc import TaskGroup
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK, PyJWTError

from contextdna import StorageUnavailable
from contextdna_server.endpoints import is_protected

logger = logging.getLogger(__name__)

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
    "EdDSA": "Ed25519",
}
"""Algorithm -> the one kind of key that it is used with. No algorithm is here that verifies with a secret."""

_FETCH_S: Final = 8.0
"""How long a fetch may take, finding the address of the keys included."""
_PATIENCE_S: Final = 1.0
"""How long callers wait for keys that are fetched anew, before they go by those that are there."""
_RENEWAL_PAUSE_S: Final = 30.0
"""At least so much time between two fetches while there are keys, whatever callers send."""
_RETRY_PAUSE_S: Final = 2.0
"""The same while there are none, or the issuer did not answer the last time."""
_DOCUMENT_BYTES_MAX: Final = 256 * 1024
_KEYS_MAX: Final = 100
_KID_CHARS_MAX: Final = 256


class _NotFetched(Exception):
    """The issuer gave no keys; the text says why, for the log."""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """One public key, and what it may be used for."""

    kid: str
    kind: str
    algorithm: str
    """The only algorithm of its kind that it is for; empty for any."""
    public: PublicKey

    def fits(self, algorithm: str) -> bool:
        """Tell whether the key may verify what an algorithm signed."""
        return KINDS.get(algorithm) == self.kind and self.algorithm in ("", algorithm)


class IssuerKeys:
    """Keeps the keys of one issuer. One fetch runs at a time, for all who wait for it.

    Within ``renewing`` a caller waits for the whole of a fetch only where there are no keys at all, or none of the name
    that its token has: an issuer that hangs holds up nobody else for more than a second.

    Args:
        issuer: The issuer's identifier, a URL.
        jwks_url: Where its keys are; empty looks into the issuer's metadata.
        cache_s: After so many seconds they are fetched anew.
        stale_s: For so many more they serve while the issuer does not answer.
        timer: Gives seconds that never go back.
    """

    def __init__(
        self,
        issuer: str,
        *,
        jwks_url: str = "",
        cache_s: float,
        stale_s: float,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._cache_s = cache_s
        self._stale_s = stale_s
        self._timer = timer
        self._keys: tuple[IssuerKey, ...] | None = None
        self._fetched_at = 0.0
        self._tried_at = float("-inf")
        self._has_failed = False
        self._lock = anyio.Lock()
        self._tasks: TaskGroup | None = None
        self._renewed: anyio.Event | None = None
        self._patience_until = 0.0
        _trusted_roots()  # 30 ms, before there are callers

    @asynccontextmanager
    async def renewing(self) -> AsyncIterator[None]:
        """Hold what fetches keys anew beside the callers."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self._tasks = None
                tasks.cancel_scope.cancel()

    async def find(self, kid: str, algorithm: str) -> PublicKey | None:
        """Give the key for a token's header, asking the issuer when it may have a new one; None if there is none.

        Args:
            kid: The name of the key; empty where the token names none: then the only key that fits counts.
            algorithm: One of ``KINDS``.

        Raises:
            StorageUnavailable: ``issuer_unavailable``: there are no keys, they are too old, or the issuer may have a
                new one and could not be asked.
        """
        if self._is_due():
            if self._tasks is None or self._keys is None:
                await self._renew(self._is_due)
            else:
                await self._renew_beside(self._tasks)
        if self._keys is None or self._age_s() > self._cache_s + self._stale_s:
            raise _no_keys()
        found = self._held(kid, algorithm)
        if found is None:
            await self._renew(self._may_ask)
            found = self._held(kid, algorithm)
            if found is None and self._has_failed:  # it may be a good token under a new key
                raise _no_keys()
        return found

    def _held(self, kid: str, algorithm: str) -> PublicKey | None:
        fitting = [key for key in self._keys or () if key.fits(algorithm) and (not kid or key.kid == kid)]
        return fitting[0].public if len(fitting) == 1 else None  # of several, none is the one that was meant

    def _age_s(self) -> float:
        return self._timer() - self._fetched_at

    def _may_ask(self) -> bool:
        pause_s = _RETRY_PAUSE_S if self._keys is None or self._has_failed else _RENEWAL_PAUSE_S
        return self._timer() - self._tried_at >= pause_s

    def _is_due(self) -> bool:
        return self._may_ask() and (self._keys is None or self._age_s() >= self._cache_s)

    async def _renew_beside(self, tasks: TaskGroup) -> None:
        """Have keys fetched; wait until they are there, or were not for a second after that began."""
        if self._renewed is None:
            self._renewed = anyio.Event()
            self._patience_until = anyio.current_time() + _PATIENCE_S
            tasks.start_soon(self._renew_and_tell, self._renewed)
        with anyio.CancelScope(deadline=self._patience_until):
            await self._renewed.wait()

    async def _renew_and_tell(self, renewed: anyio.Event) -> None:
        try:
            await self._renew(self._is_due)
        except Exception as error:  # noqa: BLE001 - an owned background job: the keys that are there go on serving
            logger.warning("no keys from the issuer of access tokens: %s", type(error).__name__)
            self._tried_at, self._has_failed = self._timer(), True
        finally:
            self._renewed = None
            renewed.set()

    async def _renew(self, wanted: Callable[[], bool]) -> None:
        if not wanted():
            return
        async with self._lock:
            if not wanted():  # another caller has done it meanwhile
                return
            failed = True
            try:
                with anyio.fail_after(_FETCH_S):
                    keys = await self._fetch()
            except _NotFetched as error:
                logger.warning("no keys from the issuer of access tokens: %s", error)
            except (TimeoutError, httpx2.HTTPError) as error:
                logger.warning("no keys from the issuer of access tokens: %s", type(error).__name__)
            else:
                self._keys, self._fetched_at = keys, self._timer()
                failed = False
            self._has_failed = failed
            self._tried_at = self._timer()  # a caller that was cancelled has not tried

    async def _fetch(self) -> tuple[IssuerKey, ...]:
        async with httpx2.AsyncClient(
            verify=_trusted_roots(), timeout=_FETCH_S, follow_redirects=False, headers={"Accept-Encoding": "identity"}
        ) as client:
            document = await _json_from(client, self._jwks_url or await self._discovered(client))
        keys = tuple(_usable(document.get("keys")))
        if not keys:
            raise _NotFetched("its key set holds none that can be used")
        return keys

    async def _discovered(self, client: httpx2.AsyncClient) -> str:
        for url in metadata_urls(self._issuer):
            try:
                metadata = await _json_from(client, url)
            except _NotFetched:
                continue
            if metadata.get("issuer") != self._issuer:  # RFC 8414, 3.3
                raise _NotFetched("its metadata is of another issuer; see oauth.issuer")
            jwks_url = metadata.get("jwks_uri")
            if not isinstance(jwks_url, str) or not is_protected(jwks_url):
                raise _NotFetched("its metadata has no jwks_uri with https")
            return jwks_url
        raise _NotFetched("it has no metadata; set oauth.jwks_url")


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Give the places of an issuer's metadata, the likeliest first. Source: RFC 8414, 3.1 and 5."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    places = (
        f"/.well-known/oauth-authorization-server{path}",
        f"/.well-known/openid-configuration{path}",
        f"{path}/.well-known/openid-configuration",
    )
    return tuple(dict.fromkeys(origin + place for place in places))


async def _json_from(client: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    body = bytearray()
    async with client.stream("GET", url, headers={"Accept": "application/json"}) as answer:
        if answer.status_code != 200:
            raise _NotFetched(f"status {answer.status_code}")
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > _DOCUMENT_BYTES_MAX:
                raise _NotFetched(f"more than {_DOCUMENT_BYTES_MAX} bytes")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise _NotFetched("no JSON") from None
    if not isinstance(document, dict):
        raise _NotFetched("no JSON object")
    return document


def _usable(listed: object) -> Iterator[IssuerKey]:
    for data in listed[:_KEYS_MAX] if isinstance(listed, list) else ():
        if isinstance(data, dict) and _is_for_signatures(data) and (key := _key_of(data)):
            yield key


def _is_for_signatures(data: Mapping[str, Any]) -> bool:
    """Tell whether a key is public and meant to verify. Source: RFC 7517, 4.2 and 4.3."""
    uses = data.get("key_ops", ["verify"])
    return "d" not in data and data.get("use", "sig") == "sig" and isinstance(uses, list) and "verify" in uses


def _key_of(data: Mapping[str, Any]) -> IssuerKey | None:
    kind = "RSA" if data.get("kty") == "RSA" else str(data.get("crv"))
    algorithm = data.get("alg", "")
    kid = data.get("kid", "")
    if kind not in KINDS.values() or (algorithm and KINDS.get(str(algorithm)) != kind):
        return None
    if not isinstance(kid, str) or len(kid) > _KID_CHARS_MAX:
        return None
    try:
        public = PyJWK(dict(data)).key
    except (PyJWTError, ValueError, TypeError):  # its text repeats the key
        return None
    return IssuerKey(kid, kind, str(algorithm), public) if isinstance(public, PublicKey) else None


@cache
def _trusted_roots() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


def _no_keys() -> StorageUnavailable:
    return StorageUnavailable(
        "the issuer of access tokens gives no keys to check them with",
        code="issuer_unavailable",
        hint="Try again in a moment. An operator sees the reason in the server's log.",
        retryable=True,
    )
