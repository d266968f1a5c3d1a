"""Signals through the tools: a waiting call reports progress, ends when it is cancelled, and holds up no other."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from contextdna import Hub, Principal, open_hub
from contextdna_server.settings import Settings
from contextdna_tools import FULL_TOOLS
from tests.hub.rig import ALICE, BOB, audit_of, settings_in
from tests.tools.calling import Caller, calling

pytestmark = pytest.mark.anyio

DEADLINE_S = 60
LONG_S = 600


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> str:
    """Give a protocol era: with 2026-07-28 where both can, or the initialize handshake."""
    return str(request.param)


@pytest.fixture
async def hub(anyio_backend: str) -> AsyncIterator[Hub]:
    async with open_hub(settings_in(None)) as opened:
        yield opened


def connect(principal: Principal, mode: str, hub: Hub) -> Any:
    return calling(principal, mode, hub=hub, tools=FULL_TOOLS)


class Told:
    """What progress a client was told, and a way to wait for the first."""

    def __init__(self) -> None:
        self.reports: list[tuple[float, float | None, str | None]] = []
        self.first = anyio.Event()

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.reports.append((progress, total, message))
        self.first.set()


async def test_two_agents_signal_and_acknowledge(mode: str, hub: Hub) -> None:
    async with connect(ALICE, mode, hub) as alice, connect(BOB, mode, hub) as bob:
        sent = await alice.ok("send_signal", name="go", target_agent_ids=["bob", "zoe"], payload={"phase": 2})
        assert (sent["targets"], sent["unknown_agents"]) == (["bob", "zoe"], ["bob", "zoe"])
        got = await bob.ok("await_signal", name="go", timeout_s=0)
        assert (got["outcome"], got["signal"]["id"], got["signal"]["sender"]) == (
            "signalled",
            sent["signal_id"],
            "alice",
        )
        assert got["signal"]["payload"] == {"phase": 2}
        first = await bob.ok("acknowledge_signal", signal_id=sent["signal_id"], note="on it")
        again = await bob.ok("acknowledge_signal", signal_id=sent["signal_id"])
        assert (first["already"], again["already"]) == (False, True)
        assert first["acknowledged_at"] == again["acknowledged_at"]
        waited = await alice.ok("await_signal", signal_id=sent["signal_id"], timeout_s=0)
        assert (waited["outcome"], waited["missing"]) == ("timed_out", ["zoe"])
        assert [(one["agent_id"], one["note"]) for one in waited["acknowledged"]] == [("bob", "on it")]
        enough = await alice.ok("await_signal", signal_id=sent["signal_id"], count=1)
        assert enough["outcome"] == "acknowledged"
        lost = await bob.ok("await_signal", sender="alise", timeout_s=0)
        assert (lost["outcome"], lost["unknown_agents"]) == ("timed_out", ["alise"])
        for withdrawn in (True, False):
            assert (await alice.ok("send_signal", withdraw=sent["signal_id"]))["withdrawn"] is withdrawn
        assert (await alice.ok("await_signal", signal_id=sent["signal_id"]))["outcome"] == "withdrawn"


async def test_a_circle_is_named(mode: str, hub: Hub) -> None:
    async with connect(ALICE, mode, hub) as alice, connect(BOB, mode, hub) as bob:
        await alice.ok("send_signal", name="go", circle="swarm")
        assert (await bob.ok("await_signal"))["outcome"] == "signalled"
        assert (await alice.error("send_signal", name="go", circle="project"))["code"] == "role_required"
        assert (await alice.error("send_signal", name="go", circle="all"))["code"] == "circle_unknown"


@pytest.mark.parametrize("circle", ["team", "swarm", "project"])
async def test_all_of_a_circle_have_acknowledged_without_the_connection_they_share(
    mode: str, hub: Hub, circle: str
) -> None:
    async with connect(Settings(command_line={}, file={}).to_principal(), mode, hub) as local:  # type: ignore[call-arg]  # its own sources
        queen = (await local.ok("begin_session", agent_id="queen", role="coordinator"))["session_id"]
        drones = [
            (await local.ok("delegate_with_context", session_id=queen, child_agent_id=name, task="fly"))["session_id"]
            for name in ("d0", "d1")
        ]
        sent = await local.ok("send_signal", session_id=queen, name="go", circle=circle)
        wait = {"session_id": queen, "signal_id": sent["signal_id"], "timeout_s": 0}
        await local.ok("acknowledge_signal", session_id=drones[0], signal_id=sent["signal_id"])
        assert (await local.ok("await_signal", **wait))["missing"] == ["queen/d1"]
        await local.ok("acknowledge_signal", session_id=drones[1], signal_id=sent["signal_id"])
        waited = await local.ok("await_signal", **wait)
        assert (waited["outcome"], waited["missing"], len(waited["acknowledged"])) == ("acknowledged", [], 2)


async def test_wrong_calls_are_refused_with_a_code(mode: str, hub: Hub) -> None:
    async with connect(ALICE, mode, hub) as alice:
        for code, tool, arguments in (
            ("targets_missing", "send_signal", {"name": "go"}),
            ("name_invalid", "send_signal", {"target_agent_ids": ["bob"]}),
            ("withdraw_and_send", "send_signal", {"withdraw": "sig_1", "circle": "team"}),
            ("not_found", "send_signal", {"withdraw": "sig_1"}),
            ("not_found", "acknowledge_signal", {"signal_id": "sig_1"}),
            ("not_found", "await_signal", {"signal_id": "sig_1"}),
            ("ids_and_filters", "await_signal", {"signal_id": "sig_1", "name": "go"}),
            ("count_without_signal", "await_signal", {"count": 2}),
            ("timeout_s_out_of_range", "await_signal", {"timeout_s": 1e9}),
        ):
            assert (await alice.error(tool, **arguments))["code"] == code, arguments


async def test_a_waiting_call_reports_progress_and_others_go_on(mode: str, hub: Hub) -> None:
    told = Told()
    async with connect(ALICE, mode, hub) as alice, connect(BOB, mode, hub) as bob:
        await alice.ok("send_signal", name="hello", target_agent_ids=["tess"])
        results: list[Any] = []

        async def wait() -> None:
            arguments = {"name": "go", "sender": "alice", "timeout_s": LONG_S}
            results.append(await bob.client.call_tool("await_signal", arguments, progress_callback=told))

        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await told.first.wait()
                await bob.ok("retrieve_context", query="anything")
                await alice.ok("send_signal", name="go", target_agent_ids=["bob"])
    [result] = results
    assert result.structured_content["outcome"] == "signalled"
    waited_s, total, message = told.reports[0]
    assert 0 < waited_s < LONG_S
    assert (total, message) == (LONG_S, "waiting for go from alice")


async def test_a_cancelled_call_stops_waiting_and_leaves_nothing(mode: str, hub: Hub) -> None:
    told = Told()
    async with connect(BOB, mode, hub) as bob:
        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as tasks:

                async def wait() -> None:
                    await bob.client.call_tool("await_signal", {"timeout_s": LONG_S}, progress_callback=told)

                tasks.start_soon(wait)
                await told.first.wait()
                assert len(hub._rooms.stream._listeners) == 1
                tasks.cancel_scope.cancel()
            while hub._rooms.stream._listeners:  # noqa: ASYNC110 - the server learns of it a moment later
                await anyio.sleep(0.001)
        await bob.ok("retrieve_context", query="still here")
    assert len(await audit_of(hub, action="signal.await")) == 2


async def test_over_stdio_a_real_client_is_told_of_progress(mode: str, tmp_path: Path) -> None:
    told = Told()
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "contextdna_server", "serve", "--tools", "full", "--data", str(tmp_path / "data")],
        env={**os.environ},
    )
    with anyio.fail_after(DEADLINE_S):
        async with Client(command, mode=mode) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            async with open_hub(settings_in(None)) as unused:
                local = Caller(unused, client, tools)
                worker = (await local.ok("begin_session", agent_id="worker"))["session_id"]
                ended: list[Any] = []

                async def wait() -> None:
                    arguments = {"session_id": worker, "timeout_s": LONG_S}
                    ended.append(await client.call_tool("await_signal", arguments, progress_callback=told))

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(wait)
                    await told.first.wait()
                    sent = await local.ok("send_signal", name="go", target_agent_ids=["worker"])
                [result] = ended
                assert result.structured_content["signal"]["id"] == sent["signal_id"]
                assert told.reports[0][1] == LONG_S
                await local.ok("acknowledge_signal", session_id=worker, signal_id=sent["signal_id"])

                again = Told()
                async with anyio.create_task_group() as tasks:

                    async def wait_in_vain() -> None:
                        arguments = {"session_id": worker, "timeout_s": LONG_S}
                        await client.call_tool("await_signal", arguments, progress_callback=again)

                    tasks.start_soon(wait_in_vain)
                    await again.first.wait()
                    tasks.cancel_scope.cancel()
                assert (await local.ok("await_signal", session_id=worker, timeout_s=0))["outcome"] == "timed_out"
