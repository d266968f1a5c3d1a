"""A call that its client takes back, or leaves in the middle, is done as a whole or not at all, in both eras."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from contextdna import Role
from tests.http.asgi import until
from tests.http.attacked import ENVELOPE, MODERN, Attacked, attacked, message

pytestmark = pytest.mark.anyio

BATCH = 100
ROUNDS = 6
HELLO = message("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "a", "version": "1"})


def batch(agent: str, **more: Any) -> bytes:
    """Write a call that stores a batch, each time the same one."""
    memories = [{"content": f"{agent} noted number {number}", "level": "private"} for number in range(BATCH)]
    arguments = {"memories": memories, "idempotency_key": f"key-of-{agent}"}
    return message("tools/call", call_id="b", name="store_memory", arguments=arguments, **more)


async def stored(target: Attacked, agent: str) -> int:
    """Count what an agent has."""
    overview = await target.workspace(agent, role=Role.AGENT).project_overview()
    return sum(count for _, count in overview.records_by_kind)


CutOff = Callable[[Attacked, str, str, float], Awaitable[None]]
"""Asks for the batch as an agent with a token, and cuts the call off after some seconds; ends when that is told."""


async def taken_back(target: Attacked, agent: str, token: str, after_s: float) -> None:
    """2025 over Streamable HTTP: by a notification on the same connection; the call is still answered."""
    session = {"mcp-session-id": (await target.send(token, HELLO)).headers["mcp-session-id"]}
    async with anyio.create_task_group() as tasks:

        async def call() -> None:
            answer = await target.send(token, batch(agent), headers=session)
            assert answer.status == 200
            assert answer.message["id"] == "b"

        tasks.start_soon(call)
        await anyio.sleep(after_s)
        assert (await target.send(token, cancelled(), headers=session)).status == 202


async def taken_back_in_a_stream(target: Attacked, agent: str, token: str, after_s: float) -> None:
    """2025 over HTTP+SSE: the call may be answered or not, the next one is."""
    async with target.streaming(token) as (endpoint, told):
        await target.send(token, HELLO, path=endpoint)
        await anext(told)
        await target.send(token, b'{"jsonrpc":"2.0","method":"notifications/initialized"}', path=endpoint)
        assert (await target.send(token, batch(agent), path=endpoint)).status == 202
        await anyio.sleep(after_s)
        await target.send(token, cancelled(), path=endpoint)
        await target.send(token, message("ping", call_id="p"), path=endpoint)
        while (await anext(told))["id"] != "p":
            pass


async def left(target: Attacked, agent: str, token: str, after_s: float) -> None:
    """2026: by closing the connection."""
    headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "store_memory"}
    with anyio.move_on_after(after_s):
        await target.send(token, batch(agent, _meta=ENVELOPE), headers=headers)


async def connection_broken(target: Attacked, agent: str, token: str, after_s: float) -> None:
    """Any era: a client that vanishes with a reset in the middle of its body or of its call."""
    body = batch(agent)
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with target.connected() as client:
        await client.send(head.encode() + body[: len(body) // 2])
        await anyio.sleep(after_s / 2)
        await client.send(body[len(body) // 2 :])
        await anyio.sleep(after_s / 2)


def cancelled(call_id: int | str = "b") -> bytes:
    said = {"requestId": call_id, "reason": "on second thoughts"}
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": said}).encode()


@pytest.mark.parametrize("cut_off", [taken_back, taken_back_in_a_stream, left, connection_broken])
async def test_a_batch_that_is_cut_off_is_stored_whole_or_not_at_all(target: Attacked, cut_off: CutOff) -> None:
    agent = target.stranger()
    began = time.perf_counter()
    assert (await target.send(await target.token(agent), batch(agent))).said
    whole_s = time.perf_counter() - began
    moments = random.Random(7)  # noqa: S311 - no secret
    for number in range(ROUNDS):
        agent = target.stranger()
        token = await target.token(agent)
        # The one sleep that is meant: a moment, not something to wait for.
        await cut_off(target, agent, token, whole_s * (number + moments.random()) / ROUNDS)
        assert await stored(target, agent) in (0, BATCH)
        again = await target.send(token, batch(agent))
        assert len(again.said["stored"]) == BATCH, "and its key brings the rest, or what was stored"
        assert await stored(target, agent) == BATCH
    assert (await target.workspace().verify_audit()).intact


async def test_calls_under_one_key_at_once_are_one(target: Attacked) -> None:
    agent = target.stranger()
    token = await target.token(agent)
    ids: set[str] = set()

    async def store() -> None:
        ids.update(entry["id"] for entry in (await target.send(token, batch(agent))).said["stored"])

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(store)
    assert (len(ids), await stored(target, agent)) == (BATCH, BATCH)
    other = batch(agent).replace(b"noted number 7", b"changed number 7")
    assert (await target.send(token, other)).code == "idempotency_key_reused"


async def test_no_one_takes_back_the_call_of_another(target: Attacked) -> None:
    """Ids of calls are the clients' own: many say 1."""
    owner, thief, signal = await target.token("owner"), await target.token("thief"), target.stranger()
    waits = message("tools/call", call_id="b", name="await_signal", arguments={"name": signal, "timeout_s": 60})
    session = {"mcp-session-id": (await target.send(owner, HELLO)).headers["mcp-session-id"]}
    theirs = {"mcp-session-id": (await target.send(thief, HELLO)).headers["mcp-session-id"]}

    async def attack() -> None:
        for headers in ({}, session, theirs, {"mcp-protocol-version": MODERN, "mcp-method": "notifications/cancelled"}):
            await target.send(thief, cancelled(), headers=headers)
        await target.call(thief, "send_signal", name=signal, target_agent_ids=["owner"])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attack)
        answer = await target.send(owner, waits, headers=session)
    assert signal in str(answer.said)


