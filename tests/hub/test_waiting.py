"""Waiting for signals and for acknowledgements: nothing is lost, nobody waits for ever, and waiting costs nothing."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import anyio
import pytest

from contextdna import (
    AccessDenied,
    AcknowledgementWait,
    AgentId,
    Circle,
    Hub,
    HubSettings,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Principal,
    Role,
    SessionInvalid,
    SignalDraft,
    SignalWait,
    WaitOutcome,
    WorkSettings,
    Workspace,
    open_hub,
)
from contextdna.hub.signals import LOOK_S_MAX
from tests.hub.rig import ALICE, BOB, DEFAULT, ROOT, TESS, Clock, audit_of, begin, refused, remember

pytestmark = pytest.mark.anyio

LONG_S: Final = 600.0
"""Longer than any test may take: a wait that ends was woken."""

CROWD: Final = 200


async def listening(hub: Hub, count: int = 1) -> None:
    """Wait until so many waiters listen for events."""
    while len(hub._rooms.stream._listeners) < count:  # noqa: ASYNC110 - a listener tells nobody that it has come
        await anyio.sleep(0.001)


def go(*targets: Principal, **fields: Any) -> SignalDraft:
    return replace(SignalDraft("go", tuple(target.agent_id for target in targets)), **fields)


class Waiting:
    """A wait that goes on beside the test."""

    def __init__(self, tasks: anyio.abc.TaskGroup, workspace: Workspace, **fields: Any) -> None:
        self._fields = {"timeout_s": LONG_S, **fields}
        self._ended = anyio.Event()
        self._workspace = workspace
        self.found: SignalWait | AcknowledgementWait | None = None
        tasks.start_soon(self._run)

    async def _run(self) -> None:
        signals = self._workspace.signals
        wait = signals.wait_for_acknowledgements if "signal_id" in self._fields else signals.wait_for
        self.found = await wait(**self._fields)
        self._ended.set()

    async def outcome(self) -> WaitOutcome:
        with anyio.fail_after(60):
            await self._ended.wait()
        assert self.found is not None
        return self.found.outcome

    @property
    def signal_id(self) -> str:
        assert isinstance(self.found, SignalWait)
        assert self.found.signal is not None
        return self.found.signal.id


@pytest.fixture
async def tasks(hub: Hub) -> AsyncIterator[anyio.abc.TaskGroup]:
    """Run waits beside a test; what still waits at its end is cancelled."""
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


class TestForASignal:
    async def test_what_waits_already_is_given_at_once(self, hub: Hub) -> None:
        sent = await hub.bind(ALICE).signals.send(go(BOB, payload={"step": 2}))
        found = await hub.bind(BOB).signals.wait_for(timeout_s=0)
        assert found.outcome is WaitOutcome.SIGNALLED
        assert found.signal is not None
        assert (found.signal.id, found.signal.payload) == (sent.id, {"step": 2})

    async def test_what_comes_later_wakes_the_waiter(self, hub: Hub, tasks: anyio.abc.TaskGroup) -> None:
        waiting = Waiting(tasks, hub.bind(BOB))
        await listening(hub)
        sent = await hub.bind(ALICE).signals.send(go(circle=Circle.SWARM))
        assert await waiting.outcome() is WaitOutcome.SIGNALLED
        assert waiting.signal_id == sent.id

    async def test_it_stays_pending_until_it_is_acknowledged(self, hub: Hub) -> None:
        first = await hub.bind(ALICE).signals.send(go(BOB))
        bob = hub.bind(BOB).signals
        for _ in range(2):
            found = await bob.wait_for(timeout_s=0)
            assert found.signal is not None
            assert found.signal.id == first.id
        await bob.acknowledge(first.id)
        assert (await bob.wait_for(timeout_s=0)).outcome is WaitOutcome.TIMED_OUT

    async def test_only_what_fits_the_filters_ends_it(self, hub: Hub, tasks: anyio.abc.TaskGroup) -> None:
        waiting = Waiting(tasks, hub.bind(BOB), name="go", sender=AgentId("alice"))
        await listening(hub)
        await hub.bind(TESS).signals.send(go(BOB))
        await hub.bind(ALICE).signals.send(go(BOB, name="stop"))
        await hub.bind(ALICE).signals.send(go(TESS))
        sent = await hub.bind(ALICE).signals.send(go(BOB))
        assert await waiting.outcome() is WaitOutcome.SIGNALLED
        assert waiting.signal_id == sent.id

    async def test_it_ends_at_its_deadline(self, hub: Hub) -> None:
        found = await hub.bind(BOB).signals.wait_for(timeout_s=0.02)
        assert (found.outcome, found.signal) == (WaitOutcome.TIMED_OUT, None)
        assert found.waited_s >= 0.02

    async def test_what_was_called_off_before_it_was_read_ends_it(self, hub: Hub) -> None:
        alice = hub.bind(ALICE).signals
        called_off: list[str] = []

        async def call_off(*_: object) -> None:
            """Keep the waiter from looking until the signal is gone again."""
            sent = await alice.send(go(BOB))
            await alice.withdraw(sent.id)
            called_off.append(sent.id)

        found = await hub.bind(BOB).signals.wait_for(
            name="go", timeout_s=LONG_S, on_progress=call_off, progress_every_s=0.02
        )
        assert (found.outcome, found.signal) == (WaitOutcome.WITHDRAWN, None)
        _, ended = (entry.draft for entry in await audit_of(hub, action="signal.await"))
        assert set(ended.record_ids) <= set(called_off)

    async def test_one_called_off_that_is_none_of_its_concern_does_not_end_it(
        self, hub: Hub, tasks: anyio.abc.TaskGroup
    ) -> None:
        alice = hub.bind(ALICE).signals
        known = await alice.send(go(BOB))
        await hub.bind(BOB).signals.acknowledge(known.id)
        other = await alice.send(go(BOB, name="stop"))
        waiting = Waiting(tasks, hub.bind(BOB), name="go")
        await listening(hub)
        await alice.withdraw(known.id)
        await alice.withdraw(other.id)
        sent = await alice.send(go(BOB))
        assert await waiting.outcome() is WaitOutcome.SIGNALLED
        assert waiting.signal_id == sent.id

    async def test_one_that_has_expired_is_not_called_off(
        self, hub: Hub, clock: Clock, tasks: anyio.abc.TaskGroup
    ) -> None:
        alice = hub.bind(ALICE).signals
        over = await alice.send(go(BOB, expires_in_s=60))
        clock.advance(seconds=61)
        waiting = Waiting(tasks, hub.bind(BOB), name="go")
        await listening(hub)
        assert not await alice.withdraw(over.id)
        assert (await alice.status(over.id)).withdrawn_at is None
        await alice.send(go(BOB))
        assert await waiting.outcome() is WaitOutcome.SIGNALLED

    async def test_progress_is_told_while_it_waits(self, hub: Hub) -> None:
        await hub.bind(ALICE).signals.send(go(TESS))
        told: list[tuple[float, float, str]] = []

        async def on_progress(waited_s: float, timeout_s: float, message: str) -> None:
            told.append((waited_s, timeout_s, message))
            if len(told) == 3:
                await hub.bind(ALICE).signals.send(go(BOB))

        found = await hub.bind(BOB).signals.wait_for(
            name="go",
            sender=AgentId("alice"),
            timeout_s=LONG_S,
            on_progress=on_progress,
            progress_every_s=0.005,
        )
        assert found.outcome is WaitOutcome.SIGNALLED
        assert len(told) >= 3
        waited = [waited_s for waited_s, _, _ in told]
        assert waited == sorted(set(waited))
        assert {report[1:] for report in told} == {(LONG_S, "waiting for go from alice")}

    async def test_a_listener_that_hangs_does_not_hold_it_up(self, hub: Hub) -> None:
        async def hang(*_: object) -> None:
            await anyio.sleep_forever()

        found = await hub.bind(BOB).signals.wait_for(timeout_s=0.02, on_progress=hang, progress_every_s=0.001)
        assert found.outcome is WaitOutcome.TIMED_OUT

    async def test_who_is_cancelled_leaves_nothing_behind(self, hub: Hub) -> None:
        async with anyio.create_task_group() as group:
            Waiting(group, hub.bind(BOB))
            await listening(hub)
            group.cancel_scope.cancel()
        assert not hub._rooms.stream._listeners
        _, ended = (entry.draft for entry in await audit_of(hub, action="signal.await"))
        assert '"cancelled":1' in ended.details
        await hub.bind(ALICE).signals.send(go(BOB))
        assert (await hub.bind(BOB).signals.wait_for(timeout_s=0)).outcome is WaitOutcome.SIGNALLED

    async def test_it_leaves_two_entries_however_often_it_looked(self, hub: Hub, tasks: anyio.abc.TaskGroup) -> None:
        waiting = Waiting(tasks, hub.bind(BOB), name="go")
        await listening(hub)
        for _ in range(5):
            await hub.bind(ALICE).signals.send(go(BOB, name="other"))
        sent = await hub.bind(ALICE).signals.send(go(BOB))
        await waiting.outcome()
        begun, ended = (entry.draft for entry in await audit_of(hub, action="signal.await"))
        assert begun.record_ids == ()
        assert sent.id in ended.record_ids
        assert '"signalled":1' in ended.details

    async def test_a_wait_of_wrong_length_or_name_is_refused(self, hub: Hub) -> None:
        bob = hub.bind(BOB).signals
        for timeout_s in (-1.0, 3601.0, float("nan")):
            await refused(bob.wait_for(timeout_s=timeout_s), InvalidInput, "timeout_s_out_of_range")
        await refused(bob.wait_for(name="two words"), InvalidInput, "name_invalid")
        await refused(bob.wait_for(sender=AgentId("no one")), InvalidInput, "sender_invalid")

    async def test_who_loses_its_session_waits_no_longer(self, hub: Hub) -> None:
        handle = await begin(hub, ALICE)
        alice = hub.bind(ALICE, session_id=handle)
        ended = False

        async def end(*_: object) -> None:
            nonlocal ended
            if not ended:
                ended = True
                await alice.end_session(success=True)

        call = alice.signals.wait_for(name="go", timeout_s=LONG_S, on_progress=end, progress_every_s=0.001)
        await refused(call, SessionInvalid, "session_ended")

    @pytest.mark.parametrize("acknowledgements", [False, True])
    async def test_who_outlives_its_session_waits_no_longer(
        self, hub: Hub, clock: Clock, acknowledgements: bool
    ) -> None:
        alice = hub.bind(ALICE, session_id=await begin(hub, ALICE, ttl_s=0.05))
        sent = await alice.signals.send(go(BOB))

        async def let_time_pass(*_: object) -> None:
            clock.advance(seconds=1)

        told: dict[str, Any] = {"timeout_s": LONG_S, "on_progress": let_time_pass, "progress_every_s": 0.001}
        wait = alice.signals.wait_for_acknowledgements(sent.id, **told) if acknowledgements else None
        with anyio.fail_after(LOOK_S_MAX / 2):  # before it would look in any case
            await refused(wait or alice.signals.wait_for(**told), SessionInvalid, "session_expired")


class TestForAcknowledgements:
    async def test_it_ends_when_all_have_acknowledged(self, hub: Hub, tasks: anyio.abc.TaskGroup) -> None:
        sent = await hub.bind(ALICE).signals.send(go(BOB, TESS))
        waiting = Waiting(tasks, hub.bind(ALICE), signal_id=sent.id)
        await listening(hub)
        await hub.bind(BOB).signals.acknowledge(sent.id, note="here")
        await hub.bind(TESS).signals.acknowledge(sent.id)
        assert await waiting.outcome() is WaitOutcome.ACKNOWLEDGED
        assert isinstance(waiting.found, AcknowledgementWait)
        status = waiting.found.status
        assert ({one.agent_id: one.note for one in status.acknowledged}, status.missing) == (
            {"bob": "here", "tess": ""},
            (),
        )

    async def test_so_many_are_enough_when_a_count_is_given(self, hub: Hub) -> None:
        sent = await hub.bind(ALICE).signals.send(go(BOB, TESS))
        await hub.bind(TESS).signals.acknowledge(sent.id)
        alice = hub.bind(ALICE).signals
        enough = await alice.wait_for_acknowledgements(sent.id, count=1, timeout_s=0)
        assert (enough.outcome, enough.status.missing) == (WaitOutcome.ACKNOWLEDGED, ("bob",))
        assert (await alice.wait_for_acknowledgements(sent.id, timeout_s=0)).outcome is WaitOutcome.TIMED_OUT

    async def test_more_than_can_come_is_not_waited_for(self, hub: Hub) -> None:
        await remember(hub.bind(TESS), "here")
        sent = await hub.bind(ALICE).signals.send(go(BOB, TESS))
        await hub.bind(BOB).signals.acknowledge(sent.id)
        waiting = hub.bind(ALICE).signals.wait_for_acknowledgements
        assert (await waiting(sent.id, count=3, timeout_s=0)).outcome is WaitOutcome.TARGETS_GONE
        assert (await waiting(sent.id, count=2, timeout_s=0)).outcome is WaitOutcome.TIMED_OUT
        circle = await hub.bind(ALICE).signals.send(go(circle=Circle.SWARM))
        assert (await waiting(circle.id, count=3, timeout_s=0)).outcome is WaitOutcome.TIMED_OUT  # others may join

    async def test_an_empty_circle_has_not_acknowledged(self, hub: Hub) -> None:
        sent = await hub.bind(ALICE).signals.send(go(circle=Circle.TEAM))
        found = await hub.bind(ALICE).signals.wait_for_acknowledgements(sent.id, timeout_s=0)
        assert found.outcome is WaitOutcome.TIMED_OUT

    async def test_it_ends_when_the_signal_is_withdrawn(self, hub: Hub, tasks: anyio.abc.TaskGroup) -> None:
        sent = await hub.bind(ALICE).signals.send(go(BOB))
        waiting = Waiting(tasks, hub.bind(ALICE), signal_id=sent.id)
        await listening(hub)
        await hub.bind(ALICE).signals.withdraw(sent.id)
        assert await waiting.outcome() is WaitOutcome.WITHDRAWN

    async def test_it_ends_when_the_signal_expires(self, hub: Hub, clock: Clock) -> None:
        sent = await hub.bind(ALICE).signals.send(go(BOB, expires_in_s=0.05))

        async def pass_time(*_: object) -> None:
            clock.advance(seconds=1)

        found = await hub.bind(ALICE).signals.wait_for_acknowledgements(
            sent.id, timeout_s=LONG_S, on_progress=pass_time, progress_every_s=0.005
        )
        assert found.outcome is WaitOutcome.TIMED_OUT
        assert found.status.expired

    async def test_only_the_sender_waits_for_them(self, hub: Hub) -> None:
        sent = await hub.bind(ALICE).signals.send(go(BOB))
        await refused(
            hub.bind(BOB).signals.wait_for_acknowledgements(sent.id, timeout_s=0), AccessDenied, "signal_not_yours"
        )
        await refused(hub.bind(ROOT).signals.wait_for_acknowledgements(sent.id, timeout_s=0), NotFound, "not_found")
        alice = hub.bind(ALICE).signals
        await refused(alice.wait_for_acknowledgements(sent.id, count=0), LimitExceeded, "count_out_of_range")


class TestAGoneSender:
    """A dead coordinator does not block the others for ever."""

    @pytest.fixture
    def settings(self, settings: HubSettings) -> HubSettings:
        return replace(settings, work=WorkSettings(coordinator_silence_s=0.06))

    async def test_one_that_has_been_silent_for_too_long_ends_the_wait(self, hub: Hub, clock: Clock) -> None:
        await hub.bind(ALICE).signals.send(go(TESS))
        clock.advance(seconds=1)
        found = await hub.bind(BOB).signals.wait_for(sender=AgentId("alice"), timeout_s=LONG_S)
        assert found.outcome is WaitOutcome.SENDER_GONE

    async def test_one_that_falls_silent_during_the_wait_ends_it(self, hub: Hub, clock: Clock) -> None:
        await hub.bind(ALICE).signals.send(go(TESS))

        async def pass_time(*_: object) -> None:
            clock.advance(seconds=1)

        found = await hub.bind(BOB).signals.wait_for(
            sender=AgentId("alice"), timeout_s=LONG_S, on_progress=pass_time, progress_every_s=0.005
        )
        assert found.outcome is WaitOutcome.SENDER_GONE

    async def test_its_last_signal_is_delivered_all_the_same(self, hub: Hub, clock: Clock) -> None:
        sent = await hub.bind(ALICE).signals.send(go(BOB))
        clock.advance(seconds=1)
        found = await hub.bind(BOB).signals.wait_for(sender=AgentId("alice"), timeout_s=LONG_S)
        assert found.signal is not None
        assert found.signal.id == sent.id

    @pytest.mark.parametrize("in_session", [False, True])
    async def test_one_that_does_other_work_is_not_gone(self, hub: Hub, clock: Clock, in_session: bool) -> None:
        alice = hub.bind(ALICE, session_id=await begin(hub, ALICE) if in_session else "")
        await remember(alice, "begun")
        clock.advance(seconds=1)
        await remember(alice, "going on")
        found = await hub.bind(BOB).signals.wait_for(sender=AgentId("alice"), timeout_s=0.1)
        assert found.outcome is WaitOutcome.TIMED_OUT

    async def test_without_a_sender_to_wait_for_only_the_deadline_ends_it(self, hub: Hub, clock: Clock) -> None:
        await hub.bind(ALICE).signals.send(go(TESS))
        clock.advance(seconds=1)
        assert (await hub.bind(BOB).signals.wait_for(timeout_s=0.1)).outcome is WaitOutcome.TIMED_OUT

    async def test_one_that_nobody_has_seen_yet_may_still_come_and_is_named(self, hub: Hub) -> None:
        told: list[str] = []

        async def on_progress(_waited_s: float, _timeout_s: float, message: str) -> None:
            told.append(message)
            if len(told) == 2:
                await hub.bind(ALICE).signals.send(go(BOB))

        bob = hub.bind(BOB).signals
        missed = await bob.wait_for(sender=AgentId("alice"), timeout_s=0)
        assert (missed.outcome, missed.unknown_agents) == (WaitOutcome.TIMED_OUT, ("alice",))
        found = await bob.wait_for(
            sender=AgentId("alice"), timeout_s=LONG_S, on_progress=on_progress, progress_every_s=0.005
        )
        assert (found.outcome, found.unknown_agents) == (WaitOutcome.SIGNALLED, ())
        assert told[0] == "waiting for a signal from alice, whom the project has not seen yet"


async def test_a_sender_whose_last_session_ends_is_gone(hub: Hub, tasks: anyio.abc.TaskGroup) -> None:
    queen = hub.bind(ROOT, session_id=await begin(hub, ROOT, "queen", role=Role.COORDINATOR))
    waiting = Waiting(tasks, hub.bind(BOB), sender=AgentId("queen"))
    await listening(hub)
    await queen.end_session(success=False)
    assert await waiting.outcome() is WaitOutcome.SENDER_GONE


async def test_what_another_says_of_a_gone_sender_is_no_sign_of_life(hub: Hub, clock: Clock) -> None:
    handle = await begin(hub, BOB)
    await hub.bind(BOB, session_id=handle).end_session(success=True)
    clock.advance(seconds=1)
    await hub.bind(ROOT, project_id=DEFAULT).agents.set_confidence(0.4, BOB.agent_id)
    found = await hub.bind(ALICE).signals.wait_for(sender=BOB.agent_id, timeout_s=0)
    assert found.outcome is WaitOutcome.SENDER_GONE
    await hub.bind(BOB).agents.set_confidence(0.9, BOB.agent_id)
    assert (await hub.bind(ALICE).signals.wait_for(sender=BOB.agent_id, timeout_s=0)).outcome is WaitOutcome.TIMED_OUT


async def test_a_sender_with_another_session_is_not_gone(hub: Hub, tasks: anyio.abc.TaskGroup) -> None:
    first = hub.bind(ROOT, session_id=await begin(hub, ROOT, "queen", swarm_id="lift"))
    second = hub.bind(ROOT, session_id=await begin(hub, ROOT, "queen", swarm_id="lift"))
    waiting = Waiting(tasks, hub.bind(BOB), sender=AgentId("queen"))
    await listening(hub)
    await first.end_session(success=False)
    await second.signals.send(go(circle=Circle.SWARM))
    assert await waiting.outcome() is WaitOutcome.SIGNALLED


async def test_a_sender_whose_session_expires_is_gone(hub: Hub, clock: Clock) -> None:
    await begin(hub, ROOT, "queen", ttl_s=0.1)

    async def pass_time(*_: object) -> None:
        clock.advance(seconds=1)

    found = await hub.bind(BOB).signals.wait_for(
        sender=AgentId("queen"), timeout_s=LONG_S, on_progress=pass_time, progress_every_s=0.005
    )
    assert found.outcome is WaitOutcome.SENDER_GONE


class TestASweep:
    """Sessions whose time was over are closed, and whoever waits learns of it long before it would look by itself."""

    @pytest.fixture
    def sweep(self, hub: Hub, clock: Clock) -> Callable[..., Awaitable[None]]:
        done = False

        async def once(*_: object) -> None:
            """Let two hours pass when the waiter has looked."""
            nonlocal done
            if not done:
                done = True
                clock.advance(seconds=7200)
                await hub.bind(ROOT).sweep()

        return once

    async def test_a_sender_whose_session_it_closes_is_gone(
        self, hub: Hub, sweep: Callable[..., Awaitable[None]]
    ) -> None:
        await begin(hub, ROOT, "queen", ttl_s=3600)
        with anyio.fail_after(LOOK_S_MAX / 2):
            found = await hub.bind(BOB).signals.wait_for(
                sender=AgentId("queen"), timeout_s=LONG_S, on_progress=sweep, progress_every_s=0.005
            )
        assert found.outcome is WaitOutcome.SENDER_GONE

    async def test_who_waits_in_a_session_that_it_closes_waits_no_longer(
        self, hub: Hub, sweep: Callable[..., Awaitable[None]]
    ) -> None:
        alice = hub.bind(ALICE, session_id=await begin(hub, ALICE, ttl_s=3600))
        with anyio.fail_after(LOOK_S_MAX / 2), pytest.raises(SessionInvalid):
            await alice.signals.wait_for(timeout_s=LONG_S, on_progress=sweep, progress_every_s=0.005)

    async def test_it_is_no_sign_of_life(self, hub: Hub, clock: Clock) -> None:
        await begin(hub, ROOT, "queen", ttl_s=60)
        await begin(hub, ROOT, "queen", ttl_s=7200)
        clock.advance(seconds=400)
        await hub.bind(ROOT).sweep()
        found = await hub.bind(BOB).signals.wait_for(sender=AgentId("queen"), timeout_s=LONG_S)
        assert found.outcome is WaitOutcome.SENDER_GONE


class TestGoneTargets:
    """Who finished without an answer holds nobody up."""

    async def test_a_wait_for_all_ends_when_the_last_that_is_missing_leaves(
        self, hub: Hub, tasks: anyio.abc.TaskGroup
    ) -> None:
        queen = hub.bind(ROOT, session_id=await begin(hub, ROOT, "queen"))
        sent = await hub.bind(ALICE).signals.send(SignalDraft("go", (AgentId("queen"), BOB.agent_id)))
        await hub.bind(BOB).signals.acknowledge(sent.id)
        waiting = Waiting(tasks, hub.bind(ALICE), signal_id=sent.id)
        await listening(hub)
        await queen.end_session(success=True)
        assert await waiting.outcome() is WaitOutcome.ACKNOWLEDGED
        assert isinstance(waiting.found, AcknowledgementWait)
        assert (waiting.found.status.missing, waiting.found.status.gone) == ((), ("queen",))

    @pytest.mark.parametrize("count", [None, 1])
    async def test_it_ends_when_nobody_is_left_to_answer(
        self, hub: Hub, tasks: anyio.abc.TaskGroup, count: int | None
    ) -> None:
        await hub.bind(BOB).signals.send(go(ALICE))
        sent = await hub.bind(ALICE).signals.send(go(BOB))
        waiting = Waiting(tasks, hub.bind(ALICE), signal_id=sent.id, count=count)
        await listening(hub)
        await hub.bind(ROOT).agents.retire(BOB.agent_id)
        assert await waiting.outcome() is WaitOutcome.TARGETS_GONE

    async def test_a_member_of_the_circle_that_leaves_is_waited_for_no_longer(
        self, hub: Hub, tasks: anyio.abc.TaskGroup
    ) -> None:
        queen = hub.bind(ROOT, session_id=await begin(hub, ROOT, "queen", swarm_id="lift"))
        sent = await hub.bind(ALICE).signals.send(go(circle=Circle.SWARM))
        await hub.bind(BOB).signals.acknowledge(sent.id)
        waiting = Waiting(tasks, hub.bind(ALICE), signal_id=sent.id)
        await listening(hub)
        await queen.end_session(success=True)
        assert await waiting.outcome() is WaitOutcome.ACKNOWLEDGED


async def test_a_retired_sender_is_gone(hub: Hub, tasks: anyio.abc.TaskGroup) -> None:
    await hub.bind(ALICE).signals.send(go(TESS))
    waiting = Waiting(tasks, hub.bind(BOB), sender=AgentId("alice"))
    await listening(hub)
    await hub.bind(ROOT).agents.retire(AgentId("alice"))
    assert await waiting.outcome() is WaitOutcome.SENDER_GONE


async def test_who_waits_itself_counts_as_at_work(settings: HubSettings, clock: Clock) -> None:
    """Two that wait for each other both go on: a coordinator in a wait is not dead."""
    quick = replace(settings, work=WorkSettings(coordinator_silence_s=0.15))
    async with open_hub(quick, clock=clock) as hub, anyio.create_task_group() as group:
        await hub.bind(ALICE).signals.send(go(TESS))
        Waiting(group, hub.bind(ALICE), sender=AgentId("tess"))
        await listening(hub)
        pulses = 0

        async def pass_time(*_: object) -> None:
            nonlocal pulses
            clock.advance(seconds=0.1)
            before = clock.now
            while await _seen(hub, "alice") < before.timestamp():  # noqa: ASYNC110 - another task shows its pulse
                await anyio.sleep(0.002)
            pulses += 1
            if pulses == 3:  # twice as long as alice may be silent
                await hub.bind(ALICE).signals.send(go(BOB))

        found = await hub.bind(BOB).signals.wait_for(
            sender=AgentId("alice"), timeout_s=LONG_S, on_progress=pass_time, progress_every_s=0.01
        )
        assert found.outcome is WaitOutcome.SIGNALLED
        assert pulses == 3
        group.cancel_scope.cancel()


async def _seen(hub: Hub, agent_id: str) -> float:
    [agent] = await hub._door.database.read(lambda tx: tx.projects.agents(DEFAULT, [AgentId(agent_id)]))
    return agent.last_seen_at.timestamp()


async def test_two_hundred_agents_lose_no_signal_and_acknowledge_none_twice(hub: Hub) -> None:
    """Each waits for its neighbour, acknowledges twice at once, and waits for the acknowledgement of its own."""
    agents = [Principal(AgentId(f"agent-{number}"), (DEFAULT,)) for number in range(CROWD)]
    sent: list[str] = []
    got: list[str] = []
    firsts: list[str] = []

    async def receive(number: int) -> None:
        signals = hub.bind(agents[number]).signals
        found = await signals.wait_for(sender=agents[number - 1].agent_id, timeout_s=LONG_S)
        assert found.signal is not None
        got.append(found.signal.id)
        signal_id = found.signal.id

        async def acknowledge() -> None:
            if not (await signals.acknowledge(signal_id)).already:
                firsts.append(signal_id)

        async with anyio.create_task_group() as twice:
            twice.start_soon(acknowledge)
            twice.start_soon(acknowledge)

    async def send(number: int) -> None:
        signals = hub.bind(agents[number]).signals
        report = await signals.send(go(agents[(number + 1) % CROWD]))
        sent.append(report.id)
        found = await signals.wait_for_acknowledgements(report.id, timeout_s=LONG_S)
        assert found.outcome is WaitOutcome.ACKNOWLEDGED

    with anyio.fail_after(120):
        async with anyio.create_task_group() as group:
            for number in range(CROWD):
                group.start_soon(receive, number)
                group.start_soon(send, number)
    assert len(sent) == CROWD
    assert sorted(got) == sorted(firsts) == sorted(sent)
    acknowledged = await audit_of(hub, action="signal.acknowledge")
    assert len(acknowledged) == 2 * CROWD
    assert (await hub.bind(ROOT).verify_audit()).intact
