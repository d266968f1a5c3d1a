"""A session from its beginning to its end: how far it is, who may know, what it leaves, and what a restart finds."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from contextdna import (
    AgentId,
    BeginRequest,
    ContextQuery,
    DelegationRequest,
    EventName,
    Hub,
    InvalidInput,
    Level,
    LimitExceeded,
    MemoryChange,
    NotFound,
    Principal,
    RecordId,
    Role,
    SessionInvalid,
    SessionStatus,
    Tier,
    TurnDraft,
    WorkSettings,
    Workspace,
    open_hub,
)
from tests.hub.rig import (
    ALICE,
    BOB,
    DEFAULT,
    OTHER,
    OUTSIDER,
    PETE,
    ROOT,
    Clock,
    audit_of,
    begin,
    public,
    refused,
    remember,
    settings_in,
    start_program,
    stored,
    unchanged,
)

pytestmark = pytest.mark.anyio

CORA = Principal(AgentId("cora"), (DEFAULT,), swarm_id="lift", role=Role.COORDINATOR)
LONER = Principal(AgentId("lone"), (DEFAULT,), role=Role.COORDINATOR)
CAROL = AgentId("carol")


async def visible(workspace: Workspace) -> set[RecordId]:
    return {hit.record.id for hit in (await workspace.retrieve_context(ContextQuery())).hits}


class TestProgress:
    async def test_thoughts_are_counted_and_the_last_status_stands(self, hub: Hub, clock: Clock) -> None:
        alice = hub.bind(ALICE, session_id=await begin(hub, ALICE, task="climb"))
        first = await alice.sessions.progress(status="at the foot", thoughts=2)
        assert (first.session.thoughts, first.progress, first.task) == (2, "at the foot", "climb")
        clock.advance(minutes=1)
        second = await alice.sessions.progress(thoughts=3)
        assert (second.session.thoughts, second.progress) == (5, "at the foot")
        assert second.session.updated_at == clock.now
        third = await alice.sessions.progress(status="at the top", thoughts_total=4)
        assert (third.session.thoughts, third.progress) == (4, "at the top")
        assert await alice.sessions.get() == third

    async def test_the_end_keeps_it(self, hub: Hub) -> None:
        handle = await begin(hub, ALICE, task="climb")
        alice = hub.bind(ALICE, session_id=handle)
        await alice.sessions.progress(status="at the top", thoughts=9)
        await alice.end_session(success=True, output="a flag")
        view = await hub.bind(ALICE).sessions.get(public(handle))
        assert (view.status, view.session.thoughts) == (SessionStatus.SUCCEEDED, 9)
        assert (view.task, view.progress) == ("climb", "at the top")

    @pytest.mark.parametrize(
        ("arguments", "kind", "code"),
        [
            ({}, InvalidInput, "progress_empty"),
            ({"thoughts": 1, "thoughts_total": 1}, InvalidInput, "thoughts_twice"),
            ({"thoughts": -1}, LimitExceeded, "thoughts_out_of_range"),
            ({"thoughts_total": -1}, LimitExceeded, "thoughts_total_out_of_range"),
            ({"thoughts": 10**10}, LimitExceeded, "thoughts_out_of_range"),
            ({"status": "x" * 4097}, LimitExceeded, "status_too_large"),
        ],
    )
    async def test_what_says_nothing_or_too_much_is_refused(
        self, hub: Hub, arguments: dict[str, object], kind: type[InvalidInput], code: str
    ) -> None:
        alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        await refused(alice.sessions.progress(**arguments), kind, code)  # type: ignore[arg-type]
        assert (await alice.sessions.get()).session.thoughts == 0

    async def test_it_is_told_to_the_agents_above(self, hub: Hub) -> None:
        lent = await hub.bind(ALICE).delegate(DelegationRequest(CAROL, "climb"))
        await hub.bind(ALICE, session_id=lent.begun.handle).sessions.progress(thoughts=1)

        async def told(principal: Principal) -> list[str]:
            page = await hub.bind(principal).events.read()
            return [event.subject for event in page.events if event.name is EventName.SESSION_PROGRESSED]

        assert await told(ALICE) == [lent.begun.session.id]
        assert await told(PETE) == []

    async def test_it_needs_a_session(self, hub: Hub) -> None:
        await refused(hub.bind(ALICE).sessions.progress(thoughts=1), SessionInvalid, "session_required")
        await refused(hub.bind(ALICE).sessions.get(), SessionInvalid, "session_required")


class TestWhoMayKnow:
    async def test_itself_those_above_its_coordinator_and_the_role_system(self, hub: Hub) -> None:
        parent = await begin(hub, ALICE, task="the whole")
        child = await hub.bind(ALICE, session_id=parent).delegate(DelegationRequest(CAROL, "a part"))
        wanted = child.begun.session.id
        for workspace in (
            hub.bind(ALICE, session_id=child.begun.handle),
            hub.bind(ALICE, session_id=parent),
            hub.bind(ALICE),
            hub.bind(CORA),
            hub.bind(ROOT),
        ):
            assert (await workspace.sessions.get(wanted)).task == "a part"
            assert wanted in {view.session.id for view in await workspace.sessions.list()}

    @pytest.mark.parametrize(
        "principal", [BOB, PETE, LONER, replace(CORA, swarm_id="sink")], ids=lambda principal: principal.agent_id
    )
    async def test_nobody_else(self, hub: Hub, principal: Principal) -> None:
        handle = await begin(hub, ALICE, task="hers")

        async def look() -> None:
            error = await refused(hub.bind(principal).sessions.get(public(handle)), NotFound, "not_found")
            absent = await refused(hub.bind(principal).sessions.get(public("ses_x")), NotFound, "not_found")
            assert error.message.replace(public(handle), "ses_x") == absent.message

        await unchanged(hub, look, audited=2)
        assert await hub.bind(principal).sessions.list() == ()

    async def test_a_child_knows_nothing_of_the_session_above(self, hub: Hub) -> None:
        parent = await begin(hub, ALICE, task="the whole")
        child = await hub.bind(ALICE, session_id=parent).delegate(DelegationRequest(CAROL, "a part"))
        acting = hub.bind(ALICE, session_id=child.begun.handle)
        await refused(acting.sessions.get(public(parent)), NotFound, "not_found")
        assert [view.session.id for view in await acting.sessions.list()] == [child.begun.session.id]

    async def test_a_coordinator_sees_no_session_of_the_role_system(self, hub: Hub) -> None:
        handle = await begin(hub, ROOT, swarm_id="lift", role=Role.SYSTEM)
        await refused(hub.bind(CORA).sessions.get(public(handle)), NotFound, "not_found")
        assert await hub.bind(CORA).sessions.list() == ()

    async def test_another_project_shows_nothing(self, hub: Hub) -> None:
        handle = await begin(hub, ALICE)
        await refused(hub.bind(OUTSIDER).sessions.get(public(handle)), NotFound, "not_found")
        await refused(hub.bind(ROOT, project_id=OTHER).sessions.get(public(handle)), NotFound, "not_found")
        assert await hub.bind(OUTSIDER).sessions.list() == ()


async def test_sessions_are_listed_newest_first_by_status_and_agent(hub: Hub, clock: Clock) -> None:
    begun = []
    for number, agent in enumerate(("carol", "dave", "carol", "erin")):
        clock.advance(seconds=1)
        begun.append(await begin(hub, ROOT, agent, task=f"task {number}", ttl_s=60 if agent == "erin" else None))
    await hub.bind(ROOT, session_id=begun[0]).end_session(success=False)
    clock.advance(seconds=60)

    async def listed(**filters: object) -> str:
        views = await hub.bind(ROOT, project_id=DEFAULT).sessions.list(**filters)  # type: ignore[arg-type]
        return "".join(view.task[-1] for view in views)

    assert await listed() == "3210"
    assert await listed(status=SessionStatus.ACTIVE) == "21"
    assert await listed(status=SessionStatus.EXPIRED) == "3"
    assert await listed(status=SessionStatus.FAILED) == "0"
    assert await listed(agent_id=AgentId("carol")) == "20"
    assert await listed(limit=3) == "321"
    assert await listed(before=public(begun[1])) == "0"
    await refused(hub.bind(ROOT).sessions.list(limit=201), LimitExceeded, "limit_out_of_range")


class TestWorkingMemories:
    async def test_at_the_end_the_named_ones_become_episodic_and_the_others_are_forgotten(self, hub: Hub) -> None:
        alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        kept = await remember(alice, "kept", tier=Tier.WORKING, level=Level.PRIVATE)
        lost = await remember(alice, "lost", tier=Tier.WORKING)
        lasting = await remember(alice, "lasting", tier=Tier.SEMANTIC)
        report = await alice.end_session(success=True, promote=[kept, kept])
        assert (report.promoted, report.expired) == ((kept,), (lost,))
        [[memory], missing] = await hub.bind(ALICE).get_memories([kept, lost])
        assert (memory.record.tier, memory.record.version, missing) == (Tier.EPISODIC, 2, (lost,))
        assert await visible(hub.bind(ALICE)) == {kept, lasting}
        assert await hub.bind(ALICE).restore_memories([lost]) == (lost,)

    async def test_only_those_that_this_agent_stored_in_this_session(self, hub: Hub) -> None:
        first = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        second = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        others = [
            await remember(first, "of another session", tier=Tier.WORKING),
            await remember(hub.bind(ALICE), "of no session", tier=Tier.WORKING),
        ]
        report = await second.end_session(success=True)
        assert (report.promoted, report.expired) == ((), ())
        assert await visible(hub.bind(ALICE)) == set(others)

    async def test_what_is_none_cannot_be_promoted_and_nothing_ends(self, hub: Hub) -> None:
        alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        hidden = await remember(hub.bind(BOB), "his", level=Level.PRIVATE)
        semantic = await remember(alice, "hers")
        other = await remember(hub.bind(ALICE), "another session's", tier=Tier.WORKING)
        working = await remember(alice, "working", tier=Tier.WORKING)

        async def promote(record_id: RecordId, kind: type[NotFound] | type[InvalidInput], code: str) -> None:
            await refused(alice.end_session(success=True, promote=[working, record_id]), kind, code)

        await promote(semantic, InvalidInput, "not_working")
        await promote(other, InvalidInput, "not_working")
        await promote(hidden, NotFound, "not_found")
        await promote(RecordId("mem_x"), NotFound, "not_found")
        [[memory], _] = await alice.get_memories([working])
        assert (memory.record.tier, memory.record.version) == (Tier.WORKING, 1)

    async def test_a_tier_that_was_changed_before_counts(self, hub: Hub) -> None:
        alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        memory = await remember(alice, "raised by hand", tier=Tier.WORKING)
        await alice.update_memory(memory, MemoryChange(tier=Tier.SEMANTIC), expected_version=1)
        report = await alice.end_session(success=True)
        assert report.expired == ()
        assert await visible(hub.bind(ALICE)) == {memory}

    async def test_the_same_text_in_another_session_is_another_memory_which_ends_with_that_one(self, hub: Hub) -> None:
        first = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        second = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        one, again, other = [await remember(x, "the same", tier=Tier.WORKING) for x in (first, first, second)]
        assert one == again != other
        assert (await first.end_session(success=True)).expired == (one,)
        assert await visible(second) == {other}
        assert (await second.end_session(success=True, promote=[other])).promoted == (other,)

    async def test_a_lasting_memory_takes_up_the_working_one_of_its_session_only(self, hub: Hub) -> None:
        first = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        second = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        working = await remember(first, "the same", tier=Tier.WORKING)
        other = await remember(second, "the same", tier=Tier.SEMANTIC)
        assert other != working
        assert await remember(second, "the same", tier=Tier.WORKING) not in (working, other)
        taken_up = await remember(first, "alone", tier=Tier.WORKING)
        assert await remember(first, "alone", tier=Tier.EPISODIC) == taken_up
        assert (await first.end_session(success=True)).expired == (working,)
        assert await remember(second, "alone", tier=Tier.EPISODIC) == taken_up
        await second.end_session(success=True)
        assert await visible(hub.bind(ALICE)) == {other, taken_up}

    async def test_those_of_sessions_below_lapse_too(self, hub: Hub) -> None:
        alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        child = await alice.delegate(DelegationRequest(CAROL, "help"))
        memory = await remember(hub.bind(ALICE, session_id=child.begun.handle), "working", tier=Tier.WORKING)
        await alice.end_session(success=True)
        assert memory not in await visible(hub.bind(ROOT))


class TestExpiry:
    async def test_overdue_sessions_and_all_that_came_with_them_end_with_the_sweep(
        self, hub: Hub, clock: Clock
    ) -> None:
        parent = await begin(hub, ALICE, ttl_s=3600)
        alice = hub.bind(ALICE, session_id=parent)
        lent = await remember(alice, "lent", level=Level.PRIVATE)
        working = await remember(alice, "working", tier=Tier.WORKING, level=Level.PRIVATE)
        child = await alice.delegate(DelegationRequest(CAROL, "help", memory_ids=(lent,)))
        await alice.state.set("key", 1)
        await hub.bind(ALICE, session_id=child.begun.handle).state.set("key", 1)
        other = await begin(hub, BOB)
        clock.advance(hours=1)
        assert (await hub.bind(ALICE).sessions.get(public(parent))).status is SessionStatus.EXPIRED
        await hub.bind(ROOT).sweep()
        for handle in (parent, child.begun.handle):
            view = await hub.bind(ALICE).sessions.get(public(handle))
            assert (view.session.status, view.session.ended_at) == (SessionStatus.EXPIRED, clock.now)
        [given] = await hub.bind(ALICE).delegations.list()
        assert (given.delegation.status, given.delegation.ended_at) == ("expired", clock.now)
        assert await visible(hub.bind(ALICE)) == {lent}
        rows = (await stored(hub)).data
        assert rows.get("session_states", rows.get("states")) == []
        assert (await hub.bind(BOB).sessions.get(public(other))).status is SessionStatus.ACTIVE
        [sweep] = await audit_of(hub, action="retention.sweep")
        assert '"sessions_expired":2' in sweep.draft.details
        assert await visible(hub.bind(ALICE)) == {lent}
        assert working not in await visible(hub.bind(ALICE))

        async def told(principal: Principal) -> list[EventName]:
            wanted = (EventName.SESSION_EXPIRED, EventName.DELEGATION_EXPIRED)
            page = await hub.bind(principal).events.read(limit=1000)
            return sorted(event.name for event in page.events if event.name in wanted)

        assert await told(ALICE) == ["delegation.expired", "session.expired", "session.expired"]
        assert await told(BOB) == []

    async def test_the_sweep_closes_more_than_a_batch(self, hub: Hub, clock: Clock) -> None:
        for number in range(120):
            await begin(hub, ROOT, f"agent{number}", ttl_s=60)
        clock.advance(seconds=60)
        await hub.bind(ROOT).sweep()
        left = await hub._door.database.read(lambda tx: tx.sessions.overdue(DEFAULT, now=clock.now, limit=200))
        assert left == []

    async def test_grants_long_over_are_swept(self, hub: Hub, clock: Clock) -> None:
        memory = await remember(hub.bind(ALICE), "shared once")
        await hub.bind(ALICE).share_memories([BOB.agent_id], [memory], expires_in_s=60)
        await hub.bind(ALICE).share_memories([PETE.agent_id], [memory])
        clock.advance(seconds=60)
        await hub.bind(ROOT).sweep()
        assert len((await stored(hub)).data["grants"]) == 2
        clock.advance(days=hub.settings.retention.idle_days, seconds=1)
        await hub.bind(ROOT).sweep()
        assert len((await stored(hub)).data["grants"]) == 1

    async def test_a_long_line_of_sessions_ends_at_once(self, clock: Clock) -> None:
        """Each within the one before, deeper than functions may call each other; that is no matter of a backend."""
        settings = settings_in(None, work=WorkSettings(sessions_nested_max=1100))
        async with open_hub(settings, clock=clock) as hub:
            outermost = handle = await begin(hub, ALICE)
            for _ in range(1100):
                handle = (await hub.bind(ALICE, session_id=handle).begin_session(BeginRequest(AgentId("")))).handle
            report = await hub.bind(ALICE, session_id=outermost).end_session(success=True)
            assert report.children_ended == 1100


class TestRecovery:
    async def expect_all_of_it(self, hub: Hub, worker: Principal, handle: str) -> None:
        acting = hub.bind(worker, session_id=handle)
        begun = await acting.resume_session()
        assert (begun.handle, begun.task, begun.progress) == (handle, "count the stars", "half of the sky")
        assert begun.session.thoughts == 7
        assert [(entry.key, entry.value) for entry in await acting.state.mget()] == [("counted", {"stars": 4711})]
        turns = await acting.read_conversation(public(handle))
        assert [turn.content for turn in turns] == ["how many?", "I am counting"]
        await acting.log_turns([TurnDraft("assistant", "4712")])
        assert (await acting.end_session(success=True, output="4712")).session.status == "succeeded"

    async def test_a_new_process_goes_on_where_a_killed_one_was(self, folder: Path) -> None:
        process = start_program("resting_process.py", folder)
        handle = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate(timeout=30)
        assert handle, errors
        async with open_hub(settings_in(folder)) as hub:
            await self.expect_all_of_it(hub, Principal(AgentId("worker"), (DEFAULT,)), handle)

    async def test_a_second_hub_on_the_folder_goes_on_too(self, folder: Path, clock: Clock) -> None:
        async with open_hub(settings_in(folder), clock=clock) as first:
            handle = await begin(first, ALICE, task="count the stars")
            acting = first.bind(ALICE, session_id=handle)
            await acting.sessions.progress(status="half of the sky", thoughts=7)
            await acting.state.set("counted", {"stars": 4711})
            await acting.log_turns([TurnDraft("user", "how many?"), TurnDraft("assistant", "I am counting")])
            async with open_hub(settings_in(folder), clock=clock) as second:
                await self.expect_all_of_it(second, ALICE, handle)
            await refused(acting.state.mget(), SessionInvalid, "session_ended")
