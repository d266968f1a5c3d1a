"""Two servers on one data folder behind a real proxy, which runs with the file of deploy/."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
NAME: Final = "memory.example.org"
HOST: Final = "127.0.0.1"
DEADLINE_S: Final = 30.0
STREAMS_MAX: Final = 5
FAILURES_MAX: Final = 4
CONTEXTDNA: Final = (sys.executable, "-m", "contextdna_server")


@dataclass(frozen=True)
class Place:
    """What a test puts in place of ports and paths in a file of deploy/."""

    folder: Path
    port: int
    upstreams: tuple[int, ...]
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Front:
    """A proxy that runs, or a server with TLS of its own."""

    place: Place
    token: str

    def client(self, token: str | None = None) -> httpx2.AsyncClient:
        """Call it as NAME, with its certificate checked; an empty token sends none."""
        shown = self.token if token is None else token
        trusted = ssl.create_default_context(cafile=self.place.certificate)
        return httpx2.AsyncClient(
            transport=_ToThisMachine(self.place.port, trusted),
            base_url=f"https://{NAME}",
            headers={"Authorization": f"Bearer {shown}"} if shown else {},
            timeout=httpx2.Timeout(DEADLINE_S, read=300),
        )

    def transport(self, kind: str) -> AbstractAsyncContextManager[Any]:
        """Connect over Streamable HTTP (``http``) or HTTP+SSE (``sse``)."""
        if kind == "sse":
            return sse_client(f"https://{NAME}/sse", httpx_client_factory=lambda *_, **__: self.client())
        return self._streamable()

    @asynccontextmanager
    async def _streamable(self) -> AsyncIterator[Any]:
        async with self.client() as http, streamable_http_client(f"https://{NAME}/mcp", http_client=http) as streams:
            yield streams


@dataclass(frozen=True)
class Deployment:
    """Two servers on one data folder, and what stands before them."""

    servers: tuple[subprocess.Popen[bytes], ...]
    fronts: Mapping[str, Front]
    folder: Path


class _ToThisMachine(httpx2.AsyncBaseTransport):
    """Connects to a port of this machine, whatever host a request names; header and certificate stay the host's."""

    def __init__(self, port: int, trusted: ssl.SSLContext) -> None:
        self._port = port
        self._inner = httpx2.AsyncHTTPTransport(verify=trusted, http1=True)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.url = request.url.copy_with(host=HOST, port=self._port)
        request.extensions = {**request.extensions, "sni_hostname": NAME}
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


# --- what stands before the servers, with the files of deploy/ ---


def nginx_command(place: Place) -> list[str]:
    """Write nginx's own frame around deploy/nginx.conf, and give the command."""
    site = _put(
        (DEPLOY / "nginx.conf").read_text(),
        {
            r"server 127\.0\.0\.1:8000 ": f"server {HOST}:{place.upstreams[0]} ",
            r"# server 127\.0\.0\.1:8001 ": f"server {HOST}:{place.upstreams[1]} ",
            r"listen 443 ssl http2;": f"listen {HOST}:{place.port} ssl http2;",
            r"    listen \[::\]:443 ssl http2;\n": "",
            r"/etc/ssl/memory\.example\.org/fullchain\.pem": str(place.certificate),
            r"/etc/ssl/memory\.example\.org/privkey\.pem": str(place.key),
            r"/var/log/nginx/contextdna\.log": f"{place.folder}/access.log",
        },
    )
    folders = "".join(
        f"{name}_temp_path {place.folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (place.folder / "site.conf").write_text(site)
    (place.folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {place.folder}/pid; error_log stderr warn;\n"
        f"events {{}}\nhttp {{\n{folders}include {place.folder}/site.conf;\n}}\n"
    )
    return ["nginx", "-p", str(place.folder), "-c", str(place.folder / "nginx.conf")]


def caddy_command(place: Place) -> list[str]:
    """Put ports and the certificate into deploy/Caddyfile, and give the command."""
    site = _put(
        (DEPLOY / "Caddyfile").read_text(),
        {
            rf"{re.escape(NAME)} {{\n": f"https://{NAME}:{place.port} {{\n\tbind {HOST}\n"
            f"\ttls {place.certificate} {place.key}\n",
            r"reverse_proxy 127\.0\.0\.1:8000": f"reverse_proxy {HOST}:{place.upstreams[0]}",
            r"# to 127\.0\.0\.1:8001": f"to {HOST}:{place.upstreams[1]}",
            **({} if _caddy_buffers() else {r"request_buffers 5MiB": "buffer_requests"}),
        },
    )
    (place.folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + site)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(place.folder / "Caddyfile")]


