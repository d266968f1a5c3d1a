"""How often one address may show credentials that are refused."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from functools import partial
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contextdna_server.http.headers import header_values
from contextdna_server.http.limits import Bucket, Clock, too_many
from contextdna_server.http.refusals import answer
from contextdna_server.settings import HttpSection

ADDRESSES_MAX: Final = 10_000
"""Addresses with failures that are remembered; the ones longest unseen are forgotten."""

CREDENTIAL_WORKED: Final = "credential_worked"
"""Where in ``scope["state"]`` it stands whom to tell of a good credential; absent for requests without one."""

CREDENTIALS_MAX: Final = 10_000
"""Credentials that worked, of which a keyed digest is remembered."""


class FailureLayer:
    """Keeps those from trying on who showed too many refused credentials; it stands around authentication.

    A credential that worked before is still looked at, so that nobody is shut out by others behind the same address.
    That one worked is told by who judged it, in ``scope["state"]``: a request that was answered otherwise, before
    anybody looked at its credential, says nothing of it.

    Args:
        app: What authenticates: its answers with status 401 to requests with a credential count, and it calls what
            stands as ``CREDENTIAL_WORKED`` in the state for one that is good.
        settings: The bound.
        clock: Seconds that only grow.
        addresses_max: How many addresses are remembered.
        credentials_max: How many credentials are remembered.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: HttpSection,
        *,
        clock: Clock = time.monotonic,
        addresses_max: int = ADDRESSES_MAX,
        credentials_max: int = CREDENTIALS_MAX,
    ) -> None:
        self._app = app
        self._settings = settings
        self._clock = clock
        self._addresses_max = addresses_max
        self._credentials_max = credentials_max
        self._failures: OrderedDict[str, Bucket] = OrderedDict()
        self._worked: OrderedDict[bytes, None] = OrderedDict()
        self._key = secrets.token_bytes(32)

    def __len__(self) -> int:
        return len(self._failures) + len(self._worked)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        shown = header_values(scope, b"authorization") if scope["type"] == "http" else []
        if not shown:
            await self._app(scope, receive, send)
            return
        address, digest = _address(scope), self._digest(shown)
        bucket = self._failures.get(address)
        if bucket and digest not in self._worked and (left := bucket.level(self._clock())) < 1:
            wait_s = (1 - left) / bucket.rate_per_s
            await answer(too_many("too many credentials were refused", wait_s, code="auth_failures_too_many"), send)
            return

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                self._note_failure(address, digest)
            await send(message)

        state = {**scope.get("state", {}), CREDENTIAL_WORKED: partial(self._note_worked, digest)}
        await self._app({**scope, "state": state}, receive, watch)

    def _note_worked(self, digest: bytes) -> None:
        self._worked[digest] = None
        self._worked.move_to_end(digest)
        if len(self._worked) > self._credentials_max:
            self._worked.popitem(last=False)

    def _note_failure(self, address: str, digest: bytes) -> None:
        self._worked.pop(digest, None)
        per_min = self._settings.auth_failures_per_min
        bucket = self._failures.setdefault(address, Bucket(per_min / 60, per_min, per_min, self._clock()))
        bucket.take(self._clock())
        self._failures.move_to_end(address)
        if len(self._failures) > self._addresses_max:
            self._failures.popitem(last=False)

    def _digest(self, shown: list[str]) -> bytes:
        return hashlib.blake2b("\n".join(shown).encode(), key=self._key, digest_size=16).digest()


def _address(scope: Scope) -> str:
    """Give the client's address; of IPv6 the network that one customer has. Source: RFC 6177, 2."""
    host = (scope.get("client") or ("",))[0]
    try:
        address = ip_address(host)
    except ValueError:
        return ""  # a socket of this machine
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(IPv6Network((int(address) >> 64 << 64, 64)))
    return host
