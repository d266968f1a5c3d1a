"""Real server processes: addresses, workers, TLS, and how they end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import anyio
import httpx2
import pytest
import uvicorn
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from starlette.types import Receive, Scope, Send

from contextdna import SettingsInvalid
from contextdna_server.cli import main
from contextdna_server.commands.serve_http import serve_http
from contextdna_server.http.serving import DrainingServer, bound_socket, peer_socket, serve_app
from contextdna_server.settings import HttpSection, load_settings
from tests.http.asgi import say_ok

RETRIEVE = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {"name": "retrieve_context", "arguments": {"query": "release"}},
}
HEADERS = {"accept": "application/json, text/event-stream"}


@contextmanager
def served(data: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server as an operator does, on a free port; gives the process and its address."""
    command = [sys.executable, "-m", "contextdna_server", "serve", "--http", "127.0.0.1:0", "--data", str(data)]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            address = re.search(r"https?://\S+(?=/mcp)", line)
            assert address, line + process.stderr.read()
            yield process, address[0]
        finally:
            if process.poll() is None:
                process.kill()


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Give the processes that a server started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True)  # noqa: S607
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.skipif(sys.platform == "win32", reason="workers share a socket")
def test_workers_share_the_port_and_one_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with served(tmp_path, "--anonymous", "--workers", "2") as (process, address):
        with httpx2.Client(base_url=address, headers=HEADERS, timeout=20) as http:
            assert http.get("/readyz").json() == {"status": "ready"}
            first = workers_of(process)
            assert len(first) == 2
            os.kill(first[0], signal.SIGKILL)
        for _ in range(5):  # each on a connection of its own
            answer = httpx2.post(f"{address}/mcp", json=RETRIEVE, headers=HEADERS, timeout=20)
            assert answer.status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert len(list((tmp_path / "run").glob("*.sock"))) <= 1, "at most that of the killed one, which others sweep"


@pytest.mark.anyio
async def test_a_server_ends_with_the_line_to_its_supervisor() -> None:
    ours, theirs = socket.socketpair()
    drained = anyio.Event()
    with theirs, anyio.fail_after(10):
        await serve_app(
            say_ok,
            HttpSection(),
            public=bound_socket("127.0.0.1", 0),
            peer=None,
            on_drain=drained.set,
            on_ready=ours.close,
            supervisor=theirs,
        )
    assert drained.is_set()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="servers reach each other by such sockets")
@pytest.mark.anyio
async def test_the_end_begins_for_clients_and_for_other_servers_at_the_same_time(tmp_path: Path) -> None:
    """One after the other would take ``http.drain_s`` twice, which nobody waits for."""
    asked, answered, stopping = anyio.Event(), anyio.Event(), anyio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await answered.wait()
        await say_ok(scope, receive, send)

    async def take_no_more() -> None:
        with contextlib.suppress(OSError):
            while True:
                async with await anyio.connect_unix(tmp_path / "peer.sock"):
                    await anyio.sleep(0.01)

    public = bound_socket("127.0.0.1", 0)
    url = f"http://127.0.0.1:{public.getsockname()[1]}/"
    with anyio.fail_after(10), peer_socket(tmp_path / "peer.sock") as peer:
        async with httpx2.AsyncClient() as http, anyio.create_task_group() as tasks:
            serve = partial(serve_app, public=public, peer=peer, on_drain=lambda: None, stopping=stopping)
            tasks.start_soon(serve, slow, HttpSection())
            tasks.start_soon(http.get, url)
            await asked.wait()
            stopping.set()
            await take_no_more()
            answered.set()


@pytest.mark.skipif(sys.platform == "win32", reason="workers share a socket")
@pytest.mark.skipif(os.environ.get("CONTEXTDNA_TEST_EVERYWHERE") != "1", reason="starts three processes")
def test_a_worker_ends_when_the_process_that_started_it_was_killed(tmp_path: Path) -> None:
    with served(tmp_path, "--anonymous", "--workers", "2") as (process, address):
        workers = workers_of(process)
        assert len(workers) == 2
        process.kill()
        process.wait(20)
        assert process.stderr is not None
        process.stderr.read()  # ends when no worker has it any more
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{address}/healthz")


