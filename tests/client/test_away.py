"""A server that is away, dies, or does not answer: the agent works on, nothing is stored twice, the report is true."""

import anyio
import pytest

from contextdna import ContextQuery, Kind
from contextdna.client import Memory, Refused, RunLimits, RunOutcome, RunReport, ServerAway, connect
from tests.client.rig import FaultyServer

pytestmark = pytest.mark.anyio


async def everything(server: FaultyServer, *kinds: str) -> list[str]:
    """Give the content of what is stored, the oldest first, read past the client."""
    async with server.open_hub() as workspace:
        found = await workspace.retrieve_context(ContextQuery(kinds=tuple(map(Kind, kinds or ("memory",))), limit=100))
    return [hit.content for hit in reversed(found.hits)]


# --- never there ---


async def test_without_a_server_the_body_runs_and_the_report_names_all_that_is_not_stored(server: FaultyServer) -> None:
    server.go_down()
    async with server.connect(attempts=2) as memory, memory.run("drone", task="Ask the report service") as run:
        assert run.degraded
        assert (run.session_id, run.briefing) == ("", "")
        known = await run.retrieve("port")
        assert (known.hits, known.degraded) == ((), True)
        stored = await run.store("It listens on port 9000.")
        assert (stored.id, stored.status) == ("", "queued")
        assert (await run.log("assistant", "Done.")).ids == ()
        assert (await run.attach("probe.txt", b"\x00")).id == ""
        assert (await run.record_loop(3, "probing", score=0.9)).gate_open is False
        assert run.report.waiting == 4
        run.learn("Services may be away.")
        run.result = "Port 9000."
    report = run.report
    assert report.outcome is RunOutcome.SUCCEEDED
    assert (report.complete, report.ended, report.degraded, report.stored) == (False, False, True, ())
    assert (report.waiting, report.unanswered) == (0, 1)
    assert [item.what for item in report.unstored] == [
        "memory",
        "turn",
        "artifact probe.txt",
        "loop 3 of probing",
        "end of session, result, 1 learning",
    ]
    assert {item.code for item in report.unstored} == {"server_away"}
    assert not any(item.uncertain for item in report.unstored)
    assert report.unstored[0].arguments["content"] == "It listens on port 9000."
    assert "not stored: memory" in str(report)


async def test_a_program_that_is_not_there_is_a_server_that_is_away(server: FaultyServer) -> None:
    parameters = server.parameters.model_copy(update={"command": str(server.folder / "nothing")})
    async with connect(parameters, retry=server.time.retry(attempts=3)) as memory:
        with pytest.raises(ServerAway) as away:
            await memory.retrieve("port")
    assert not away.value.outcome_unknown
    assert away.value.retryable
    assert "nothing" not in away.value.message
    assert server.time.waits == [0.2, 0.4]


async def test_an_exception_passes_without_a_server_too(server: FaultyServer) -> None:
    server.go_down()
    async with server.connect(attempts=1) as memory:
        run = memory.run("drone")
        with pytest.raises(ZeroDivisionError):
            async with run:
                raise ZeroDivisionError
    assert run.report.outcome is RunOutcome.FAILED
    assert [item.what for item in run.report.unstored] == ["end of session, failure pattern"]


async def test_what_waits_is_bounded(server: FaultyServer) -> None:
    server.go_down()
    async with server.connect(attempts=1) as memory:
        limits = RunLimits(waiting_max=3, waiting_bytes_max=100)
        async with memory.run("drone", limits=limits) as run:
            await run.store("x" * 101)
            for number in range(4):
                await run.log("assistant", f"Turn {number}")
            assert run.report.waiting == 3
            assert [item.code for item in run.report.unstored] == ["backlog_full", "backlog_full"]


# --- away, and back ---


