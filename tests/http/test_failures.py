"""Refused credentials from one address."""

import pytest
from starlette.types import Receive, Scope, Send

from contextdna_server.http.failures import FailureLayer
from contextdna_server.settings import HttpSection
from tests.http.asgi import Answer, call, respond
from tests.http.test_limits import Clock

pytestmark = pytest.mark.anyio


async def judge(scope: Scope, _receive: Receive, send: Send) -> None:
    good = (b"authorization", b"Bearer good") in scope["headers"]
    await respond(send, status=200 if good else 401)


async def shown(layer: FailureLayer, token: str, address: str = "192.0.2.1") -> Answer:
    return await call(layer, headers={"authorization": f"Bearer {token}"}, client=(address, 1))


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
