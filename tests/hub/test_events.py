"""Events: each reader is told what it may know, in the order of commit, from a cursor or as they happen."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from contextdna import (
    Agent,
    AgentId,
    Conflict,
    Decision,
    DelegationRequest,
    Event,
    EventId,
    EventName,
    Hub,
    HubSettings,
    Level,
    LimitExceeded,
    Loop,
    LoopDraft,
    MemoryChange,
    MemoryDraft,
    NotFound,
    Outcome,
    Principal,
    ReadAudit,
    RecordId,
    Risk,
    Role,
    SessionInvalid,
    StorageUnavailable,
    Tier,
    TurnDraft,
    Workspace,
    open_hub,
)
from contextdna.hub import events as following
from contextdna.hub import stream
from contextdna.ports.database import Transaction
from tests.hub.rig import (
    ALICE,
    BOB,
    DEFAULT,
    OTHER,
    PETE,
    ROOT,
    START,
    STRANGER,
    TESS,
    WRITER,
    Clock,
    audit_of,
    begin,
    public,
    refused,
    remember,
    settings_in,
    start_program,
)

pytestmark = pytest.mark.anyio

T = TypeVar("T")
Batches = AsyncGenerator[tuple[Event, ...], None]
EARLIEST = EventId("")
STORED, SHARED, UNSHARED = EventName.MEMORY_STORED, EventName.MEMORY_SHARED, EventName.MEMORY_UNSHARED
DEADLINE_S = 30
"""Only ends a test that has failed."""


@pytest.fixture
async def hub(hub: Hub) -> Hub:
    """Give an installation that has seen all who call: of their coming other tests tell."""

    async def see(tx: Transaction) -> None:
        for who in (ALICE, TESS, BOB, PETE, ROOT, WRITER):
            await tx.projects.see_agent(Agent(who.agent_id, DEFAULT, who.team_id, who.swarm_id, who.role, START, START))

    await hub._door.database.write(see)
    return hub


async def told(hub: Hub, principal: Principal, *, after: EventId = EARLIEST, **binding: Any) -> list[Event]:
    """Read all that a principal may know of."""
    return list((await hub.bind(principal, **binding).events.read(after=after, limit=1000)).events)


async def names_told(hub: Hub, principal: Principal) -> list[EventName]:
    return [event.name for event in await told(hub, principal)]


@asynccontextmanager
async def following_live(
    workspace: Workspace, **filters: Any
) -> AsyncIterator[AsyncGenerator[tuple[Event, ...], None]]:
    """Follow from now on: when this is entered, nothing is missed any more."""
    with anyio.fail_after(DEADLINE_S):
        async with aclosing(workspace.events.batches(**filters)) as batches:
            assert await anext(batches) == ()
            yield batches


async def next_of(events: AsyncIterator[T], count: int = 1) -> list[T]:
    with anyio.fail_after(DEADLINE_S):
        return [await anext(events) for _ in range(count)]


class TestWhatIsTold:
    @pytest.mark.parametrize(
        ("level", "readers"),
        [
            (Level.PRIVATE, {"writer"}),
            (Level.TEAM, {"writer", "alice", "tess"}),
            (Level.SWARM, {"writer", "alice", "bob"}),
            (Level.PROJECT, {"writer", "alice", "tess", "bob", "pete", "root"}),
            (Level.SYSTEM, {"writer", "root"}),
        ],
    )
    async def test_an_event_is_told_to_whoever_may_see_its_record(
        self, hub: Hub, level: Level, readers: set[str]
    ) -> None:
        memory = await remember(hub.bind(WRITER), "a memory", level=level)
        every = {
            who.agent_id: await told(hub, who, project_id=DEFAULT) for who in (WRITER, ALICE, TESS, BOB, PETE, ROOT)
        }
        assert {who for who, events in every.items() if events} == readers
        assert {event.record_ids for events in every.values() for event in events} == {(memory,)}

    @pytest.mark.parametrize("level", list(Level))
    async def test_a_purge_is_told_to_whoever_could_see_the_record_by_its_level(self, hub: Hub, level: Level) -> None:
        memory = await remember(hub.bind(WRITER), "a memory", level=level)
        readers = {who.agent_id for who in (ALICE, TESS, BOB, PETE, ROOT) if await told(hub, who, project_id=DEFAULT)}
        await hub.bind(WRITER).forget_memories([memory], purge=True)
        for who in (ALICE, TESS, BOB, PETE, ROOT):
            purges = [(event.name, event.record_ids) for event in await told(hub, who, project_id=DEFAULT)]
            expected = [(EventName.MEMORY_PURGED, (memory,))] if who.agent_id in readers else []
            assert purges == expected  # of the earlier events nobody can be judged any more

    async def test_a_sweep_tells_each_circle_of_its_own_records(self, hub: Hub, clock: Clock) -> None:
        shown = await remember(hub.bind(ALICE), "seen", level=Level.PROJECT, tier=Tier.WORKING)
        hidden = await remember(hub.bind(ALICE), "hidden", level=Level.PRIVATE, tier=Tier.WORKING)
        clock.advance(days=40)
        assert (await hub.bind(ROOT, project_id=DEFAULT).sweep()).purged == 2
        [event] = [event for event in await told(hub, PETE) if event.name is EventName.MEMORY_PURGED]
        assert event.record_ids == (shown,)
        purges = [event for event in await told(hub, ALICE) if event.name is EventName.MEMORY_PURGED]
        assert {record_id for event in purges for record_id in event.record_ids} == {shown, hidden}

    async def test_of_several_records_a_reader_is_told_of_those_that_it_may_see(self, hub: Hub) -> None:
        drafts = [MemoryDraft("open", level=Level.PROJECT), MemoryDraft("hidden", level=Level.PRIVATE)]
        shown, hidden = [item.id for item in await hub.bind(ALICE).store_memories(drafts)]
        assert [event.record_ids for event in await told(hub, PETE)] == [(shown,)]
        assert [event.record_ids for event in await told(hub, ALICE)] == [(shown, hidden)]

    async def test_a_grant_lets_its_target_know_and_its_end_takes_that_back(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        memory = await remember(alice, "for bob", level=Level.PRIVATE)
        assert await told(hub, BOB) == []
        await alice.share_memories([BOB.agent_id], [memory])
        assert [(event.name, event.record_ids) for event in await told(hub, BOB)] == [
            (STORED, (memory,)),
            (SHARED, (memory,)),
        ]
        await alice.revoke_shares([BOB.agent_id], [memory])
        await alice.update_memory(memory, MemoryChange(importance=0.9), expected_version=1)
        assert [(event.name, event.record_ids) for event in await told(hub, BOB)] == [(UNSHARED, ())]
        assert await told(hub, PETE) == []

    async def test_a_grant_that_expired_tells_nothing_more(self, hub: Hub, clock: Clock) -> None:
        memory = await remember(hub.bind(ALICE), "for bob", level=Level.PRIVATE)
        await hub.bind(ALICE).share_memories([BOB.agent_id], [memory], expires_in_s=60)
        assert await told(hub, BOB)
        clock.advance(seconds=61)
        assert await told(hub, BOB) == []

    async def test_a_session_is_told_to_its_agent_and_to_who_began_it(self, hub: Hub) -> None:
        await begin(hub, ROOT, "carol")
        carol = Principal(AgentId("carol"), (DEFAULT,))
        assert EventName.SESSION_BEGUN in await names_told(hub, carol)
        others = [(event.name, event.agent_id, event.subject, event.record_ids) for event in await told(hub, PETE)]
        assert others == [(EventName.AGENT_APPEARED, "carol", "carol", ())]

    async def test_who_works_anew_or_no_more_is_told_to_everyone_but_not_who_saw_to_it(self, hub: Hub) -> None:
        cursor = (await hub.bind(PETE).events.read(limit=1000)).cursor
        parent = hub.bind(ROOT, session_id=await begin(hub, ROOT, "alice"))
        await parent.delegate(DelegationRequest(AgentId("drone"), "help"))
        await parent.end_session(success=True)
        heard = [
            (event.name, event.agent_id, event.subject, event.audience) for event in await told(hub, PETE, after=cursor)
        ]
        assert heard == [
            (EventName.AGENT_SEEN, "alice", "alice", ()),
            (EventName.AGENT_APPEARED, "alice/drone", "alice/drone", ()),
            (EventName.AGENT_SEEN, "alice", "alice", ()),
            (EventName.AGENT_SEEN, "alice/drone", "alice/drone", ()),
        ]

    async def test_that_a_gate_changed_is_told_to_those_it_judges_who_know_the_phase_and_no_more(
        self, hub: Hub
    ) -> None:
        boss = Principal(AgentId("boss"), (DEFAULT,), role=Role.COORDINATOR)
        await hub.bind(BOB).record_loop(LoopDraft(Loop.CONFIDENCE, "known", score=0.5))
        await hub.bind(ROOT, project_id=DEFAULT).record_loop(LoopDraft(Loop.CONFIDENCE, "known", score=0.5))
        cursor = (await hub.bind(ROOT, project_id=DEFAULT).events.read(limit=1000)).cursor
        for phase in ("known", "secret"):
            await hub.bind(ALICE).record_loop(LoopDraft(Loop.CONFIDENCE, phase, score=0.7))
        await hub.bind(ALICE).record_loop(LoopDraft(Loop.DECISION, "known", decision=Decision.DEFER))
        changed = [("gate.changed", "(upkeep)", "known", ())]
        for who, expected in ((BOB, changed), (ROOT, changed), (TESS, []), (PETE, []), (boss, [])):
            heard = [
                (event.name, event.agent_id, event.subject, event.record_ids)
                for event in await told(hub, who, after=cursor, project_id=DEFAULT)
                if event.name is not EventName.DECISION_RECORDED
            ]
            assert heard == expected, who

    async def test_nobody_learns_who_else_was_told(self, hub: Hub) -> None:
        memory = await remember(hub.bind(ALICE), "for two", level=Level.PRIVATE)
        await hub.bind(ALICE).share_memories([BOB.agent_id, PETE.agent_id], [memory])
        await hub.bind(ALICE).revoke_shares([BOB.agent_id, PETE.agent_id], [memory])
        assert [event.audience for event in await told(hub, BOB)] == [(BOB.agent_id,)]

    @pytest.mark.parametrize("how", ["revoked", "retired", "ended above"])
    async def test_who_ends_a_session_learns_no_ids_of_what_lapsed_in_it_nor_when_it_is_purged(
        self, hub: Hub, how: str
    ) -> None:
        top = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        child = await top.delegate(DelegationRequest(AgentId("child"), "help"))
        between = hub.bind(ALICE, session_id=child.begun.handle)
        below = await between.delegate(DelegationRequest(AgentId("drone"), "help"))
        drone = hub.bind(ALICE, session_id=below.begun.handle)
        hidden = await remember(drone, "scratch", level=Level.PRIVATE, tier=Tier.WORKING)
        shown = await remember(drone, "seen", level=Level.PROJECT, tier=Tier.WORKING)
        ender = ROOT if how == "retired" else ALICE
        if how == "revoked":
            await hub.bind(ALICE).delegations.revoke(child.delegation.id)
        elif how == "retired":
            await hub.bind(ROOT, project_id=DEFAULT).agents.retire(AgentId("alice/child/drone"))
        else:
            await top.end_session(success=True)
        purge = hub.bind(ROOT, project_id=DEFAULT).forget_memories
        for gone in ([], [hidden, shown]):
            if gone:
                await purge(gone, purge=True)
            named = {name for event in await told(hub, ender, project_id=DEFAULT) for name in event.record_ids}
            assert hidden not in named
            assert shown in named

    async def test_who_changes_what_it_may_not_see_is_told_of_its_doing_without_the_id(self, hub: Hub) -> None:
        memory = await remember(hub.bind(ALICE), "a memory", level=Level.PRIVATE)
        await hub.bind(ROOT, project_id=DEFAULT).forget_memories([memory])
        [event] = [e for e in await told(hub, ROOT, project_id=DEFAULT) if e.name is EventName.MEMORY_FORGOTTEN]
        assert event.record_ids == ()

    async def test_another_project_is_told_nothing(self, hub: Hub) -> None:
        await remember(hub.bind(ALICE), "of the default project", level=Level.PROJECT)
        assert await told(hub, ROOT, project_id=OTHER) == []


class TestReading:
    async def test_pages_join_without_gap_or_repetition(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        memories = []
        for number in range(7):
            memories.append(await remember(alice, f"memory {number}", level=Level.PROJECT))
            await remember(alice, f"hidden {number}", level=Level.PRIVATE)
        found: list[RecordId] = []
        cursor, more = EARLIEST, True
        while more:
            page = await hub.bind(PETE).events.read(after=cursor, limit=2)
            assert len(page.events) <= 2
            found += [RecordId(event.record_ids[0]) for event in page.events]
            cursor, more = page.cursor, page.more
        assert found == memories

    async def test_a_cursor_whose_event_was_swept_goes_on_where_it_stood(self, hub: Hub, clock: Clock) -> None:
        alice = hub.bind(ALICE)
        await remember(alice, "first", tier=Tier.SEMANTIC)
        cursor = (await alice.events.read()).cursor
        clock.advance(days=10)
        kept = await remember(alice, "second", tier=Tier.SEMANTIC)
        await hub.bind(ROOT, project_id=DEFAULT).sweep()
        assert [event.record_ids for event in await told(hub, ALICE)] == [(kept,)]
        page = await alice.events.read(after=cursor)
        assert ([event.record_ids for event in page.events], page.gap) == ([(kept,)], True)
        assert not (await alice.events.read(after=page.cursor)).gap
        assert not (await alice.events.read()).gap
        for behind in (alice.events.follow(after=cursor), alice.events.batches(after=cursor)):
            await refused(anext(behind), Conflict, "cursor_expired")

    async def test_a_gap_is_told_once_where_nothing_is_kept_any_more(self, hub: Hub, clock: Clock) -> None:
        alice = hub.bind(ALICE)
        await remember(alice, "first", tier=Tier.SEMANTIC)
        cursor = (await alice.events.read()).cursor
        assert not (await alice.events.read(after=cursor)).gap
        clock.advance(days=10)
        await hub.bind(ROOT, project_id=DEFAULT).sweep()
        page = await alice.events.read(after=cursor)
        assert (page.events, page.more, page.gap) == ((), False, True)
        kept = await remember(alice, "second", tier=Tier.SEMANTIC)
        page = await alice.events.read(after=page.cursor)
        assert ([event.record_ids for event in page.events], page.gap) == ([(kept,)], False)

    async def test_what_becomes_of_turns_is_told_with_their_conversation(self, hub: Hub) -> None:
        handle = await begin(hub, ALICE)
        acting = hub.bind(ALICE, session_id=handle)
        turns = list(await acting.log_turns([TurnDraft("user", "one"), TurnDraft("user", "two")]))
        memory = await remember(acting, "beside them")
        cursor = (await acting.events.read(limit=1000)).cursor
        await acting.share_memories([BOB.agent_id], [turns[0], memory])
        await acting.revoke_shares([BOB.agent_id], [turns[0]])
        await acting.forget_memories([*turns, memory])
        await acting.restore_memories(turns)
        await acting.forget_memories(turns, purge=True)
        after = await told(hub, ALICE, after=cursor)
        of_turns = [(event.name, event.subject) for event in after if event.record_ids[0] in turns]
        names = (SHARED, UNSHARED, EventName.MEMORY_FORGOTTEN, EventName.MEMORY_RESTORED, EventName.MEMORY_PURGED)
        assert of_turns == [(name, public(handle)) for name in names]
        assert {event.subject for event in after if memory in event.record_ids} == {""}

    async def test_one_call_looks_through_a_bounded_part(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("contextdna.domain.events._PAGE", 2)
        monkeypatch.setattr("contextdna.domain.events._PAGES_MAX", 2)
        for number in range(4):
            await remember(hub.bind(ALICE), f"hidden {number}", level=Level.PRIVATE)
        shown = await remember(hub.bind(ALICE), "shown", level=Level.PROJECT)
        first = await hub.bind(PETE).events.read()
        assert (first.events, first.more) == ((), True)
        rest = await hub.bind(PETE).events.read(after=first.cursor)
        assert ([event.record_ids for event in rest.events], rest.more) == ([(shown,)], False)

    @pytest.mark.parametrize("limit", [0, 1001])
    async def test_the_limit_is_bounded(self, hub: Hub, limit: int) -> None:
        await refused(hub.bind(ALICE).events.read(limit=limit), LimitExceeded, "limit_out_of_range")


class TestFollowing:
    async def test_what_lies_behind_the_cursor_comes_first_then_what_happens(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        memories = [await remember(alice, f"memory {number}") for number in range(3)]
        async with aclosing(hub.bind(PETE).events.follow(after=EARLIEST)) as events:
            assert [event.record_ids[0] for event in await next_of(events, 3)] == memories
            memories.append(await remember(alice, "another"))
            assert (await next_of(events))[0].record_ids == (memories[3],)

    async def test_without_a_cursor_it_begins_with_now(self, hub: Hub) -> None:
        await remember(hub.bind(ALICE), "before")
        async with following_live(hub.bind(PETE)) as batches:
            after = await remember(hub.bind(ALICE), "after")
            [[event]] = await next_of(batches)
            assert event.record_ids == (after,)

    async def test_a_second_follower_begins_with_now_too(self, hub: Hub) -> None:
        async with following_live(hub.bind(BOB)) as first:
            await remember(hub.bind(ALICE), "before")
            async with following_live(hub.bind(PETE)) as second:
                after = await remember(hub.bind(ALICE), "after")
                assert [event.record_ids for [event] in await next_of(second)] == [(after,)]
            assert sum([len(batch) for batch in await next_of(first)]) >= 1

    async def test_only_the_wanted_is_told(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        memory, other = [await remember(alice, text) for text in ("one", "two")]
        async with following_live(hub.bind(PETE), names=[EventName.MEMORY_UPDATED], about=[memory]) as batches:
            await alice.update_memory(other, MemoryChange(importance=0.1), expected_version=1)
            await alice.forget_memories([memory])
            await alice.restore_memories([memory])
            await alice.update_memory(memory, MemoryChange(importance=0.1), expected_version=1)
            [[event]] = await next_of(batches)
            assert (event.name, event.record_ids) == (EventName.MEMORY_UPDATED, (memory,))

    async def test_events_about_a_subject_are_told(self, hub: Hub) -> None:
        handle = await begin(hub, ALICE)
        async with following_live(hub.bind(ALICE), about=[handle.partition(".")[0]]) as batches:
            await remember(hub.bind(ALICE, session_id=handle), "beside it")
            await hub.bind(ALICE, session_id=handle).end_session(success=True)
            assert [event.name for [event] in await next_of(batches)] == [EventName.SESSION_ENDED]

    async def test_writers_at_once_are_told_in_the_order_of_commit(self, hub: Hub) -> None:
        async def write(number: int) -> None:
            for turn in range(10):
                await remember(hub.bind(Principal(AgentId(f"a{number}"), (DEFAULT,))), f"{number} {turn}")

        seen: list[Event] = []
        async with following_live(hub.bind(PETE)) as batches, anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(write, number)
            while len(seen) < 110:  # with each one's coming
                seen += await anext(batches)
        assert [event.seq for event in seen] == sorted({event.seq for event in seen})
        assert [event.id for event in await told(hub, PETE)] == [event.id for event in seen]

    async def test_a_follower_that_lags_misses_nothing(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stream, "_BUFFER_MAX", 3)
        monkeypatch.setattr("contextdna.domain.events._PAGE", 4)
        async with following_live(hub.bind(PETE)) as batches, following_live(hub.bind(BOB)) as witness:
            memories = []
            for number in range(20):
                memories.append(await remember(hub.bind(ALICE), f"memory {number}"))
                await anext(witness)  # now the other one has been offered it too
            seen: list[str] = []
            while len(seen) < len(memories):
                seen += [event.record_ids[0] for event in await anext(batches)]
            assert seen == memories
            memories.append(await remember(hub.bind(ALICE), "one more"))
            [[event]] = await next_of(batches)
            assert event.record_ids == (memories[-1],)

    async def test_what_is_revoked_between_two_deliveries_is_not_told(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        shared = [await remember(alice, f"memory {number}", level=Level.PRIVATE) for number in range(2)]
        await alice.share_memories([BOB.agent_id], shared)
        async with aclosing(hub.bind(BOB).events.follow(after=EARLIEST, names=[STORED])) as events:
            assert [event.record_ids for event in await next_of(events)] == [(shared[0],)]
            await alice.revoke_shares([BOB.agent_id], shared)
            open_one = await remember(alice, "open", level=Level.PROJECT)
            assert [event.record_ids for event in await next_of(events)] == [(open_one,)]

    async def test_a_grant_given_while_following_counts_from_then_on(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        memory = await remember(alice, "for bob", level=Level.PRIVATE)
        async with following_live(hub.bind(BOB)) as batches:
            await alice.update_memory(memory, MemoryChange(importance=0.2), expected_version=1)
            await alice.share_memories([BOB.agent_id], [memory])
            seen: list[EventName] = []
            while SHARED not in seen:
                seen += [event.name for event in await anext(batches)]

    async def test_a_session_that_ended_is_told_nothing_more(self, hub: Hub) -> None:
        handle = await begin(hub, ALICE)
        async with following_live(hub.bind(ALICE, session_id=handle)) as batches:
            await hub.bind(ALICE, session_id=handle).end_session(success=True)
            await refused(anext(batches), SessionInvalid, "session_ended")
        [denial] = [entry.draft for entry in await audit_of(hub, installation=True, action="event.read")]
        assert (denial.outcome, denial.risk) == (Outcome.DENIED, Risk.HIGH)

    async def test_who_has_no_project_follows_nothing(self, hub: Hub) -> None:
        await refused(anext(hub.bind(STRANGER, project_id=DEFAULT).events.follow()), NotFound, "project_not_found")

    async def test_a_cancelled_follower_leaves_the_stream(self, hub: Hub) -> None:
        async def follow(started: anyio.Event) -> None:
            async with following_live(hub.bind(PETE)) as batches:
                started.set()
                await anext(batches)

        started = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow, started)
            await started.wait()
            assert len(hub._rooms.stream._listeners) == 1
            tasks.cancel_scope.cancel()
        assert not hub._rooms.stream._listeners
        async with following_live(hub.bind(PETE)) as batches:
            await remember(hub.bind(ALICE), "still told")
            assert await next_of(batches)

    async def test_closing_the_hub_ends_its_followers(self, settings: HubSettings) -> None:
        errors: list[StorageUnavailable] = []

        async def follow(workspace: Workspace, started: anyio.Event) -> None:
            batches = workspace.events.batches()
            await anext(batches)
            started.set()
            with pytest.raises(StorageUnavailable) as caught:
                await anext(batches)
            errors.append(caught.value)

        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as tasks, open_hub(settings) as hub:
                started = anyio.Event()
                tasks.start_soon(follow, hub.bind(PETE), started)
                await started.wait()
        assert [error.code for error in errors] == ["storage_closed"]

    async def test_an_outbox_that_cannot_be_read_for_a_while_loses_nothing(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stream, "_RETRY_S", 0.01)
        real = hub._rooms.stream._deliver
        failures = 2

        async def failing() -> None:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise StorageUnavailable("busy", retryable=True)
            await real()

        monkeypatch.setattr(hub._rooms.stream, "_deliver", failing)
        async with following_live(hub.bind(PETE)) as batches:
            memory = await remember(hub.bind(ALICE), "told late")
            [[event]] = await next_of(batches)
            assert event.record_ids == (memory,)


class TestProcesses:
    async def test_what_another_process_stores_is_told(self, folder: Path) -> None:
        async with open_hub(settings_in(folder)) as hub, following_live(hub.bind(PETE)) as batches:
            process = start_program("storing_process.py", folder, "elsewhere", 20)
            seen: list[str] = []
            while len(seen) < 20:
                for event in await anext(batches):
                    assert event.agent_id == "elsewhere"
                    seen += event.record_ids
            out, errors = await anyio.to_thread.run_sync(process.communicate)
            assert process.returncode == 0, errors
            assert sorted(seen) == sorted(out.split()[1:])


class TestCost:
    async def test_nobody_listening_reads_nothing(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        async with following_live(hub.bind(PETE)) as batches:
            await remember(hub.bind(ALICE), "one")
            await next_of(batches)
        looks, reads = count_calls(monkeypatch, hub, "revision"), count_calls(monkeypatch, hub, "read")
        for number in range(20):
            await remember(hub.bind(ALICE), f"memory {number}")
        assert looks() <= 1  # the one that was about to happen
        assert reads() == 0

    async def test_a_hundred_who_wait_for_something_else_cost_as_much_as_one(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with AsyncExitStack() as waiting:
            for number in range(100):
                await waiting.enter_async_context(following_live(hub.bind(PETE), about=[f"mem_{number}"]))
            reads = count_calls(monkeypatch, hub, "read")
            for number in range(20):
                await remember(hub.bind(ALICE), f"memory {number}")
            assert reads() <= 2 * 20 + 2  # each commit wakes the one tail, by its hint and as a new revision


def count_calls(monkeypatch: pytest.MonkeyPatch, hub: Hub, name: str) -> Callable[[], int]:
    database = hub._rooms.stream._database
    real, calls = getattr(database, name), 0

    async def counted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        return await real(*args)

    monkeypatch.setattr(database, name, counted)
    return lambda: calls


class TestAudit:
    async def details(self, hub: Hub) -> list[dict[str, int]]:
        return [json.loads(entry.draft.details) for entry in await audit_of(hub, action="event.read")]

    async def test_a_follower_leaves_an_entry_as_it_begins_and_one_as_it_ends(self, hub: Hub) -> None:
        async with following_live(hub.bind(PETE)) as batches:
            for number in range(5):
                await remember(hub.bind(ALICE), f"memory {number}")
                await next_of(batches)
            assert await self.details(hub) == [{"following": 1}]
        assert await self.details(hub) == [{"following": 1}, {"events": 5}]

    async def test_one_that_goes_on_leaves_an_entry_now_and_then(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(following, "ACCOUNTED_EVERY", 3)
        async with aclosing(hub.bind(PETE).events.follow(after=EARLIEST)) as events:
            for number in range(7):
                await remember(hub.bind(ALICE), f"memory {number}")
                await next_of(events)
        assert await self.details(hub) == [{"following": 1}, {"events": 3}, {"events": 3}, {"events": 1}]

    async def test_one_that_was_told_nothing_leaves_its_beginning_only(self, hub: Hub) -> None:
        async with following_live(hub.bind(PETE)):
            pass
        assert await self.details(hub) == [{"following": 1}]

    async def test_a_cancelled_one_leaves_its_end(self, hub: Hub) -> None:
        async def follow(told_one: anyio.Event) -> None:
            async with aclosing(hub.bind(PETE).events.follow(after=EARLIEST)) as events:
                await anext(events)
                told_one.set()
                await anext(events)

        await remember(hub.bind(ALICE), "one")
        told_one = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow, told_one)
            await told_one.wait()
            tasks.cancel_scope.cancel()
        assert await self.details(hub) == [{"following": 1}, {"events": 1}]

    async def test_where_reads_are_not_audited_a_follower_is_not_but_a_refusal_is(
        self, settings: HubSettings, clock: Clock
    ) -> None:
        async with open_hub(replace(settings, read_audit=ReadAudit.OFF), clock=clock) as hub:
            async with following_live(hub.bind(PETE)) as batches:
                await remember(hub.bind(ALICE), "one")
                await next_of(batches)
            assert await audit_of(hub, action="event.read") == []
            with pytest.raises(NotFound):
                await anext(hub.bind(STRANGER, project_id=DEFAULT).events.batches())
            assert [entry.draft.outcome for entry in await audit_of(hub, action="event.read")] == [Outcome.DENIED]
