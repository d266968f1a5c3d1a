"""With which role and in which project a session's handle acts."""

from dataclasses import replace

import pytest

from contextdna import (
    AccessDenied,
    AgentId,
    BeginRequest,
    Hub,
    Level,
    MemoryDraft,
    NotFound,
    Outcome,
    ProjectId,
    Role,
    SessionInvalid,
)
from tests.hub.rig import DEFAULT, OTHER, PETE, ROOT, audit_of, begin, last_audit, refused, remember

pytestmark = pytest.mark.anyio

LOCAL = replace(ROOT, agent_id=AgentId("local"), project_ids=(DEFAULT,))
NARROWED = {role: replace(LOCAL, role=role) for role in Role}


@pytest.mark.parametrize("now", [Role.AGENT, Role.COORDINATOR])
async def test_a_handle_does_no_more_than_its_narrowed_beginner(hub: Hub, now: Role) -> None:
    handle = await begin(hub, LOCAL, role=Role.SYSTEM)
    await remember(hub.bind(LOCAL, session_id=handle), "for operators", level=Level.SYSTEM)
    narrowed = hub.bind(NARROWED[now], session_id=handle)
    await refused(narrowed.query_audit(), AccessDenied, "role_required")
    more = narrowed.begin_session(BeginRequest(AgentId("drone"), role=Role.SYSTEM))
    await refused(more, AccessDenied, "session_not_allowed")
    secret = narrowed.store_memories([MemoryDraft("for operators, too", level=Level.SYSTEM)])
    await refused(secret, AccessDenied, "role_required")


@pytest.mark.parametrize("now", [Role.AGENT, Role.COORDINATOR])
async def test_a_narrowed_beginner_acts_as_no_agent_that_it_could_not_begin_now(hub: Hub, now: Role) -> None:
    above = await begin(hub, LOCAL, "queen", role=Role.SYSTEM)
    request = BeginRequest(AgentId("drone"), role=Role.SYSTEM)
    below = (await hub.bind(LOCAL, session_id=above).begin_session(request)).handle
    await hub.bind(LOCAL, session_id=below).query_audit()
    for handle in (above, below):
        narrowed = hub.bind(NARROWED[now], session_id=handle)
        await refused(narrowed.query_audit(), SessionInvalid, "session_not_yours")


async def test_a_session_of_ones_own_below_one_of_a_narrowed_beginner_is_narrowed_too(hub: Hub) -> None:
    above = await begin(hub, LOCAL, role=Role.SYSTEM)
    request = BeginRequest(LOCAL.agent_id, role=Role.SYSTEM)
    below = (await hub.bind(LOCAL, session_id=above).begin_session(request)).handle
    await hub.bind(LOCAL, session_id=below).query_audit()
    narrowed = hub.bind(NARROWED[Role.AGENT], session_id=below)
    await refused(narrowed.query_audit(), AccessDenied, "role_required")


async def test_a_lesser_session_stays_lesser_in_the_hands_of_its_beginner(hub: Hub) -> None:
    handle = await begin(hub, LOCAL, "queen")
    await refused(hub.bind(LOCAL, session_id=handle).query_audit(), AccessDenied, "role_required")


async def test_a_handle_that_was_handed_over_keeps_its_role(hub: Hub) -> None:
    handle = await begin(hub, LOCAL, "queen", role=Role.SYSTEM)
    queen = replace(LOCAL, agent_id=AgentId("queen"), role=Role.AGENT)
    assert await hub.bind(queen, session_id=handle).query_audit()


async def test_a_session_is_told_only_of_its_own_project(hub: Hub) -> None:
    handle = await begin(hub, replace(ROOT, project_ids=(DEFAULT,)))
    for wanted in (OTHER, "unheard-of"):
        inside = hub.bind(ROOT, session_id=handle, project_id=wanted).get_memories([])
        error = await refused(inside, NotFound, "project_not_found")
        assert str(DEFAULT) in error.hint
        assert str(OTHER) not in error.hint
    without = await refused(hub.bind(ROOT, project_id="unheard-of").get_memories([]), NotFound, "project_not_found")
    assert str(OTHER) in without.hint


async def test_an_id_of_another_project_is_audited_as_absent(hub: Hub) -> None:
    elsewhere = await remember(hub.bind(ROOT, project_id=OTHER), "elsewhere")
    await refused(hub.bind(ROOT, project_id=DEFAULT).get_memories([elsewhere]), NotFound, "not_found")
    draft = (await last_audit(hub)).draft
    assert (draft.outcome.value, draft.risk.value) == ("absent", "low")


async def test_a_caller_whose_project_was_never_there_is_told_so_and_which_is(hub: Hub) -> None:
    ghost = ProjectId("ghost")
    lost = hub.bind(replace(PETE, project_ids=(ghost,)))
    error = await refused(lost.store_memories([MemoryDraft("x")]), NotFound, "project_not_found")
    assert "none" in error.hint
    torn = hub.bind(replace(PETE, project_ids=(ghost, DEFAULT)), project_id=ghost)
    assert f"use: {DEFAULT}." in (await refused(torn.get_memories([]), NotFound, "project_not_found")).hint
    await refused(lost.query_audit(), AccessDenied, "role_required")
    told = [entry.draft for entry in await audit_of(hub, installation=True)][-3:]
    assert [(draft.agent_id, draft.outcome) for draft in told] == [(PETE.agent_id, Outcome.DENIED)] * 3
