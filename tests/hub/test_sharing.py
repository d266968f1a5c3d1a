"""Sharing: a grant follows what it opens, and nobody shares above its rights."""

import pytest

from contextdna import (
    AccessDenied,
    AgentId,
    DelegationRequest,
    Hub,
    InvalidInput,
    Level,
    MemoryChange,
    MemorySelection,
    NotFound,
    Principal,
    Role,
)
from tests.hub.rig import ALICE, BOB, DEFAULT, PETE, ROOT, refused, remember, unchanged

pytestmark = pytest.mark.anyio

MINE = Level.PRIVATE


async def test_a_share_is_no_copy(hub: Hub) -> None:
    memory = await remember(hub.bind(ALICE), "as it was", level=MINE)
    await hub.bind(ALICE).share_memories([PETE.agent_id], [memory])
    await hub.bind(ALICE).update_memory(memory, MemoryChange(content="as it is"), expected_version=1)
    [[seen], _] = await hub.bind(PETE).get_memories([memory])
    assert (seen.content, seen.record.id, seen.record.owner_id) == ("as it is", memory, "alice")
    await hub.bind(ALICE).forget_memories([memory])
    await refused(hub.bind(PETE).get_memories([memory]), NotFound, "not_found")


async def test_the_role_system_shares_nobody_else_s(hub: Hub) -> None:
    memory = await remember(hub.bind(ALICE), "hers", level=Level.PROJECT)

    async def share() -> None:
        await refused(hub.bind(ROOT).share_memories([PETE.agent_id], [memory]), AccessDenied, "not_owner")

    await unchanged(hub, share, audited=1)


async def test_a_share_widens_nothing_for_the_one_who_gets_it(hub: Hub) -> None:
    """What an operator shares of level system can be read, neither changed nor written at that level."""
    operator = Principal(AgentId("operator"), (DEFAULT,), role=Role.SYSTEM)
    memory = await remember(hub.bind(operator), "for operators", level=Level.SYSTEM)
    await hub.bind(operator).share_memories([PETE.agent_id], [memory])
    pete = hub.bind(PETE)
    [[seen], _] = await pete.get_memories([memory])
    assert seen.granted_by == "operator"
    change = pete.update_memory(memory, MemoryChange(content="mine"), expected_version=1)
    await refused(change, AccessDenied, "not_owner")
    await refused(pete.forget_memories([memory]), AccessDenied, "not_owner")
    await refused(remember(pete, "mine too", level=Level.SYSTEM), AccessDenied, "role_required")


async def test_a_share_names_memories_or_types(hub: Hub) -> None:
    alice = hub.bind(ALICE)
    await refused(alice.share_memories([PETE.agent_id]), InvalidInput, "selection_empty")
    wrong = MemorySelection(memory_types=("gossip",))
    await refused(alice.share_memories([PETE.agent_id], selection=wrong), InvalidInput, "memory_type_unknown")


async def test_a_child_shares_its_own_and_not_what_it_inherited(hub: Hub) -> None:
    lent = await remember(hub.bind(ALICE), "lent", level=MINE)
    report = await hub.bind(ALICE).delegate(DelegationRequest(AgentId("carol"), "help", memory_ids=(lent,)))
    carol = hub.bind(ALICE, session_id=report.begun.handle)
    own = await remember(carol, "her own", level=MINE)
    await refused(carol.share_memories([BOB.agent_id], [own, lent]), AccessDenied, "not_owner")
    await refused(hub.bind(BOB).get_memories([own]), NotFound, "not_found")
    assert (await carol.share_memories([BOB.agent_id], [own])).changed == 1
    [[seen], _] = await hub.bind(BOB).get_memories([own])
    assert seen.granted_by == "alice/carol"
