"""An issuer's keys: fetched once, again when they rotate, used for a while when it is away."""

import asyncio
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from contextdna import CredentialRefused, StorageUnavailable
from contextdna_server.http import issuer_keys
from contextdna_server.http.identity import Authenticator
from contextdna_server.http.issuer_keys import IssuerKeys, metadata_urls
from tests.http.issuer import Issuer, Timer, authenticator, jwk, rsa_key
from tests.hub.rig import refused

pytestmark = pytest.mark.anyio


async def is_good(judge: Authenticator, authorization: str) -> bool:
    """Tell whether a token is taken."""
    with suppress(CredentialRefused):
        return bool(await judge.authenticate(authorization))
    return False


async def test_many_requests_at_once_fetch_the_keys_once(issuer: Issuer) -> None:
    judge = authenticator(issuer.settings())

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(judge.authenticate, f"Bearer {issuer.token(kid='ed')}")
    assert issuer.asked.count("/keys") == 1


async def test_keys_whose_address_is_set_are_found_without_metadata(issuer: Issuer) -> None:
    judge = authenticator(issuer.settings(jwks_url=f"{issuer.url}/keys"))
    assert (await judge.authenticate(f"Bearer {issuer.token()}")).subject
    assert issuer.asked == ["/keys"]


async def test_a_new_key_is_asked_for_when_it_is_first_used(issuer: Issuer) -> None:
    timer = Timer()
    judge = authenticator(issuer.settings(), timer)
    await judge.authenticate(f"Bearer {issuer.token()}")
    timer.now += 31
    issuer.keys = {"newer": rsa_key(1)}
    assert (await judge.authenticate(f"Bearer {issuer.token(kid='newer')}")).subject
    issuer.keys["rsa"] = rsa_key()
    await refused(judge.authenticate(f"Bearer {issuer.token(kid='rsa')}"), CredentialRefused, "token_invalid")


async def test_unknown_keys_make_a_server_ask_at_most_every_half_minute(issuer: Issuer) -> None:
    timer = Timer()
    judge = authenticator(issuer.settings(), timer)
    for step in range(60):
        timer.now = 1000.0 + step
        unknown = issuer.token(headers={"kid": f"unknown-{step}"})
        await refused(judge.authenticate(f"Bearer {unknown}"), CredentialRefused, "token_invalid")
    assert issuer.asked.count("/keys") == 2


async def test_keys_serve_for_a_while_when_the_issuer_is_away_then_no_more(issuer: Issuer) -> None:
    timer = Timer()
    judge = authenticator(issuer.settings(jwks_cache_s=600, jwks_stale_s=3600), timer)
    token = f"Bearer {issuer.token()}"
    await judge.authenticate(token)
    issuer.is_down = True
    timer.now += 4199
    assert (await judge.authenticate(token)).subject
    asked = len(issuer.asked)
    assert (await judge.authenticate(token)).subject
    assert len(issuer.asked) == asked  # not again within half a minute
    timer.now += 2
    error = await refused(judge.authenticate(token), StorageUnavailable, "issuer_unavailable")
    assert error.retryable
    issuer.is_down = False
    timer.now += 31
    assert (await judge.authenticate(token)).subject


async def test_an_issuer_that_is_away_at_first_is_asked_again_soon(issuer: Issuer) -> None:
    timer = Timer()
    judge = authenticator(issuer.settings(), timer)
    token = f"Bearer {issuer.token()}"
    issuer.is_down = True
    await refused(judge.authenticate(token), StorageUnavailable, "issuer_unavailable")
    issuer.is_down = False
    await refused(judge.authenticate(token), StorageUnavailable, "issuer_unavailable")
    timer.now += 2
    assert (await judge.authenticate(token)).subject


async def test_a_withdrawn_key_serves_until_the_cache_is_over(issuer: Issuer) -> None:
    timer = Timer()
    judge = authenticator(issuer.settings(), timer)
    token = f"Bearer {issuer.token()}"
    await judge.authenticate(token)
    del issuer.keys["rsa"]
    timer.now += 599
    assert (await judge.authenticate(token)).subject
    timer.now += 1
    await refused(judge.authenticate(token), CredentialRefused, "token_invalid")


async def test_a_caller_that_leaves_while_keys_are_fetched_does_not_stop_the_others(issuer: Issuer) -> None:
    judge = authenticator(issuer.settings())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(judge.authenticate, f"Bearer {issuer.token()}")
        while not issuer.asked:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert (await judge.authenticate(f"Bearer {issuer.token()}")).subject


