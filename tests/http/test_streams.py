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
from contextdna_server.http.streams import SessionCounts, StreamLayer
from contextdna_server.settings import HttpSection
from tests.http.asgi import Answer, Notes, call, credential, respond, signed_in
from tests.http.test_limits import Clock

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}


class Sessions:
    """Opens a session for each initialize, as the SDK does."""

    def __init__(self) -> None:
        self.opened = 0
        self.status = 200

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["state"].get("message", {}).get("method") == "initialize" and self.status < 400:
            self.opened += 1
            await respond(send, headers=((b"mcp-session-id", f"s{self.opened}".encode()),))
        else:
            await respond(send, status=self.status)


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

    async def on_session(self, session_id: str, method: str = "DELETE") -> Answer:
        return await call(self.app, method, headers={"mcp-session-id": session_id})


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


async def test_sessions_have_a_bound_and_make_room_when_they_end_or_rest() -> None:
    clock = Clock()
    rig = Rig(Sessions(), clock, sessions_max=2, session_idle_s=60)
    assert [(await rig.ask("initialize")).status for _ in range(3)] == [200, 200, 429]
    assert (await rig.ask("initialize")).code == "too_many_sessions"
    assert (await rig.on_session("s1")).status == 200
    assert [(await rig.ask("initialize")).status for _ in range(2)] == [200, 429]
    clock.now += 50
    await rig.on_session("s3", "GET")
    clock.now += 11  # s2 rested for a minute
    assert [(await rig.ask("initialize")).status for _ in range(2)] == [200, 429]


async def test_a_session_that_is_not_there_any_more_makes_room_and_one_that_was_refused_takes_none() -> None:
    sessions = Sessions()
    rig = Rig(sessions, sessions_max=1)
    assert (await rig.ask("initialize")).status == 200
    sessions.status = 404
    await rig.on_session("s1", "GET")
    assert (await rig.ask("initialize")).status == 404
    sessions.status = 200
    assert [(await rig.ask("initialize")).status for _ in range(2)] == [200, 429]


async def test_sessions_that_are_being_opened_count() -> None:
    go_on = anyio.Event()
    answers: list[Answer] = []

    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        await go_on.wait()
        await respond(send, headers=((b"mcp-session-id", b"s"),))

    rig = Rig(slow, sessions_max=1)

    async def ask() -> None:
        answers.append(await rig.ask("initialize"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert [answer.status for answer in answers] == [429]
        go_on.set()


async def test_a_session_of_another_is_neither_used_nor_ended() -> None:
    counts = SessionCounts(60)
    counts.use(("ann", "c1"), "s1", 0)
    assert not counts.owns(("eve", "c9"), "s1")
    rig = Rig(Sessions(), sessions_max=1)
    rig.streams.sessions.use(("bob", "c1"), "s9", 100)
    await rig.on_session("s9")
    assert rig.streams.sessions.count(("bob", "c1"), 100) == 1


def test_sessions_that_are_remembered_have_a_bound() -> None:
    counts = SessionCounts(60, sessions_max=10)
    for number in range(1000):
        counts.use((f"agent-{number % 7}", "c"), f"s{number}", 0)
    assert len(counts) == 10
    assert sum(counts.count((f"agent-{number}", "c"), 0) for number in range(7)) == 10
    assert counts.count(("agent-1", "c"), 61) == 0
    assert len(counts) == 0
