"""A handle does no more than its principal could begin now, judged at each use by what the project knows by then."""

from dataclasses import replace
from pathlib import Path

import pytest

from contextdna import (
    AccessDenied,
    AgentId,
    BeginRequest,
    ContextQuery,
    DelegationRequest,
    Hub,
    Level,
    NotFound,
    Principal,
    RecordId,
    RegisterRequest,
    Role,
    SessionInvalid,
    SignalDraft,
    TaskDraft,
    Workspace,
    open_hub,
)
from tests.hub.rig import DEFAULT, ROOT, Clock, begin, refused, remember, settings_in

pytestmark = pytest.mark.anyio

LOCAL = Principal(AgentId("local"), (DEFAULT,), role=Role.SYSTEM)
CARL = Principal(AgentId("carl"), (DEFAULT,), team_id="core", swarm_id="lift", role=Role.COORDINATOR)
NORA = Principal(AgentId("nora"), (DEFAULT,), team_id="edge", swarm_id="lift")
PETE = Principal(AgentId("pete"), (DEFAULT,))
XENA = Principal(AgentId("xena"), (DEFAULT,), team_id="deep", swarm_id="sink")
ZED = Principal(AgentId("zed"), (DEFAULT,), swarm_id="sink")


async def secret_of(workspace: Workspace) -> RecordId:
    return await remember(workspace, "a private diary", level=Level.PRIVATE)


async def expect_not_yours(hub: Hub, principal: Principal, handle: str) -> None:
    """Use a handle that the principal could not get now: to read, to go on, and to begin more."""
    acting = hub.bind(principal, session_id=handle)
    for call in (
        acting.retrieve_context(ContextQuery("diary")),
        acting.resume_session(),
        acting.begin_session(BeginRequest(AgentId("nora"))),
    ):
        await refused(call, SessionInvalid, "session_not_yours")


async def expect_no_session(hub: Hub, principal: Principal, agent_id: str) -> None:
    call = hub.bind(principal).begin_session(BeginRequest(AgentId(agent_id)))
    await refused(call, AccessDenied, "session_not_allowed")