async def test_of_two_calls_with_one_id_the_later_one_is_refused(target: Attacked) -> None:
    """The SDK would answer one of them, and let the other wait for ever."""
    token, signal = await target.token("owner"), target.stranger()
    session = {"mcp-session-id": (await target.send(token, HELLO)).headers["mcp-session-id"]}
    waits = message("tools/call", call_id=7, name="await_signal", arguments={"name": signal, "timeout_s": 60})
    answers = []

    async def wait() -> None:
        answers.append(await target.send(token, waits, headers=session))

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(wait)
        await until(lambda: answers)
        refused = await target.send(token, message("ping", call_id="7"), headers=session)
        await target.call(await target.token("bob"), "send_signal", name=signal, target_agent_ids=["owner"])
    assert [(answer.status, answer.code) for answer in (answers[0], refused)] == [(400, "call_id_in_use")] * 2
    assert answers[1].said
    assert (await target.send(token, message("ping", call_id=7), headers=session)).result == {}


@pytest.mark.parametrize("ends", ["answered", "cancelled"])
async def test_an_id_is_in_use_until_its_call_is_done_though_its_client_hung_up(target: Attacked, ends: str) -> None:
    """The SDK would give the first one's answer to the second."""
    token, signal = await target.token("owner"), target.stranger()
    session = {"mcp-session-id": (await target.send(token, HELLO)).headers["mcp-session-id"]}
    waits = message("tools/call", call_id=7, name="await_signal", arguments={"name": signal, "timeout_s": 60})
    with anyio.move_on_after(0.1):
        await target.send(token, waits, headers=session)
    again = message("ping", call_id="7")
    refused = await target.send(token, again, headers=session)
    assert (refused.status, refused.code) == (400, "call_id_in_use")
    if ends == "answered":
        await target.call(await target.token("bob"), "send_signal", name=signal, target_agent_ids=["owner"])
    else:
        await target.send(token, cancelled(7), headers=session)
    with anyio.fail_after(5):
        while (answer := await target.send(token, again, headers=session)).status == 400:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    assert answer.result == {}


@pytest.mark.parametrize("json_replies", [False, True], ids=["events", "json"])
async def test_a_call_whose_session_ends_meanwhile_is_no_failure_of_the_server(
    tmp_path: Path, json_replies: bool
) -> None:
    async with attacked(tmp_path, json_replies=json_replies) as target:
        token = await target.token("owner")
        session = {"mcp-session-id": (await target.send(token, HELLO)).headers["mcp-session-id"]}
        waits = message("tools/call", name="await_signal", arguments={"name": "never", "timeout_s": 60})

        async def wait() -> None:
            answer = await target.send(token, waits, headers=session)
            assert answer.status in (200, 404), answer.text

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.sleep(0.05)
            assert (await target.send(token, None, method="DELETE", headers=session)).status == 200


async def test_calls_that_come_just_as_their_session_ends_are_answered_whole(
    target: Attacked, caplog: pytest.LogCaptureFixture
) -> None:
    token = await target.token("owner")
    for _ in range(5):
        session = {"mcp-session-id": (await target.send(token, HELLO)).headers["mcp-session-id"]}
        async with anyio.create_task_group() as tasks:
            for number, method in enumerate(("POST", "POST", "DELETE", "POST", "POST")):
                body = message("ping", call_id=number) if method == "POST" else None
                tasks.start_soon(partial(target.send, token, body, method=method, headers=session))
    assert not [record for record in caplog.records if record.name == "uvicorn.error"]
