"""Tasks: who may do what with them, what holds them back, and that nothing waits for itself."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextdna import (
    AccessDenied,
    AgentId,
    Conflict,
    ContextQuery,
    DelegationRequest,
    EventName,
    Hub,
    IntegrityFault,
    InvalidInput,
    Kind,
    Level,
    LimitExceeded,
    MemoryDraft,
    NotFound,
    Outcome,
    Principal,
    RecordId,
    Task,
    TaskChange,
    TaskDraft,
    TaskOrder,
    TaskQuery,
    TaskStatus,
    Workspace,
    open_hub,
)
from contextdna.domain import dependencies
from tests.hub.rig import (
    ALICE,
    BOB,
    DEFAULT,
    PETE,
    ROOT,
    WRITER,
    Clock,
    audit_of,
    begin,
    public,
    raw_database,
    refused,
    remember,
    settings_in,
    unchanged,
)

pytestmark = pytest.mark.anyio

CAROL = Principal(AgentId("carol"), (DEFAULT,))
DONE = TaskChange(status=TaskStatus.DONE)
BEGUN = TaskChange(status=TaskStatus.IN_PROGRESS)


@pytest.fixture
async def filed(anyio_backend: str, folder: Path, clock: Clock) -> AsyncIterator[Hub]:
    """Open a fresh installation in files."""
    async with open_hub(settings_in(folder), clock=clock) as opened:
        yield opened


async def add(workspace: Workspace, title: str = "paint the fence", **fields: object) -> RecordId:
    return (await workspace.tasks.add(replace(TaskDraft(title), **fields))).id  # type: ignore[arg-type]


async def change(workspace: Workspace, task_id: RecordId, wanted: TaskChange, *, version: int = 1) -> int:
    return (await workspace.tasks.update(task_id, wanted, expected_version=version)).version


async def round_about(workspace: Workspace, task_id: RecordId, on: RecordId) -> Conflict:
    """Ask for a dependency that must be refused as a circle."""
    return await refused(workspace.tasks.depend(task_id, [on]), Conflict, "task_cycle")


async def listed(workspace: Workspace, **fields: object) -> list[str]:
    page = await workspace.tasks.list(replace(TaskQuery(), **fields))  # type: ignore[arg-type]
    return [task.title for task in page.tasks]


class TestRights:
    async def test_a_task_comes_back_as_it_was_added(self, hub: Hub, clock: Clock) -> None:
        alice = hub.bind(ALICE)
        first = await add(alice, "buy paint")
        draft = TaskDraft("paint", "Two coats.", "bob", 0.9, Level.TEAM, clock.now, (first,))
        added = await alice.tasks.add(draft)
        assert (added.version, added.status, added.assignee) == (1, TaskStatus.OPEN, "bob")
        task = await alice.tasks.get(added.id)
        assert (task.title, task.description, task.assignee, task.due_at) == ("paint", "Two coats.", "bob", clock.now)
        assert (task.record.importance, task.record.level, task.record.owner_id) == (0.9, Level.TEAM, "alice")
        assert (task.depends_on, task.waits_for, task.waiting, task.ready) == ((first,), (first,), 1, False)

    async def test_an_assignee_reads_the_task_until_it_is_taken_away(self, hub: Hub) -> None:
        alice, bob = hub.bind(ALICE), hub.bind(BOB)
        task_id = await add(alice, level=Level.PRIVATE, assignee="bob")
        task = await bob.tasks.get(task_id)
        assert (task.title, task.granted_by) == ("paint the fence", "alice")
        assert await listed(bob, mine=True) == ["paint the fence"]
        await change(alice, task_id, TaskChange(assignee="pete"))
        await refused(bob.tasks.get(task_id), NotFound, "not_found")
        assert await listed(bob, mine=True) == []
        assert await listed(hub.bind(PETE), mine=True) == ["paint the fence"]
        await change(alice, task_id, TaskChange(assignee=""), version=2)
        await refused(hub.bind(PETE).tasks.get(task_id), NotFound, "not_found")
        assert (await alice.tasks.get(task_id)).assignee == ""

    async def test_what_was_shared_apart_from_the_assignment_stays_shared(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        task_id = await add(alice, level=Level.PRIVATE)
        await alice.share_memories([BOB.agent_id], [task_id])
        await change(alice, task_id, TaskChange(assignee="bob"))
        await change(alice, task_id, TaskChange(assignee=""), version=2)
        assert (await hub.bind(BOB).tasks.get(task_id)).granted_by == "alice"

    async def test_what_is_shared_and_unshared_beside_the_assignment_leaves_the_assignee_its_task(
        self, hub: Hub, clock: Clock
    ) -> None:
        alice, bob = hub.bind(ALICE), hub.bind(BOB)
        task_id = await add(alice, level=Level.PRIVATE, assignee="bob")
        memory_id = await remember(alice, "which brush", level=Level.PRIVATE)
        await alice.share_memories([BOB.agent_id], [memory_id])
        await alice.share_memories([BOB.agent_id], [task_id], expires_in_s=60)
        clock.advance(seconds=61)
        assert (await bob.tasks.get(task_id)).granted_by == "alice"
        await alice.share_memories([BOB.agent_id], [task_id])
        ended = await alice.revoke_shares([BOB.agent_id])
        assert (ended.changed, set(ended.memory_ids)) == (2, {memory_id, task_id})
        for named in ([], [task_id]):
            assert (await alice.revoke_shares([BOB.agent_id], named)).changed == 0
        assert (await bob.tasks.get(task_id)).granted_by == "alice"
        await change(alice, task_id, TaskChange(assignee=""))
        await refused(bob.tasks.get(task_id), NotFound, "not_found")

    async def test_who_is_assigned_what_it_has_reads_it_again(self, hub: Hub) -> None:
        alice, bob = hub.bind(ALICE), hub.bind(BOB)
        task_id = await add(alice, level=Level.PROJECT)
        await change(bob, task_id, TaskChange(take=True))
        await change(alice, task_id, TaskChange(level=Level.PRIVATE), version=2)  # it took what it saw, without a grant
        await refused(bob.tasks.get(task_id), NotFound, "not_found")
        await change(alice, task_id, TaskChange(assignee="bob", priority=0.9), version=3)
        assert (await bob.tasks.get(task_id)).assignee == "bob"

    async def test_an_assignee_changes_status_and_result_and_nothing_else(self, hub: Hub) -> None:
        alice, bob = hub.bind(ALICE), hub.bind(BOB)
        task_id = await add(alice, level=Level.PRIVATE, assignee="bob")
        others = [
            TaskChange(title="mine now"),
            TaskChange(description="x"),
            TaskChange(priority=1.0),
            TaskChange(assignee=""),
            TaskChange(level=Level.PROJECT),
            TaskChange(status=TaskStatus.DONE, title="mine now"),
            TaskChange(depend_on=(RecordId("task_x"),)),
        ]
        for wanted in others:
            await refused(change(bob, task_id, wanted), AccessDenied, "not_owner")
        await refused(bob.tasks.depend(task_id, no_longer=[task_id]), AccessDenied, "not_owner")
        note = await remember(bob, "the fence is green")
        wanted = TaskChange(status=TaskStatus.DONE, result="Green.", result_ids=(note,))
        assert await change(bob, task_id, wanted) == 2
        task = await alice.tasks.get(task_id)
        assert (task.status, task.result, task.result_ids) == (TaskStatus.DONE, "Green.", (note,))

    @pytest.mark.parametrize("over", [TaskStatus.DONE, TaskStatus.CANCELLED])
    async def test_an_assignee_opens_nothing_again_that_is_over(self, hub: Hub, over: TaskStatus) -> None:
        alice, bob = hub.bind(ALICE), hub.bind(BOB)
        task_id = await add(alice, assignee=BOB.agent_id)
        await change(alice, task_id, TaskChange(status=over))
        for wanted in {TaskStatus.DONE, TaskStatus.CANCELLED, TaskStatus.OPEN, TaskStatus.IN_PROGRESS} - {over}:
            call = change(bob, task_id, TaskChange(status=wanted, result="after all"), version=2)
            error = await refused(call, AccessDenied, "not_owner")
            assert error.message == f"the task is {over}: only its owner opens it again"
        await change(bob, task_id, TaskChange(result="a late word"), version=2)
        await change(alice, task_id, TaskChange(status=TaskStatus.OPEN), version=3)

    async def test_who_only_sees_a_task_changes_nothing(self, hub: Hub) -> None:
        task_id = await add(hub.bind(ALICE))
        error = await unchanged(
            hub, lambda: refused(change(hub.bind(BOB), task_id, DONE), AccessDenied, "not_owner"), audited=1
        )
        assert error.record_ids == (task_id,)

    async def test_an_assignee_that_lost_sight_of_a_task_finds_nothing(self, hub: Hub) -> None:
        alice, bob = hub.bind(ALICE), hub.bind(BOB)
        task_id = await add(alice, level=Level.PROJECT)
        await change(bob, task_id, TaskChange(take=True))
        await change(alice, task_id, TaskChange(level=Level.PRIVATE), version=2)
        await refused(change(bob, task_id, DONE, version=3), NotFound, "not_found")

    async def test_the_role_system_changes_tasks_but_shows_none_to_others(self, hub: Hub) -> None:
        alice, root = hub.bind(ALICE), hub.bind(ROOT)
        private = await add(alice, level=Level.PRIVATE, assignee="bob")
        await change(root, private, TaskChange(title="renamed"))
        for wanted in (TaskChange(assignee="root"), TaskChange(level=Level.PROJECT)):
            await refused(change(root, private, wanted, version=2), AccessDenied, "not_owner")
        assert await change(root, private, TaskChange(assignee=""), version=2) == 3
        await refused(hub.bind(BOB).tasks.get(private), NotFound, "not_found")
        public_task = await add(alice)
        await change(root, public_task, TaskChange(assignee="bob"))
        assert await listed(hub.bind(BOB), mine=True) == ["paint the fence"]

    async def test_a_new_level_moves_a_task_to_its_owners_circle_and_seals_it(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        task_id = await add(alice, assignee="pete")
        await change(alice, task_id, TaskChange(level=Level.PRIVATE))
        assert (await alice.tasks.get(task_id)).record.sealed.key_id
        await refused(hub.bind(BOB).tasks.get(task_id), NotFound, "not_found")
        assert (await hub.bind(PETE).tasks.get(task_id)).assignee == "pete"
        await refused(change(alice, task_id, TaskChange(level=Level.SYSTEM), version=2), AccessDenied, "role_required")

    async def test_a_bare_name_means_the_own_delegate_of_that_name(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        report = await alice.delegate(DelegationRequest(AgentId("drone"), "help"))
        added = await alice.tasks.add(TaskDraft("carry", level=Level.PRIVATE, assignee="drone"))
        assert added.assignee == "alice/drone"
        drone = hub.bind(ALICE, session_id=report.begun.handle)
        assert await listed(drone, mine=True) == ["carry"]
        assert await listed(alice, assignee="drone") == ["carry"]
        assert (await hub.bind(BOB).tasks.add(TaskDraft("x", assignee="drone"))).assignee == "drone"

    async def test_results_are_shown_to_those_who_see_them(self, hub: Hub) -> None:
        alice, bob = hub.bind(ALICE), hub.bind(BOB)
        task_id = await add(alice, assignee="bob")
        secret = await remember(bob, "how I did it", level=Level.PRIVATE)
        await change(bob, task_id, TaskChange(result_ids=(secret,)))
        assert (await bob.tasks.get(task_id)).result_ids == (secret,)
        assert (await alice.tasks.get(task_id)).result_ids == ()
        await refused(
            change(alice, task_id, TaskChange(result_ids=(RecordId("mem_x"),)), version=2), NotFound, "not_found"
        )

    async def test_whoever_sees_a_task_that_nobody_has_may_take_it(self, hub: Hub) -> None:
        alice, bob = hub.bind(ALICE), hub.bind(BOB)
        task_id = await add(alice, level=Level.SWARM)
        taken = await bob.tasks.update(
            task_id, TaskChange(take=True, status=TaskStatus.IN_PROGRESS), expected_version=1
        )
        assert (taken.assignee, taken.status) == ("bob", TaskStatus.IN_PROGRESS)
        await refused(change(hub.bind(WRITER), task_id, TaskChange(take=True)), Conflict, "version_conflict")
        tess_sees = await add(alice, level=Level.TEAM)
        await refused(change(bob, tess_sees, TaskChange(take=True)), NotFound, "not_found")

    async def test_taking_a_task_gives_no_more_to_read_than_before(self, hub: Hub) -> None:
        alice, bob, root = hub.bind(ALICE), hub.bind(BOB), hub.bind(ROOT)
        private, shown, given = (
            await add(alice, level=Level.PRIVATE),
            await add(alice),
            await add(alice, assignee="pete"),
        )
        await refused(change(root, private, TaskChange(take=True)), NotFound, "not_found")
        await change(bob, shown, TaskChange(take=True))
        await change(alice, shown, TaskChange(level=Level.PRIVATE), version=2)
        await refused(bob.tasks.get(shown), NotFound, "not_found")
        await refused(change(bob, given, TaskChange(take=True)), AccessDenied, "not_owner")
        await refused(change(bob, await add(alice), TaskChange(take=True, title="x")), AccessDenied, "not_owner")
        await refused(change(alice, given, TaskChange(take=True, assignee="bob")), InvalidInput, "assignee_twice")


class TestDependencies:
    async def test_a_task_begins_and_ends_only_after_what_it_depends_on(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        first = await add(alice, "first")
        second = await add(alice, "second", depends_on=(first,))
        for wanted in (BEGUN, DONE):
            error = await refused(change(alice, second, wanted), Conflict, "task_waits")
            assert first in error.message
        assert await listed(alice, ready=True) == ["first"]
        await change(alice, first, DONE)
        assert await listed(alice, ready=True) == ["second"]
        assert await change(alice, second, BEGUN) == 2

    async def test_blocked_and_cancelled_may_be_set_while_it_waits(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        second = await add(alice, depends_on=(await add(alice),))
        version = await change(alice, second, TaskChange(status=TaskStatus.BLOCKED))
        assert await change(alice, second, TaskChange(status=TaskStatus.CANCELLED), version=version) == 3

    async def test_a_hidden_dependency_holds_back_and_is_not_named(self, hub: Hub) -> None:
        alice, bob = hub.bind(ALICE), hub.bind(BOB)
        hidden, plain = await add(alice, level=Level.PRIVATE), await add(alice, "plain")
        task_id = await add(alice, depends_on=(hidden, plain), assignee="bob")
        error = await refused(change(bob, task_id, BEGUN), Conflict, "task_waits")
        assert "2 of its dependencies" in error.message
        assert plain in error.message
        assert hidden not in error.message + error.hint
        task = await bob.tasks.get(task_id)
        assert (task.depends_on, task.waits_for, task.waiting) == ((plain,), (plain,), 2)

    async def test_a_forgotten_dependency_holds_nothing_back_until_it_is_restored(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        first = await add(alice, "first")
        second = await add(alice, "second", depends_on=(first,))
        await alice.forget_memories([first])
        assert await listed(alice) == ["second"]
        assert (await alice.tasks.get(second)).ready
        await alice.restore_memories([first])
        assert (await alice.tasks.get(second)).waits_for == (first,)
        await refused(alice.tasks.depend(first, [second]), Conflict, "task_cycle")
        await alice.forget_memories([first], purge=True)
        assert (await alice.tasks.get(second)).depends_on == ()

    async def test_dependencies_are_taken_away_again(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        first, second = await add(alice), await add(alice)
        await alice.tasks.depend(second, [first])
        await refused(alice.tasks.depend(first, [second]), Conflict, "task_cycle")
        await alice.tasks.depend(second, no_longer=[first])
        await alice.tasks.depend(first, [second])
        assert (await alice.tasks.get(first)).depends_on == (second,)
        swapped = TaskChange(status=TaskStatus.DONE, free_of=(second,))
        assert await change(alice, first, swapped) == 2

    async def test_only_tasks_are_depended_on(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        memory, task_id = await remember(alice, "a fact"), await add(alice)
        await refused(alice.tasks.depend(task_id, [memory]), NotFound, "not_found")
        await refused(alice.tasks.depend(memory, [task_id]), NotFound, "not_found")
        await refused(alice.tasks.get(memory), NotFound, "not_found")

    async def test_their_number_is_bounded(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        many = tuple(RecordId(f"task_{number}") for number in range(101))
        await refused(add(alice, depends_on=many), LimitExceeded, "task_dependencies_too_many")

    async def test_what_is_looked_through_for_circles_is_bounded(
        self, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alice = hub.bind(ALICE)
        monkeypatch.setattr(dependencies, "REACH_MAX", 3)
        chain = [await add(alice)]
        for _ in range(3):
            chain.append(await add(alice, depends_on=(chain[-1],)))
        await alice.tasks.depend(await add(alice), [chain[2]])
        await refused(alice.tasks.depend(await add(alice), [chain[3]]), LimitExceeded, "task_dependencies_too_many")

    async def test_a_task_does_not_wait_for_itself(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        one = await add(alice)
        two = await add(alice, depends_on=(one,))
        three = await add(alice, depends_on=(two,))
        for on in (one, two, three):
            error = await unchanged(hub, partial(round_about, alice, one, on), audited=1)
            assert error.record_ids == (one,)

    @pytest.mark.parametrize("number", [2, 50])
    async def test_edges_added_at_once_never_close_a_circle(self, hub: Hub, number: int) -> None:
        alice = hub.bind(ALICE)
        ring = [await add(alice, f"task {index}") for index in range(number)]
        refusals = 0

        async def close(index: int) -> None:
            nonlocal refusals
            try:
                await alice.tasks.depend(ring[index], [ring[(index + 1) % number]])
            except Conflict:
                refusals += 1

        async with anyio.create_task_group() as tasks:
            for index in range(number):
                tasks.start_soon(close, index)
        assert refusals == 1
        assert not goes_round(await edges_of(alice, ring))


async def test_two_installations_of_one_folder_close_no_circle_together(folder: Path) -> None:
    async with open_hub(settings_in(folder)) as one, open_hub(settings_in(folder)) as other:
        for number in range(20):
            first, second = await add(one.bind(ALICE), f"{number}"), await add(other.bind(ALICE), f"{number}")
            outcomes: list[str] = []

            async def depend(hub: Hub, task_id: RecordId, on: RecordId, outcomes: list[str] = outcomes) -> None:
                try:
                    await hub.bind(ALICE).tasks.depend(task_id, [on])
                    outcomes.append("added")
                except Conflict as error:
                    outcomes.append(error.code)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(depend, one, first, second)
                tasks.start_soon(depend, other, second, first)
            assert sorted(outcomes) == ["added", "task_cycle"]


async def edges_of(workspace: Workspace, task_ids: Sequence[RecordId]) -> dict[RecordId, tuple[RecordId, ...]]:
    return {task_id: (await workspace.tasks.get(task_id)).depends_on for task_id in task_ids}


def goes_round(edges: dict[RecordId, tuple[RecordId, ...]]) -> bool:
    """Take away what waits for nothing, until nothing is left or nothing can be taken."""
    left = dict(edges)
    while left:
        free = {name for name, targets in left.items() if not any(target in left for target in targets)}
        if not free:
            return True
        left = {name: targets for name, targets in left.items() if name not in free}
    return False


NUMBERS = st.integers(0, 7)
STEPS = st.lists(st.tuples(NUMBERS, st.lists(NUMBERS, min_size=1, max_size=3), st.booleans()), max_size=25)


@given(steps=STEPS)
def test_no_sequence_of_changes_makes_a_circle(steps: list[tuple[int, list[int], bool]]) -> None:
    """Whatever would close one is refused, and nothing else is."""

    async def play() -> None:
        async with open_hub(settings_in(None)) as hub:
            alice = hub.bind(ALICE)
            tasks = [await add(alice, f"task {number}") for number in range(8)]
            model: dict[RecordId, set[RecordId]] = {task_id: set() for task_id in tasks}
            for source, targets, away in steps:
                wanted = {tasks[target] for target in targets}
                if away:
                    await alice.tasks.depend(tasks[source], no_longer=list(wanted))
                    model[tasks[source]] -= wanted
                    continue
                changed = {name: tuple(ends) for name, ends in model.items()}
                changed[tasks[source]] = (*changed[tasks[source]], *wanted)
                if goes_round(changed):
                    await refused(alice.tasks.depend(tasks[source], list(wanted)), Conflict, "task_cycle")
                else:
                    await alice.tasks.depend(tasks[source], list(wanted))
                    model[tasks[source]] |= wanted
            edges = await edges_of(alice, tasks)
            assert {name: set(ends) for name, ends in edges.items()} == model

    anyio.run(play)


class TestChanges:
    async def test_a_stale_version_says_the_current_one(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        task_id = await add(alice)
        await change(alice, task_id, BEGUN)
        error = await refused(change(alice, task_id, DONE), Conflict, "version_conflict")
        assert (error.current_version, error.expected_version) == (2, 1)
        [lost] = await hub.bind(ROOT).conflicts()
        assert lost.record_id == task_id

    async def test_of_many_that_take_a_task_one_gets_it(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        task_id = await add(alice)
        won: list[str] = []
        lost: list[str] = []

        async def take(name: str) -> None:
            try:
                agent = hub.bind(Principal(AgentId(name), (DEFAULT,)))
                await change(agent, task_id, TaskChange(take=True, status=TaskStatus.IN_PROGRESS))
                won.append(name)
            except Conflict:
                lost.append(name)

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(take, f"agent-{number}")
        assert [(await alice.tasks.get(task_id)).assignee] == won
        assert len(lost) == 19

    async def test_the_session_in_which_it_was_begun_is_kept(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        task_id = await add(alice, assignee="drone")
        report = await alice.delegate(DelegationRequest(AgentId("drone"), "help"))
        await change(alice, task_id, TaskChange(assignee="drone"))
        drone = hub.bind(ALICE, session_id=report.begun.handle)
        await change(drone, task_id, BEGUN, version=2)
        task = await alice.tasks.get(task_id)
        assert (task.session_id, task.delegation_id) == (public(report.begun.handle), report.delegation.id)
        handle = await begin(hub, ALICE)
        acting = hub.bind(ALICE, session_id=handle)
        await change(acting, task_id, TaskChange(status=TaskStatus.OPEN), version=3)
        await change(acting, task_id, BEGUN, version=4)
        task = await alice.tasks.get(task_id)
        assert (task.session_id, task.delegation_id) == (public(handle), "")

    async def test_wrong_values_are_refused(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        task_id = await add(alice)
        await refused(add(alice, ""), InvalidInput, "title_empty")
        await refused(add(alice, "x" * 1001), LimitExceeded, "title_too_large")
        await refused(add(alice, description="x" * 70_000), LimitExceeded, "description_too_large")
        await refused(add(alice, priority=1.1), InvalidInput, "priority_out_of_range")
        await refused(add(alice, assignee="no such name!"), InvalidInput, "assignee_invalid")
        await refused(add(hub.bind(PETE), level=Level.TEAM), InvalidInput, "level_needs_team")
        await refused(change(alice, task_id, TaskChange()), InvalidInput, "change_empty")
        await refused(change(alice, task_id, TaskChange(result="x" * 70_000)), LimitExceeded, "result_too_large")
        await refused(change(alice, task_id, DONE, version=0), LimitExceeded, "expected_version_out_of_range")
        await refused(alice.tasks.depend(task_id), InvalidInput, "change_empty")
        await refused(alice.tasks.list(TaskQuery(limit=0)), LimitExceeded, "limit_out_of_range")
        await refused(alice.tasks.list(TaskQuery(mine=True, assignee="bob")), InvalidInput, "assignee_twice")

    async def test_what_happened_is_told_to_those_it_concerns(self, hub: Hub) -> None:
        alice, bob = hub.bind(ALICE), hub.bind(BOB)
        task_id = await add(alice, level=Level.PRIVATE, assignee="bob")
        await change(alice, task_id, TaskChange(assignee="pete"))

        async def heard(workspace: Workspace) -> list[tuple[str, str, tuple[str, ...]]]:
            events = (await workspace.events.read()).events
            of_tasks = [event for event in events if event.name is not EventName.AGENT_APPEARED]
            return [(event.name.value, event.subject, event.record_ids) for event in of_tasks]

        changes = [("task.updated", "pete", (task_id,)), ("task.updated", "bob", (task_id,))]
        assert await heard(alice) == [("task.added", "bob", (task_id,)), *changes]
        assert await heard(bob) == [("task.updated", "bob", ())]
        assert await heard(hub.bind(CAROL)) == []
        assert [entry.draft.action for entry in await audit_of(hub, record_id=task_id)][:2] == [
            "task.add",
            "task.update",
        ]

    async def test_a_waiting_tasks_refusal_is_audited_as_a_conflict(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        second = await add(alice, depends_on=(await add(alice),))
        await refused(change(alice, second, DONE), Conflict, "task_waits")
        entry = (await audit_of(hub, action="task.update"))[-1].draft
        assert (entry.outcome, entry.record_ids[0]) == (Outcome.CONFLICT, second)


class TestFinding:
    async def test_pages_follow_one_another(self, hub: Hub, clock: Clock) -> None:
        alice = hub.bind(ALICE)
        for number in range(7):
            await add(alice, f"task {number}", priority=(number % 3) / 2)
            clock.advance(minutes=1)
        for order in TaskOrder:
            whole, cursor = await listed(alice, order=order), ""
            seen: list[Task] = []
            for _ in range(4):
                page = await alice.tasks.list(TaskQuery(order=order, limit=2, cursor=cursor))
                seen += page.tasks
                cursor = page.cursor
            assert ([task.title for task in seen], cursor) == (whole, "")

    async def test_a_cursor_belongs_to_its_question_and_reader(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        for _ in range(3):
            await add(alice)
        cursor = (await alice.tasks.list(TaskQuery(limit=1))).cursor
        wrong = [
            (alice, TaskQuery(limit=1, cursor=cursor, ready=True)),
            (hub.bind(BOB), TaskQuery(limit=1, cursor=cursor)),
            (alice, TaskQuery(cursor="AAAA")),
            (alice, TaskQuery(cursor="WzEsMl0")),
        ]
        for workspace, query in wrong:
            await refused(workspace.tasks.list(query), InvalidInput, "cursor_invalid")

    async def test_search_finds_tasks_by_all_their_words(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        task_id = await add(alice, "paint", description="the quokka house", level=Level.PRIVATE)
        await change(alice, task_id, TaskChange(result="It is vermilion."))
        for text in ("paint", "quokka", "vermilion"):
            [hit] = (await alice.retrieve_context(ContextQuery(text, kinds=(Kind.TASK,)))).hits
            assert (hit.record.id, hit.content) == (task_id, "paint\nthe quokka house\nResult: It is vermilion.")
        assert (await hub.bind(BOB).retrieve_context(ContextQuery("quokka"))).hits == ()

    async def test_sealed_tasks_lie_in_no_file_as_text(self, filed: Hub, folder: Path) -> None:
        alice = filed.bind(ALICE)
        task_id = await add(alice, "zyzzyva title", description="zyzzyva", level=Level.PRIVATE)
        await change(alice, task_id, TaskChange(result="zyzzyva result"))
        found = [path async for path in anyio.Path(folder).rglob("*") if await path.is_file()]
        assert found
        for path in found:
            assert b"zyzzyva" not in await path.read_bytes()
        with raw_database(folder) as run:
            [row] = run("SELECT status, assignee, priority, owner_id FROM tasks")
        assert tuple(row) == ("open", "", 0.5, "alice")

    async def test_a_task_changed_by_hand_is_told_as_damaged_and_hides_no_other(self, filed: Hub, folder: Path) -> None:
        alice = filed.bind(ALICE)
        for title in ("whole", "status", "due", "shape"):
            await add(alice, title)
        replaced = "UPDATE records SET body = CAST(replace(body, ?, ?) AS BLOB) WHERE body LIKE ?"
        with raw_database(folder) as run:
            run("UPDATE records SET type = 'lost' WHERE body LIKE ?", '%"status"%')
            run(replaced, '"due_at":"', '"due_at":"x', '%"due"%')
            run(replaced, "grant_id", "grunt_id", '%"shape"%')
            damaged = [RecordId(row[0]) for row in run("SELECT id FROM records WHERE body NOT LIKE '%whole%'")]
        assert await listed(alice) == ["whole"]
        assert len(damaged) == 3
        for task_id in damaged:
            await refused(alice.tasks.get(task_id), IntegrityFault, "body_unreadable")
            await refused(change(alice, task_id, DONE), IntegrityFault, "body_unreadable")


class TestDocuments:
    async def test_links_say_how_a_memory_relates_and_can_be_taken_away(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        claim, proof = await remember(alice, "the sky is green"), await remember(alice, "a photo of it")
        hidden = await remember(hub.bind(WRITER), "hidden", level=Level.PRIVATE)
        task_id = await add(alice)
        links = await alice.documents.link(proof, [claim, task_id], relation="supports")
        assert {(link.name, link.target) for link in links} == {("supports", claim), ("supports", task_id)}
        assert (await alice.documents.open(proof)).relations == links
        [left] = await alice.documents.link(proof, [task_id], relation="supports", remove=True)
        assert left.target == claim
        await refused(alice.documents.link(proof, [hidden]), NotFound, "not_found")
        await refused(alice.documents.link(proof, [proof]), InvalidInput, "link_to_itself")
        await refused(alice.documents.link(task_id, [proof]), NotFound, "not_found")
        await refused(hub.bind(BOB).documents.link(proof, [claim]), AccessDenied, "not_owner")
        for relation in ("depends_on", "supersedes", "likes"):
            await refused(alice.documents.link(proof, [claim], relation=relation), InvalidInput, "relation_unknown")

    async def test_a_link_to_what_became_hidden_is_not_shown(self, hub: Hub) -> None:
        alice, bob = hub.bind(ALICE), hub.bind(BOB)
        [mine] = await alice.store_memories([MemoryDraft("mine")])
        his = await remember(bob, "his", level=Level.PRIVATE)
        await bob.share_memories([ALICE.agent_id], [his])
        assert len(await alice.documents.link(mine.id, [his])) == 1
        await bob.revoke_shares([ALICE.agent_id])
        assert (await alice.documents.open(mine.id)).relations == ()