async def test_a_server_that_comes_back_gets_all_in_order(server: FaultyServer) -> None:
    server.go_down()
    async with server.connect(attempts=1) as memory:
        async with memory.run("drone", task="Count") as run:
            await run.log("assistant", "one")
            await run.log("assistant", "two")
            assert run.report.waiting == 2
            server.come_back()
            logged = await run.log("assistant", "three")
            assert logged.ids
            assert run.report.waiting == 0
            run.result = "Three."
        assert run.report.complete
        assert run.report.degraded
    assert await everything(server, "turn") == ["one", "two", "three"]
    assert await everything(server) == ["Three."]


async def test_a_working_memory_that_waits_can_be_named_to_stay(server: FaultyServer) -> None:
    server.go_down()
    async with server.connect(attempts=1) as memory:
        async with memory.run("drone") as run:
            kept = await run.store("Kept.", tier="working")
            first, second = await run.store_all(
                [{"content": "One.", "tier": "working"}, {"content": "Two.", "tier": "working"}]
            )
            run.promote(kept, second)
            server.come_back()
        assert run.report.complete
        assert kept.later is not None
        assert second.later is not None
        assert first.later is not None
        assert run.report.promoted == (kept.later(), second.later())
        assert run.report.expired == (first.later(),)


async def test_the_end_of_a_run_tries_again_what_waits(server: FaultyServer) -> None:
    server.go_down()
    server.time.at_a_wait = lambda: server.come_back() if len(server.time.waits) == 3 else None
    async with server.connect(attempts=2, pause_s=60) as memory:
        async with memory.run("drone") as run:
            await run.store("A fact.")
            server.time.waits += [0.0]  # as if time went by: the server is back at the next wait
            run.result = "Done."
        assert run.report.complete, run.report
    assert await everything(server) == ["A fact.", "Done."]


async def test_a_retry_within_a_call_reaches_a_server_that_just_came_back(server: FaultyServer) -> None:
    server.go_down()
    server.time.at_a_wait = server.come_back
    async with server.connect(attempts=2) as memory, memory.run("drone") as run:
        assert not run.degraded
        assert run.session_id
        assert (run.report.calls, run.report.attempts) == (1, 2)


async def test_a_killed_server_is_started_again_and_the_run_goes_on(server: FaultyServer) -> None:
    async with server.connect() as memory:
        async with memory.run("drone") as run:
            await run.log("assistant", "before")
            first = server.pid
            await server.kill()
            await run.log("assistant", "after")
            assert (await run.store("A fact.")).status == "stored"
            assert server.pid != first
        assert run.report.complete
        assert not run.report.degraded
    assert await everything(server, "turn") == ["before", "after"]


async def test_a_server_that_is_killed_and_stays_away_leaves_a_report(server: FaultyServer) -> None:
    async with server.connect(attempts=2) as memory:
        async with memory.run("drone") as run:
            await run.store("Stored before.")
            server.go_down()
            await server.kill()
            assert (await run.retrieve("Stored before")).degraded
            assert (await run.store("Never stored.")).status == "queued"
            run.result = "Done."
        assert not run.report.ended
        assert len(run.report.stored) == 1
        assert [item.what for item in run.report.unstored] == ["memory", "end of session, result"]
    server.come_back()
    assert await everything(server) == ["Stored before."]


async def test_while_the_server_is_away_calls_do_not_keep_the_agent_waiting(server: FaultyServer) -> None:
    server.go_down()
    async with server.connect(attempts=3, pause_s=30) as memory:
        async with memory.run("drone") as run:
            assert run.report.attempts == 3
            for _ in range(5):
                await run.retrieve("anything")
            assert run.report.attempts == 3
            server.time.now += 31
            await run.retrieve("anything")
            assert run.report.attempts == 6
        assert run.report.attempts == 9


