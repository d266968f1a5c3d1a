"""Grants: explicit, read-only, with an end, revocable, never passed on."""

import pytest

from contextdna import (
    AccessDenied,
    AgentId,
    ContextQuery,
    DelegationRequest,
    Hub,
    InvalidInput,
    Kind,
    Level,
    MemoryChange,
    MemorySelection,
    NotFound,
    Principal,
    RecordId,
)
from tests.hub.revealing import expected as expect
from tests.hub.revealing import plant, revealed
from tests.hub.rig import ALICE, BOB, DEFAULT, OUTSIDER, PETE, TESS, Clock, refused, remember, unchanged

pytestmark = pytest.mark.anyio

MINE = Level.PRIVATE


async def sees(hub: Hub, principal: Principal, memory: RecordId, *, handle: str = "") -> bool:
    """Tell whether a caller can open a memory, by id and by question alike."""
    workspace = hub.bind(principal, session_id=handle)
    hits = {hit.record.id for hit in (await workspace.retrieve_context(ContextQuery())).hits}
    try:
        await workspace.get_memories([memory])
    except NotFound:
        assert memory not in hits
        return False
    assert memory in hits
    return True


async def test_a_share_opens_one_record_to_one_agent_by_every_path(hub: Hub) -> None:
    kinds = (Kind.MEMORY, Kind.TURN, Kind.ARTIFACT, Kind.LOOP)
    records = [await plant(hub, ALICE, kind, MINE, f"{kind}") for kind in kinds]
    await hub.bind(ALICE).share_memories([PETE.agent_id], [record.id for record in records])
    assert await revealed(hub.bind(PETE), records) == expect(records)
    assert await revealed(hub.bind(TESS), records) == expect([])


async def test_what_was_shared_says_by_whom(hub: Hub) -> None:
    memory = await remember(hub.bind(ALICE), "shared", level=MINE)
    await hub.bind(ALICE).share_memories([PETE.agent_id], [memory])
    [[opened], _] = await hub.bind(PETE).get_memories([memory])
    assert opened.granted_by == "alice"
    [hit] = (await hub.bind(PETE).retrieve_context(ContextQuery("shared"))).hits
    assert hit.granted_by == "alice"
    assert "shared by alice .02" in hit.why
    [[own], _] = await hub.bind(ALICE).get_memories([memory])
    assert own.granted_by == ""


async def test_a_share_ends_at_its_expiry_to_the_microsecond(hub: Hub, clock: Clock) -> None:
    memory = await remember(hub.bind(ALICE), "for an hour", level=MINE)
    report = await hub.bind(ALICE).share_memories([PETE.agent_id], [memory], expires_in_s=3600)
    assert report.expires_at is not None
    assert (report.expires_at - clock.now).total_seconds() == 3600
    clock.advance(hours=1, microseconds=-1)
    assert await sees(hub, PETE, memory)
    clock.advance(microseconds=1)
    assert not await sees(hub, PETE, memory)
    assert await sees(hub, ALICE, memory)


async def test_a_revocation_holds_from_the_next_call_on(hub: Hub) -> None:
    first = await remember(hub.bind(ALICE), "first", level=MINE)
    second = await remember(hub.bind(ALICE), "second", level=MINE)
    await hub.bind(ALICE).share_memories([PETE.agent_id, BOB.agent_id], [first, second])
    assert (await hub.bind(ALICE).revoke_shares([PETE.agent_id], [first])).changed == 1
    assert not await sees(hub, PETE, first)
    assert await sees(hub, PETE, second)
    assert await sees(hub, BOB, first)
    assert (await hub.bind(ALICE).revoke_shares([PETE.agent_id])).changed == 1
    assert not await sees(hub, PETE, second)
    assert (await hub.bind(ALICE).revoke_shares([PETE.agent_id])).changed == 0


async def test_sharing_again_replaces_the_earlier_grant(hub: Hub, clock: Clock) -> None:
    memory = await remember(hub.bind(ALICE), "replaced", level=MINE)
    await hub.bind(ALICE).share_memories([PETE.agent_id], [memory])
    await hub.bind(ALICE).share_memories([PETE.agent_id], [memory], expires_in_s=60)
    clock.advance(seconds=60)
    assert not await sees(hub, PETE, memory)