class TestNarrowing:
    """A credential that may less now makes its older handles do less."""

    @pytest.mark.parametrize(
        "now",
        [
            pytest.param(replace(LOCAL, swarm_id="lift", role=Role.COORDINATOR), id="a coordinator of a swarm"),
            pytest.param(replace(LOCAL, role=Role.AGENT), id="an agent"),
        ],
    )
    async def test_an_operator_s_handles_of_others_go_with_its_role(self, hub: Hub, now: Principal) -> None:
        handle = await begin(hub, LOCAL, "bob", swarm_id="sink")
        await expect_not_yours(hub, now, handle)
        child = (await hub.bind(LOCAL, session_id=handle).delegate(DelegationRequest(AgentId("kid"), "help"))).begun
        await expect_not_yours(hub, now, child.handle)
        await hub.bind(LOCAL, session_id=child.handle).retrieve_context(ContextQuery())

    async def test_an_operator_s_own_handle_is_no_way_round(self, hub: Hub) -> None:
        handle = await begin(hub, LOCAL, role=Role.SYSTEM)
        await secret_of(hub.bind(replace(PETE, swarm_id="sink")))
        narrowed = replace(LOCAL, swarm_id="lift", role=Role.COORDINATOR)
        await expect_not_yours(hub, narrowed, handle)
        await refused(
            hub.bind(narrowed, session_id=handle).agents.retire(PETE.agent_id), SessionInvalid, "session_not_yours"
        )

    @pytest.mark.parametrize(
        "now", [replace(CARL, role=Role.AGENT), replace(CARL, swarm_id="sink"), replace(CARL, swarm_id="")]
    )
    async def test_a_coordinator_s_handles_go_with_its_role_and_swarm(self, hub: Hub, now: Principal) -> None:
        await remember(hub.bind(NORA), "here I am")
        handle = await begin(hub, CARL, "nora")
        await hub.bind(CARL, session_id=handle).retrieve_context(ContextQuery())
        await expect_not_yours(hub, now, handle)

    @pytest.mark.parametrize("circle", [{"team_id": "core"}, {"swarm_id": "sink"}, {"team_id": "", "swarm_id": ""}])
    async def test_an_agent_s_own_handles_go_with_its_circles(self, hub: Hub, circle: dict[str, str]) -> None:
        handle = await begin(hub, NORA)
        child = (await hub.bind(NORA, session_id=handle).delegate(DelegationRequest(AgentId("kid"), "help"))).begun
        for own in (handle, child.handle):
            await hub.bind(NORA, session_id=own).retrieve_context(ContextQuery())
            await expect_not_yours(hub, replace(NORA, **circle), own)  # type: ignore[arg-type]

    async def test_who_gets_circles_goes_on(self, hub: Hub) -> None:
        handle = await begin(hub, PETE)
        wider = replace(PETE, team_id="core", swarm_id="lift")
        await hub.bind(wider, session_id=handle).retrieve_context(ContextQuery())

    async def test_whoever_bears_the_name_goes_on(self, hub: Hub) -> None:
        """It was handed the handle, and acts as itself."""
        handle = await begin(hub, CARL, "nora")
        narrowed = replace(CARL, role=Role.AGENT)
        await remember(hub.bind(narrowed), "narrowed")
        nora = hub.bind(NORA, session_id=handle)
        child = (await nora.delegate(DelegationRequest(AgentId("kid"), "help"))).begun
        await hub.bind(NORA, session_id=child.handle).retrieve_context(ContextQuery())

    async def test_who_was_handed_the_handle_below_does_no_more_than_its_giver(self, hub: Hub) -> None:
        handle = await begin(hub, CARL, "nora")
        kid = (await hub.bind(CARL, session_id=handle).delegate(DelegationRequest(AgentId("kid"), "help"))).begun
        bearer = Principal(AgentId("kid"), (DEFAULT,))
        await hub.bind(bearer, session_id=kid.handle).retrieve_context(ContextQuery())
        await remember(hub.bind(replace(CARL, role=Role.AGENT)), "narrowed")
        await expect_not_yours(hub, bearer, kid.handle)


class TestWhatGoesOn:
    """The one rule takes nothing from whoever is entitled to it."""

    @pytest.mark.parametrize("role", list(Role))
    async def test_a_chain_of_delegations_on_one_connection_after_a_restart_too(
        self, folder: Path, clock: Clock, role: Role
    ) -> None:
        settings = settings_in(folder)
        local = replace(LOCAL, role=role, team_id="core", swarm_id="lift")
        async with open_hub(settings, clock=clock) as hub:
            handles = [await begin(hub, local)]
            for name in ("queen", "princess", "drone"):
                acting = hub.bind(local, session_id=handles[-1])
                handles.append((await acting.delegate(DelegationRequest(AgentId(name), "help"))).begun.handle)
        async with open_hub(settings, clock=clock) as hub:
            for handle in handles:
                assert (await hub.bind(local, session_id=handle).resume_session()).handle == handle

    async def test_a_coordinator_acts_for_the_agents_of_its_swarm_and_those_below(self, hub: Hub) -> None:
        await remember(hub.bind(NORA), "here I am")
        handle = await begin(hub, CARL, "nora")
        kid = (await hub.bind(CARL, session_id=handle).delegate(DelegationRequest(AgentId("kid"), "help"))).begun
        for some in (handle, kid.handle, await begin(hub, CARL, "nora/kid"), await begin(hub, CARL, "carl/own")):
            await remember(hub.bind(CARL, session_id=some), "at work")

    async def test_a_coordinator_on_an_operator_s_connection_has_agents_of_its_own(self, hub: Hub) -> None:
        """Nobody here has a credential but the operator."""
        queen = await begin(hub, LOCAL, "queen", swarm_id="lift", role=Role.COORDINATOR)
        worker = (await hub.bind(LOCAL, session_id=queen).begin_session(BeginRequest(AgentId("worker")))).handle
        await remember(hub.bind(LOCAL, session_id=worker), "at work")
        await remember(hub.bind(Principal(AgentId("queen"), (DEFAULT,)), session_id=worker), "as it was handed")

    async def test_an_agent_that_an_operator_registered_is_its_coordinators(self, hub: Hub) -> None:
        request = RegisterRequest(PETE.agent_id, team_id="edge", swarm_id="lift")
        await hub.bind(ROOT, project_id=DEFAULT).agents.register(request)
        secret = await secret_of(hub.bind(PETE))
        handle = await begin(hub, CARL, "pete")
        await hub.bind(CARL, session_id=handle).get_memories([secret])


