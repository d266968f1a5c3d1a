"""What may not be: secrets in the log, traces on disk of what is gone, success told for nothing."""

import json
from pathlib import Path

import anyio
import pytest

from contextdna import (
    AccessDenied,
    AgentId,
    BeginRequest,
    Conflict,
    Hub,
    IntegrityFault,
    InvalidInput,
    Level,
    LimitExceeded,
    MemoryChange,
    MemoryDraft,
    MemorySelection,
    NotFound,
    OnDuplicate,
    Outcome,
    Principal,
    ReadAudit,
    RecordId,
    Risk,
    Role,
    SessionInvalid,
    StoreStatus,
    TaskChange,
    TaskDraft,
    TaskStatus,
    TurnDraft,
    open_hub,
)
from contextdna.hub import reads
from contextdna.hub.opening import DATABASE_FILE
from tests.hub.rig import (
    ALICE,
    BOB,
    DEFAULT,
    OTHER,
    PETE,
    ROOT,
    Clock,
    audit_of,
    begin,
    raw_database,
    refused,
    remember,
    settings_in,
)

pytestmark = pytest.mark.anyio

SECRET = "my salary is 90000"


def database_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{DATABASE_FILE}*"))


async def named_in_log(hub: Hub) -> set[str]:
    return {name for entry in await audit_of(hub) for name in entry.draft.record_ids}


async def test_the_log_names_ids_and_nothing_else_that_a_caller_sent(hub: Hub) -> None:
    handle = await begin(hub, ALICE)
    alice = hub.bind(ALICE)
    for sent in (handle, SECRET, "\x1b[2K\nforged line"):
        await refused(alice.get_memories([RecordId(sent)]), NotFound, "not_found")
        await refused(alice.store_memories([MemoryDraft("x", relates_to=(RecordId(sent),))]), NotFound, "not_found")
    absent = RecordId("mem_0123456789abcdefghjkmn")
    await refused(alice.get_memories([absent]), NotFound, "not_found")
    named = await named_in_log(hub)
    assert absent in named
    assert not {name for name in named if "." in name or " " in name.removeprefix("(no id)")}
    assert "(no id)" in named


async def test_what_becomes_private_leaves_no_plain_trace(folder: Path, clock: Clock) -> None:
    async with open_hub(settings_in(folder), clock=clock) as hub:
        alice = hub.bind(ALICE)
        memory = await remember(alice, f"quinquereme {SECRET}", level=Level.PROJECT)
        await alice.update_memory(memory, MemoryChange(level=Level.PRIVATE), expected_version=1)
        held = b"".join(file.read_bytes() for file in database_files(folder))
        assert SECRET.encode() not in held
        [[left], _] = await alice.get_memories([memory])
        assert SECRET in left.content


async def test_a_purge_whose_caller_has_gone_is_shredded_by_the_next_upkeep(folder: Path, clock: Clock) -> None:
    async with open_hub(settings_in(folder), clock=clock) as hub:
        memory = await remember(hub.bind(ALICE), SECRET, level=Level.PROJECT)
        await hub._rooms.remains.retry()
        write = hub._door.database.write

        async def and_leave(unit: object) -> object:
            await write(unit)  # type: ignore[arg-type]
            scope.cancel()
            await anyio.lowlevel.checkpoint()
            return None

        with pytest.MonkeyPatch.context() as patch, anyio.CancelScope() as scope:
            patch.setattr(hub._door.database, "write", and_leave)
            await hub.bind(ALICE).forget_memories([memory], purge=True)
        assert scope.cancelled_caught
        await hub._rooms.remains.retry()
        held = b"".join(file.read_bytes() for file in database_files(folder))
        assert SECRET.encode() not in held