async def test_a_shared_memory_cannot_be_passed_on(hub: Hub) -> None:
    memory = await remember(hub.bind(ALICE), "not yours", level=MINE)
    await hub.bind(ALICE).share_memories([PETE.agent_id], [memory])

    async def share() -> None:
        await refused(hub.bind(PETE).share_memories([BOB.agent_id], [memory]), AccessDenied, "not_owner")

    async def delegate() -> None:
        request = DelegationRequest(AgentId("carol"), "go on", memory_ids=(memory,))
        await refused(hub.bind(PETE).delegate(request), AccessDenied, "not_owner")

    async def update() -> None:
        call = hub.bind(PETE).update_memory(memory, MemoryChange(level=Level.PROJECT), expected_version=1)
        await refused(call, AccessDenied, "not_owner")

    for attempt in (share, delegate, update):
        await unchanged(hub, attempt, audited=1)
    report = await hub.bind(PETE).delegate(DelegationRequest(AgentId("carol"), "not yours"))
    assert report.memories == 0
    assert not await sees(hub, PETE, memory, handle=report.begun.handle)


async def test_what_one_cannot_see_one_cannot_share(hub: Hub) -> None:
    hidden = await remember(hub.bind(ALICE), "hidden", level=MINE)
    mine = await remember(hub.bind(PETE), "mine", level=MINE)

    async def share() -> None:
        await refused(hub.bind(PETE).share_memories([BOB.agent_id], [mine, hidden]), NotFound, "not_found")

    await unchanged(hub, share, audited=1)
    assert not await sees(hub, BOB, mine)


async def test_sharing_by_type_takes_the_most_important_of_ones_own(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    wanted = [
        await remember(alice, f"lesson {importance}", level=MINE, memory_type="lesson", importance=importance)
        for importance in (0.9, 0.8)
    ]
    await remember(alice, "lesser lesson", level=MINE, memory_type="lesson", importance=0.5)
    await remember(alice, "fact", level=MINE, importance=1.0)
    await remember(hub.bind(BOB), "his lesson", level=MINE, memory_type="lesson", importance=1.0)
    chosen = MemorySelection(memory_types=("lesson",), min_importance=0.7)
    report = await alice.share_memories([PETE.agent_id], selection=chosen, limit=20)
    assert report.memory_ids == tuple(wanted)
    assert report.unknown_targets == (PETE.agent_id,)
    one = await alice.share_memories([TESS.agent_id], selection=chosen, limit=1)
    assert one.memory_ids == (wanted[0],)


async def test_a_grant_opens_nothing_to_another_project(hub: Hub) -> None:
    memory = await remember(hub.bind(ALICE), "home", level=MINE)
    await hub.bind(ALICE).share_memories([OUTSIDER.agent_id], [memory])
    await refused(hub.bind(OUTSIDER).get_memories([memory]), NotFound, "not_found")


@pytest.mark.parametrize(
    ("targets", "seconds", "code"),
    [
        ([], None, "target_agent_ids_out_of_range"),
        (["alice"], None, "target_is_self"),
        (["bad id"], None, "target_agent_id_invalid"),
        (["bob"], 0.0, "expires_in_s_out_of_range"),
        (["bob"], -1.0, "expires_in_s_out_of_range"),
        (["bob"], float("nan"), "expires_in_s_out_of_range"),
        (["bob"], float("inf"), "expires_in_s_out_of_range"),
    ],
)
async def test_a_wrong_share_is_refused(hub: Hub, targets: list[str], seconds: float | None, code: str) -> None:
    memory = await remember(hub.bind(ALICE), "kept", level=MINE)

    async def share() -> None:
        named = [AgentId(target) for target in targets]
        call = hub.bind(ALICE).share_memories(named, [memory], expires_in_s=seconds)
        await refused(call, InvalidInput, code)

    await unchanged(hub, share, audited=0)


async def test_grants_of_a_purged_memory_go_with_it(hub: Hub) -> None:
    memory = await remember(hub.bind(ALICE), "gone", level=MINE)
    await hub.bind(ALICE).share_memories([PETE.agent_id], [memory])
    await hub.bind(ALICE).forget_memories([memory], purge=True)
    given = await hub._door.database.read(
        lambda tx: tx.grants.given(
            DEFAULT, granted_by=ALICE.agent_id, grantee_ids=[PETE.agent_id], now=hub._door.clock()
        )
    )
    assert given == []