def test_a_signal_ends_a_server_with_open_streams(tmp_path: Path) -> None:
    with served(tmp_path, "--anonymous") as (process, address):
        with httpx2.Client(base_url=address, headers=HEADERS, timeout=20) as http, http.stream("GET", "/sse") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: endpoint"
            process.send_signal(signal.SIGTERM)
            assert not [line for line in lines if line.startswith("event")]
        assert process.wait(20) == 0


def test_tls_files_make_it_https(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    with served(tmp_path / "data", "--anonymous", "--tls-certificate", str(certificate), "--tls-key", str(key)) as (
        _,
        address,
    ):
        assert address.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(certificate))
        answer = httpx2.post(f"{address}/mcp", json=RETRIEVE, headers=HEADERS, verify=trusted, timeout=20)
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("address", "http", "code"),
    [
        ("nowhere", {}, "address_invalid"),
        ("127.0.0.1:99999", {}, "address_invalid"),
        ("192.0.2.1:8000", {}, "address_unusable"),
        ("0.0.0.0:0", {}, "hosts_missing"),
        ("192.0.2.1:0", {"anonymous": True}, "anonymous_exposed"),
        ("127.0.0.1:0", {"tls_key": "key.pem"}, "tls_incomplete"),
    ],
)
def test_what_is_not_safe_or_possible_does_not_start(
    tmp_path: Path, address: str, http: dict[str, object], code: str
) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        serve_http(load_settings({"data": tmp_path / "data", "http": http}), address, workers=1, descriptor=None)
    assert refused.value.code == code
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="servers reach each other by such sockets")
def test_servers_that_start_together_do_not_take_each_others_sockets_for_left_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, killed = (tmp_path / f"{name}.sock" for name in ("first", "second", "killed"))
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(killed))
    listen = socket.socket.listen

    def listen_late(listening: socket.socket, backlog: int) -> None:
        monkeypatch.undo()
        with peer_socket(second):  # another one starts, and looks around
            assert second.exists()
        listen(listening, backlog)

    monkeypatch.setattr(socket.socket, "listen", listen_late)
    with peer_socket(first), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(first))
        assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "option", [("--workers", "2"), ("--anonymous",), ("--tls-key", "key.pem"), ("--tls-certificate", "chain.pem")]
)
def test_options_of_the_remote_server_are_refused_without_it(tmp_path: Path, option: tuple[str, ...]) -> None:
    refused = CliRunner().invoke(main, ["serve", "--data", str(tmp_path / "data"), *option])
    assert (refused.exit_code, f"{option[0]} is for --http" in refused.stderr) == (2, True)
    assert not (tmp_path / "data").exists()


def test_workers_do_not_share_one_address_for_their_peers(tmp_path: Path) -> None:
    settings = load_settings({"data": tmp_path / "data", "http": {"peer_url": "http://10.0.0.5:8000"}})
    with pytest.raises(SettingsInvalid) as refused:
        serve_http(settings, "127.0.0.1:0", workers=2, descriptor=None)
    assert refused.value.code == "peer_url_shared"


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1 and its key."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


@pytest.mark.parametrize(
    ("numbers", "hurries"),
    [
        ((signal.SIGTERM, signal.SIGTERM), False),
        ((signal.SIGINT, signal.SIGTERM), False),
        ((signal.SIGTERM, signal.SIGINT), True),
        ((signal.SIGINT, signal.SIGINT), True),
    ],
)
def test_only_an_interrupt_hurries_a_server_that_ends(numbers: tuple[signal.Signals, ...], hurries: bool) -> None:
    server = DrainingServer(uvicorn.Config("unused"), on_drain=lambda: None, with_signals=True)
    with server.capture_signals():
        for number in numbers:
            signal.raise_signal(number)
    assert (server.should_exit, server.force_exit) == (True, hurries)
