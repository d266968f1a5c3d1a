"""An OAuth issuer in the test process: metadata and keys over real HTTP, and tokens, good ones and others."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from contextdna import AccessToken, AgentId, CredentialRefused, Principal
from contextdna_server.http.identity import Authenticator
from contextdna_server.settings import Settings, load_settings
from tests.hub.rig import START, Clock

PUBLIC_URL: Final = "https://memory.example.org"
RESOURCE: Final = f"{PUBLIC_URL}/mcp"
NOW_S: Final = int(START.timestamp())
"""Tokens are made at this time: give the product a clock that tells it, or other times to the tokens."""

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@cache
def rsa_key(number: int = 0, *, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Give the n-th key of the test process; making one takes a while."""
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def jwk(key: PrivateKey, kid: str, **fields: Any) -> dict[str, Any]:
    """Write the public half of a key as an issuer publishes it."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        written = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        written = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        written = OKPAlgorithm.to_jwk(public, as_dict=True)
    return {**written, "kid": kid, "use": "sig", **fields}


def algorithm_of(key: PrivateKey) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    return "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "EdDSA"


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def segment(value: object) -> str:
    """Write a part of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


class Issuer:
    """What it publishes and how it fails can be changed at any time; ``asked`` holds the paths that were fetched."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: dict[str, PrivateKey] = {"rsa": rsa_key(), "ec": ec_key(), "ed": ed_key()}
        self.documents: dict[str, object] = {}
        """Path -> what is answered there in place of the usual document; bytes are sent as they are."""
        self.is_down = False
        self.hangs: asyncio.Event | None = None
        """Until it is set, nothing is answered."""
        self.asked: list[str] = []

    def token(
        self,
        *,
        kid: str = "rsa",
        headers: Mapping[str, Any] | None = None,
        without: tuple[str, ...] = (),
        **claims: Any,
    ) -> str:
        """Make a token that is good, but for what the arguments change; ``without`` leaves claims or headers out."""
        key = self.keys[kid]
        said = self.claims(**claims)
        head = {"typ": "at+jwt", "kid": kid, **(headers or {})}
        return jwt.encode(
            {name: value for name, value in said.items() if name not in without},
            key,
            algorithm=head.pop("alg", algorithm_of(key)),
            headers={name: value for name, value in head.items() if name not in without},
        )

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Give the claims of a good token."""
        usual = {
            "iss": self.url,
            "sub": "maria",
            "aud": RESOURCE,
            "client_id": "inspector",
            "iat": NOW_S,
            "exp": NOW_S + 300,
            "scope": "read write",
        }
        return {**usual, **changes}

    def settings(self, *, http: Mapping[str, Any] | None = None, **oauth: Any) -> Settings:
        """Give settings of a server that takes this issuer's tokens."""
        return load_settings(
            {
                "data": "unused",
                "http": {"public_url": PUBLIC_URL, **(http or {})},
                "oauth": {"issuer": self.url, "default_projects": ["default"], **oauth},
            }
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        self.asked.append(path)
        if self.hangs is not None:
            await self.hangs.wait()
        document = None if self.is_down else self.documents.get(path, self._usual(path))
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        status = b"503 Down" if self.is_down else b"404 Not Found" if document is None else b"200 OK"
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body))
        writer.close()
        await writer.wait_closed()

    def _usual(self, path: str) -> object:
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        if path == "/keys":
            return {"keys": [jwk(key, kid) for kid, key in self.keys.items()]}
        return None


@asynccontextmanager
async def local_issuer() -> AsyncIterator[Issuer]:
    """Serve an issuer on a free port of this machine, over plain HTTP."""
    issuer = Issuer()
    async with await asyncio.start_server(issuer.serve, "127.0.0.1", 0) as server:
        issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield issuer


class NoTokens:
    """Stands for a hub whose tokens are all revoked."""

    async def authenticate(self, token_text: str) -> AccessToken:
        """Refuse; the refusal is audited already."""
        principal = Principal(AgentId("revoked"))
        raise CredentialRefused(f"of {len(token_text)} characters", code="token_revoked", principal=principal)


class Timer:
    """Seconds as a test sets them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def authenticator(settings: Settings, timer: Timer | None = None) -> Authenticator:
    """Make one whose clock stands where tokens are made."""
    return Authenticator(NoTokens(), settings, clock=Clock(), timer=timer or Timer())