async def test_a_delegation_is_made_later_when_the_server_was_away(server: FaultyServer) -> None:
    server.go_down()
    async with server.connect(attempts=1) as memory:
        async with memory.run("queen") as queen:
            task = await queen.delegate("drone", "Count the files")
            assert (task.degraded, task.session_id, task.briefing) == (True, "", "")
            assert [item.what for item in queen.report.unstored] == ["delegation to drone"]
            async with memory.run(delegation=task) as drone:
                assert (drone.agent_id, drone.task) == ("drone", "Count the files")
                drone.result = "12 files."
                server.come_back()
            assert drone.report.complete
            assert drone.agent_id == "queen/drone"
        assert queen.report.complete
    assert await everything(server) == ["12 files."]


async def test_a_delegation_that_never_was_is_reported(server: FaultyServer) -> None:
    server.go_down()
    async with server.connect(attempts=1) as memory:
        async with memory.run("queen") as queen:
            task = await queen.delegate("drone", "Count the files")
        server.come_back()
        async with memory.run(delegation=task) as drone:
            drone.result = "12 files."
    assert [item.what for item in queen.report.unstored] == ["delegation to drone", "end of session"]
    assert [(item.what, item.code) for item in drone.report.unstored] == [("end of session, result", "parent_over")]


# --- lost answers ---


async def test_a_memory_whose_answer_was_lost_is_stored_once(server: FaultyServer) -> None:
    async with server.connect() as memory:
        async with memory.run("drone") as run:
            server.order("store_memory", "dies_after")
            stored = await run.store("A fact.", on_duplicate="new")
            assert stored.status == "stored"
        assert run.report.complete
    assert await everything(server) == ["A fact."]


async def test_a_memory_that_waits_after_a_lost_answer_is_stored_once(server: FaultyServer) -> None:
    async with server.connect(attempts=1) as memory:
        async with memory.run("drone") as run:
            server.order("store_memory", "dies_after")
            assert (await run.store("A fact.", on_duplicate="new")).status == "queued"
        assert run.report.complete
    assert await everything(server) == ["A fact."]


async def test_a_memory_whose_answer_was_lost_for_good_is_perhaps_stored(server: FaultyServer) -> None:
    async with server.connect(attempts=1) as memory:
        async with memory.run("drone") as run:
            server.order("store_memory", "dies_after")
            await run.store("A fact.")
            server.go_down()
        fact, end = run.report.unstored
        assert (fact.what, fact.uncertain) == ("memory", True)
        assert (end.what, end.uncertain) == ("end of session", False)
        assert "perhaps stored: memory" in str(run.report)


@pytest.mark.parametrize("fault", ["dies_before", "dies_after"])
async def test_a_turn_whose_answer_was_lost_is_not_sent_twice(server: FaultyServer, fault: str) -> None:
    async with server.connect() as memory:
        async with memory.run("drone") as run:
            server.order("log_turn", fault)
            assert (await run.log("assistant", "one")).ids == ()
            assert (await run.log("assistant", "two")).ids
        (turn,) = run.report.unstored
        assert (turn.what, turn.uncertain, turn.tool) == ("turn", True, "log_turn")
        assert run.report.ended
    assert (await everything(server, "turn")).count("one") == (1 if fault == "dies_after" else 0)


@pytest.mark.parametrize("fault", ["dies_before", "dies_after"])
async def test_an_end_whose_answer_was_lost_is_found_or_repeated(server: FaultyServer, fault: str) -> None:
    async with server.connect() as memory:
        async with memory.run("drone") as run:
            run.learn("A lesson.")
            run.result = "Done."
            server.order("end_session", fault)
        assert run.report.complete, run.report
        (end,) = run.report.stored
        assert len(end.ids) == 2
    assert sorted(await everything(server)) == ["A lesson.", "Done."]


async def test_a_beginning_whose_answer_was_lost_begins_again(server: FaultyServer) -> None:
    server.order("begin_session", "dies_after")
    async with server.connect() as memory:
        async with memory.run("drone") as run:
            run.result = "Done."
        assert run.report.complete


