"""What a refused caller is asked for: the header WWW-Authenticate.

Source: RFC 6750, 3 (challenges of bearer tokens), RFC 9728, 5.1 (resource_metadata).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from contextdna import ContextDnaError
from contextdna import Scope as CredentialScope
from contextdna_server.http.metadata import metadata_url, scope_name
from contextdna_server.http.refusals import Refusal
from contextdna_server.settings import Settings

_FIRST_SCOPES: Final = (CredentialScope.READ, CredentialScope.WRITE)
"""What a client without a token is told to ask for; it is told of more when it needs more."""
_SENT_WITHOUT: Final = frozenset({"credential_missing", "credential_unsupported"})
"""Codes of requests without a token: these are told of no fault. Source: RFC 6750, 3.1."""
_QUOTABLE: Final = frozenset(map(chr, range(0x20, 0x7F))) - {'"', "\\"}
_UNAVAILABLE_RETRY_S: Final = 5


class Challenges:
    """Makes the refusals that tell a caller which credential to come back with.

    Args:
        settings: Whether there is an issuer to ask, and how it names scopes.
    """

    def __init__(self, settings: Settings) -> None:
        self._mcp = metadata_url(settings, "/mcp")
        self._sse = metadata_url(settings, "/sse")
        self._names = {scope: scope_name(scope, settings) for scope in CredentialScope}

    def unauthorized(self, error: ContextDnaError, path: str) -> Refusal:
        """Refuse a request without a credential, or with one that is not taken."""
        fault = () if error.code in _SENT_WITHOUT else _fault("invalid_token", error)
        return Refusal(error, 401, self._challenge(path, fault, _FIRST_SCOPES))

    def malformed(self, error: ContextDnaError, path: str) -> Refusal:
        """Refuse a request that carries a credential in more ways than one, or where none belongs."""
        return Refusal(error, 400, self._challenge(path, _fault("invalid_request", error), ()))

    def insufficient(self, error: ContextDnaError, path: str, scopes: Iterable[CredentialScope]) -> Refusal:
        """Refuse a request whose credential is not for it, and name the scopes of one that would be."""
        return Refusal(error, 403, self._challenge(path, _fault("insufficient_scope", error), scopes))

    def _challenge(
        self, path: str, fault: tuple[tuple[str, str], ...], scopes: Iterable[CredentialScope]
    ) -> tuple[tuple[str, str], ...]:
        wanted = set(scopes)
        named = " ".join(name for scope, name in self._names.items() if scope in wanted)
        url = self._sse if path.startswith(("/sse", "/messages")) else self._mcp
        attributes = (*fault, ("resource_metadata", url), ("scope", named))
        return (("WWW-Authenticate", "Bearer " + ", ".join(f'{key}="{value}"' for key, value in attributes if value)),)


def unavailable(error: ContextDnaError) -> Refusal:
    """Answer that nothing can be said of a credential now."""
    headers = (("Retry-After", str(_UNAVAILABLE_RETRY_S)),) if error.retryable else ()
    return Refusal(error, 503 if error.retryable else 500, headers)


def _fault(kind: str, error: ContextDnaError) -> tuple[tuple[str, str], ...]:
    description = "".join(char if char in _QUOTABLE else "'" for char in error.message)
    return ("error", kind), ("error_description", description)
