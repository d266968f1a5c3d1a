"""Rates and calls of one caller."""

import anyio
import pytest
from starlette.types import Receive, Scope, Send

from contextdna_server.http.limits import Callers, LimitLayer
from contextdna_server.settings import HttpSection
from tests.http.asgi import Answer, Notes, call, credential, respond, say_ok, signed_in

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_a_caller_that_asks_too_often_is_told_when_to_come_again() -> None:
    clock, notes = Clock(), Notes()
    settings = HttpSection(rate_per_s=0.4, rate_burst=2)
    layer = signed_in(LimitLayer(say_ok, settings, callers=Callers(settings, clock=clock), note=notes))
    assert [(await call(layer)).status for _ in range(3)] == [200, 200, 429]
    refused = await call(layer)
    assert (refused.code, refused.headers["retry-after"]) == ("rate_limited", "3")
    assert refused.error["data"]["retryable"]
    assert notes.told == [("ann", "rate_limited")] * 2
    clock.now += 2.5
    assert [(await call(layer)).status for _ in range(2)] == [200, 429]


async def test_callers_do_not_pay_for_each_other() -> None:
    settings = HttpSection(rate_per_s=0.01, rate_burst=1)
    layer = LimitLayer(say_ok, settings, callers=Callers(settings), note=Notes())
    for caller in (credential("ann"), credential("bob")):
        assert (await call(signed_in(layer, caller))).status == 200
        assert (await call(signed_in(layer, caller))).status == 429


async def test_another_credential_of_an_agent_gives_it_no_more() -> None:
    settings = HttpSection(rate_per_s=0.01, rate_burst=1)
    callers = Callers(settings)
    layer = LimitLayer(say_ok, settings, callers=callers, note=Notes())
    assert (await call(signed_in(layer, credential("ann")))).status == 200
    assert (await call(signed_in(layer, credential("ann", "c2")))).status == 429
    assert callers.of(credential("ann")) is callers.of(credential("ann", "c2"))


async def test_requests_that_are_taken_in_at_the_same_time_have_a_bound_and_what_is_over_makes_room() -> None:
    go_on = anyio.Event()

    async def wait(_scope: Scope, _receive: Receive, send: Send) -> None:
        await go_on.wait()
        await respond(send)

    settings = HttpSection(calls_max=2)
    callers = Callers(settings)
    layer = signed_in(LimitLayer(wait, settings, callers=callers, note=Notes()))
    answers: list[Answer] = []

    async def ask() -> None:
        answers.append(await call(layer))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert [answer.code for answer in answers] == ["too_many_calls"]
        assert answers[0].headers["retry-after"] == "1"
        assert (await call(layer)).status == 429
        go_on.set()
    assert (await call(layer)).status == 200
    assert callers.of(credential()).is_idle


async def test_a_call_that_fails_or_is_cancelled_makes_room() -> None:
    async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ValueError

    settings = HttpSection()
    callers = Callers(settings)
    with pytest.raises(ValueError, match=r"^$"):
        await call(signed_in(LimitLayer(fail, settings, callers=callers, note=Notes())))
    assert callers.of(credential()).is_idle


async def test_callers_are_forgotten_in_turn_but_none_that_has_something_open() -> None:
    settings = HttpSection(rate_burst=1, rate_per_s=0.001)
    callers = Callers(settings, callers_max=10)
    busy = callers.of(credential("busy"))
    busy.calls = 1
    for number in range(1000):
        callers.of(credential(f"agent-{number}"))
    assert len(callers) == 10
    assert callers.of(credential("busy")) is busy
