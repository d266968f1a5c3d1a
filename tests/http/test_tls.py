"""Files of TLS: what is wrong with one is said at the start, as everything else is, and nobody is asked anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from contextdna import SettingsInvalid
from contextdna_server.http.app import check_http
from contextdna_server.settings import load_settings
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
