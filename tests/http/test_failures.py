"""Refused credentials from one address."""

from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from contextdna_server.http.failures import CREDENTIAL_WORKED, FailureLayer
from contextdna_server.settings import HttpSection
from tests.http.asgi import Answer, call, respond
from tests.http.running import running
from tests.http.test_limits import Clock

pytestmark = pytest.mark.anyio


async def judge(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer as authentication does: 400 where a credential stands in the query, whatever the header holds."""
    good = any(value.startswith(b"Bearer good") for _, value in scope["headers"])
    if scope["query_string"]:
        await respond(send, status=400)
        return
    if good:
        scope["state"][CREDENTIAL_WORKED]()
    await respond(send, status=200 if good else 401)


async def shown(layer: FailureLayer, token: str, address: str = "192.0.2.1", query: bytes = b"") -> Answer:
    return await call(layer, headers={"authorization": f"Bearer {token}"}, client=(address, 1), query_string=query)


async def test_who_shows_too_many_refused_credentials_waits_and_others_do_not() -> None:
    clock = Clock()
    layer = FailureLayer(judge, HttpSection(auth_failures_per_min=3), clock=clock)
    assert [(await shown(layer, f"bad-{n}")).status for n in range(4)] == [401, 401, 401, 429]
    refused = await shown(layer, "good")
    assert (refused.code, refused.headers["retry-after"]) == ("auth_failures_too_many", "20")
    assert (await shown(layer, "bad", "192.0.2.2")).status == 401
    clock.now += 20
    assert (await shown(layer, "good")).status == 200


async def test_a_credential_that_worked_is_looked_at_whatever_others_do_at_its_address() -> None:
    layer = FailureLayer(judge, HttpSection(auth_failures_per_min=1), clock=Clock())
    assert (await shown(layer, "good")).status == 200
    assert [(await shown(layer, "bad")).status for _ in range(2)] == [401, 429]
    assert (await shown(layer, "good")).status == 200


async def test_a_credential_that_nobody_looked_at_has_not_worked_and_pushes_none_out_that_did() -> None:
    layer = FailureLayer(judge, HttpSection(auth_failures_per_min=2), clock=Clock(), credentials_max=2)
    assert (await shown(layer, "good")).status == 200
    for number in range(5):
        assert (await shown(layer, f"bad-{number}", query=b"token=1")).status == 400
    assert [(await shown(layer, f"bad-{number}")).status for number in range(5)] == [401, 401, 429, 429, 429]
    assert (await shown(layer, "good", query=b"token=1")).status == 400
    assert (await shown(layer, "good")).status == 200


async def test_one_network_of_ipv6_is_one_address_and_requests_without_a_credential_do_not_count() -> None:
    layer = FailureLayer(judge, HttpSection(auth_failures_per_min=1), clock=Clock())
    assert [(await call(layer)).status for _ in range(3)] == [401, 401, 401]
    assert (await shown(layer, "bad", "2001:db8::1")).status == 401
    assert (await shown(layer, "bad", "2001:db8::ffff:2")).status == 429
    assert (await shown(layer, "bad", "2001:db8:0:1::1")).status == 401


async def test_what_is_remembered_has_a_bound_and_holds_no_credential() -> None:
    layer = FailureLayer(judge, HttpSection(), addresses_max=10, credentials_max=5)
    for number in range(200):
        await shown(layer, f"bad-{number}", f"198.51.100.{number}")
    await shown(layer, "good")
    assert len(layer) == 11
    assert "good" not in repr([vars(layer), layer._worked])


async def test_a_token_that_authentication_took_is_looked_at_when_wrong_ones_were_too_many(tmp_path: Path) -> None:
    async with running(tmp_path, http={"auth_failures_per_min": 1}) as server:
        token = await server.token("maria")
        async with server.http(token) as http, server.http(f"cdna_tok_{'0' * 16}_x") as stranger:
            assert (await http.get("/nothing")).status_code == 404
            assert (await stranger.get("/nothing?token=1")).status_code == 400
            assert [(await stranger.get("/nothing")).status_code for _ in range(2)] == [401, 429]
            assert (await http.get("/nothing")).status_code == 404