async def test_a_denial_is_logged_although_its_caller_has_gone(hub: Hub) -> None:
    memory = await remember(hub.bind(ALICE), "mine")
    refuse = hub._door._audit_refusal

    async def gone(*args: object) -> None:
        scope.cancel()
        await refuse(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, anyio.CancelScope() as scope:
        patch.setattr(hub._door, "_audit_refusal", gone)
        with pytest.raises(AccessDenied):
            await hub.bind(BOB).update_memory(memory, MemoryChange(importance=0.1), expected_version=1)
    assert (await audit_of(hub))[-1].draft.outcome is Outcome.DENIED


async def test_a_project_whose_log_is_broken_holds_up_no_other(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "_PENDING_MAX", 5)
    both = Principal(ALICE.agent_id, (DEFAULT, OTHER))
    async with open_hub(settings_in(folder, read_audit=ReadAudit.BACKGROUND), clock=clock) as hub:
        broken, sound = (hub.bind(both, project_id=project) for project in (DEFAULT, OTHER))
        lost, kept = await remember(broken, "in the broken one"), await remember(sound, "in the sound one")
        await hub._door.reads.settle()
        with raw_database(folder) as run:
            run("UPDATE audit_heads SET signature = zeroblob(32) WHERE project_id = 'default'")
        for _ in range(4):
            await broken.get_memories([lost])
        for _ in range(20):
            await refused(broken.get_memories([lost]), IntegrityFault, "audit_head_invalid")
            await sound.get_memories([kept])
        assert sum(map(len, hub._door.reads._pending.values())) <= 10
        seen = [entry for entry in await audit_of(hub, project_id=OTHER) if entry.draft.action == "memory.get"]
        assert len(seen) == 20


async def test_ids_written_in_another_way_are_a_change_of_the_log(folder: Path, clock: Clock) -> None:
    async with open_hub(settings_in(folder), clock=clock) as hub:
        await remember(hub.bind(ALICE), "named in the log")
        with raw_database(folder) as run:
            run("DROP TRIGGER audit_log_keeps_on_update")
            run("UPDATE audit_log SET record_ids = replace(record_ids, '\"mem_', '\"\\u006dem_')")
        assert not (await hub.bind(ROOT).verify_audit()).intact


async def test_a_selection_reaches_what_is_superseded_and_what_is_not_yet_valid(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE)
    old, new = await remember(alice, "old", tags=("zz",)), await remember(alice, "new", tags=("zz",))
    await remember(alice, "later", tags=("zz",), valid_from=clock.now.replace(year=2030))
    await alice.update_memory(old, MemoryChange(superseded_by=new), expected_version=1)
    selection = MemorySelection(tags=("zz",))
    counted = await alice.forget_memories(selection=selection)
    assert counted.matched == 3
    await alice.forget_memories(selection=selection, purge=True, confirm=3)
    await refused(alice.get_memories([old, new]), NotFound, "not_found")


async def test_forgetting_again_moves_no_restore_window(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE)
    memory = await remember(alice, "forgotten twice")
    first = await alice.forget_memories([memory])
    clock.advance(days=20)
    assert (await alice.forget_memories([memory])).restorable_until == first.restorable_until
    clock.advance(days=11)
    await refused(alice.restore_memories([memory]), NotFound, "not_found")


async def test_what_its_retention_has_ended_is_not_restored(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE)
    memory = await remember(alice, "for a day", retention_days=1)
    await alice.forget_memories([memory])
    clock.advance(days=3)
    await refused(alice.restore_memories([memory]), NotFound, "not_found")


async def test_what_will_be_valid_is_a_duplicate_already(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE)
    draft = MemoryDraft("from May on", valid_from=clock.now.replace(month=5))
    await alice.store_memories([draft])
    assert (await alice.store_memories([draft]))[0].status is StoreStatus.MERGED
    await refused(alice.store_memories([draft], on_duplicate=OnDuplicate.ERROR), Conflict, "duplicate")


async def test_a_repeated_request_does_not_answer_for_another_circle_nor_for_what_is_gone(hub: Hub) -> None:
    draft = MemoryDraft("once", level=Level.TEAM)
    alice = hub.bind(ALICE)
    [stored] = await alice.store_memories([draft], idempotency_key="k1")
    moved = hub.bind(Principal(ALICE.agent_id, ALICE.project_ids, team_id="edge"))
    await refused(moved.store_memories([draft], idempotency_key="k1"), Conflict, "idempotency_key_reused")
    assert await alice.store_memories([draft], idempotency_key="k1") == (stored,)
    for purge in (False, True):
        await alice.forget_memories([stored.id], purge=purge)
        await refused(alice.store_memories([draft], idempotency_key="k1"), Conflict, "idempotent_result_gone")


@pytest.mark.parametrize("body", [{}, {"content": 5, "tags": [], "metadata": {}}, [1], "junk"])
async def test_a_damaged_record_hides_no_other_and_stands_in_no_way(folder: Path, clock: Clock, body: object) -> None:
    async with open_hub(settings_in(folder), clock=clock) as hub:
        alice = hub.bind(ALICE)
        damaged, sound = await remember(alice, "the harbour lights"), await remember(alice, "the harbour master")
        with raw_database(folder) as run:
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            run("UPDATE records SET body = ?, sealed_codec = 0 WHERE id = ?", data, damaged)
        [opened], missing = await alice.get_memories([damaged, sound])
        assert (opened.record.id, missing) == (sound, (damaged,))
        await refused(alice.get_memories([damaged]), IntegrityFault, "body_unreadable")
        [again] = await alice.store_memories([MemoryDraft("the harbour lights")])
        assert again.status is StoreStatus.STORED


async def test_a_sweep_goes_on_until_old_events_are_gone(folder: Path, clock: Clock) -> None:
    async with open_hub(settings_in(folder), clock=clock) as hub:
        await remember(hub.bind(ALICE), "one event")
        with raw_database(folder) as run:
            run(
                "INSERT INTO events (project_id, id, name, agent_id, record_ids, at, subject, audience) "
                "SELECT project_id, 'evt_' || value, name, agent_id, record_ids, at, subject, audience FROM events, "
                "(WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 2500) "
                "SELECT value FROM n) WHERE name = 'memory.stored'"
            )
        clock.advance(days=8)
        await hub.bind(ROOT, project_id=DEFAULT).sweep()
        with raw_database(folder) as run:
            assert run("SELECT name, agent_id FROM events") == [("agent.appeared", "root")]  # by the sweep itself


async def test_taking_back_what_one_may_not_see_is_logged_as_a_denial(hub: Hub) -> None:
    memory = await remember(hub.bind(ALICE), "mine", level=Level.PRIVATE)
    report = await hub.bind(BOB).revoke_shares([PETE.agent_id], [memory])
    assert report.changed == 0
    allowed, denied = (await audit_of(hub))[-2:]
    assert (allowed.draft.outcome, allowed.draft.record_ids) == (Outcome.ALLOWED, ())
    assert (denied.draft.outcome, denied.draft.risk, denied.draft.record_ids) == (Outcome.DENIED, Risk.HIGH, (memory,))


class TestNames:
    """A coordinator may begin sessions under names that nobody bears, until somebody does."""

    async def test_a_coordinator_stops_acting_as_whoever_turns_out_to_be_of_another_swarm(self, hub: Hub) -> None:
        coordinator = Principal(AgentId("coord"), (DEFAULT,), swarm_id="sink", role=Role.COORDINATOR)
        for victim in (Principal(AgentId("vera"), (DEFAULT,), swarm_id="lift"), ROOT):
            handle = await begin(hub, coordinator, victim.agent_id)
            acting = hub.bind(coordinator, session_id=handle)
            await remember(acting, "nobody bears the name yet")
            secret = await remember(hub.bind(victim, project_id=DEFAULT), "mine", level=Level.PRIVATE)
            await refused(acting.get_memories([secret]), SessionInvalid, "session_not_yours")

    async def test_a_coordinator_goes_on_as_agents_of_its_swarm(self, hub: Hub) -> None:
        coordinator = Principal(AgentId("coord"), (DEFAULT,), swarm_id="lift", role=Role.COORDINATOR)
        handle = await begin(hub, coordinator, "nora")
        await remember(hub.bind(Principal(AgentId("nora"), (DEFAULT,), swarm_id="lift")), "here I am")
        await remember(hub.bind(coordinator, session_id=handle), "and so am I")

    async def test_nobody_begins_under_the_path_of_an_agent_that_another_will_bring_in(self, hub: Hub) -> None:
        coordinator = Principal(AgentId("coord"), (DEFAULT,), swarm_id="lift", role=Role.COORDINATOR)
        request = BeginRequest(AgentId("queen/drone"))
        await refused(hub.bind(coordinator).begin_session(request), AccessDenied, "session_not_allowed")


async def test_a_position_is_not_given_out_again_after_a_purge(hub: Hub, clock: Clock) -> None:
    acting = hub.bind(ALICE, session_id=await begin(hub, ALICE))
    ids = await acting.log_turns([TurnDraft("user", text) for text in ("one", "two")])
    session = (await acting.read_conversation((await acting.sessions.get()).session.id))[0].record.session_id
    await acting.forget_memories([ids[1]], purge=True)
    clock.advance(seconds=1)
    await acting.log_turns([TurnDraft("user", "three")])
    assert [turn.content for turn in await acting.read_conversation(session, after=2)] == ["three"]


async def test_what_is_over_is_not_taken_and_opened_again_by_others(hub: Hub) -> None:
    added = await hub.bind(BOB).tasks.add(TaskDraft("ship it"))
    done = await hub.bind(BOB).tasks.update(
        added.id, TaskChange(status=TaskStatus.DONE, result="v1"), expected_version=1
    )
    again = TaskChange(take=True, status=TaskStatus.OPEN, result="garbage")
    await refused(
        hub.bind(PETE).tasks.update(added.id, again, expected_version=done.version), AccessDenied, "not_owner"
    )


async def test_a_chain_of_begun_sessions_is_no_deeper_than_one_of_delegations(hub: Hub) -> None:
    workspace = hub.bind(ROOT, project_id=DEFAULT)
    for number in range(hub.settings.work.delegation_depth_max):
        begun = await workspace.begin_session(BeginRequest(AgentId(f"n{number}"), role=Role.SYSTEM))
        workspace = hub.bind(ROOT, session_id=begun.handle)
    await refused(workspace.begin_session(BeginRequest(AgentId("deeper"))), InvalidInput, "delegation_too_deep")


async def test_a_session_ends_with_no_more_artifacts_than_a_batch(hub: Hub) -> None:
    acting = hub.bind(ALICE, session_id=await begin(hub, ALICE))
    ids = [RecordId(f"art_{number}") for number in range(101)]
    await refused(acting.end_session(success=True, artifact_ids=ids), LimitExceeded, "artifacts_out_of_range")
