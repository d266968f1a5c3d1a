"""The certificate of a server that ends TLS itself."""

from __future__ import annotations

import ssl
from pathlib import Path

from contextdna import SettingsInvalid
from contextdna_server.settings import HttpSection


def tls_of(settings: HttpSection) -> ssl.SSLContext | None:
    """Load the certificate and its key; None where there are none.

    Raises:
        SettingsInvalid: ``tls_unusable``, or ``tls_incomplete`` where only one of them is set.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if (certificate is None) is not (key is None):
        raise SettingsInvalid(
            "of the TLS certificate and its key only one is set",
            code="tls_incomplete",
            hint="Set http.tls_certificate and http.tls_key, or neither.",
        )
    if certificate is None or key is None:
        return None
    for path in (certificate, key):
        _require_readable(path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, _refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _unusable(f"the TLS key {key} is not that of the certificate {certificate}") from error
        raise _unusable(f"the TLS certificate {certificate} or its key {key} is not a PEM file of such") from error
    return context


def _require_readable(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise _unusable(f"the TLS file {path} cannot be read: {error.strerror}") from error


def _refuse_password() -> str:
    """Be asked for a key's passphrase; OpenSSL would ask at the terminal, where there is one."""
    raise _unusable("the TLS key is encrypted")


def _unusable(message: str) -> SettingsInvalid:
    return SettingsInvalid(
        message,
        code="tls_unusable",
        hint="http.tls_certificate is a PEM file of the certificate and its chain, http.tls_key one of its key alone, "
        "without a passphrase.",
    )
