"""What a client without a token is told: which issuer to ask, and for what.

Source: RFC 9728, OAuth 2.0 Protected Resource Metadata.
"""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import urlsplit

from mcp.server.auth.routes import build_resource_metadata_url
from mcp.shared.auth import ProtectedResourceMetadata
from pydantic import AnyHttpUrl
from starlette.types import ASGIApp, Receive, Scope, Send

from contextdna import InvalidInput, NotFound, SettingsInvalid
from contextdna import Scope as CredentialScope
from contextdna_server.endpoints import is_protected
from contextdna_server.http.refusals import Refusal, answer
from contextdna_server.settings import Settings

METADATA_PATH: Final = "/.well-known/oauth-protected-resource"
RESOURCE_PATHS: Final = ("", "/mcp", "/sse")
"""What a token may be asked for: the server, or one of its transports."""


def resource_urls(settings: Settings) -> tuple[str, ...]:
    """Give the addresses that this server is a resource under: the public one, also with a slash, and its transports.

    Raises:
        SettingsInvalid: ``oauth_incomplete``: there is no public address.
    """
    public = settings.http.public_url.rstrip("/")
    if not is_protected(public) or urlsplit(public).query:
        raise SettingsInvalid(
            "oauth.issuer is set, but http.public_url is no https address, nor http on this machine",
            code="oauth_incomplete",
            hint="Set http.public_url to where clients reach the server: tokens must be made for it.",
        )
    return (f"{public}/", *(public + path for path in RESOURCE_PATHS))


def scope_name(scope: CredentialScope, settings: Settings) -> str:
    """Give a scope as the issuer names it."""
    return f"{settings.oauth.scope_prefix}{scope.value}"


def metadata_url(settings: Settings, path: str) -> str:
    """Give where the metadata of one of ``RESOURCE_PATHS`` is; empty without an issuer.

    Source: RFC 9728, 3.1.

    Raises:
        SettingsInvalid: ``oauth_incomplete``.
    """
    if not settings.oauth.issuer:
        return ""
    resource_urls(settings)
    return str(build_resource_metadata_url(AnyHttpUrl(settings.http.public_url.rstrip("/") + path)))


def documents(settings: Settings) -> dict[str, bytes]:
    """Give the metadata documents by the path that they are served at; none without an issuer.

    Where the public address has a path of its own, they are there with and without it: proxies differ.
    """
    if not settings.oauth.issuer:
        return {}
    public = resource_urls(settings)[0].rstrip("/")
    served = {}
    for path in RESOURCE_PATHS:
        document = _document(public + path, settings)
        served[METADATA_PATH + path] = served[urlsplit(metadata_url(settings, path)).path] = document
    return served


def _document(resource: str, settings: Settings) -> bytes:
    oauth = settings.oauth
    metadata = ProtectedResourceMetadata(
        resource=AnyHttpUrl(resource),
        authorization_servers=[AnyHttpUrl(oauth.issuer)],
        scopes_supported=[scope_name(scope, settings) for scope in CredentialScope],
        resource_name="contextdna",
        resource_documentation=AnyHttpUrl(oauth.documentation_url) if oauth.documentation_url else None,
    ).model_dump(mode="json", exclude_none=True)
    exact = {"resource": resource, "authorization_servers": [oauth.issuer]}  # clients compare them as text
    return json.dumps({**metadata, **exact}, separators=(",", ":")).encode()


class MetadataLayer:
    """Serves the documents, to whoever asks.

    Args:
        app: What serves all else.
        settings: What they say.

    Raises:
        SettingsInvalid: ``oauth_incomplete``.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._documents = documents(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is below the well-known path; pass on the rest."""
        if scope["type"] != "http" or not scope["path"].startswith("/.well-known/"):
            await self._app(scope, receive, send)
            return
        document = self._documents.get(scope["path"].rstrip("/"))
        if document is None:
            absent = NotFound(
                "there is no such metadata", code="metadata_unknown", hint="Ask the operator for an access token."
            )
            await answer(Refusal(absent, 404), send)
        elif scope["method"] not in ("GET", "HEAD"):
            unfit = InvalidInput("the method does not fit the path", code="method_not_allowed", hint="Use GET.")
            await answer(Refusal(unfit, 405, (("Allow", "GET, HEAD"),)), send)
        else:
            await _give(document, scope, send)


async def _give(document: bytes, scope: Scope, send: Send) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(document)).encode()),
        (b"cache-control", b"public, max-age=3600"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else document})