def _caddy_buffers() -> bool:
    """Tell whether this Caddy has the option request_buffers: from 2.7 on."""
    version = run(["caddy", "version"], os.environ).removeprefix("v").split(".")
    return (int(version[0]), int(version[1])) >= (2, 7)


def contextdna_command(place: Place) -> list[str]:
    """Give the command of a server that ends TLS itself."""
    tls = ["--tls-certificate", str(place.certificate), "--tls-key", str(place.key)]
    return [*CONTEXTDNA, "serve", "--http", f"{HOST}:{place.port}", "--tools", "full", *tls]


FRONTS: Final[Mapping[str, Callable[[Place], list[str]]]] = {
    "nginx": nginx_command,
    "caddy": caddy_command,
    "contextdna": contextdna_command,
}


PROXIES: Final = ("nginx", "caddy")


def is_there(front: str) -> bool:
    """Tell whether a program is installed."""
    return front == "contextdna" or shutil.which(front) is not None


def _put(text: str, changes: Mapping[str, str]) -> str:
    """Replace what is of this test only; each place must be there, and once."""
    for pattern, replacement in changes.items():
        text, count = re.subn(pattern, lambda _, new=replacement: new, text)  # type: ignore[misc]
        assert count == 1, f"{pattern} is there {count} times"
    return text


# --- what runs ---


@contextmanager
def deployed(folder: Path) -> Iterator[Deployment]:
    """Run two servers and what stands before them, until the end of the block."""
    upstreams = (free_port(), free_port())
    certificate, key = write_certificate(folder)
    environ = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    environ |= {
        "CONTEXTDNA_DATA": str(folder / "data"),
        "CONTEXTDNA_HTTP__PUBLIC_URL": f"https://{NAME}",
        "CONTEXTDNA_HTTP__TRUSTED_PROXIES": HOST,
        "CONTEXTDNA_HTTP__STREAMS_MAX": str(STREAMS_MAX),
        "CONTEXTDNA_HTTP__AUTH_FAILURES_PER_MIN": str(FAILURES_MAX),
    }
    with ExitStack() as stack:
        servers = tuple(
            stack.enter_context(
                process(
                    [*CONTEXTDNA, "serve", "--http", f"{HOST}:{port}", "--tools", "full"],
                    folder / f"server-{port}.log",
                    environ,
                )
            )
            for port in upstreams
        )
        for port in upstreams:
            await_port(port)
        token = run([*CONTEXTDNA, "token", "create", "--agent", "maria"], environ)
        fronts = {}
        for name in filter(is_there, FRONTS):
            place = Place(folder / name, free_port(), upstreams, certificate, key)
            place.folder.mkdir()
            stack.enter_context(process(FRONTS[name](place), place.folder / "log", environ))
            fronts[name] = Front(place, token)
        for front in fronts.values():
            await_port(front.place.port)
        yield Deployment(servers, fronts, folder)


@contextmanager
def process(command: list[str], log: Path, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block; it must end well when it is told to."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environ) as running:
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                running.kill()
                raise


def run(command: list[str], environ: Mapping[str, str]) -> str:
    """Run a program to its end, and give what it says."""
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.strip()


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])


def await_port(port: int) -> None:
    """Wait until something listens."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            socket.create_connection((HOST, port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for NAME that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder / "certificate.pem", folder / "key.pem"
