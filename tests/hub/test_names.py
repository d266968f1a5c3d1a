"""Nobody works under another's name: delegation and sessions give no way into what an agent of that name owns."""

import pytest

from contextdna import (
    AccessDenied,
    AgentId,
    BeginRequest,
    ContextQuery,
    DelegationRequest,
    Hub,
    Level,
    MemoryChange,
    NotFound,
    Principal,
    RecordId,
    Role,
    Workspace,
)
from tests.hub.rig import DEFAULT, refused, remember

pytestmark = pytest.mark.anyio

BOB = Principal(AgentId("bob"), (DEFAULT,), team_id="core", swarm_id="lift")
MALLORY = Principal(AgentId("mallory"), (DEFAULT,), team_id="core", swarm_id="lift")
COORDINATOR = Principal(AgentId("cora"), (DEFAULT,), team_id="edge", swarm_id="sink", role=Role.COORDINATOR)


async def as_bob(hub: Hub, principal: Principal) -> Workspace:
    report = await hub.bind(principal).delegate(DelegationRequest(BOB.agent_id, "act as bob"))
    return hub.bind(principal, session_id=report.begun.handle)


@pytest.mark.parametrize("principal", [MALLORY, COORDINATOR], ids=["agent", "coordinator"])
@pytest.mark.parametrize("first", ["bob", "delegation"])
async def test_a_delegated_namesake_reads_nothing_of_the_agent(hub: Hub, principal: Principal, first: str) -> None:
    namesake = await as_bob(hub, principal) if first == "delegation" else None
    secret = await remember(hub.bind(BOB), "bob keeps the launch code", level=Level.PRIVATE)
    namesake = namesake or await as_bob(hub, principal)
    await refused(namesake.get_memories([secret]), NotFound, "not_found")
    assert secret not in await found(namesake, "launch code")


async def test_a_delegated_namesake_gets_no_share_that_was_meant_for_the_agent(hub: Hub) -> None:
    alice = hub.bind(Principal(AgentId("alice"), (DEFAULT,)))
    shared = await remember(alice, "for bob alone", level=Level.PRIVATE)
    await alice.share_memories([BOB.agent_id], [shared])
    await hub.bind(BOB).get_memories([shared])
    namesake = await as_bob(hub, MALLORY)
    await refused(namesake.get_memories([shared]), NotFound, "not_found")


async def test_a_delegated_namesake_changes_nothing_of_the_agent(hub: Hub) -> None:
    public = await remember(hub.bind(BOB), "bob says ship on Friday", level=Level.PROJECT)
    namesake = await as_bob(hub, MALLORY)
    change = MemoryChange(content="bob says never ship")
    await refused(namesake.update_memory(public, change, expected_version=1), AccessDenied, "not_owner")
    await refused(namesake.forget_memories([public]), AccessDenied, "not_owner")


async def test_a_child_keeps_what_it_owns_for_the_next_delegation_of_its_parent_only(hub: Hub) -> None:
    note = await remember(await as_bob(hub, MALLORY), "a note of the child", level=Level.PRIVATE)
    await (await as_bob(hub, MALLORY)).get_memories([note])
    await refused((await as_bob(hub, COORDINATOR)).get_memories([note]), NotFound, "not_found")
    await refused(hub.bind(MALLORY).get_memories([note]), NotFound, "not_found")


async def test_sharing_with_a_name_reaches_the_agent_delegated_to_under_it(hub: Hub) -> None:
    child = await as_bob(hub, MALLORY)
    mine = await remember(hub.bind(MALLORY), "for my own bob", level=Level.PRIVATE)
    await hub.bind(MALLORY).share_memories([BOB.agent_id], [mine])
    await child.get_memories([mine])
    await hub.bind(MALLORY).revoke_shares([BOB.agent_id])
    await refused(child.get_memories([mine]), NotFound, "not_found")


async def test_a_coordinator_begins_no_session_for_an_agent_of_another_swarm_or_a_higher_role(hub: Hub) -> None:
    operator = Principal(AgentId("operator"), (DEFAULT,), team_id="edge", swarm_id="sink", role=Role.SYSTEM)
    for principal in (BOB, operator):
        await remember(hub.bind(principal), f"{principal.agent_id} was here")
        begin = hub.bind(COORDINATOR).begin_session(BeginRequest(principal.agent_id))
        await refused(begin, AccessDenied, "session_not_allowed")


async def found(workspace: Workspace, text: str) -> list[RecordId]:
    return [hit.record.id for hit in (await workspace.retrieve_context(ContextQuery(text))).hits]
