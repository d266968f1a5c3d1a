"""Streams and sessions of one caller."""

import json
from collections.abc import Mapping
from typing import Any

import anyio
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from contextdna_server.http.bodies import BodyLayer
from contextdna_server.http.limits import Callers, LimitLayer
from contextdna_server.http.slow_clients import SlowClientLayer
from contextdna_server.http.streams import StreamLayer
from contextdna_server.settings import HttpSection
from tests.http.asgi import Answer, Notes, call, credential, respond, signed_in
from tests.http.test_limits import Clock

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}


class Rig:
    def __init__(self, app: ASGIApp, clock: Clock | None = None, **settings: Any) -> None:
        self.settings = HttpSection(**settings)
        self.notes = Notes()
        self.callers = Callers(self.settings, clock=clock or Clock())
        self.streams = StreamLayer(
            app,
            self.settings,
            callers=self.callers,
            note=self.notes,
            waiting_tools=frozenset({"await_signal"}),
            wait_max_s=3600,
        )
        layer: ASGIApp = BodyLayer(self.streams, self.settings, note=self.notes)
        layer = LimitLayer(layer, self.settings, callers=self.callers, note=self.notes)
        self.app = SlowClientLayer(signed_in(layer), self.settings)

    async def ask(self, method: str, params: Mapping[str, Any] | None = None) -> Answer:
        message = {"jsonrpc": "2.0", "id": 4, "method": method, "params": params or {}}
        return await call(self.app, headers=JSON, body=json.dumps(message).encode())


async def test_streams_have_a_bound_of_their_own_and_leave_room_for_calls() -> None:
    over = anyio.Event()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["method"] == "GET" or scope["state"]["message"]["method"] == "subscriptions/listen":
            await over.wait()
        await respond(send)

    rig = Rig(app, streams_max=2, calls_max=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, rig.app, "GET")
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(rig.ask, "subscriptions/listen")
        await anyio.wait_all_tasks_blocked()
        refused = await rig.ask("subscriptions/listen")
        assert (refused.code, json.loads(refused.body)["id"]) == ("too_many_streams", 4)
        assert (await call(rig.app, "GET")).status == 429
        assert (await rig.ask("ping")).status == 200
        over.set()
    assert rig.callers.of(credential()).is_idle
    assert rig.notes.told == [("ann", "too_many_streams")] * 2


async def test_calls_have_a_bound_that_leaves_room_to_cancel_them_and_to_end_the_session() -> None:
    over = anyio.Event()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if "id" in scope["state"].get("message", {}):
            await over.wait()
        await respond(send)

    rig = Rig(app, calls_max=2)
    cancelled = json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 4}}).encode()
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(rig.ask, "ping")
        await anyio.wait_all_tasks_blocked()
        refused = await rig.ask("ping")
        assert (refused.code, refused.headers["retry-after"]) == ("too_many_calls", "1")
        for _ in range(3):
            assert (await call(rig.app, headers=JSON, body=cancelled)).status == 200
            assert (await call(rig.app, "DELETE")).status == 200
        over.set()
    assert rig.callers.of(credential()).is_idle


async def test_streams_have_no_end_and_tools_that_wait_a_later_one() -> None:
    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        await anyio.sleep(0.03)
        await respond(send)

    rig = Rig(slow, call_timeout_s=0.01)
    assert (await rig.ask("subscriptions/listen")).status == 200
    assert (await call(rig.app, "GET")).status == 200
    assert (await rig.ask("tools/call", {"name": "await_signal"})).status == 200
    late = await rig.ask("tools/call", {"name": "store_memory"})
    assert (late.status, late.code, json.loads(late.body)["id"]) == (504, "call_timed_out", 4)
