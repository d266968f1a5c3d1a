"""Agents: registered, rated and retired by whom they belong to; seen by all, known by few; out of service for good."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from contextdna import (
    AccessDenied,
    AgentChange,
    AgentEntryId,
    AgentFilter,
    AgentHistoryFilter,
    AgentId,
    AgentStatus,
    BeginRequest,
    ContextQuery,
    DelegationRequest,
    EventId,
    Hub,
    InvalidInput,
    Level,
    LimitExceeded,
    NotFound,
    Outcome,
    Principal,
    RegisterReport,
    RegisterRequest,
    Risk,
    Role,
    SessionInvalid,
    Swarm,
    Team,
)
from contextdna.hub import sightings
from contextdna.values.ids import UPKEEP_AGENT
from tests.hub.rig import (
    ALICE,
    BOB,
    DEFAULT,
    OTHER,
    PETE,
    ROOT,
    START,
    TESS,
    Clock,
    audit_of,
    begin,
    last_audit,
    public,
    refused,
    remember,
    unchanged,
)

pytestmark = pytest.mark.anyio

CORA = Principal(AgentId("cora"), (DEFAULT,), team_id="core", swarm_id="lift", role=Role.COORDINATOR)
CHIEF = Principal(AgentId("chief"), (DEFAULT,), role=Role.COORDINATOR)
SINK = Principal(AgentId("zed"), (DEFAULT,), team_id="core", swarm_id="sink")
DRONE = AgentId("alice/drone")


async def register(hub: Hub, principal: Principal, agent_id: str = "", **fields: Any) -> RegisterReport:
    """Register an agent."""
    return await hub.bind(principal).agents.register(RegisterRequest(AgentId(agent_id), **fields))


async def changes_of(hub: Hub, agent_id: str, principal: Principal = ROOT) -> list[str]:
    """Give what happened to an agent, in order."""
    where = AgentHistoryFilter(AgentId(agent_id))
    page = await hub.bind(principal).agents.history(where, newest_first=False)
    return [entry.what.value for entry in page.entries]


async def known_everywhere(hub: Hub) -> None:
    """Let the project see all of the cast."""
    for principal in (ALICE, BOB, TESS, PETE, CORA, CHIEF, SINK, ROOT):
        await hub.bind(principal).agents.heartbeat()


# --- the directory ---


async def test_anyone_of_the_project_sees_what_an_agent_is_and_few_how_sure_it_is(hub: Hub) -> None:
    await register(hub, ALICE, agent_type="reviewer", capabilities=("sql", "python", "sql"), confidence=0.8)
    for principal in (ALICE, CORA, ROOT, CHIEF):
        card = await hub.bind(principal).agents.get(ALICE.agent_id)
        assert card.full is not None
        assert (card.full.confidence, card.full.registered_by) == (0.8, "alice")
    for principal in (BOB, TESS, PETE, SINK, replace(SINK, role=Role.COORDINATOR)):
        card = await hub.bind(principal).agents.get(ALICE.agent_id)
        assert card.full is None
        assert (card.agent_type, card.capabilities, card.status) == ("reviewer", ("sql", "python"), "active")
        assert (card.team_id, card.swarm_id) == ("core", "lift")


async def test_the_agent_above_knows_all_of_the_agents_below_it(hub: Hub) -> None:
    await register(hub, ALICE, DRONE, confidence=0.5)
    card = await hub.bind(ALICE).agents.get(DRONE)
    assert card.full is not None
    assert (card.full.confidence, card.team_id, card.swarm_id) == (0.5, "core", "lift")


async def test_an_agent_of_another_project_is_unknown(hub: Hub) -> None:
    await register(hub, ALICE)
    call = hub.bind(ROOT, project_id=OTHER).agents.get(ALICE.agent_id)
    await refused(call, NotFound, "agent_not_found")
    assert (await last_audit(hub, OTHER)).draft.outcome is Outcome.ABSENT


async def test_the_directory_tells_who_is_at_work(hub: Hub, clock: Clock) -> None:
    await register(hub, PETE)
    clock.advance(seconds=60)
    session = hub.bind(ALICE, session_id=await begin(hub, ALICE, ttl_s=3600))
    shown = {card.id: (card.last_seen_at, card.in_session) for card in await hub.bind(BOB).agents.list()}
    assert shown == {"alice": (clock.now, True), "pete": (clock.now - timedelta(seconds=60), False)}
    clock.advance(seconds=3600)
    assert not (await hub.bind(BOB).agents.get(ALICE.agent_id)).in_session
    await refused(session.agents.heartbeat(), SessionInvalid, "session_expired")


async def test_a_credential_without_a_circle_takes_no_agent_out_of_its_own(hub: Hub) -> None:
    """At its first own write an agent is made known: what it was registered with stays."""
    await register(hub, ROOT, "pete", team_id="core", swarm_id="lift")
    await remember(hub.bind(PETE), "at work")
    card = await hub.bind(ROOT).agents.get(PETE.agent_id)
    assert (card.team_id, card.swarm_id) == ("core", "lift")
    assert await changes_of(hub, "pete") == ["registered"]


async def test_a_credential_with_another_circle_moves_the_agent_and_its_history_tells(hub: Hub) -> None:
    await register(hub, ROOT, "pete", team_id="core", swarm_id="lift")
    await remember(hub.bind(replace(PETE, team_id="edge")), "at work")
    card = await hub.bind(ROOT).agents.get(PETE.agent_id)
    assert (card.team_id, card.swarm_id) == ("edge", "lift")
    assert await changes_of(hub, "pete") == ["registered", "updated"]


async def test_sightings_are_kept_of_so_many_agents_at_most(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings, "_SEEN_MAX", 3)
    await known_everywhere(hub)
    assert [agent_id for _, agent_id, _ in hub._door._sightings._seen] == ["chief", "zed", "root"]


async def test_the_directory_is_filtered_and_paged(hub: Hub) -> None:
    await register(hub, ALICE, capabilities=("sql",), agent_type="coder")
    await register(hub, ALICE, DRONE, agent_type="coder", status=AgentStatus.IDLE)
    await register(hub, PETE)
    agents = hub.bind(BOB).agents
    assert [card.id for card in await agents.list(AgentFilter(agent_type="coder"))] == ["alice", "alice/drone"]
    assert [card.id for card in await agents.list(AgentFilter(capability="sql"))] == ["alice"]
    assert [card.id for card in await agents.list(AgentFilter(status=AgentStatus.IDLE))] == ["alice/drone"]
    assert [card.id for card in await agents.list(AgentFilter(swarm_id=""))] == ["pete"]
    assert [card.id for card in await agents.list(limit=1, after=AgentId("alice"))] == ["alice/drone"]
    await refused(agents.list(limit=1001), LimitExceeded, "limit_out_of_range")
    await refused(agents.list(AgentFilter(agent_type="a b")), InvalidInput, "agent_type_invalid")


async def test_swarms_and_teams_are_their_agents_counted(hub: Hub) -> None:
    await register(hub, ALICE)
    await register(hub, ALICE, DRONE, status=AgentStatus.IDLE)
    await register(hub, BOB)
    await register(hub, PETE)
    await hub.bind(ROOT).agents.retire(BOB.agent_id)
    assert await hub.bind(TESS).agents.swarms() == (
        Swarm("", 2, 0, 0, (Team("", 2, 0, 0),)),
        Swarm("lift", 1, 1, 1, (Team("core", 1, 1, 0), Team("edge", 0, 0, 1))),
    )


# --- registering ---


async def test_registering_again_changes_only_what_is_given(hub: Hub) -> None:
    await register(hub, ALICE, agent_type="coder", capabilities=("sql",), confidence=0.5)
    report = await register(hub, ALICE, agent_type="reviewer", status=AgentStatus.IDLE, confidence=0.75)
    assert report.changes == (AgentChange.UPDATED, AgentChange.STATUS_CHANGED, AgentChange.CONFIDENCE_CHANGED)
    agent = report.agent
    assert (agent.agent_type, agent.capabilities, agent.status, agent.confidence) == (
        "reviewer",
        ("sql",),
        "idle",
        0.75,
    )
    again = await register(hub, ALICE, agent_type="reviewer", confidence=0.75)
    assert again.changes == ()
    assert await changes_of(hub, "alice") == [
        "registered",
        "confidence_changed",
        "updated",
        "status_changed",
        "confidence_changed",
    ]


@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        ({"agent_id": "a b"}, InvalidInput, "agent_id_invalid"),
        ({"agent_id": "root//x"}, InvalidInput, "agent_id_invalid"),
        ({"agent_type": "a b"}, InvalidInput, "agent_type_invalid"),
        ({"capabilities": ("",)}, InvalidInput, "capability_invalid"),
        ({"capabilities": tuple(f"c{number}" for number in range(51))}, LimitExceeded, "capabilities_out_of_range"),
        ({"team_id": "a b"}, InvalidInput, "team_id_invalid"),
        ({"swarm_id": "a/b"}, InvalidInput, "swarm_id_invalid"),
        ({"confidence": 1.5}, InvalidInput, "confidence_out_of_range"),
        ({"confidence": float("nan")}, InvalidInput, "confidence_out_of_range"),
        ({"status": AgentStatus.RETIRED}, InvalidInput, "status_unknown"),
    ],
)
async def test_what_cannot_be_kept_is_refused(
    hub: Hub, fields: dict[str, Any], kind: type[InvalidInput], code: str
) -> None:
    await unchanged(hub, lambda: refused(register(hub, ROOT, **fields), kind, code), audited=0)


@pytest.mark.parametrize(
    ("principal", "agent_id"),
    [
        pytest.param(ALICE, "bob", id="an agent another"),
        pytest.param(ALICE, "nobody", id="an agent a bare name"),
        pytest.param(ALICE, "bob/drone", id="an agent one below another"),
        pytest.param(ALICE, "alicex/drone", id="an agent one below a namesake"),
        pytest.param(CORA, "zed", id="a coordinator one of another swarm"),
        pytest.param(CORA, "zed/drone", id="a coordinator one below another swarm's"),
        pytest.param(CORA, "tess", id="a coordinator one without a swarm"),
        pytest.param(CORA, "root", id="a coordinator an operator"),
        pytest.param(CHIEF, "root", id="the project's coordinator an operator"),
        pytest.param(CHIEF, "root/drone", id="the project's coordinator one below an operator"),
    ],
)
async def test_only_those_that_an_agent_belongs_to_register_rate_or_retire_it(
    hub: Hub, principal: Principal, agent_id: str
) -> None:
    await known_everywhere(hub)
    agents = hub.bind(principal).agents
    target = AgentId(agent_id)

    async def all_refused() -> None:
        for call in (
            agents.register(RegisterRequest(target, agent_type="mine")),
            agents.heartbeat(target),
            agents.set_confidence(0.0, target),
            agents.retire(target),
        ):
            await refused(call, AccessDenied, "agent_not_yours")

    await unchanged(hub, all_refused, audited=4)
    entry = (await last_audit(hub)).draft
    assert (entry.action, entry.outcome, entry.risk) == ("agent.retire", Outcome.DENIED, Risk.HIGH)


@pytest.mark.parametrize(
    ("principal", "agent_id"),
    [
        (ALICE, ""),
        (ALICE, "alice"),
        (ALICE, "alice/drone"),
        (ALICE, "alice/drone/deeper"),
        (CORA, "bob"),
        (CORA, "bob/drone"),
        (CORA, "brand-new"),
        (CHIEF, "zed"),
        (CHIEF, "cora"),
        (ROOT, "zed/drone"),
        (ROOT, "cora"),
    ],
)
async def test_those_that_an_agent_belongs_to_do(hub: Hub, principal: Principal, agent_id: str) -> None:
    await known_everywhere(hub)
    agents = hub.bind(principal).agents
    await register(hub, principal, agent_id, agent_type="coder")
    await agents.heartbeat(AgentId(agent_id))
    assert (await agents.set_confidence(0.5, AgentId(agent_id))).confidence == 0.5
    assert (await agents.retire(AgentId(agent_id))).agent.status is AgentStatus.RETIRED


async def test_a_delegated_agent_calls_itself_by_its_bare_name(hub: Hub) -> None:
    given = await hub.bind(ALICE).delegate(DelegationRequest(AgentId("drone"), "help"))
    drone = hub.bind(ALICE, session_id=given.begun.handle)
    assert (await drone.agents.register(RegisterRequest(AgentId("drone")))).agent.id == DRONE
    await refused(drone.agents.register(RegisterRequest(ALICE.agent_id)), AccessDenied, "agent_not_yours")


@pytest.mark.parametrize("circle", [{"team_id": "edge"}, {"swarm_id": "sink"}, {"team_id": ""}, {"swarm_id": ""}])
@pytest.mark.parametrize("principal", [ALICE, CORA], ids=lambda principal: principal.role)
async def test_registering_moves_no_agent_out_of_the_circles_of_its_registrar(
    hub: Hub, principal: Principal, circle: dict[str, str]
) -> None:
    await register(hub, principal)
    await refused(register(hub, principal, **circle), AccessDenied, "circle_not_yours")
    await register(hub, principal, team_id="core", swarm_id="lift")


async def test_a_registration_gives_no_session_more_than_before(hub: Hub) -> None:
    await register(hub, CORA, "carol")
    await refused(register(hub, CORA, "carol", team_id="edge"), AccessDenied, "circle_not_yours")
    call = hub.bind(CORA).begin_session(BeginRequest(AgentId("carol"), team_id="edge"))
    await refused(call, AccessDenied, "session_not_allowed")


async def test_operators_begin_sessions_in_the_circles_that_an_agent_is_registered_in(hub: Hub) -> None:
    await register(hub, ROOT, "carol", team_id="edge", swarm_id="lift")
    session = (await hub.bind(ROOT).begin_session(BeginRequest(AgentId("carol")))).session
    assert (session.team_id, session.swarm_id) == ("edge", "lift")
    given = await hub.bind(ROOT).delegate(DelegationRequest(AgentId("carol"), "help"))
    assert (given.begun.session.team_id, given.begun.session.swarm_id) == ("", "")
    card = await hub.bind(ALICE).agents.get(AgentId("carol"))
    assert (card.team_id, card.swarm_id) == ("edge", "lift")


# --- events and heartbeats ---


async def events_for(hub: Hub, principal: Principal) -> list[tuple[str, str]]:
    """Give the events about agents that a principal may know."""
    page = await hub.bind(principal).events.read(after=EventId(""), limit=1000)
    return [(event.name.value, event.subject) for event in page.events if event.name.value.startswith("agent.")]


async def test_the_directory_s_changes_are_told_to_all_and_confidence_only_upwards(hub: Hub) -> None:
    await register(hub, ALICE, DRONE)
    await register(hub, ALICE, DRONE, agent_type="coder")
    await hub.bind(ALICE).agents.set_confidence(0.5, DRONE)
    await hub.bind(ALICE).agents.retire(DRONE)
    await register(hub, ALICE, DRONE)
    told = ["registered", "updated", "retired", "registered"]
    of_drone = [event for event in await events_for(hub, BOB) if event[1] == DRONE]
    assert of_drone == [(f"agent.{what}", DRONE) for what in told]
    told.insert(2, "updated")
    of_drone = [event for event in await events_for(hub, ALICE) if event[1] == DRONE]
    assert of_drone == [(f"agent.{what}", DRONE) for what in told]


async def test_a_heartbeat_is_kept_and_nobody_is_told(hub: Hub, clock: Clock) -> None:
    await register(hub, ALICE)
    before = await events_for(hub, ALICE)
    clock.advance(minutes=1)
    await hub.bind(ALICE).agents.heartbeat()
    card = await hub.bind(ALICE).agents.get()
    assert card.full is not None
    assert card.full.heartbeat_at == clock.now
    assert card.full.first_seen_at == START
    assert await events_for(hub, ALICE) == before
    assert await changes_of(hub, "alice") == ["registered"]


async def test_nobody_beats_for_an_agent_that_is_not_there(hub: Hub) -> None:
    await refused(hub.bind(ALICE).agents.heartbeat(DRONE), NotFound, "agent_not_found")
    await refused(hub.bind(ALICE).agents.set_confidence(0.5, DRONE), NotFound, "agent_not_found")
    await refused(hub.bind(ALICE).agents.retire(DRONE), NotFound, "agent_not_found")


# --- retiring ---


async def test_a_retired_agent_s_sessions_and_all_below_end_with_what_they_lent(hub: Hub) -> None:
    own = await begin(hub, ALICE)
    alice = hub.bind(ALICE, session_id=own)
    memory = await remember(alice, "lent", level=Level.PRIVATE)
    outside = await hub.bind(ALICE).delegate(DelegationRequest(AgentId("dora"), "help", memory_ids=(memory,)))
    child = await alice.delegate(DelegationRequest(AgentId("drone"), "help", memory_ids=(memory,)))
    below = hub.bind(ALICE, session_id=child.begun.handle)
    deeper = await below.delegate(DelegationRequest(AgentId("dave"), "help", memory_ids=(memory,)))
    others = await begin(hub, BOB)
    report = await hub.bind(CORA).agents.retire(ALICE.agent_id)
    assert (report.sessions_ended, report.grants_ended) == (4, 3)
    for handle in (own, outside.begun.handle, child.begun.handle, deeper.begun.handle):
        for principal in (ALICE, ROOT):
            call = hub.bind(principal, session_id=handle).retrieve_context(ContextQuery())
            await refused(call, SessionInvalid, "session_ended")
    dave = hub.bind(Principal(AgentId("dave"), (DEFAULT,)))
    await refused(dave.get_memories([memory]), NotFound, "not_found")
    await hub.bind(BOB, session_id=others).retrieve_context(ContextQuery())
    entry = (await audit_of(hub, action="agent.retire"))[-1].draft
    assert (entry.agent_id, entry.outcome, entry.risk) == ("cora", Outcome.ALLOWED, Risk.MEDIUM)


async def test_retiring_a_child_leaves_its_parent_at_work(hub: Hub) -> None:
    own = await begin(hub, ALICE)
    alice = hub.bind(ALICE, session_id=own)
    memory = await remember(alice, "lent", level=Level.PRIVATE)
    child = await alice.delegate(DelegationRequest(AgentId("drone"), "help", memory_ids=(memory,)))
    report = await alice.agents.retire(DRONE)
    assert (report.sessions_ended, report.grants_ended) == (1, 1)
    await refused(
        hub.bind(ALICE, session_id=child.begun.handle).retrieve_context(ContextQuery()), SessionInvalid, "session_ended"
    )
    await alice.retrieve_context(ContextQuery())


async def test_no_work_is_given_to_a_retired_agent_until_it_is_registered_again(hub: Hub) -> None:
    await register(hub, ALICE, DRONE, agent_type="coder", confidence=0.5)
    await hub.bind(ALICE).agents.retire(DRONE)
    alice = hub.bind(ALICE)

    async def all_refused() -> None:
        for call in (
            alice.delegate(DelegationRequest(AgentId("drone"), "help")),
            hub.bind(ROOT).begin_session(BeginRequest(DRONE)),
            alice.agents.heartbeat(DRONE),
            alice.agents.set_confidence(0.5, DRONE),
            alice.agents.retire(DRONE),
        ):
            await refused(call, AccessDenied, "agent_retired")

    await unchanged(hub, all_refused, audited=5)
    report = await register(hub, ALICE, DRONE)
    assert report.changes == (AgentChange.REINSTATED,)
    assert (report.agent.status, report.agent.retired_at, report.agent.agent_type) == ("active", None, "coder")
    await alice.delegate(DelegationRequest(AgentId("drone"), "help"))
    assert await changes_of(hub, DRONE) == [
        "registered",
        "confidence_changed",
        "retired",
        "reinstated",
        "session_begun",
    ]


async def test_a_principal_whose_own_agent_is_retired_is_refused_in_that_project(hub: Hub) -> None:
    both = replace(ALICE, project_ids=(DEFAULT, OTHER))
    await hub.bind(both, project_id=DEFAULT).agents.retire()
    alice = hub.bind(both, project_id=DEFAULT)

    async def all_refused() -> None:
        for call in (
            alice.retrieve_context(ContextQuery()),
            remember(alice, "still here"),
            alice.begin_session(BeginRequest(ALICE.agent_id)),
            alice.agents.register(RegisterRequest()),
            alice.agents.list(),
        ):
            await refused(call, AccessDenied, "agent_retired")

    await unchanged(hub, all_refused, audited=5)
    entry = (await last_audit(hub)).draft
    assert (entry.agent_id, entry.outcome, entry.risk) == ("alice", Outcome.DENIED, Risk.HIGH)
    await hub.bind(both, project_id=OTHER).retrieve_context(ContextQuery())
    assert await alice.list_projects() == (DEFAULT, OTHER)
    await register(hub, CORA, "alice")
    await alice.retrieve_context(ContextQuery())


async def test_a_retired_principal_uses_no_handle_that_was_made_for_it(hub: Hub) -> None:
    given = await hub.bind(ALICE).delegate(DelegationRequest(AgentId("carol"), "help"))
    carol = Principal(AgentId("carol"), (DEFAULT,))
    await hub.bind(carol, session_id=given.begun.handle).retrieve_context(ContextQuery())
    await hub.bind(carol).agents.retire()
    call = hub.bind(carol, session_id=given.begun.handle).retrieve_context(ContextQuery())
    await refused(call, AccessDenied, "agent_retired")
    await hub.bind(ALICE, session_id=given.begun.handle).retrieve_context(ContextQuery())


async def test_operators_cannot_lock_themselves_out(hub: Hub) -> None:
    await refused(hub.bind(ROOT).agents.retire(), AccessDenied, "operator_not_retired")
    lesser = await begin(hub, ROOT)
    await refused(hub.bind(ROOT, session_id=lesser).agents.retire(), AccessDenied, "operator_not_retired")
    second = replace(ROOT, agent_id=AgentId("second"))
    await register(hub, second)
    await hub.bind(ROOT).agents.retire(AgentId("second"))
    await refused(register(hub, ROOT, UPKEEP_AGENT), InvalidInput, "agent_id_invalid")
    await refused(hub.bind(second).begin_session(BeginRequest(AgentId("second"))), AccessDenied, "agent_retired")
    await register(hub, second)
    await hub.bind(second).begin_session(BeginRequest(AgentId("second")))


# --- history ---


async def test_sessions_stand_in_the_history_of_their_agents(hub: Hub) -> None:
    parent = await begin(hub, ALICE)
    alice = hub.bind(ALICE, session_id=parent)
    child = await alice.delegate(DelegationRequest(AgentId("drone"), "help"))
    await alice.end_session(success=True)
    assert await changes_of(hub, "alice") == ["session_begun", "session_ended"]
    where = AgentHistoryFilter(DRONE)
    begun, ended = (await hub.bind(ALICE).agents.history(where, newest_first=False)).entries
    assert (begun.what, ended.what) == (AgentChange.SESSION_BEGUN, AgentChange.SESSION_ENDED)
    assert begun.session_id == ended.session_id == child.begun.session.id
    assert child.delegation.id in begun.details
    assert public(parent) in begun.details


@pytest.mark.parametrize("newest_first", [True, False])
async def test_the_history_is_read_page_by_page_in_both_directions(hub: Hub, newest_first: bool) -> None:
    agents = hub.bind(ALICE).agents
    for number in range(7):
        await agents.set_confidence(number / 10)
    cursor, sizes, found = AgentEntryId(""), [], []
    while True:
        page = await agents.history(cursor=cursor, newest_first=newest_first, limit=3)
        sizes.append(len(page.entries))
        found += [entry.confidence for entry in page.entries]
        cursor = page.cursor
        if not cursor:
            break
    assert sizes == [3, 3, 1]
    assert found == sorted((number / 10 for number in range(7)), reverse=newest_first)


async def test_the_history_is_filtered_by_kind_and_time(hub: Hub, clock: Clock) -> None:
    await register(hub, ALICE, confidence=0.5)
    clock.advance(hours=1)
    await hub.bind(ALICE).agents.set_confidence(0.75)
    agents = hub.bind(ALICE).agents
    rated = AgentHistoryFilter(what=(AgentChange.CONFIDENCE_CHANGED,))
    assert [entry.confidence for entry in (await agents.history(rated)).entries] == [0.75, 0.5]
    late = await agents.history(replace(rated, since=clock.now))
    assert [entry.confidence for entry in late.entries] == [0.75]
    early = await agents.history(replace(rated, until=clock.now))
    assert [entry.confidence for entry in early.entries] == [0.5]
    call = agents.history(replace(rated, since=clock.now, until=START))
    await refused(call, InvalidInput, "period_invalid")
    await refused(agents.history(cursor=AgentEntryId("aen_x")), InvalidInput, "cursor_invalid")
    await refused(agents.history(limit=1001), LimitExceeded, "limit_out_of_range")


async def test_without_an_agent_everyone_reads_the_histories_that_are_for_it(hub: Hub) -> None:
    await register(hub, ALICE)
    await register(hub, ALICE, DRONE)
    await register(hub, BOB)
    await register(hub, SINK)
    await register(hub, ROOT)

    async def agents_read_by(principal: Principal) -> set[str]:
        return {entry.agent_id for entry in (await hub.bind(principal).agents.history()).entries}

    assert await agents_read_by(ALICE) == {"alice", DRONE}
    assert await agents_read_by(PETE) == set()
    assert await agents_read_by(CORA) == {"alice", DRONE, "bob"}
    assert await agents_read_by(CHIEF) == {"alice", DRONE, "bob", "zed"}
    assert await agents_read_by(ROOT) == {"alice", DRONE, "bob", "zed", "root"}


@pytest.mark.parametrize("principal", [BOB, TESS, PETE, SINK, replace(SINK, role=Role.COORDINATOR)])
async def test_another_agent_s_history_is_refused(hub: Hub, principal: Principal) -> None:
    await register(hub, ALICE)

    async def call() -> None:
        where = AgentHistoryFilter(ALICE.agent_id)
        await refused(hub.bind(principal).agents.history(where), AccessDenied, "agent_not_yours")

    await unchanged(hub, call, audited=1)


async def test_a_child_does_not_read_upwards(hub: Hub) -> None:
    given = await hub.bind(ALICE).delegate(DelegationRequest(AgentId("drone"), "help"))
    drone = hub.bind(ALICE, session_id=given.begun.handle)
    call = drone.agents.history(AgentHistoryFilter(ALICE.agent_id))
    await refused(call, AccessDenied, "agent_not_yours")
    assert {entry.agent_id for entry in (await drone.agents.history()).entries} == {DRONE}
