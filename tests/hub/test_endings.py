"""What ends with a session: every session begun in it, however deep, and no later than it does."""

import pytest

from contextdna import (
    AccessDenied,
    AgentChange,
    AgentHistoryFilter,
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
from tests.hub.rig import ALICE, DEFAULT, ROOT, Clock, audit_of, begin, public, refused, remember

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


class TestWhatAHandleThatIsOverIsTold:
    """The cause, and never to go on without a handle: on a shared connection that would be to act as the operator."""

    async def told(self, hub: Hub, handle: str, code: str = "session_ended") -> tuple[str, str]:
        call = hub.bind(ROOT, session_id=handle).retrieve_context(ContextQuery())
        error = await refused(call, SessionInvalid, code)
        assert "empty" not in error.hint
        return error.message, error.hint

    async def test_a_child_that_was_revoked_or_declined_or_is_done(self, hub: Hub) -> None:
        for ending, said in (("revoke", "alice was revoked"), ("decline", "alice was declined"), ("end", "succeeded")):
            given = await hub.bind(ALICE).delegate(DelegationRequest(CHILD, "help"))
            child = hub.bind(ALICE, session_id=given.begun.handle)
            if ending == "revoke":
                await hub.bind(ALICE).delegations.revoke(given.delegation.id)
            elif ending == "decline":
                await child.delegations.decline()
            else:
                await child.end_session(success=True)
            message, hint = await self.told(hub, given.begun.handle)
            assert said in message
            assert hint == "Your work on this task is over: stop, and report to alice."

    async def test_a_child_whose_parent_ended_or_whose_time_is_over(self, hub: Hub, clock: Clock) -> None:
        parent = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        given = await parent.delegate(DelegationRequest(CHILD, "help"))
        below = await hub.bind(ALICE, session_id=given.begun.handle).begin_session(BeginRequest(AgentId("")))
        late = await hub.bind(ALICE).delegate(DelegationRequest(CHILD, "help", expires_in_s=60))
        await parent.end_session(success=True)
        message, hint = await self.told(hub, given.begun.handle)
        assert "the session above it, of alice, ended" in message
        assert "report to alice" in hint
        assert "begin_session" not in (await self.told(hub, below.handle))[1]
        clock.advance(seconds=60)
        for _ in range(2):
            assert "report to alice" in (await self.told(hub, late.begun.handle, "session_expired"))[1]
            await hub.bind(ROOT).sweep()

    async def test_one_whose_agent_is_retired(self, hub: Hub) -> None:
        given = await hub.bind(ALICE).delegate(DelegationRequest(CHILD, "help"))
        await hub.bind(ALICE).agents.retire(AgentId("alice/child"))
        assert "agent alice/child is retired" in (await self.told(hub, given.begun.handle))[0]

    async def test_who_began_it_for_itself_may_begin_another(self, hub: Hub) -> None:
        handle = await begin(hub, ALICE)
        await hub.bind(ALICE, session_id=handle).end_session(success=False)
        call = hub.bind(ALICE, session_id=handle).retrieve_context(ContextQuery())
        assert "begin_session" in (await refused(call, SessionInvalid, "session_ended")).hint
        other = await begin(hub, ROOT, "carol")
        await hub.bind(ROOT, session_id=other).end_session(success=True)
        assert "root, who began it" in (await self.told(hub, other))[1]


@pytest.mark.parametrize("itself", [False, True])
async def test_an_agent_with_many_sessions_is_retired_in_short_transactions(hub: Hub, itself: bool) -> None:
    first = await begin(hub, ALICE)
    handles = [first, *[await begin(hub, ALICE) for _ in range(118)]]
    below = await hub.bind(ALICE, session_id=handles[0]).begin_session(BeginRequest(AgentId("")))
    workspace = hub.bind(ALICE, session_id=below.handle) if itself else hub.bind(ROOT)
    report = await workspace.agents.retire(ALICE.agent_id)
    assert (report.sessions_ended, report.agent.status) == (120, "retired")
    for handle in (first, handles[-1], below.handle):
        assert (await hub.bind(ROOT).sessions.get(public(handle))).status == "closed"
    assert len(await audit_of(hub, action="agent.retire")) == 3
    where = AgentHistoryFilter(ALICE.agent_id, what=(AgentChange.RETIRED, AgentChange.SESSION_ENDED))
    entries = (await hub.bind(ROOT).agents.history(where, limit=200)).entries
    told = [entry.details for entry in entries if entry.what is AgentChange.RETIRED]
    assert (told, len(entries)) == (["{}"], 121)  # each session is told of by itself


async def test_a_session_that_is_closed_late_was_last_heard_of_at_its_end(hub: Hub, clock: Clock) -> None:
    handle = await begin(hub, ALICE, ttl_s=60)
    clock.advance(hours=5)
    assert (await hub.bind(ROOT).sweep()).sessions_closed == 1
    session = (await hub.bind(ROOT).sessions.get(public(handle))).session
    assert (session.status, session.updated_at, session.ended_at) == ("expired", session.expires_at, session.expires_at)
