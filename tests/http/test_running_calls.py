"""A call is bounded for as long as it runs, though its request is over: on a stream, or as its client hung up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.shared import jsonrpc_dispatcher
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCResponse

from contextdna import Workspace
from contextdna_server.commands.serve import TALKATIVE
from contextdna_server.open_calls import Outgoing
from tests.http.asgi import until
from tests.http.attacked import Attacked, attacked, message
from tests.http.running import MODES, running
from tests.http.test_cut_off_calls import HELLO

pytestmark = pytest.mark.anyio

INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'


def wait(call_id: int) -> bytes:
    return message("tools/call", call_id=call_id, name="await_signal", arguments={"name": "go", "timeout_s": 60})


async def running_count(target: Attacked, count: int) -> None:
    await until(lambda: len(target.server.app._running_calls._waiting) == count)


async def test_calls_on_a_stream_have_places_until_they_are_answered(tmp_path: Path) -> None:
    async with attacked(tmp_path, calls_max=2) as target:
        token, other = await target.token("owner"), await target.token("bob")
        async with target.streaming(token) as (endpoint, told):
            await target.send(token, HELLO, path=endpoint)
            await anext(told)
            await target.send(token, INITIALIZED, path=endpoint)
            for number in (1, 2):
                assert (await target.send(token, wait(number), path=endpoint)).status == 202
                await running_count(target, number)
            refused = await target.send(token, wait(3), path=endpoint)
            assert (refused.status, refused.code) == (429, "too_many_calls")
            assert not (await target.call(other, "send_signal", name="go", target_agent_ids=["owner"])).code
            for _ in (1, 2):
                assert '"go"' in str((await anext(told))["result"]["content"][0]["text"])
            await running_count(target, 0)
            assert (await target.send(token, message("ping", call_id=4), path=endpoint)).status == 202


async def test_calls_that_wait_end_with_their_stream(tmp_path: Path) -> None:
    async with attacked(tmp_path, calls_max=2, drain_s=60) as target:
        token = await target.token("owner")
        async with target.streaming(token) as (endpoint, told):
            await target.send(token, HELLO, path=endpoint)
            await anext(told)
            await target.send(token, INITIALIZED, path=endpoint)
            await target.send(token, wait(1), path=endpoint)
            await running_count(target, 1)
        await running_count(target, 0)


async def test_calls_whose_client_hung_up_have_places_while_they_run(tmp_path: Path) -> None:
    async with attacked(tmp_path, calls_max=2) as target:
        token = await target.token("owner")
        session = {"mcp-session-id": (await target.send(token, HELLO)).headers["mcp-session-id"]}
        async with anyio.create_task_group() as tasks:

            async def hang(number: int) -> None:
                await target.send(token, wait(number), headers=session)

            for number in (1, 2):
                tasks.start_soon(hang, number)
            await running_count(target, 2)
            tasks.cancel_scope.cancel()
        for _ in range(3):
            assert (await target.send(token, message("ping"), headers=session)).code == "too_many_calls"
        other = await target.token("bob")
        assert not (await target.call(other, "send_signal", name="go", target_agent_ids=["owner"])).code
        await running_count(target, 0)
        assert (await target.send(token, message("ping"), headers=session)).result == {}


@pytest.mark.parametrize("era", ["sse", "2025"])
async def test_the_time_of_a_call_ends_where_nobody_waits_on_its_request(
    tmp_path: Path, era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = anyio.Event()

    async def hang(*_: Any, **__: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    monkeypatch.setattr(Workspace, "get_memories", hang)
    look = message("tools/call", call_id="l", name="get_memory", arguments={"ids": ["mem_" + "0" * 22]})
    async with attacked(tmp_path, call_timeout_s=0.2) as target:
        token = await target.token("owner")
        if era == "2025":
            session = {"mcp-session-id": (await target.send(token, HELLO)).headers["mcp-session-id"]}
            assert (await target.send(token, look, headers=session)).code == "call_timed_out"
        else:
            async with target.streaming(token) as (endpoint, told):
                await target.send(token, HELLO, path=endpoint)
                await anext(told)
                await target.send(token, INITIALIZED, path=endpoint)
                assert (await target.send(token, look, path=endpoint)).status == 202
                assert '"call_timed_out"' in (await anext(told))["result"]["content"][0]["text"]
        with anyio.fail_after(5):
            await ended.wait()


@pytest.mark.parametrize("json_replies", [False, True], ids=["events", "json"])
@pytest.mark.parametrize("mode", MODES)
async def test_a_call_that_waits_is_told_that_the_server_ends(tmp_path: Path, mode: str, json_replies: bool) -> None:
    answers = []
    async with running(tmp_path, http={"json_replies": json_replies, "drain_s": 20}) as server:
        token = await server.token("owner")

        async def ask() -> None:
            async with server.client(token, mode) as client:
                answers.append(await client.call_tool("await_signal", {"name": "go", "timeout_s": 60}))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await until(lambda: server.app._running_calls._waiting)
            with anyio.fail_after(10):
                server.stop()
                await until(lambda: answers)
    [answer] = answers
    assert answer.is_error
    assert '"server_draining"' in str(answer.content)


async def test_the_id_of_a_call_that_is_never_answered_is_not_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ids are the clients' own texts; the SDK repeats one where it gives up to answer."""
    begun = anyio.Event()

    async def hang(*_: Any, **__: Any) -> None:
        begun.set()
        await anyio.sleep_forever()

    caplog.set_level("DEBUG")
    for name, least in TALKATIVE.items():  # as the product sets them
        caplog.set_level(least, logger=name)
    monkeypatch.setattr(Workspace, "get_memories", hang)
    monkeypatch.setattr(jsonrpc_dispatcher, "_SHUTDOWN_WRITE_TIMEOUT", 0.05)
    said = {"name": "get_memory", "arguments": {"ids": ["mem_" + "0" * 22]}}
    async with attacked(tmp_path) as target:
        token = await target.token("owner")
        session = {"mcp-session-id": (await target.send(token, HELLO)).headers["mcp-session-id"]}
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                await target.send(token, message("tools/call", call_id="the code is 0451", **said), headers=session)

            tasks.start_soon(ask)
            await begun.wait()
            tasks.cancel_scope.cancel()
    assert "0451" not in caplog.text