async def test_an_issuer_that_hangs_holds_nobody_up_whose_key_is_there(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "_PATIENCE_S", 0.02)
    timer = Timer()
    judge = authenticator(issuer.settings(), timer)
    token = f"Bearer {issuer.token()}"
    async with judge.running():
        await judge.authenticate(token)
        asked = len(issuer.asked)
        issuer.hangs = asyncio.Event()
        timer.now += 600
        with anyio.fail_after(2):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(judge.authenticate, token)
            assert (await judge.authenticate(token)).subject
        assert len(issuer.asked) == asked + 1  # for all of them
        del issuer.keys["rsa"]
        issuer.hangs.set()
        with anyio.fail_after(2):
            while await is_good(judge, token):
                await anyio.lowlevel.checkpoint()


async def test_a_withdrawn_key_serves_no_longer_than_the_cache_beside_callers_too(issuer: Issuer) -> None:
    timer = Timer()
    judge = authenticator(issuer.settings(), timer)
    token = f"Bearer {issuer.token()}"
    async with judge.running():
        await judge.authenticate(token)
        del issuer.keys["rsa"]
        timer.now += 600
        await refused(judge.authenticate(token), CredentialRefused, "token_invalid")


@pytest.mark.parametrize(
    "documents",
    [
        {"/keys": {"keys": []}},
        {"/keys": {"keys": "none"}},
        {"/keys": []},
        {"/keys": b"{"},
        {"/keys": b"[" * 100_000},
        {"/keys": b'{"keys": "' + b"x" * 300_000 + b'"}'},
        {"/keys": None},
        {"/.well-known/openid-configuration": None},
        {"/.well-known/openid-configuration": {"issuer": "https://other.example.org", "jwks_uri": "/keys"}},
        {"/.well-known/openid-configuration": {"issuer": "SELF"}},
        {"/.well-known/openid-configuration": {"issuer": "SELF", "jwks_uri": "http://keys.example.org/"}},
        {"/.well-known/openid-configuration": {"issuer": "SELF", "jwks_uri": "file:///etc/passwd"}},
    ],
    ids=lambda documents: str(documents)[:70],
)
async def test_an_issuer_that_publishes_something_else_gives_no_keys(
    issuer: Issuer, documents: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    for path, document in documents.items():
        own = isinstance(document, dict) and document.get("issuer") == "SELF"
        issuer.documents[path] = {**document, "issuer": issuer.url} if own else document
    judge = authenticator(issuer.settings())
    await refused(judge.authenticate(f"Bearer {issuer.token()}"), StorageUnavailable, "issuer_unavailable")
    assert "no keys from the issuer" in caplog.text


async def test_metadata_of_authorization_servers_is_looked_for_first(issuer: Issuer) -> None:
    place = "/.well-known/oauth-authorization-server"
    issuer.documents[place] = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/others"}
    issuer.documents["/others"] = {"keys": [jwk(rsa_key(), "rsa")]}
    assert (await authenticator(issuer.settings()).authenticate(f"Bearer {issuer.token()}")).subject
    assert issuer.asked == [place, "/others"]


def test_metadata_stands_beside_an_issuers_path_or_below_it() -> None:
    assert metadata_urls("https://a.example/realms/lift/") == (
        "https://a.example/.well-known/oauth-authorization-server/realms/lift",
        "https://a.example/.well-known/openid-configuration/realms/lift",
        "https://a.example/realms/lift/.well-known/openid-configuration",
    )
    assert len(metadata_urls("https://a.example")) == 2


async def test_an_issuer_that_nothing_listens_for_is_unavailable() -> None:
    keys = IssuerKeys("http://127.0.0.1:1", cache_s=600, stale_s=60)
    await refused(keys.find("rsa", "RS256"), StorageUnavailable, "issuer_unavailable")


async def test_a_token_under_a_new_key_is_not_called_bad_while_the_issuer_does_not_answer(issuer: Issuer) -> None:
    timer = Timer()
    judge = authenticator(issuer.settings(), timer)
    await judge.authenticate(f"Bearer {issuer.token()}")
    issuer.keys, issuer.is_down = {"newer": rsa_key(1)}, True
    timer.now += 31
    newer = f"Bearer {issuer.token(kid='newer')}"
    await refused(judge.authenticate(newer), StorageUnavailable, "issuer_unavailable")
    issuer.is_down = False
    timer.now += 1
    await refused(judge.authenticate(newer), StorageUnavailable, "issuer_unavailable")
    timer.now += 1
    assert (await judge.authenticate(newer)).subject
