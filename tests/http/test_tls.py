"""Files of TLS: what is wrong with one is said at the start, as everything else is, and nobody is asked anything."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from starlette.types import ASGIApp, Receive, Scope, Send

from contextdna import SettingsInvalid
from contextdna_server.http.app import check_http
from contextdna_server.settings import HttpSection, load_settings
from tests.http.asgi import respond, serving
from tests.http.test_serving import self_signed


def encrypt(key: Path) -> None:
    made = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))


def exchange(key: Path) -> None:
    other = key.parent / "other"
    other.mkdir()
    self_signed(other)[1].rename(key)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (Path.unlink, r"key\.pem cannot be read: No such file"),
        (lambda key: key.write_text("no key"), "is not a PEM file"),
        (encrypt, "is encrypted"),
        (exchange, "is not that of the certificate"),
    ],
    ids=["missing", "broken", "encrypted", "of_another"],
)
def test_a_key_that_will_not_do_is_refused(tmp_path: Path, spoil: object, told: str) -> None:
    certificate, key = self_signed(tmp_path)
    settings = load_settings({"data": tmp_path / "data", "http": {"tls_certificate": certificate, "tls_key": key}})
    check_http(settings, "127.0.0.1")
    assert callable(spoil)
    spoil(key)
    with pytest.raises(SettingsInvalid, match=told) as refused:
        check_http(settings, "127.0.0.1")
    assert refused.value.code == "tls_unusable"


class TestTheEnd:
    """A server that ends says goodbye to who rests, and does not wait for one."""

    @staticmethod
    async def ended(folder: Path, app: ASGIApp, *, begun: anyio.Event, go_on: anyio.Event) -> bytes:
        """Ask once, let the server end, and give what its client then reads."""
        certificate, key = self_signed(folder)
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate, key)
        trusted = ssl.create_default_context(cafile=str(certificate))
        said = b""
        async with serving(app, HttpSection(), tls=tls) as served:
            client = await anyio.connect_tcp("127.0.0.1", served.port, ssl_context=trusted)
            with anyio.fail_after(10):  # TLS would wait for half a minute
                await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await begun.wait()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(served.server.shutdown)
                    await anyio.wait_all_tasks_blocked()
                    go_on.set()
                with suppress(anyio.EndOfStream):  # without a goodbye it would be another error
                    while True:
                        said += await client.receive()
            await client.aclose()
        return said

    @pytest.mark.parametrize("rests", [True, False])
    @pytest.mark.anyio
    async def test_a_client_that_reads_nothing_holds_it_up_for_no_time(self, tmp_path: Path, *, rests: bool) -> None:
        begun, go_on = anyio.Event(), anyio.Event()

        async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
            if not rests:
                begun.set()
                await go_on.wait()
            await respond(send, b"x" * 100_000)
            begun.set()

        said = await self.ended(tmp_path, app, begun=begun, go_on=go_on)
        assert said.endswith(b"\r\n\r\n" + b"x" * 100_000)