async def test_a_delegation_whose_answer_was_lost_is_not_sent_twice_at_once(server: FaultyServer) -> None:
    async with server.connect() as memory, memory.run("queen") as queen:
        server.order("delegate_with_context", "dies_after")
        task = await queen.delegate("drone", "Count the files")
        assert task.degraded
        assert queen.report.unstored[0].uncertain


async def test_an_update_whose_answer_was_lost_says_so(server: FaultyServer) -> None:
    async with server.connect() as memory:
        stored = await memory.store("A fact.")
        server.order("update_memory", "dies_after")
        with pytest.raises(ServerAway) as away:
            await memory.update(stored.id, expected_version=1, importance=0.9)
        assert away.value.outcome_unknown
        assert (await memory.get([stored.id]))[0]["version"] == 2


# --- slow, busy ---


async def test_a_call_without_an_answer_ends_in_time(server: FaultyServer) -> None:
    async with server.connect(timeout_s=2) as memory:
        await memory.retrieve("the server is there")
        server.order("log_turn", "hangs")
        async with memory.run("drone") as run:
            assert (await run.log("assistant", "one")).ids == ()
            assert (await run.log("assistant", "two")).ids
        (turn,) = run.report.unstored
        assert (turn.code, turn.uncertain) == ("server_timeout", True)


async def test_a_hanging_end_does_not_hold_up_a_cancelled_run(server: FaultyServer) -> None:
    async with server.connect() as memory:
        server.order("end_session", "always_hangs")
        with anyio.CancelScope() as scope:
            async with memory.run("drone", limits=RunLimits(closing_s=0.2)) as run:
                scope.cancel()
                await anyio.sleep_forever()
        assert run.report.outcome is RunOutcome.CANCELLED
        assert not run.report.ended
        assert [(item.code, item.uncertain) for item in run.report.unstored] == [("cancelled", True)]


async def test_a_write_that_the_body_gives_up_is_perhaps_stored(server: FaultyServer) -> None:
    async with server.connect() as memory:
        async with memory.run("drone") as run:
            server.order("store_memory", "hangs")
            with anyio.move_on_after(0.2):
                await run.store("A fact.")
        assert [(item.what, item.code, item.uncertain) for item in run.report.unstored] == [
            ("memory", "cancelled", True)
        ]


async def test_a_busy_storage_is_asked_again(server: FaultyServer) -> None:
    async with server.connect() as memory:
        async with memory.run("drone") as run:
            server.order("log_turn", "busy")
            assert (await run.log("assistant", "one")).ids
        assert run.report.complete
        assert not run.report.degraded
    assert await everything(server, "turn") == ["one"]


async def test_what_a_busy_storage_does_not_take_waits(server: FaultyServer) -> None:
    async with server.connect(attempts=2) as memory:
        async with memory.run("drone") as run:
            server.order("log_turn", "always_busy")
            assert (await run.log("assistant", "one")).ids == ()
            server.withdraw("log_turn", "always_busy")
        assert run.report.complete
        assert run.report.degraded
        server.order("retrieve_context", "always_busy")
        with pytest.raises(Refused) as busy:
            await memory.retrieve("anything")
        assert (busy.value.code, busy.value.retryable) == ("storage_busy", True)
        server.withdraw("retrieve_context", "always_busy")
    assert await everything(server, "turn") == ["one"]


async def test_ten_runs_lose_their_server_and_share_the_next(server: FaultyServer) -> None:
    reports: list[RunReport] = []

    async def work(memory: Memory, number: int) -> None:
        async with memory.run(f"drone-{number}") as run:
            await ready.wait()
            await run.store(f"Drone {number} was here.")
        reports.append(run.report)

    async with server.connect() as memory:
        await memory.retrieve("the server is there")
        ready = anyio.Event()
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(work, memory, number)
            await server.kill()
            ready.set()
        assert len(reports) == 10
        assert all(report.complete for report in reports)
    assert len(await everything(server)) == 10
