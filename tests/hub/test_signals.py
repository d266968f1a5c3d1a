"""Signals: who gets one, who sees it, and that each acknowledges it once."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from contextdna import (
    AccessDenied,
    AgentId,
    Circle,
    Conflict,
    DelegationRequest,
    EventName,
    Hub,
    IntegrityFault,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Outcome,
    Principal,
    Risk,
    Role,
    SentSignal,
    SignalDraft,
    SignalId,
    WaitOutcome,
    Workspace,
    open_hub,
)
from contextdna.backends.relational.statements import load_statements
from contextdna.backends.sqlite.driver import library
from contextdna.domain import signals
from contextdna.hub.opening import DATABASE_FILE
from tests.hub.rig import (
    ALICE,
    BOB,
    DEFAULT,
    OTHER,
    OUTSIDER,
    PETE,
    ROOT,
    TESS,
    WRITER,
    Clock,
    audit_of,
    begin,
    raw_database,
    refused,
    remember,
    settings_in,
    stored,
    unchanged,
)

pytestmark = pytest.mark.anyio

WORD: Final = "quokka"
"""Stands in every payload and note."""
CORA: Final = Principal(AgentId("cora"), (DEFAULT,), team_id="core", swarm_id="lift", role=Role.COORDINATOR)

DRONE: Final = Principal(AgentId("drone"), (DEFAULT,))


async def send(hub: Hub, sender: Principal, *targets: Principal, **fields: Any) -> SentSignal:
    draft = SignalDraft("go", tuple(target.agent_id for target in targets), payload={"word": WORD})
    return await hub.bind(sender).signals.send(replace(draft, **fields))


async def delegate(hub: Hub, parent: Workspace, name: str) -> Workspace:
    given = await parent.delegate(DelegationRequest(AgentId(name), "help"))
    return hub.bind(ALICE, session_id=given.begun.handle)


async def names_of(workspace: Workspace) -> list[str]:
    return [signal.name for signal in await workspace.signals.pending()]


async def absent(workspace: Workspace, signal_id: SignalId) -> None:
    """A signal answers in every way like one that was never sent."""
    for call in (
        workspace.signals.acknowledge(signal_id),
        workspace.signals.status(signal_id),
        workspace.signals.withdraw(signal_id),
        workspace.signals.wait_for_acknowledgements(signal_id, timeout_s=0),
    ):
        hidden = await refused(call, NotFound, "not_found")
        never = await refused(workspace.signals.status(SignalId(signal_id[:-1])), NotFound, "not_found")
        assert (hidden.message, hidden.hint) == (never.message.replace(signal_id[:-1], signal_id), never.hint)


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


class TestSending:
    async def test_a_target_gets_what_was_sent(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, BOB, expires_in_s=60)
        [signal] = await hub.bind(BOB).signals.pending()
        assert (signal.id, signal.name, signal.sender_id) == (sent.id, "go", "alice")
        assert signal.payload == {"word": WORD}
        assert (signal.expires_at - signal.sent_at).total_seconds() == 60
        assert await names_of(hub.bind(ALICE)) == []
        assert await names_of(hub.bind(TESS)) == []

    async def test_what_waits_comes_oldest_first_and_page_by_page(self, hub: Hub, clock: Clock) -> None:
        for number in range(3):
            await send(hub, ALICE, BOB, name=f"step-{number}")
            clock.advance(seconds=1)
        assert await names_of(hub.bind(BOB)) == ["step-0", "step-1", "step-2"]
        assert [signal.name for signal in await hub.bind(BOB).signals.pending(limit=1)] == ["step-0"]

    async def test_a_circle_gets_it_and_nobody_beyond(self, hub: Hub, clock: Clock) -> None:
        for sender, circle in ((ALICE, Circle.TEAM), (ALICE, Circle.SWARM), (CORA, Circle.PROJECT)):
            await send(hub, sender, circle=circle, name=circle.value)
            clock.advance(seconds=1)
        assert await names_of(hub.bind(TESS)) == ["team", "project"]
        assert await names_of(hub.bind(BOB)) == ["swarm", "project"]
        assert await names_of(hub.bind(PETE)) == ["project"]
        assert await names_of(hub.bind(OUTSIDER, project_id=OTHER)) == []

    async def test_a_late_joiner_finds_what_is_pending_until_it_expires(self, hub: Hub, clock: Clock) -> None:
        await send(hub, ALICE, circle=Circle.TEAM, expires_in_s=60)
        clock.advance(seconds=59)
        late = Principal(AgentId("late"), (DEFAULT,), team_id="core")
        assert await names_of(hub.bind(late)) == ["go"]
        clock.advance(seconds=1)
        assert await names_of(hub.bind(late)) == []

    async def test_a_circle_that_one_is_not_in_is_refused(self, hub: Hub) -> None:
        await refused(send(hub, PETE, circle=Circle.TEAM), AccessDenied, "circle_not_yours")
        await refused(send(hub, TESS, circle=Circle.SWARM), AccessDenied, "circle_not_yours")
        await refused(send(hub, ALICE, circle=Circle.PROJECT), AccessDenied, "role_required")
        denied = [entry.draft for entry in await audit_of(hub, action="signal.send")]
        assert [(draft.outcome, draft.risk) for draft in denied] == [(Outcome.DENIED, Risk.HIGH)] * 3

    @pytest.mark.parametrize(
        ("fields", "kind", "code"),
        [
            ({"targets": ()}, InvalidInput, "targets_missing"),
            ({"targets": (ALICE.agent_id,)}, InvalidInput, "target_is_self"),
            ({"targets": (AgentId("no one"),)}, InvalidInput, "target_agent_id_invalid"),
            ({"targets": tuple(AgentId(f"a{n}") for n in range(101))}, LimitExceeded, "target_agent_ids_out_of_range"),
            ({"name": ""}, InvalidInput, "name_invalid"),
            ({"name": "two words"}, InvalidInput, "name_invalid"),
            ({"expires_in_s": 0.0}, InvalidInput, "expires_in_s_out_of_range"),
            ({"expires_in_s": float("nan")}, InvalidInput, "expires_in_s_out_of_range"),
            ({"expires_in_s": 8 * 86_400.0}, InvalidInput, "expires_in_s_out_of_range"),
            ({"payload": {"a": float("inf")}}, InvalidInput, "payload_invalid"),
            ({"payload": {"a": "\x00"}}, InvalidInput, "text_unstorable"),
            ({"payload": {"a": "x" * 70_000}}, LimitExceeded, "payload_too_large"),
        ],
    )
    async def test_a_wrong_signal_is_refused_and_changes_nothing(
        self, hub: Hub, fields: dict[str, Any], kind: type[InvalidInput], code: str
    ) -> None:
        await send(hub, ALICE, BOB)
        before = await stored(hub)
        await refused(send(hub, ALICE, BOB, **fields), kind, code)
        assert (await stored(hub)).data == before.data

    async def test_targets_that_nobody_has_seen_are_named(self, hub: Hub) -> None:
        await hub.bind(BOB).signals.pending()
        await send(hub, BOB, ALICE)
        sent = await send(hub, ALICE, BOB, PETE)
        assert (sent.targets, sent.unknown_targets) == (("bob", "pete"), ("pete",))
        assert await names_of(hub.bind(PETE)) == ["go"]


class TestFloods:
    async def test_so_many_of_a_sender_wait_at_once(
        self, hub: Hub, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(signals, "WAITING_MAX", 2)
        for who in (BOB, TESS):
            await remember(hub.bind(who), "here")  # else the bare names might mean agents below alice, too
        named = await send(hub, ALICE, BOB, TESS)
        circle = await send(hub, ALICE, circle=Circle.SWARM)

        async def full() -> None:
            await refused(send(hub, ALICE, BOB), LimitExceeded, "signals_too_many")

        await full()
        await send(hub, BOB, ALICE)  # others are not held up
        for who in (BOB, WRITER):
            await hub.bind(who).signals.acknowledge(circle.id)
        await hub.bind(BOB).signals.acknowledge(named.id)
        await full()  # a circle's waits for those who come later, the other for tess
        await hub.bind(TESS).signals.acknowledge(named.id)
        await send(hub, ALICE, BOB, expires_in_s=60)
        await full()
        await hub.bind(ALICE).signals.withdraw(circle.id)
        await send(hub, ALICE, BOB)
        await full()
        clock.advance(seconds=60)
        await send(hub, ALICE, BOB)

    async def test_what_one_does_not_wait_for_costs_a_look_nothing(self, folder: Path, clock: Clock) -> None:
        statement = load_statements("sqlite")["signals_pending"]
        addresses, steps = '["*", "bob", "*swarm=lift"]', []
        async with open_hub(settings_in(folder), clock=clock) as hub:
            await send(hub, ALICE, BOB)
            for _ in range(2):
                for _ in range(40):
                    await send(hub, WRITER, circle=Circle.SWARM, name="noise")
                with closing(library.connect(str(folder / DATABASE_FILE))) as connection:
                    counted: list[int] = []
                    connection.set_progress_handler(lambda some=counted: some.append(1), 1)
                    look = (DEFAULT, addresses, "bob", 0, "go", '["alice"]', 1, "[]")
                    assert len(connection.execute(statement, look).fetchall()) == 1
                    steps.append(len(counted))
        assert steps[0] == steps[1]


class TestNames:
    async def test_a_bare_name_means_ones_own_delegate_before_another_agent_of_that_name(self, hub: Hub) -> None:
        await send(hub, DRONE, BOB)
        own = await delegate(hub, hub.bind(ALICE), "drone")
        sent = await send(hub, ALICE, DRONE)
        assert (sent.targets, sent.unknown_targets) == (("alice/drone",), ())
        assert (await names_of(own), await names_of(hub.bind(DRONE))) == (["go"], [])
        sent = await send(hub, BOB, DRONE)
        assert sent.targets == ("drone",)
        assert (await names_of(own), await names_of(hub.bind(DRONE))) == (["go"], ["go"])

    async def test_a_bare_name_means_one_above_before_another_agent_of_that_name(self, hub: Hub) -> None:
        other = Principal(AgentId("princess"), (DEFAULT,))
        await send(hub, other, BOB)
        princess = await delegate(hub, hub.bind(ALICE), "princess")
        drone = await delegate(hub, princess, "drone")
        sent = await drone.signals.send(SignalDraft("done", (AgentId("princess"),)))
        assert sent.targets == ("alice/princess",)
        assert (await names_of(princess), await names_of(hub.bind(other))) == (["done"], [])

    async def test_whom_nobody_has_seen_may_come_as_ones_own_delegate_or_by_itself(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, DRONE)
        assert (sent.targets, sent.unknown_targets) == (("drone",), ("drone",))
        assert (await hub.bind(ALICE).signals.status(sent.id)).missing == ("drone",)
        drone = await delegate(hub, hub.bind(ALICE), "drone")
        assert (await hub.bind(ALICE).signals.status(sent.id)).missing == ("alice/drone",)
        assert await names_of(drone) == await names_of(hub.bind(DRONE)) == ["go"]

    async def test_a_target_counts_once_whoever_answers_for_it(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, DRONE, BOB)
        drone = await delegate(hub, hub.bind(ALICE), "drone")
        for workspace in (drone, hub.bind(DRONE)):
            await workspace.signals.acknowledge(sent.id)
        alice = hub.bind(ALICE).signals
        found = await alice.wait_for_acknowledgements(sent.id, count=2, timeout_s=0)
        assert (found.outcome, found.status.answered, found.status.missing) == (WaitOutcome.TIMED_OUT, 1, ("bob",))
        await hub.bind(BOB).signals.acknowledge(sent.id)
        assert (await alice.wait_for_acknowledgements(sent.id, count=2)).outcome is WaitOutcome.ACKNOWLEDGED

    async def test_a_parent_and_its_delegate_reach_each_other_by_bare_names(self, hub: Hub) -> None:
        given = await hub.bind(ALICE).delegate(DelegationRequest(AgentId("drone"), "help"))
        drone = hub.bind(ALICE, session_id=given.begun.handle)
        sent = await hub.bind(ALICE).signals.send(SignalDraft("go", (AgentId("drone"),)))
        assert (sent.targets, sent.unknown_targets) == (("alice/drone",), ())
        assert await names_of(drone) == ["go"]
        await drone.signals.acknowledge(sent.id)
        status = await hub.bind(ALICE).signals.status(sent.id)
        assert ([one.agent_id for one in status.acknowledged], status.missing) == (["alice/drone"], ())
        await drone.signals.send(SignalDraft("done", (AgentId("alice"),)))
        assert await names_of(hub.bind(ALICE)) == ["done"]

    async def test_the_same_name_below_another_agent_is_another_agent(self, hub: Hub) -> None:
        given = await hub.bind(BOB).delegate(DelegationRequest(AgentId("drone"), "help"))
        drone = hub.bind(BOB, session_id=given.begun.handle)
        await hub.bind(ALICE).signals.send(SignalDraft("go", (AgentId("drone"),)))
        assert await names_of(drone) == []


class TestAcknowledging:
    async def test_the_second_time_answers_the_first_and_changes_nothing(self, hub: Hub, clock: Clock) -> None:
        sent = await send(hub, ALICE, BOB)
        bob = hub.bind(BOB)
        first = await bob.signals.acknowledge(sent.id, note="one")
        clock.advance(seconds=5)
        again = await bob.signals.acknowledge(sent.id, note="two")
        assert (first.already, again.already) == (False, True)
        assert again.at == first.at
        [given] = (await hub.bind(ALICE).signals.status(sent.id)).acknowledged
        assert (given.agent_id, given.at, given.note) == ("bob", first.at, "one")

    async def test_it_is_audited_at_low_risk(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, BOB)
        await hub.bind(BOB).signals.acknowledge(sent.id, note=WORD)
        [entry] = await audit_of(hub, action="signal.acknowledge")
        assert (entry.draft.risk, entry.draft.record_ids) == (Risk.LOW, (sent.id,))

    async def test_of_twenty_at_once_one_is_the_first(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, BOB)
        reports = []

        async def acknowledge() -> None:
            reports.append(await hub.bind(BOB).signals.acknowledge(sent.id))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(acknowledge)
        assert sorted(report.already for report in reports) == [False] + [True] * 19
        assert len((await hub.bind(ALICE).signals.status(sent.id)).acknowledged) == 1

    async def test_it_waits_no_more(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, circle=Circle.SWARM)
        await hub.bind(BOB).signals.acknowledge(sent.id)
        assert await names_of(hub.bind(BOB)) == []
        assert await names_of(hub.bind(CORA)) == ["go"]

    async def test_what_is_over_is_refused_unless_it_was_acknowledged_before(self, hub: Hub, clock: Clock) -> None:
        expiring = await send(hub, ALICE, BOB, TESS, expires_in_s=60)
        withdrawn = await send(hub, ALICE, BOB, TESS)
        for sent in (expiring, withdrawn):
            await hub.bind(BOB).signals.acknowledge(sent.id)
        await hub.bind(ALICE).signals.withdraw(withdrawn.id)
        clock.advance(seconds=60)
        await refused(hub.bind(TESS).signals.acknowledge(expiring.id), Conflict, "signal_expired")
        await refused(hub.bind(TESS).signals.acknowledge(withdrawn.id), Conflict, "signal_withdrawn")
        for sent in (expiring, withdrawn):
            assert (await hub.bind(BOB).signals.acknowledge(sent.id)).already

    async def test_ones_own_is_not_acknowledged(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, circle=Circle.TEAM)
        await refused(hub.bind(ALICE).signals.acknowledge(sent.id), AccessDenied, "signal_own")

    async def test_a_note_has_a_limit(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, BOB)
        await refused(hub.bind(BOB).signals.acknowledge(sent.id, note="x" * 5000), LimitExceeded, "note_too_large")


class TestStatus:
    async def test_the_sender_learns_who_has_acknowledged_and_who_is_missing(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, BOB, TESS, PETE)
        await hub.bind(TESS).signals.acknowledge(sent.id, note=WORD)
        status = await hub.bind(ALICE).signals.status(sent.id)
        assert [(one.agent_id, one.note) for one in status.acknowledged] == [("tess", WORD)]
        assert status.missing == ("bob", "pete")
        assert not status.expired

    async def test_of_a_circle_the_agents_that_the_project_knows_are_missing(self, hub: Hub) -> None:
        for principal in (TESS, BOB, PETE, ROOT):
            await send(hub, principal, ALICE)
        await hub.bind(ROOT).sweep()
        team = await send(hub, ALICE, PETE, circle=Circle.TEAM)
        everyone = await send(hub, CORA, circle=Circle.PROJECT)
        assert (await hub.bind(ALICE).signals.status(team.id)).missing == ("pete", "cora", "tess")
        whole = await hub.bind(CORA).signals.status(everyone.id)
        assert whole.missing == ("alice", "bob", "pete", "root", "tess")

    async def test_of_a_circle_only_those_at_work_are_missing(self, hub: Hub, clock: Clock) -> None:
        await send(hub, TESS, ALICE)
        writer = hub.bind(ROOT, session_id=await begin(hub, ROOT, "writer", team_id="core"))
        clock.advance(seconds=600)
        await send(hub, CORA, ALICE)
        ended = hub.bind(ROOT, session_id=await begin(hub, ROOT, "ended", team_id="core"))
        await ended.end_session(success=True)
        sent = await send(hub, ALICE, circle=Circle.TEAM)
        assert (await hub.bind(ALICE).signals.status(sent.id)).missing == ("cora", "writer")
        await writer.signals.acknowledge(sent.id)
        await hub.bind(TESS).signals.acknowledge(sent.id)
        status = await hub.bind(ALICE).signals.status(sent.id)
        assert (status.missing, status.gone, status.answered) == (("cora",), (), 2)

    async def test_targets_that_are_gone_are_told_apart(self, hub: Hub) -> None:
        await send(hub, BOB, ALICE)
        await send(hub, TESS, ALICE)
        drone = await delegate(hub, hub.bind(ALICE), "drone")
        await drone.end_session(success=True)
        await hub.bind(ROOT).agents.retire(BOB.agent_id)
        sent = await send(hub, ALICE, BOB, TESS, DRONE, PETE)
        assert (sent.unknown_targets, sent.gone_targets) == (("pete",), ("bob", "alice/drone"))
        status = await hub.bind(ALICE).signals.status(sent.id)
        assert (status.missing, status.gone) == (("tess", "pete"), ("bob", "alice/drone"))
        await delegate(hub, hub.bind(ALICE), "drone")
        assert (await hub.bind(ALICE).signals.status(sent.id)).gone == ("bob",)

    async def test_who_goes_on_after_its_session_is_not_gone(self, hub: Hub, clock: Clock) -> None:
        await send(hub, BOB, ALICE)
        session = hub.bind(BOB, session_id=await begin(hub, BOB))
        clock.advance(seconds=1)
        await session.end_session(success=True)
        sent = await send(hub, ALICE, BOB)
        assert sent.gone_targets == ("bob",)
        clock.advance(seconds=1)
        await send(hub, BOB, ALICE)
        assert (await hub.bind(ALICE).signals.status(sent.id)).gone == ()

    async def test_a_target_learns_of_itself_alone(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, BOB, TESS)
        await hub.bind(TESS).signals.acknowledge(sent.id, note=WORD)
        mine = await hub.bind(BOB).signals.status(sent.id)
        assert (mine.acknowledged, mine.missing) == ((), ("bob",))
        hers = await hub.bind(TESS).signals.status(sent.id)
        assert ([one.note for one in hers.acknowledged], hers.missing) == ([WORD], ())

    async def test_the_role_system_learns_of_all_but_what_is_sealed(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, BOB, TESS)
        await hub.bind(TESS).signals.acknowledge(sent.id, note=WORD)
        status = await hub.bind(ROOT).signals.status(sent.id)
        assert [(one.agent_id, one.note) for one in status.acknowledged] == [("tess", "")]
        assert status.missing == ("bob",)

    async def test_it_says_when_a_signal_is_over(self, hub: Hub, clock: Clock) -> None:
        sent = await send(hub, ALICE, BOB, expires_in_s=60)
        assert await hub.bind(ALICE).signals.withdraw(sent.id)
        assert not await hub.bind(ALICE).signals.withdraw(sent.id)
        clock.advance(seconds=60)
        status = await hub.bind(ALICE).signals.status(sent.id)
        assert status.withdrawn_at is not None
        assert status.expired


class TestSecrecy:
    async def test_whom_it_does_not_concern_it_answers_like_one_never_sent(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, BOB)
        await absent(hub.bind(TESS), sent.id)
        await absent(hub.bind(OUTSIDER, project_id=OTHER), sent.id)
        refusals = [e.draft for e in await audit_of(hub) if e.draft.agent_id == "tess"]
        assert {draft.outcome for draft in refusals if draft.record_ids == (sent.id,)} == {Outcome.DENIED}

    async def test_the_role_system_neither_reads_nor_acknowledges_it(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, BOB)
        root = hub.bind(ROOT)
        assert await names_of(root) == []
        await refused(root.signals.acknowledge(sent.id), NotFound, "not_found")
        await refused(root.signals.withdraw(sent.id), NotFound, "not_found")

    async def test_a_target_can_do_nothing_that_is_the_senders(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, BOB)
        bob = hub.bind(BOB).signals
        await refused(bob.withdraw(sent.id), AccessDenied, "signal_not_yours")
        await refused(bob.wait_for_acknowledgements(sent.id), AccessDenied, "signal_not_yours")

    async def test_what_was_withdrawn_reaches_nobody(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, BOB)
        await hub.bind(ALICE).signals.withdraw(sent.id)
        assert await names_of(hub.bind(BOB)) == []

    async def test_events_tell_those_whom_they_concern(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, BOB)
        await hub.bind(BOB).signals.acknowledge(sent.id)
        await hub.bind(ALICE).signals.withdraw(sent.id)

        async def told(principal: Principal) -> list[str]:
            page = await hub.bind(principal).events.read()
            return [event.name for event in page.events if event.subject == sent.id]

        every = [EventName.SIGNAL_SENT, EventName.SIGNAL_ACKNOWLEDGED, EventName.SIGNAL_WITHDRAWN]
        assert await told(ALICE) == every
        assert await told(BOB) == every
        assert await told(TESS) == []
        assert await told(ROOT) == []

    async def test_reading_leaves_an_entry_without_text(self, hub: Hub) -> None:
        sent = await send(hub, ALICE, BOB)
        await hub.bind(BOB).agents.heartbeat()  # known before: the first call of an agent is noted
        await unchanged(hub, hub.bind(BOB).signals.pending, audited=1)
        [entry] = await audit_of(hub, action="signal.read")
        assert entry.draft.record_ids == (sent.id,)
        assert WORD not in repr(await audit_of(hub))


class TestAtRest:
    async def test_neither_payload_nor_note_lies_open(self, folder: Path) -> None:
        async with open_hub(settings_in(folder)) as hub:
            sent = await send(hub, ALICE, BOB)
            await hub.bind(BOB).signals.acknowledge(sent.id, note=WORD)
        assert WORD.encode() not in all_bytes(folder)

    async def test_a_widened_audience_opens_nothing(self, folder: Path) -> None:
        async with open_hub(settings_in(folder)) as hub:
            await send(hub, ALICE, BOB)
            with raw_database(folder) as run:
                run('UPDATE signals SET audience = \'["bob","tess"]\'')
                columns = "project_id, id, 'tess', sender_id, name, expires_at"
                run(f"INSERT INTO signal_targets SELECT {columns} FROM signals")  # noqa: S608 - columns of the schema
            await refused(hub.bind(TESS).signals.pending(), IntegrityFault, "body_unreadable")

    async def test_a_damaged_signal_hides_no_other(self, folder: Path) -> None:
        async with open_hub(settings_in(folder)) as hub:
            damaged = await send(hub, ALICE, BOB, name="first")
            await send(hub, ALICE, BOB, name="second")
            with raw_database(folder) as run:
                run("UPDATE signals SET body = x'00' WHERE id = ?", damaged.id)
            assert await names_of(hub.bind(BOB)) == ["second"]
            [entry] = await audit_of(hub, action="signal.read")
            assert entry.draft.risk is Risk.CRITICAL

    async def test_damaged_signals_neither_end_a_wait_nor_hide_a_later_one(self, folder: Path, clock: Clock) -> None:
        async with open_hub(settings_in(folder), clock=clock) as hub:
            for _ in range(25):
                await send(hub, ALICE, BOB)
            with raw_database(folder) as run:
                run("UPDATE signals SET body = x'00'")
            bob = hub.bind(BOB).signals
            assert (await bob.wait_for(timeout_s=0)).outcome is WaitOutcome.TIMED_OUT
            clock.advance(seconds=1)
            good = await send(hub, ALICE, BOB, name="good")
            found = await bob.wait_for(timeout_s=0)
            assert found.signal is not None
            assert found.signal.id == good.id
            assert [signal.name for signal in await bob.pending(limit=3)] == ["good"]
            assert (await audit_of(hub, action="signal.await"))[-1].draft.risk is Risk.CRITICAL

    async def test_a_damaged_note_hides_no_acknowledgement(self, folder: Path) -> None:
        async with open_hub(settings_in(folder)) as hub:
            sent = await send(hub, ALICE, BOB, TESS)
            for principal in (BOB, TESS):
                await hub.bind(principal).signals.acknowledge(sent.id, note=WORD)
            with raw_database(folder) as run:
                run("UPDATE acknowledgements SET body = x'00' WHERE agent_id = 'bob'")
            found = await hub.bind(ALICE).signals.wait_for_acknowledgements(sent.id, timeout_s=0)
            assert found.outcome is WaitOutcome.ACKNOWLEDGED
            assert {one.agent_id: one.note for one in found.status.acknowledged} == {"bob": "", "tess": WORD}
            assert (await audit_of(hub, action="signal.await"))[-1].draft.risk is Risk.CRITICAL

    async def test_a_sweep_takes_what_has_expired_and_no_more(self, hub: Hub, clock: Clock) -> None:
        short = await send(hub, ALICE, BOB, expires_in_s=60)
        long = await send(hub, ALICE, BOB)
        for sent in (short, long):
            await hub.bind(BOB).signals.acknowledge(sent.id)
        clock.advance(seconds=60)
        await hub.bind(ROOT).sweep()
        await refused(hub.bind(ALICE).signals.status(short.id), NotFound, "not_found")
        assert (await hub.bind(ALICE).signals.status(long.id)).acknowledged
        data = (await stored(hub)).data
        assert len(data["signals"]) == len(data["acknowledgements"]) == 1


async def test_a_session_signals_as_its_agent(hub: Hub) -> None:
    handle = await begin(hub, ROOT, "carol", team_id="core")
    carol = hub.bind(ROOT, session_id=handle)
    sent = await carol.signals.send(SignalDraft("go", circle=Circle.TEAM))
    [signal] = await hub.bind(TESS).signals.pending()
    assert (signal.id, signal.sender_id) == (sent.id, "carol")
