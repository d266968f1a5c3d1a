"""What ends with a session: every session begun in it, however deep, and no later than it does."""

import pytest

from contextdna import (
    AccessDenied,
    AgentId,
    BeginRequest,
    ContextQuery,
    DelegationRequest,
    Hub,
    NotFound,
    Principal,
    RecordId,
    Role,
    SessionInvalid,
)
from tests.hub.rig import ALICE, DEFAULT, Clock, begin, refused, remember

pytestmark = pytest.mark.anyio

CHILD = AgentId("child")


@pytest.mark.parametrize("ending", ["parent ends", "child ends", "delegation is over"])
async def test_no_handle_outlives_the_session_that_it_was_begun_in(hub: Hub, clock: Clock, ending: str) -> None:
    parent = await begin(hub, ALICE)
    alice = hub.bind(ALICE, session_id=parent)
    given = await alice.delegate(DelegationRequest(CHILD, "help", expires_in_s=60))
    child = hub.bind(ALICE, session_id=given.begun.handle)
    own = await child.begin_session(BeginRequest(AgentId(""), ttl_s=29 * 86_400))
    deeper = await hub.bind(ALICE, session_id=own.handle).begin_session(BeginRequest(AgentId("")))
    for begun in (own, deeper):
        await hub.bind(ALICE, session_id=begun.handle).retrieve_context(ContextQuery())
    if ending == "parent ends":
        assert (await alice.end_session(success=True)).children_ended == 3
    elif ending == "child ends":
        assert (await child.end_session(success=True)).children_ended == 2
    else:
        clock.advance(seconds=60)
    for begun in (own, deeper):
        call = hub.bind(ALICE, session_id=begun.handle).retrieve_context(ContextQuery())
        await refused(call, SessionInvalid, "session_expired" if ending == "delegation is over" else "session_ended")


async def test_a_coordinator_delegates_into_no_other_team(hub: Hub) -> None:

    coordinator = Principal(AgentId("cora"), (DEFAULT,), team_id="core", swarm_id="lift", role=Role.COORDINATOR)
    call = hub.bind(coordinator).delegate(DelegationRequest(CHILD, "look", team_id="edge"))
    await refused(call, AccessDenied, "session_not_allowed")


async def test_the_artifacts_of_a_result_must_be_there(hub: Hub) -> None:
    handle = await begin(hub, ALICE)
    hidden = await remember(hub.bind(ALICE), "mine")
    ended = hub.bind(ALICE, session_id=handle)
    await refused(ended.end_session(success=True, artifact_ids=[RecordId(f"{hidden}-")]), NotFound, "not_found")
    await ended.end_session(success=True, artifact_ids=[hidden])