class TestTakenNames:
    """A coordinator that took a name nobody bore does nothing more with it once somebody does."""

    @pytest.mark.parametrize("real", [PETE, replace(PETE, swarm_id="sink"), replace(PETE, role=Role.SYSTEM)])
    @pytest.mark.parametrize("first", ["begin", "register"])
    async def test_the_name_is_its_bearer_s_whatever_its_circles(self, hub: Hub, first: str, real: Principal) -> None:
        if first == "register":
            await hub.bind(CARL).agents.register(RegisterRequest(real.agent_id))
        handle = await begin(hub, CARL, real.agent_id)
        await secret_of(hub.bind(real))
        await expect_not_yours(hub, CARL, handle)
        await expect_no_session(hub, CARL, real.agent_id)
        card = await hub.bind(ROOT, project_id=DEFAULT).agents.get(real.agent_id)
        assert (card.team_id, card.swarm_id) == (real.team_id, real.swarm_id)

    async def test_one_that_was_an_operator_once_is_judged_by_what_it_is_now(self, hub: Hub) -> None:
        await remember(hub.bind(replace(CARL, role=Role.SYSTEM)), "as an operator")
        handle = await begin(hub, CARL, "xena")
        kid = (await hub.bind(CARL, session_id=handle).delegate(DelegationRequest(AgentId("kid"), "help"))).begun
        await secret_of(hub.bind(XENA))
        await expect_not_yours(hub, CARL, handle)
        await expect_not_yours(hub, Principal(AgentId("kid"), (DEFAULT,)), kid.handle)

    async def test_what_was_delegated_under_the_name_ends_with_it(self, hub: Hub) -> None:
        taken = hub.bind(CARL, session_id=await begin(hub, CARL, "xena"))
        theirs = (await taken.delegate(DelegationRequest(AgentId("yan"), "help"))).begun.handle
        xena = hub.bind(XENA)
        own = (await xena.delegate(DelegationRequest(AgentId("yan"), "help"))).begun.handle
        await secret_of(hub.bind(XENA, session_id=own))
        await expect_not_yours(hub, CARL, theirs)
        await expect_no_session(hub, CARL, "xena/yan")
        await hub.bind(XENA, session_id=own).retrieve_context(ContextQuery())

    async def test_a_lesser_session_in_an_operator_s_line_takes_no_name_either(self, hub: Hub) -> None:
        """The step is judged as who made it was then, not by the operator above it."""
        queen = Principal(AgentId("queen"), (DEFAULT,))
        handed = await begin(hub, LOCAL, "queen", swarm_id="lift", role=Role.COORDINATOR)
        taken = (await hub.bind(queen, session_id=handed).begin_session(BeginRequest(XENA.agent_id))).handle
        await hub.bind(queen, session_id=taken).retrieve_context(ContextQuery())
        await secret_of(hub.bind(XENA))
        await expect_not_yours(hub, queen, taken)
        await hub.bind(queen, session_id=handed).retrieve_context(ContextQuery())

    async def test_a_path_is_registered_only_below_an_agent_of_the_swarm(self, hub: Hub) -> None:
        agents = hub.bind(CARL).agents
        await refused(agents.register(RegisterRequest(AgentId("quinn/drone"))), AccessDenied, "agent_not_yours")
        await remember(hub.bind(NORA), "here I am")
        await agents.register(RegisterRequest(AgentId("nora/drone")))
        await begin(hub, CARL, "nora/drone")

    async def test_a_role_that_a_coordinator_lends_takes_no_agent_from_those_above_it(self, hub: Hub) -> None:
        nora = hub.bind(NORA)
        await nora.delegate(DelegationRequest(AgentId("drone"), "help"))
        await begin(hub, CARL, "nora/drone", role=Role.COORDINATOR)
        assert (await nora.agents.retire(AgentId("nora/drone"))).sessions_ended == 2


