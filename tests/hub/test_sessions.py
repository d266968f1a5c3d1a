"""Sessions and delegations: a handle is a capability, and it never gives more than its giver has."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from contextdna import (
    AccessDenied,
    AgentId,
    BeginRequest,
    ContextQuery,
    DelegationRequest,
    Hub,
    HubSettings,
    InvalidInput,
    Level,
    NotFound,
    Outcome,
    Principal,
    Risk,
    Role,
    SessionInvalid,
    TurnDraft,
)
from tests.hub.rig import (
    ALICE,
    BOB,
    DEFAULT,
    OTHER,
    PETE,
    ROOT,
    Clock,
    audit_of,
    begin,
    last_audit,
    refused,
    remember,
    stored,
    unchanged,
)

pytestmark = pytest.mark.anyio

COORDINATOR = Principal(AgentId("cora"), (DEFAULT,), team_id="core", swarm_id="lift", role=Role.COORDINATOR)
CAROL = AgentId("carol")


async def expect_invalid(hub: Hub, principal: Principal, handle: str, code: str, *, project_id: str = "") -> None:
    """Use a handle that must not work; it is denied, audited and says nothing of itself."""
    workspace = hub.bind(principal, session_id=handle, project_id=project_id)

    async def use() -> None:
        error = await refused(workspace.retrieve_context(ContextQuery()), SessionInvalid, code)
        secret = handle.partition(".")[2]
        assert len(secret) < 2 or secret not in f"{error.message} {error.hint}"

    await unchanged(hub, use, audited=1)


async def test_a_handle_acts_as_its_agent_and_the_log_names_both(hub: Hub) -> None:
    handle = await begin(hub, ROOT, "carol", team_id="core")
    workspace = hub.bind(ROOT, session_id=handle)
    memory = await remember(workspace, "carol's own", level=Level.PRIVATE)
    [[opened], _] = await workspace.get_memories([memory])
    assert (opened.record.owner_id, opened.record.team_id) == ("carol", "core")
    assert opened.record.session_id == handle.partition(".")[0]
    await refused(hub.bind(ROOT).get_memories([memory]), NotFound, "not_found")
    [entry] = await audit_of(hub, action="memory.store")
    assert (entry.draft.principal_id, entry.draft.agent_id) == ("root", "carol")
    assert entry.draft.session_id == handle.partition(".")[0]


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda handle: handle[:-1] + ("0" if handle[-1] != "0" else "1"), id="wrong secret"),
        pytest.param(lambda handle: handle.partition(".")[0], id="no secret"),
        pytest.param(lambda handle: handle.partition(".")[0] + ".", id="empty secret"),
        pytest.param(lambda handle: "." + handle.partition(".")[2], id="no id"),
        pytest.param(lambda handle: "ses_00000000000000000000." + handle.partition(".")[2], id="unknown id"),
        pytest.param(lambda handle: handle.upper(), id="other case"),
        pytest.param(lambda handle: handle + " ", id="trailing space"),
        pytest.param(lambda _: "' OR 1=1 --.x", id="an injection"),
    ],
)
async def test_a_forged_handle_is_refused(hub: Hub, forge: Callable[[str], str]) -> None:
    handle = await begin(hub, ALICE)
    await expect_invalid(hub, ALICE, forge(handle), "session_invalid")


async def test_a_handle_of_another_lineage_is_refused_as_an_unknown_one(hub: Hub) -> None:
    handle = await begin(hub, ALICE)
    await expect_invalid(hub, BOB, handle, "session_invalid")
    child = (await hub.bind(ALICE, session_id=handle).delegate(DelegationRequest(CAROL, "help"))).begun.handle
    await expect_invalid(hub, BOB, child, "session_invalid")
    await hub.bind(ALICE, session_id=child).retrieve_context(ContextQuery())
    await hub.bind(Principal(CAROL, (DEFAULT,)), session_id=child).retrieve_context(ContextQuery())
    await expect_invalid(hub, Principal(CAROL, (DEFAULT,)), handle, "session_invalid")


async def test_a_handle_works_only_in_its_project(hub: Hub) -> None:
    handle = await begin(hub, ALICE)
    await expect_invalid(hub, Principal(ALICE.agent_id, (OTHER,)), handle, "session_invalid")
    both = replace(ALICE, project_ids=(DEFAULT, OTHER))
    error = await refused(
        hub.bind(both, session_id=handle, project_id=OTHER).retrieve_context(ContextQuery()),
        NotFound,
        "project_not_found",
    )
    assert handle not in error.hint
    await hub.bind(both, session_id=handle, project_id=DEFAULT).retrieve_context(ContextQuery())


async def test_a_handle_expires_to_the_microsecond(hub: Hub, clock: Clock) -> None:
    handle = await begin(hub, ALICE, ttl_s=60.0)
    clock.advance(seconds=60, microseconds=-1)
    assert (await hub.bind(ALICE, session_id=handle).resume_session()).handle == handle
    clock.advance(microseconds=1)
    await expect_invalid(hub, ALICE, handle, "session_expired")


async def test_an_ended_session_is_over(hub: Hub) -> None:
    handle = await begin(hub, ALICE)
    await hub.bind(ALICE, session_id=handle).end_session(success=False)
    await expect_invalid(hub, ALICE, handle, "session_ended")


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, 31 * 24 * 3600.0, float("nan"), float("inf")])
async def test_a_time_to_live_out_of_range_is_refused(hub: Hub, ttl_s: float) -> None:
    await refused(
        hub.bind(ALICE).begin_session(BeginRequest(ALICE.agent_id, ttl_s=ttl_s)), InvalidInput, "ttl_out_of_range"
    )


@pytest.mark.parametrize(
    ("principal", "request_"),
    [
        pytest.param(ALICE, BeginRequest(BOB.agent_id), id="an agent for another"),
        pytest.param(ALICE, BeginRequest(ALICE.agent_id, role=Role.COORDINATOR), id="an agent as coordinator"),
        pytest.param(ALICE, BeginRequest(ALICE.agent_id, role=Role.SYSTEM), id="an agent as system"),
        pytest.param(ALICE, BeginRequest(ALICE.agent_id, team_id="edge"), id="an agent in another team"),
        pytest.param(ALICE, BeginRequest(ALICE.agent_id, swarm_id="sink"), id="an agent in another swarm"),
        pytest.param(PETE, BeginRequest(PETE.agent_id, team_id="core"), id="an agent into a team"),
        pytest.param(COORDINATOR, BeginRequest(CAROL, role=Role.SYSTEM), id="a coordinator as system"),
        pytest.param(COORDINATOR, BeginRequest(CAROL, swarm_id="sink"), id="a coordinator in another swarm"),
    ],
)
async def test_begin_session_never_widens(hub: Hub, principal: Principal, request_: BeginRequest) -> None:
    async def call() -> None:
        await refused(hub.bind(principal).begin_session(request_), AccessDenied, "session_not_allowed")

    await unchanged(hub, call, audited=1)
    entry = (await last_audit(hub)).draft
    assert (entry.action, entry.outcome, entry.risk) == ("session.begin", Outcome.DENIED, Risk.HIGH)


@pytest.mark.parametrize("role", list(Role))
async def test_a_session_of_a_lesser_role_cannot_climb_back(hub: Hub, role: Role) -> None:
    handle = await begin(hub, ROOT, "carol", role=role)
    for wanted in Role:
        call = hub.bind(ROOT, session_id=handle).begin_session(BeginRequest(CAROL, role=wanted))
        if wanted.rank > role.rank:
            await refused(call, AccessDenied, "session_not_allowed")
        else:
            assert (await call).session.role is wanted


@pytest.mark.parametrize("principal", [ALICE, COORDINATOR, ROOT], ids=lambda principal: principal.role)
async def test_a_child_is_a_plain_agent_in_its_parents_circles(hub: Hub, principal: Principal) -> None:
    session = (await hub.bind(principal).delegate(DelegationRequest(CAROL, "help"))).begun.session
    assert session.role is Role.AGENT
    assert (session.team_id, session.swarm_id) == (principal.team_id, principal.swarm_id)
    child = CAROL if principal.role is Role.SYSTEM else f"{principal.agent_id}/{CAROL}"
    assert session.lineage == (principal.agent_id, child)


@pytest.mark.parametrize("circle", [{"team_id": "edge"}, {"swarm_id": "sink"}])
async def test_a_delegation_never_widens(hub: Hub, circle: dict[str, str]) -> None:
    request = replace(DelegationRequest(CAROL, "help"), **circle)  # type: ignore[arg-type]

    async def call() -> None:
        await refused(hub.bind(ALICE).delegate(request), AccessDenied, "session_not_allowed")

    await unchanged(hub, call, audited=1)


async def test_a_delegation_takes_no_agent_of_its_own_chain(hub: Hub) -> None:
    child = (await hub.bind(ALICE).delegate(DelegationRequest(CAROL, "help"))).begun.handle
    for name in (ALICE.agent_id, CAROL):
        call = hub.bind(ALICE, session_id=child).delegate(DelegationRequest(name, "help"))
        await refused(call, InvalidInput, "delegation_cycle")


async def test_a_chain_of_delegations_has_an_end(hub: Hub) -> None:
    handle = ""
    for depth in range(1, hub.settings.work.delegation_depth_max + 1):
        workspace = hub.bind(ALICE, session_id=handle)
        report = await workspace.delegate(DelegationRequest(AgentId(f"child{depth}"), "help"))
        assert report.delegation.depth == depth
        handle = report.begun.handle
    call = hub.bind(ALICE, session_id=handle).delegate(DelegationRequest(AgentId("one-more"), "help"))
    await refused(call, InvalidInput, "delegation_too_deep")


async def inherits(hub: Hub, handle: str, memory: str) -> bool:
    context = await hub.bind(ALICE, session_id=handle).retrieve_context(ContextQuery())
    return memory in {hit.record.id for hit in context.hits}


async def test_a_child_inherits_private_memories_only_by_name_and_until_it_ends(hub: Hub) -> None:
    alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
    named = await remember(alice, "deploy key rotation", level=Level.PRIVATE)
    unnamed = await remember(alice, "deploy key storage", level=Level.PRIVATE)
    report = await alice.delegate(DelegationRequest(CAROL, "deploy key", memory_ids=(named,)))
    assert await inherits(hub, report.begun.handle, named)
    assert not await inherits(hub, report.begun.handle, unnamed)
    assert "deploy key rotation" in report.briefing
    assert "deploy key storage" not in report.briefing
    ended = await hub.bind(ALICE, session_id=report.begun.handle).end_session(success=True)
    assert (ended.delegation_completed, ended.grants_ended) == (True, 1)
    again = await begin(hub, ROOT, CAROL)
    context = await hub.bind(ROOT, session_id=again).retrieve_context(ContextQuery())
    assert named not in {hit.record.id for hit in context.hits}


async def test_what_a_child_inherited_lapses_with_the_delegation(hub: Hub, clock: Clock) -> None:
    alice = hub.bind(ALICE)
    memory = await remember(alice, "lent", level=Level.PRIVATE)
    lent = await alice.delegate(DelegationRequest(CAROL, "borrow", memory_ids=(memory,), expires_in_s=60))
    carol = hub.bind(Principal(CAROL, (DEFAULT,)), session_id=lent.begun.handle)
    await carol.get_memories([memory])
    again = await alice.delegate(DelegationRequest(CAROL, "work on"))
    clock.advance(seconds=60)
    carol = hub.bind(Principal(CAROL, (DEFAULT,)), session_id=again.begun.handle)
    await refused(carol.get_memories([memory]), NotFound, "not_found")


async def test_the_end_of_a_parent_ends_all_below(hub: Hub) -> None:
    parent = await begin(hub, ALICE)
    alice = hub.bind(ALICE, session_id=parent)
    memory = await remember(alice, "passed down", level=Level.PRIVATE)
    child = await alice.delegate(DelegationRequest(CAROL, "first", memory_ids=(memory,)))
    below = hub.bind(ALICE, session_id=child.begun.handle)
    grandchild = await below.delegate(DelegationRequest(AgentId("dave"), "second", memory_ids=(memory,)))
    assert await inherits(hub, grandchild.begun.handle, memory)
    report = await alice.end_session(success=True)
    assert (report.children_ended, report.grants_ended) == (2, 2)
    for handle in (parent, child.begun.handle, grandchild.begun.handle):
        await expect_invalid(hub, ALICE, handle, "session_ended")
    await refused(hub.bind(Principal(AgentId("dave"), (DEFAULT,))).get_memories([memory]), NotFound, "not_found")


async def test_a_session_ends_with_its_output_and_learnings(hub: Hub) -> None:
    for success, pattern in ((True, "success_pattern"), (False, "failure_pattern")):
        handle = await begin(hub, ALICE)
        report = await hub.bind(ALICE, session_id=handle).end_session(
            success=success, output=f"output {success}", learnings=[f"learning {success}"], level=Level.PRIVATE
        )
        found, _ = await hub.bind(ALICE).get_memories([item.id for item in report.stored])
        assert [(memory.record.type, memory.content) for memory in found] == [
            ("result", f"output {success}"),
            (pattern, f"learning {success}"),
        ]
        assert {memory.record.level for memory in found} == {Level.PRIVATE}
        assert report.session.status == ("succeeded" if success else "failed")


async def test_a_conversation_needs_a_session(hub: Hub) -> None:
    await refused(hub.bind(ALICE).log_turns([TurnDraft("user", "hi")]), SessionInvalid, "session_required")
    await refused(hub.bind(ALICE).end_session(success=True), SessionInvalid, "session_required")


async def test_the_secret_of_a_handle_is_never_stored(settings: HubSettings, hub: Hub) -> None:
    handle = await begin(hub, ALICE, task="secret keeping")
    child = (await hub.bind(ALICE, session_id=handle).delegate(DelegationRequest(CAROL, "help"))).begun.handle
    for one in (handle, child):
        await hub.bind(ALICE, session_id=one).retrieve_context(ContextQuery())
    everything = repr(await hub._door.database.read(lambda tx: tx.audit.entries(DEFAULT, after_seq=0, limit=1000)))
    if settings.data_dir is None:
        everything += repr((await stored(hub)).data)
    else:
        for file in settings.data_dir.rglob("*"):
            everything += file.read_bytes().decode("latin-1") if file.is_file() else ""
    for one in (handle, child):
        session_id, _, secret = one.partition(".")
        assert session_id in everything
        assert secret not in everything