async def test_a_call_that_waits_at_another_server_is_told_that_the_one_before_it_ends(tmp_path: Path) -> None:
    """It waits where its connection is, and its client at the server that it asked."""
    answers = []
    json = {"content-type": "application/json"}
    async with (
        running(tmp_path) as first,
        running(tmp_path, http={"drain_s": 20}) as second,
        first.http(await first.token("owner")) as http,
        anyio.create_task_group() as tasks,
    ):
        opened = await http.post("/mcp", content=HELLO, headers=json)
        session = {**json, "mcp-session-id": opened.headers["mcp-session-id"]}

        async def ask() -> None:
            answers.append(await http.post(f"{second.url}/mcp", content=wait(1), headers=session))

        tasks.start_soon(ask)
        await until(lambda: first.app._running_calls._waiting)
        second.stop()
        await until(lambda: answers)
    assert "server_draining" in answers[0].text


async def test_answers_that_are_not_read_keep_their_places_until_they_are_or_the_stream_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = anyio.Event()
    send = Outgoing.send

    async def slow(self: Outgoing, item: SessionMessage) -> None:
        if not isinstance(item.message, JSONRPCResponse) or item.message.id != "h":
            await held.wait()
        await send(self, item)

    async with attacked(tmp_path, calls_max=3, drain_s=0.01) as target:
        token = await target.token("owner")
        places = target.server.app._sse
        async with target.streaming(token) as (endpoint, told):
            await target.send(token, HELLO.replace(b'"id": 1', b'"id": "h"'), path=endpoint)
            await anext(told)
            await target.send(token, INITIALIZED, path=endpoint)
            monkeypatch.setattr(Outgoing, "send", slow)
            for number, call_id in enumerate([7, "7", "True"], 1):  # as if they were one, or cancelled
                assert (await target.send(token, message("ping", call_id=call_id), path=endpoint)).status == 202
                await until(lambda: places._calls == number)  # noqa: B023
            for call_id in (7, True):
                cancel = message("notifications/cancelled", requestId=call_id).replace(b'"id": 1, ', b"")
                assert (await target.send(token, cancel, path=endpoint)).status == 202
            refused = await target.send(token, message("ping", call_id=8), path=endpoint)
            assert (refused.status, refused.code) == (429, "too_many_calls")
            held.set()
            assert [(await anext(told))["id"] for _ in range(3)] == [7, "7", "True"]
            await until(lambda: not places._calls)
            held = anyio.Event()
            assert (await target.send(token, message("ping", call_id=9), path=endpoint)).status == 202
            await until(lambda: places._calls)
        await until(lambda: not places._calls)
        assert places.most() == 3


async def test_a_cancelled_call_on_a_stream_makes_room(tmp_path: Path) -> None:
    async with attacked(tmp_path, calls_max=1) as target:
        token = await target.token("owner")
        async with target.streaming(token) as (endpoint, told):
            await target.send(token, HELLO, path=endpoint)
            await anext(told)
            await target.send(token, INITIALIZED, path=endpoint)
            await target.send(token, wait(1), path=endpoint)
            await running_count(target, 1)
            cancel = message("notifications/cancelled", requestId=1).replace(b'"id": 1, ', b"")
            assert (await target.send(token, cancel, path=endpoint)).status == 202
            await until(lambda: not target.server.app._sse._calls)
            assert (await target.send(token, message("ping", call_id=2), path=endpoint)).status == 202
