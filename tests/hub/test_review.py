"""Rules between the lines: what merging keeps, who widens a circle, what is told of damage."""

from datetime import timedelta

import pytest

from contextdna import (
    AccessDenied,
    Conflict,
    ContextQuery,
    Hub,
    InvalidInput,
    Level,
    MemoryChange,
    MemoryDraft,
    Outcome,
    RecordId,
    Risk,
    StoreStatus,
    Tier,
)
from tests.hub.rig import ALICE, PETE, ROOT, Clock, audit_of, refused, remember

pytestmark = pytest.mark.anyio


async def test_a_merge_keeps_the_longer_lived_tier_and_counts_as_use(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE)
    first = await remember(alice, "the cache is cold after a deploy", tier=Tier.EPISODIC)
    clock.advance(days=20)
    [merged] = await alice.store_memories([MemoryDraft("the cache is cold after a deploy", tier=Tier.EPISODIC)])
    assert (merged.id, merged.status) == (first, StoreStatus.MERGED)
    clock.advance(days=20)
    assert await hub.bind(ROOT).sweep() == 0
    [kept] = await alice.store_memories([MemoryDraft("the cache is cold after a deploy")])
    assert kept.id == first
    clock.advance(days=400)
    assert await hub.bind(ROOT).sweep() == 0
    found, _ = await alice.get_memories([first])
    assert found[0].record.tier == Tier.SEMANTIC


async def test_the_same_words_as_another_type_or_of_another_time_are_another_memory(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE)
    fact = await remember(alice, "we use SQLite")
    decision = await remember(alice, "we use SQLite", memory_type="decision")
    later = await remember(alice, "we use SQLite", valid_from=clock() + timedelta(days=1))
    assert len({fact, decision, later}) == 3


@pytest.mark.parametrize("what", ["level", "share"])
async def test_the_role_system_shows_no_other_readers_what_it_does_not_own(hub: Hub, what: str) -> None:
    secret = await remember(hub.bind(ALICE), "alice's own", level=Level.PRIVATE)
    root = hub.bind(ROOT)
    if what == "level":
        change = MemoryChange(level=Level.PROJECT)
        await refused(root.update_memory(secret, change, expected_version=1), AccessDenied, "not_owner")
    else:
        await refused(root.share_memories([PETE.agent_id], [secret]), AccessDenied, "not_owner")


async def test_level_team_needs_a_record_with_a_team(hub: Hub) -> None:
    memory = await remember(hub.bind(PETE), "without a team")
    moved = hub.bind(PETE).update_memory(memory, MemoryChange(level=Level.TEAM), expected_version=1)
    await refused(moved, InvalidInput, "level_needs_team")


async def test_a_memory_does_not_supersede_itself_nor_end_before_it_begins(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE)
    memory = await remember(alice, "from now on", valid_from=clock())
    itself = alice.update_memory(memory, MemoryChange(superseded_by=memory), expected_version=1)
    await refused(itself, InvalidInput, "superseded_by_itself")
    early = MemoryChange(valid_to=clock() - timedelta(days=1))
    await refused(alice.update_memory(memory, early, expected_version=1), InvalidInput, "period_invalid")


async def test_reading_what_one_forgot_is_no_denial(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    memory = await remember(alice, "gone")
    await alice.forget_memories([memory])
    with pytest.raises(Exception, match="not found"):
        await alice.get_memories([memory])
    entry = (await audit_of(hub, action="memory.get"))[-1].draft
    assert (entry.outcome, entry.risk) == (Outcome.ABSENT, Risk.LOW)


async def test_what_was_not_forgotten_is_not_restored(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    memory = await remember(alice, "still here")
    await refused(alice.restore_memories([memory]), Conflict, "not_forgotten")
    missing = RecordId("mem_absent")
    await alice.forget_memories([memory])
    with pytest.raises(Exception, match="not found"):
        await alice.restore_memories([memory, missing])
    assert await alice.restore_memories([memory]) == (memory,)
    assert (await alice.retrieve_context(ContextQuery("still here"))).hits
