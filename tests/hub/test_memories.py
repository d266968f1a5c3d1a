"""Memories: batches, duplicates, idempotency, versions, validity, retention, forgetting, size."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from contextdna import (
    AccessDenied,
    Conflict,
    ContextQuery,
    Hub,
    HubSettings,
    InvalidInput,
    Level,
    LimitExceeded,
    Loop,
    LoopDraft,
    Memory,
    MemoryChange,
    MemoryDraft,
    MemorySelection,
    NotFound,
    OnDuplicate,
    Outcome,
    RecordId,
    StoredMemory,
    Tier,
)
from tests.hub.rig import (
    ALICE,
    BOB,
    PETE,
    ROOT,
    START,
    Clock,
    last_audit,
    raw_database,
    refused,
    remember,
    unchanged,
)

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


async def opened(hub: Hub, memory: RecordId) -> Memory:
    [[one], _] = await hub.bind(ALICE).get_memories([memory])
    return one


async def found(hub: Hub, **query: Any) -> set[str]:
    context = await hub.bind(ALICE).retrieve_context(ContextQuery(max_tokens=20_000, limit=100, **query))
    return {hit.record.id for hit in context.hits}


async def is_gone(hub: Hub, memory: RecordId) -> bool:
    try:
        await hub.bind(ALICE).get_memories([memory])
    except NotFound:
        return True
    return False


class TestBatches:
    @pytest.mark.parametrize(
        ("bad", "code"),
        [
            (MemoryDraft(" "), "content_empty"),
            (MemoryDraft("x", memory_type="nonsense"), "memory_type_unknown"),
            (MemoryDraft("x", importance=2.0), "importance_out_of_range"),
            (MemoryDraft("x", relates_to=(RecordId("mem_absent"),)), "not_found"),
        ],
    )
    async def test_one_bad_memory_keeps_all_out(self, hub: Hub, bad: MemoryDraft, code: str) -> None:
        drafts = [MemoryDraft("first"), bad, MemoryDraft("last")]
        kind: type[InvalidInput | NotFound] = NotFound if code == "not_found" else InvalidInput

        async def store() -> str:
            return (await refused(hub.bind(ALICE).store_memories(drafts), kind, code)).message

        message = await unchanged(hub, store, audited=int(code == "not_found"))
        assert code == "not_found" or message.startswith("memories[1]")

    async def test_a_hundred_are_stored_and_one_more_is_refused(self, hub: Hub) -> None:
        drafts = [MemoryDraft(f"number {number}") for number in range(101)]
        stored = await hub.bind(ALICE).store_memories(drafts[:100])
        assert len({item.id for item in stored}) == 100

        async def store() -> None:
            await refused(hub.bind(ALICE).store_memories(drafts), LimitExceeded, "memories_out_of_range")

        await unchanged(hub, store, audited=0)
        await refused(hub.bind(ALICE).store_memories([]), LimitExceeded, "memories_out_of_range")

    async def test_an_entry_and_an_event_name_every_memory_of_a_batch(self, hub: Hub) -> None:
        stored = await hub.bind(ALICE).store_memories([MemoryDraft("one"), MemoryDraft("two")])
        ids = tuple(item.id for item in stored)
        assert (await last_audit(hub)).draft.record_ids == ids
        [event] = [event for event in (await hub.bind(ROOT).events.read()).events if event.record_ids]
        assert (event.name, event.record_ids, event.agent_id) == ("memory.stored", ids, "alice")


class TestDuplicates:
    async def test_the_same_content_is_merged(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        first = await remember(alice, "same", importance=0.4, tags=("a", "b"), metadata={"x": 1, "y": 1})
        draft = MemoryDraft("same", importance=0.7, tags=("b", "c"), metadata={"y": 2, "z": 3})
        assert await alice.store_memories([draft]) == (StoredMemory(first, 2, "merged", ALICE.agent_id),)  # type: ignore[arg-type]
        merged = await opened(hub, first)
        assert (merged.record.importance, merged.tags) == (0.7, ("a", "b", "c"))
        assert merged.metadata == {"x": 1, "y": 2, "z": 3}
        assert await found(hub, tags=("c",)) == {first}
        await alice.store_memories([replace(draft, importance=0.1)])
        assert (await opened(hub, first)).record.importance == 0.7

    async def test_merging_what_adds_nothing_makes_no_new_version(self, hub: Hub) -> None:
        memory = await remember(hub.bind(ALICE), "same")
        [again] = await hub.bind(ALICE).store_memories([MemoryDraft("same")])
        assert (again.id, again.version) == (memory, 1)

    @pytest.mark.parametrize(("kept", "added"), [(None, 1.0), (2.0, None), (None, None)])
    async def test_merging_with_a_memory_that_is_kept_never_gives_it_an_end(
        self, hub: Hub, kept: float | None, added: float | None
    ) -> None:
        memory = await remember(hub.bind(ALICE), "same", retention_days=kept)
        await hub.bind(ALICE).store_memories([MemoryDraft("same", retention_days=added)])
        assert (await opened(hub, memory)).record.retention_until is None

    async def test_merging_keeps_the_later_end(self, hub: Hub) -> None:
        memory = await remember(hub.bind(ALICE), "same", retention_days=5)
        await hub.bind(ALICE).store_memories([MemoryDraft("same", retention_days=2)])
        assert (await opened(hub, memory)).record.retention_until == START + timedelta(days=5)

    async def test_new_keeps_both_and_error_refuses(self, hub: Hub) -> None:
        first = await remember(hub.bind(ALICE), "same")
        [second] = await hub.bind(ALICE).store_memories([MemoryDraft("same")], on_duplicate=OnDuplicate.NEW)
        assert second.id != first

        async def store() -> None:
            drafts = [MemoryDraft("other"), MemoryDraft("same")]
            call = hub.bind(ALICE).store_memories(drafts, on_duplicate=OnDuplicate.ERROR)
            error = await refused(call, Conflict, "duplicate")
            assert error.record_ids in ((first,), (second.id,))

        await unchanged(hub, store, audited=1)

    async def test_a_batch_merges_within_itself(self, hub: Hub) -> None:
        drafts = [MemoryDraft("same", tags=("a",)), MemoryDraft("other"), MemoryDraft("same", tags=("b",))]
        one, other, two = await hub.bind(ALICE).store_memories(drafts)
        assert one.id == two.id != other.id
        assert one.version == two.version
        assert (await opened(hub, one.id)).tags == ("a", "b")
        with_error = hub.bind(ALICE).store_memories(
            [MemoryDraft("z"), MemoryDraft("z")], on_duplicate=OnDuplicate.ERROR
        )
        await refused(with_error, Conflict, "duplicate")

    async def test_what_belongs_to_another_circle_is_no_duplicate(self, hub: Hub) -> None:
        first = await remember(hub.bind(ALICE), "same")
        assert await remember(hub.bind(ALICE), "same", level=Level.PRIVATE) != first
        assert await remember(hub.bind(BOB), "same") != first


class TestIdempotency:
    async def test_a_retry_gives_the_first_answer_and_stores_nothing(self, hub: Hub) -> None:
        async def store() -> tuple[StoredMemory, ...]:
            return await hub.bind(ALICE).store_memories(
                [MemoryDraft("once"), MemoryDraft("twice")], on_duplicate=OnDuplicate.NEW, idempotency_key="k1"
            )

        first = await store()
        assert await unchanged(hub, store, audited=1) == first

    async def test_the_same_key_for_another_request_is_refused(self, hub: Hub) -> None:
        await hub.bind(ALICE).store_memories([MemoryDraft("once")], idempotency_key="k1")
        for draft in (MemoryDraft("other"), MemoryDraft("once", importance=0.9), MemoryDraft("once", tags=("t",))):

            async def store(draft: MemoryDraft = draft) -> None:
                call = hub.bind(ALICE).store_memories([draft], idempotency_key="k1")
                await refused(call, Conflict, "idempotency_key_reused")

            await unchanged(hub, store, audited=1)

    async def test_a_key_is_its_agents_own_and_is_forgotten_in_time(self, hub: Hub, clock: Clock) -> None:
        first = await hub.bind(ALICE).store_memories([MemoryDraft("once")], idempotency_key="k1")
        assert await hub.bind(BOB).store_memories([MemoryDraft("his")], idempotency_key="k1") != first
        clock.advance(days=8)
        await hub.bind(ROOT).sweep()
        await hub.bind(ALICE).store_memories([MemoryDraft("new")], idempotency_key="k1")


class TestVersions:
    async def test_a_stale_version_loses_and_is_on_record(self, hub: Hub) -> None:
        memory = await remember(hub.bind(ALICE), "one")
        await hub.bind(ALICE).update_memory(memory, MemoryChange(content="two"), expected_version=1)
        call = hub.bind(ALICE).update_memory(memory, MemoryChange(content="three"), expected_version=1)
        error = await refused(call, Conflict, "version_conflict")
        assert (error.current_version, error.expected_version) == (2, 1)
        assert (await opened(hub, memory)).content == "two"
        [lost] = await hub.bind(ROOT).conflicts()
        assert (lost.record_id, lost.agent_id, lost.expected_version, lost.current_version) == (memory, "alice", 1, 2)
        [entry] = [e for e in await hub.bind(ROOT).query_audit(action="memory.update") if e.draft.outcome != "allowed"]
        assert (entry.draft.outcome, entry.draft.record_ids) == (Outcome.CONFLICT, (memory,))

    async def test_of_concurrent_updates_one_wins(self, hub: Hub) -> None:
        memory = await remember(hub.bind(ALICE), "start")
        outcomes: list[str] = []

        async def update(number: int) -> None:
            try:
                await hub.bind(ALICE).update_memory(memory, MemoryChange(content=f"n{number}"), expected_version=1)
                outcomes.append(f"n{number}")
            except Conflict as error:
                outcomes.append(error.code)

        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(update, number)
        [winner] = [outcome for outcome in outcomes if outcome != "version_conflict"]
        final = await opened(hub, memory)
        assert (final.content, final.record.version) == (winner, 2)
        assert len(await hub.bind(ROOT).conflicts()) == 7

    async def test_every_field_can_be_changed_and_is_found_anew(self, hub: Hub) -> None:
        memory = await remember(hub.bind(ALICE), "walrus", tags=("old",))
        change = MemoryChange(
            content="narwhal",
            memory_type="lesson",
            tier=Tier.EPISODIC,
            level=Level.PRIVATE,
            importance=0.9,
            tags=("new",),
            metadata={"k": [1, None]},
            retention_days=3,
        )
        await hub.bind(ALICE).update_memory(memory, change, expected_version=1)
        now = await opened(hub, memory)
        assert (now.content, now.tags, now.metadata) == ("narwhal", ("new",), {"k": [1, None]})
        assert (now.record.type, now.record.tier, now.record.importance) == ("lesson", "episodic", 0.9)
        assert now.record.retention_until == START + timedelta(days=3)
        assert await found(hub, text="narwhal") == await found(hub, tags=("new",)) == {memory}
        assert await found(hub, text="walrus") == await found(hub, tags=("old",)) == set()

    async def test_an_empty_change_is_refused(self, hub: Hub) -> None:
        memory = await remember(hub.bind(ALICE), "same")
        call = hub.bind(ALICE).update_memory(memory, MemoryChange(), expected_version=1)
        await refused(call, InvalidInput, "change_empty")

    @pytest.mark.parametrize("version", [0, -1, 2**63, 10**30])
    async def test_an_impossible_version_is_refused_with_a_code(self, hub: Hub, version: int) -> None:
        memory = await remember(hub.bind(ALICE), "same")
        call = hub.bind(ALICE).update_memory(memory, MemoryChange(importance=0.1), expected_version=version)
        await refused(call, LimitExceeded, "expected_version_out_of_range")


class TestValidity:
    async def test_what_is_superseded_hides_and_shows_again_as_of_then(self, hub: Hub, clock: Clock) -> None:
        old = await remember(hub.bind(ALICE), "the port is 80")
        clock.advance(hours=1)
        new = await remember(hub.bind(ALICE), "the port is 443")
        clock.advance(hours=1)
        await hub.bind(ALICE).update_memory(old, MemoryChange(superseded_by=new), expected_version=1)
        assert await found(hub, text="port") == {new}
        assert await found(hub, text="port", as_of=clock.now - timedelta(microseconds=1)) == {old, new}
        assert await found(hub, text="port", as_of=START) == {old}
        assert await found(hub, text="port", as_of=START - timedelta(microseconds=1)) == set()
        assert (await opened(hub, old)).record.superseded_by == new

    async def test_a_memory_of_the_future_waits_for_its_time(self, hub: Hub, clock: Clock) -> None:
        memory = await remember(hub.bind(ALICE), "tomorrow", valid_from=START + timedelta(days=1))
        assert await found(hub) == set()
        clock.advance(days=1, microseconds=-1)
        assert await found(hub) == set()
        clock.advance(microseconds=1)
        assert await found(hub) == {memory}

    async def test_a_memory_ends_with_its_validity(self, hub: Hub, clock: Clock) -> None:
        memory = await remember(hub.bind(ALICE), "today", valid_to=START + timedelta(days=1))
        clock.advance(days=1, microseconds=-1)
        assert await found(hub) == {memory}
        clock.advance(microseconds=1)
        assert await found(hub) == set()

    async def test_one_cannot_be_superseded_by_what_one_cannot_see(self, hub: Hub) -> None:
        hidden = await remember(hub.bind(BOB), "hidden", level=Level.PRIVATE)
        mine = await remember(hub.bind(ALICE), "mine")
        call = hub.bind(ALICE).update_memory(mine, MemoryChange(superseded_by=hidden), expected_version=1)
        await refused(call, NotFound, "not_found")


class TestRetention:
    async def test_a_retention_date_hides_and_a_sweep_purges(self, hub: Hub, clock: Clock) -> None:
        memory = await remember(hub.bind(ALICE), "for a day", retention_days=1)
        clock.advance(days=1, microseconds=-1)
        assert (await hub.bind(ROOT).sweep()).purged == 0
        assert not await is_gone(hub, memory)
        clock.advance(microseconds=1)
        assert await is_gone(hub, memory)
        assert (await hub.bind(ROOT).sweep()).purged == 1

    async def test_idle_working_and_episodic_memories_go_and_the_others_stay(self, hub: Hub, clock: Clock) -> None:
        tiers = {tier: await remember(hub.bind(ALICE), f"{tier} one", tier=tier) for tier in Tier}
        used = await remember(hub.bind(ALICE), "a used one", tier=Tier.WORKING)
        clock.advance(days=20)
        await hub.bind(PETE).get_memories([used])
        clock.advance(days=10)
        assert (await hub.bind(ROOT).sweep()).purged == 0
        clock.advance(microseconds=1)
        assert (await hub.bind(ROOT).sweep()).purged == 2
        left = {tier for tier, memory in tiers.items() if not await is_gone(hub, memory)}
        assert left == {Tier.SEMANTIC, Tier.SHARED}
        assert not await is_gone(hub, used)

    async def test_a_sweep_of_many_takes_them_all(self, hub: Hub, clock: Clock) -> None:
        for batch in range(5):
            drafts = [MemoryDraft(f"{batch} {number}", retention_days=1) for number in range(100)]
            await hub.bind(ALICE).store_memories(drafts)
        kept = await remember(hub.bind(ALICE), "kept")
        clock.advance(days=2)
        assert (await hub.bind(ROOT).sweep()).purged == 500
        assert await found(hub) == {kept}


class TestForgetting:
    async def test_what_is_forgotten_hides_and_can_be_restored(self, hub: Hub) -> None:
        memory = await remember(hub.bind(ALICE), "penguin")
        report = await hub.bind(ALICE).forget_memories([memory])
        assert (report.matched, report.purged, report.dry_run) == (1, False, False)
        assert report.restorable_until == START + timedelta(days=30)
        assert await is_gone(hub, memory)
        assert await found(hub, text="penguin") == set()
        await refused(hub.bind(PETE).restore_memories([memory]), NotFound, "not_found")
        assert await hub.bind(ALICE).restore_memories([memory]) == (memory,)
        assert await found(hub, text="penguin") == {memory}

    async def test_the_restore_window_ends_with_a_sweep(self, hub: Hub, clock: Clock) -> None:
        memory = await remember(hub.bind(ALICE), "gone")
        await hub.bind(ALICE).forget_memories([memory])
        clock.advance(days=30)
        assert (await hub.bind(ROOT).sweep()).purged == 0
        clock.advance(microseconds=1)
        assert (await hub.bind(ROOT).sweep()).purged == 1
        await refused(hub.bind(ALICE).restore_memories([memory]), NotFound, "not_found")

    async def test_what_was_idle_or_over_can_be_restored_for_the_whole_window(self, hub: Hub, clock: Clock) -> None:
        alice = hub.bind(ALICE)
        idle = await remember(alice, "idle", tier=Tier.WORKING)
        dated = await remember(alice, "dated", retention_days=25)
        clock.advance(days=20)
        await alice.forget_memories([idle, dated])
        clock.advance(days=29)
        assert (await hub.bind(ROOT).sweep()).purged == 0
        assert await alice.restore_memories([idle]) == (idle,)

    async def test_what_is_purged_is_gone_for_good(self, hub: Hub) -> None:
        memory = await remember(hub.bind(ALICE), "penguin")
        report = await hub.bind(ALICE).forget_memories([memory], purge=True)
        assert (report.purged, report.restorable_until) == (True, None)
        await refused(hub.bind(ALICE).restore_memories([memory]), NotFound, "not_found")
        assert await found(hub, text="penguin") == set()

    async def test_one_absent_id_keeps_all(self, hub: Hub) -> None:
        memory = await remember(hub.bind(ALICE), "kept")

        async def forget() -> None:
            call = hub.bind(ALICE).forget_memories([memory, RecordId("mem_absent")], purge=True)
            await refused(call, NotFound, "not_found")

        await unchanged(hub, forget, audited=1)

    async def test_a_selection_is_counted_first_and_done_when_the_count_is_confirmed(self, hub: Hub) -> None:
        alice, lessons = hub.bind(ALICE), MemorySelection(memory_types=("lesson",))
        for number in range(3):
            await remember(alice, f"lesson {number}", memory_type="lesson")
        fact = await remember(alice, "fact")
        counted = await unchanged(hub, lambda: alice.forget_memories(selection=lessons), audited=1)
        assert (counted.matched, counted.dry_run) == (3, True)

        async def confirm_wrong() -> None:
            await refused(alice.forget_memories(selection=lessons, confirm=2), Conflict, "count_changed")

        await unchanged(hub, confirm_wrong, audited=1)
        done = await alice.forget_memories(selection=lessons, confirm=3)
        assert (done.matched, done.dry_run) == (3, False)
        assert await found(hub) == {fact}

    async def test_an_empty_selection_is_refused(self, hub: Hub) -> None:
        await refused(hub.bind(ALICE).forget_memories(confirm=0), InvalidInput, "selection_empty")

    @pytest.mark.parametrize("purge", [False, True])
    async def test_a_loop_record_cannot_be_taken_back(self, hub: Hub, *, purge: bool) -> None:
        record = await hub.bind(ALICE).record_loop(LoopDraft(Loop.CONFIDENCE, "design", score=0.1))

        async def forget() -> None:
            call = hub.bind(ALICE).forget_memories([RecordId(record.id)], purge=purge)
            await refused(call, AccessDenied, "append_only")

        await unchanged(hub, forget, audited=1)


class TestSize:
    async def test_a_long_content_is_compressed_and_read_back(self, settings: HubSettings, hub: Hub) -> None:
        content = "All happy families are alike. " * 20_000
        for level in (Level.PROJECT, Level.PRIVATE):
            memory = await remember(hub.bind(ALICE), content, level=level)
            assert (await opened(hub, memory)).content == content
            [record] = await hub._door.database.read(lambda tx, m=memory: tx.records.take(settings.projects[0], [m]))  # type: ignore[misc]
            assert len(record.sealed.data) < len(content) / 50
            if settings.data_dir is not None and not settings.database and not settings.write_ahead:
                with raw_database(settings.data_dir) as run:
                    [[size]] = run("SELECT length(body) FROM records WHERE id = ?", memory)
                assert size < len(content) / 50

    async def test_ten_mebibytes_are_kept_and_a_byte_more_is_refused(self, hub: Hub) -> None:
        content = "ä" * (5 * MIB)
        memory = await remember(hub.bind(ALICE), content)
        assert (await opened(hub, memory)).content == content

        async def store() -> None:
            await refused(
                hub.bind(ALICE).store_memories([MemoryDraft(content + "a")]), LimitExceeded, "content_too_large"
            )

        await unchanged(hub, store, audited=0)

    async def test_text_comes_back_as_it_went_in(self, hub: Hub) -> None:
        content = "Zeilen\r\n\ttab \u202ertl \U0001f469\u200d\U0001f467 e\u0301 \ufdfd \ufeff\u200b 'quotes\" \\n"
        metadata = {"ключ": ["値", {"deep": [True, None, 1.5, -(2**53)]}], "": ""}
        memory = await remember(hub.bind(ALICE), content, metadata=metadata, tags=("Straße", "日本"))
        back = await opened(hub, memory)
        assert (back.content, back.metadata, back.tags) == (content, metadata, ("Straße", "日本"))