class TestWaitedFor:
    """What waits for a name was meant for whoever bears it."""

    @pytest.mark.parametrize("way", ["share", "signal", "task"])
    async def test_a_name_that_others_wait_for_is_not_a_coordinator_s_to_take(self, hub: Hub, way: str) -> None:
        xena = hub.bind(XENA)
        if way == "share":
            await xena.share_memories([ZED.agent_id], [await secret_of(xena)])
        elif way == "signal":
            await xena.signals.send(SignalDraft("go", targets=(ZED.agent_id,)))
        else:
            await xena.tasks.add(TaskDraft("look", assignee=ZED.agent_id, level=Level.PRIVATE))
        await expect_no_session(hub, CARL, "zed")
        register = hub.bind(CARL).agents.register(RegisterRequest(ZED.agent_id))
        await refused(register, AccessDenied, "agent_not_yours")
        await begin(hub, replace(CARL, swarm_id="sink"), "zed")

    async def test_the_signal_reaches_whom_it_was_for(self, hub: Hub) -> None:
        sent = await hub.bind(XENA).signals.send(SignalDraft("go", targets=(ZED.agent_id,)))
        await expect_no_session(hub, CARL, "zed")
        assert [signal.id for signal in await hub.bind(ZED).signals.pending()] == [sent.id]

    async def test_what_is_over_or_from_within_keeps_no_coordinator_away(self, hub: Hub, clock: Clock) -> None:
        await hub.bind(NORA).share_memories([ZED.agent_id], [await secret_of(hub.bind(NORA))])
        await hub.bind(XENA).signals.send(SignalDraft("go", targets=(ZED.agent_id,), expires_in_s=60))
        xena = hub.bind(XENA)
        await xena.share_memories([ZED.agent_id], [await secret_of(xena)])
        await xena.revoke_shares([ZED.agent_id])
        await expect_no_session(hub, CARL, "zed")
        clock.advance(seconds=60)
        await begin(hub, CARL, "zed")

    async def test_an_agent_that_only_reads_bears_its_name(self, hub: Hub) -> None:
        zed = hub.bind(ZED)
        await zed.retrieve_context(ContextQuery())
        await expect_no_session(hub, CARL, "zed")
        card = await zed.agents.get(ZED.agent_id)
        assert card.swarm_id == "sink"


class TestMoving:
    """A credential that changed while the server runs is noted with the next call, write or read."""

    @pytest.mark.parametrize(
        "now", [replace(NORA, swarm_id="sink"), replace(NORA, swarm_id=""), replace(NORA, role=Role.SYSTEM)]
    )
    @pytest.mark.parametrize("way", ["writes", "reads"])
    async def test_an_agent_is_its_new_swarm_s_at_once(self, hub: Hub, now: Principal, way: str) -> None:
        await remember(hub.bind(NORA), "here I am")
        handle = await begin(hub, CARL, "nora")
        if way == "writes":
            await secret_of(hub.bind(now))
        else:
            await hub.bind(now).retrieve_context(ContextQuery())
        await expect_no_session(hub, CARL, "nora")
        await expect_not_yours(hub, CARL, handle)

    async def test_and_its_old_one_s_when_it_moves_back(self, hub: Hub) -> None:
        for principal in (NORA, replace(NORA, swarm_id="sink"), NORA):
            await remember(hub.bind(principal), "here I am")
        await begin(hub, CARL, "nora")

    async def test_a_first_read_is_noted_once(self, hub: Hub) -> None:
        for _ in range(2):
            await refused(hub.bind(ZED).agents.get(AgentId("nobody")), NotFound, "agent_not_found")
            await hub.bind(ZED).retrieve_context(ContextQuery())
        assert len(hub._door._sightings) == 1
