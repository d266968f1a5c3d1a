"""Delegation as a contract: accepted or not, never wider than its giver, over at once, and with results."""

import pytest

from contextdna import (
    AccessDenied,
    AgentId,
    ArtifactDraft,
    BeginRequest,
    Conflict,
    ContextQuery,
    DelegationId,
    DelegationReport,
    DelegationRequest,
    DelegationStatus,
    Direction,
    EventName,
    Hub,
    InvalidInput,
    Level,
    LimitExceeded,
    Memory,
    NotFound,
    Principal,
    RecordId,
    Role,
    SessionInvalid,
    SessionStatus,
    TurnDraft,
    Workspace,
)
from contextdna.domain.tokens import estimate_tokens
from tests.hub.rig import ALICE, BOB, DEFAULT, OUTSIDER, PETE, ROOT, Clock, begin, public, refused, remember, unchanged

pytestmark = pytest.mark.anyio

CAROL = AgentId("carol")
DAVE = AgentId("dave")
QUEEN = Principal(AgentId("queen"), (DEFAULT,), team_id="hive", swarm_id="bees")
MINE = Level.PRIVATE


async def delegate(
    workspace: Workspace, child: AgentId = CAROL, task: str = "help", **fields: object
) -> DelegationReport:
    return await workspace.delegate(DelegationRequest(child, task, **fields))  # type: ignore[arg-type]


def acting(hub: Hub, report: DelegationReport, principal: Principal = ALICE) -> Workspace:
    return hub.bind(principal, session_id=report.begun.handle)


async def status_of(hub: Hub, report: DelegationReport, principal: Principal = ALICE) -> DelegationStatus:
    views = await hub.bind(principal).delegations.list(direction=Direction.GIVEN)
    [status] = [view.status for view in views if view.delegation.id == report.delegation.id]
    return status


async def opened(workspace: Workspace, record_ids: tuple[RecordId, ...]) -> list[Memory]:
    found, missing = await workspace.get_memories(record_ids)
    assert missing == ()
    return list(found)


async def told(hub: Hub, principal: Principal, *, handle: str = "") -> list[EventName]:
    page = await hub.bind(principal, session_id=handle).events.read(limit=1000)
    return [event.name for event in page.events if event.name.startswith("delegation.")]


class TestStatus:
    async def test_it_waits_until_the_child_takes_it(self, hub: Hub, clock: Clock) -> None:
        report = await delegate(hub.bind(ALICE))
        assert report.delegation.status is DelegationStatus.PENDING
        clock.advance(minutes=1)
        accepted = await acting(hub, report).delegations.accept()
        assert (accepted.status, accepted.accepted_at) == (DelegationStatus.ACCEPTED, clock.now)
        clock.advance(minutes=1)
        assert await acting(hub, report).delegations.accept() == accepted
        assert await status_of(hub, report) is DelegationStatus.ACCEPTED

    async def test_to_resume_with_the_handle_is_to_accept(self, hub: Hub) -> None:
        report = await delegate(hub.bind(ALICE))
        await acting(hub, report).resume_session()
        assert await status_of(hub, report) is DelegationStatus.ACCEPTED
        await acting(hub, report).resume_session()

    @pytest.mark.parametrize("accepted", [False, True])
    @pytest.mark.parametrize("success", [False, True])
    async def test_the_end_of_the_child_s_session_completes_or_fails_it(
        self, hub: Hub, success: bool, accepted: bool
    ) -> None:
        report = await delegate(hub.bind(ALICE))
        if accepted:
            await acting(hub, report).delegations.accept()
        await acting(hub, report).end_session(success=success)
        assert await status_of(hub, report) == ("completed" if success else "failed")

    async def test_what_is_past_its_deadline_has_expired(self, hub: Hub, clock: Clock) -> None:
        report = await delegate(hub.bind(ALICE), expires_in_s=60)
        clock.advance(seconds=60)
        assert await status_of(hub, report) is DelegationStatus.EXPIRED
        await refused(acting(hub, report).delegations.accept(), SessionInvalid, "session_expired")
        await refused(hub.bind(ALICE).delegations.revoke(report.delegation.id), Conflict, "delegation_over")

    async def test_a_declined_one_ends_the_child_s_session_and_grants(self, hub: Hub) -> None:
        memory = await remember(hub.bind(ALICE), "lent", level=MINE)
        report = await delegate(hub.bind(ALICE), memory_ids=(memory,))
        await acting(hub, report).state.set("key", 1)
        end = await acting(hub, report).delegations.decline()
        assert (end.delegation.status, end.sessions_ended, end.grants_ended) == (DelegationStatus.DECLINED, 1, 1)
        view = await hub.bind(ALICE).sessions.get(report.begun.session.id)
        assert view.status is SessionStatus.CLOSED
        await refused(acting(hub, report).state.mget(), SessionInvalid, "session_ended")

    async def test_the_reason_of_a_refusal_is_shown_to_who_asked(self, hub: Hub) -> None:
        report = await delegate(hub.bind(ALICE))
        await acting(hub, report).delegations.decline(reason="I have no hands")
        [view] = await hub.bind(ALICE).delegations.list()
        assert (view.status, view.reason, view.task) == (DelegationStatus.DECLINED, "I have no hands", "help")
        again = await delegate(hub.bind(ALICE))
        await refused(acting(hub, again).delegations.decline(reason="x" * 4097), LimitExceeded, "reason_too_large")

    async def test_a_failed_session_completes_nothing(self, hub: Hub) -> None:
        for success in (True, False):
            report = await delegate(hub.bind(ALICE))
            assert (await acting(hub, report).end_session(success=success)).delegation_completed is success

    async def test_one_past_its_deadline_has_expired_whatever_ends_above_it(self, hub: Hub, clock: Clock) -> None:
        alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        report = await delegate(alice, expires_in_s=60)
        clock.advance(minutes=5)
        await alice.end_session(success=True)
        [view] = await hub.bind(ALICE).delegations.list()
        assert view.delegation.status is DelegationStatus.EXPIRED
        assert view.delegation.ended_at == report.delegation.expires_at
        child = (await hub.bind(ALICE).sessions.get(report.begun.session.id)).session
        assert (child.status, child.ended_at, child.updated_at) == ("expired", child.expires_at, child.expires_at)

    async def test_an_accepted_one_is_not_declined(self, hub: Hub) -> None:
        report = await delegate(hub.bind(ALICE))
        await acting(hub, report).delegations.accept()
        await refused(acting(hub, report).delegations.decline(), Conflict, "delegation_accepted")

    async def test_one_that_is_over_stays_so(self, hub: Hub) -> None:
        report = await delegate(hub.bind(ROOT))
        child = Principal(CAROL, (DEFAULT,))
        await acting(hub, report, ROOT).end_session(success=True)
        named = report.delegation.id
        await refused(hub.bind(child).delegations.accept(named), Conflict, "delegation_over")
        await refused(hub.bind(child).delegations.decline(named), Conflict, "delegation_over")
        await refused(hub.bind(ROOT).delegations.revoke(named), Conflict, "delegation_over")
        assert await status_of(hub, report, ROOT) is DelegationStatus.COMPLETED

    async def test_a_session_of_its_own_came_from_none(self, hub: Hub) -> None:
        own = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        await refused(own.delegations.accept(), InvalidInput, "not_delegated")
        await refused(hub.bind(ALICE).delegations.accept(), SessionInvalid, "session_required")

    async def test_who_has_part_in_it_is_told_and_nobody_else(self, hub: Hub) -> None:
        report = await delegate(hub.bind(ALICE))
        await acting(hub, report).delegations.accept()
        await acting(hub, report).end_session(success=True)
        declined = await delegate(hub.bind(ALICE))
        await acting(hub, declined).delegations.decline()
        failed = await delegate(hub.bind(ALICE))
        await acting(hub, failed).end_session(success=False)
        revoked = await delegate(hub.bind(ALICE))
        await hub.bind(ALICE).delegations.revoke(revoked.delegation.id)
        last = await delegate(hub.bind(ALICE))
        names = ["created", "accepted", "completed", "created", "declined", "created", "failed", "created", "revoked"]
        wanted = [f"delegation.{name}" for name in [*names, "created"]]
        assert await told(hub, ALICE) == wanted
        assert await told(hub, ALICE, handle=last.begun.handle) == wanted
        assert await told(hub, PETE) == []


class TestRights:
    async def test_only_the_child_accepts_and_declines(self, hub: Hub) -> None:
        report = await delegate(hub.bind(ALICE))
        named = report.delegation.id
        for principal, kind, code in (
            (ALICE, AccessDenied, "not_the_child"),
            (ROOT, AccessDenied, "not_the_child"),
            (BOB, NotFound, "not_found"),
            (OUTSIDER, NotFound, "not_found"),
        ):

            async def attempt(principal: Principal = principal, kind: type = kind, code: str = code) -> None:
                await refused(hub.bind(principal).delegations.accept(named), kind, code)
                await refused(hub.bind(principal).delegations.decline(named), kind, code)

            await unchanged(hub, attempt, audited=2)

    async def test_only_those_above_revoke(self, hub: Hub) -> None:
        report = await delegate(hub.bind(ALICE))
        deeper = await delegate(acting(hub, report), DAVE)
        other = await delegate(hub.bind(ALICE), AgentId("erin"))
        named = deeper.delegation.id

        async def attempt(workspace: Workspace, kind: type, code: str) -> None:
            await unchanged(hub, lambda: refused(workspace.delegations.revoke(named), kind, code), audited=1)

        await attempt(acting(hub, deeper), AccessDenied, "not_above")
        await attempt(acting(hub, other), NotFound, "not_found")
        await attempt(hub.bind(BOB), NotFound, "not_found")
        await attempt(hub.bind(OUTSIDER), NotFound, "not_found")
        await refused(hub.bind(BOB).delegations.revoke(DelegationId("del_x")), NotFound, "not_found")

    @pytest.mark.parametrize("who", ["parent", "above", "system"])
    async def test_a_revocation_ends_all_below_at_once(self, hub: Hub, who: str) -> None:
        memory = await remember(hub.bind(ALICE), "lent", level=MINE)
        top = await delegate(hub.bind(ALICE), AgentId("top"), memory_ids=(memory,))
        report = await delegate(acting(hub, top), CAROL, memory_ids=(memory,))
        deeper = await delegate(acting(hub, report), DAVE, memory_ids=(memory,))
        own = await acting(hub, deeper).begin_session(BeginRequest(AgentId("")))
        workspaces = {"parent": acting(hub, top), "above": hub.bind(ALICE), "system": hub.bind(ROOT)}
        end = await workspaces[who].delegations.revoke(report.delegation.id)
        assert (end.delegation.status, end.sessions_ended, end.grants_ended) == (DelegationStatus.REVOKED, 3, 2)
        for handle in (report.begun.handle, deeper.begun.handle, own.handle):
            gone = hub.bind(ALICE, session_id=handle)
            await refused(gone.retrieve_context(ContextQuery()), SessionInvalid, "session_ended")
        assert await status_of(hub, deeper) is DelegationStatus.REVOKED
        assert await status_of(hub, top) is DelegationStatus.PENDING
        await opened(acting(hub, top), (memory,))


class TestListing:
    async def test_given_and_received_by_status_with_what_is_done(self, hub: Hub, clock: Clock) -> None:
        first = await delegate(hub.bind(ALICE), CAROL, "first")
        clock.advance(seconds=1)
        second = await delegate(acting(hub, first), DAVE, "second")
        await acting(hub, second).sessions.progress(status="half", thoughts=2)
        [inner, outer] = await hub.bind(ALICE).delegations.list(direction=Direction.GIVEN)
        assert (outer.task, outer.delegation.depth, inner.task, inner.delegation.depth) == ("first", 1, "second", 2)
        assert (inner.progress, inner.thoughts) == ("half", 2)
        assert await hub.bind(ALICE).delegations.list(direction=Direction.RECEIVED) == ()
        carol = acting(hub, first).delegations
        assert [view.task for view in await carol.list(direction=Direction.RECEIVED)] == ["first"]
        assert [view.task for view in await carol.list(direction=Direction.GIVEN)] == ["second"]
        assert [view.task for view in await carol.list()] == ["second", "first"]
        assert [view.task for view in await carol.list(limit=1)] == ["second"]
        assert [view.task for view in await carol.list(before=second.delegation.id)] == ["first"]
        await acting(hub, second).end_session(success=True)
        assert [view.task for view in await carol.list(status=DelegationStatus.COMPLETED)] == ["second"]
        assert [view.task for view in await hub.bind(ROOT, project_id=DEFAULT).delegations.list()] == [
            "second",
            "first",
        ]
        for principal in (BOB, OUTSIDER):
            assert await hub.bind(principal).delegations.list() == ()
        await refused(carol.list(limit=0), LimitExceeded, "limit_out_of_range")

    async def test_what_one_may_revoke_one_is_shown(self, hub: Hub) -> None:
        """A coordinator stands above what was delegated in a session that it began, though not in the path."""
        chief = Principal(AgentId("chief"), (DEFAULT,), role=Role.COORDINATOR)
        session = hub.bind(chief, session_id=await begin(hub, chief, "carol"))
        given = await delegate(session, DAVE)
        delegations = hub.bind(chief).delegations
        [shown] = await delegations.list(direction=Direction.GIVEN)
        assert shown.delegation.id == given.delegation.id
        assert await delegations.list(direction=Direction.RECEIVED) == ()
        assert (await delegations.revoke(given.delegation.id)).sessions_ended == 1


class TestNarrowing:
    async def test_a_grant_handed_on_lapses_with_the_one_it_rests_on(self, hub: Hub) -> None:
        owner = hub.bind(ROOT)
        memory = await remember(owner, "the owner's", level=MINE)
        boss = await delegate(owner, AgentId("boss"), memory_ids=(memory,))
        child = await delegate(acting(hub, boss, ROOT), CAROL, memory_ids=(memory,))
        grandchild = await delegate(acting(hub, child, ROOT), DAVE, memory_ids=(memory,))
        below = (acting(hub, child, ROOT), acting(hub, grandchild, ROOT))
        for workspace in below:
            await opened(workspace, (memory,))
        assert (await owner.revoke_shares([AgentId("boss")], [memory])).changed == 3
        for workspace in below:
            await refused(workspace.get_memories([memory]), NotFound, "not_found")

    async def test_a_bare_named_child_s_grant_rests_on_the_parent_s_too(self, hub: Hub) -> None:
        """Two operators: paths of names say nothing of who lent to whom here."""
        boss = Principal(AgentId("boss"), (DEFAULT,), role=Role.SYSTEM)
        memory = await remember(hub.bind(ROOT), "the owner's", level=MINE)
        await delegate(hub.bind(ROOT), boss.agent_id, memory_ids=(memory,))
        child = await delegate(hub.bind(boss), CAROL, memory_ids=(memory,))
        await opened(acting(hub, child, boss), (memory,))
        assert (await hub.bind(ROOT).revoke_shares([boss.agent_id], [memory])).changed == 2
        await refused(acting(hub, child, boss).get_memories([memory]), NotFound, "not_found")

    async def test_a_grant_handed_on_ends_no_later_than_the_one_it_rests_on(self, hub: Hub, clock: Clock) -> None:
        boss = Principal(AgentId("boss"), (DEFAULT,), role=Role.SYSTEM)
        memory = await remember(hub.bind(ROOT), "for a minute", level=MINE)
        await delegate(hub.bind(ROOT), boss.agent_id, memory_ids=(memory,), expires_in_s=60)
        child = await delegate(hub.bind(boss), CAROL, memory_ids=(memory,), expires_in_s=3600)
        clock.advance(seconds=60, microseconds=-1)
        await opened(acting(hub, child, boss), (memory,))
        clock.advance(microseconds=1)
        await refused(acting(hub, child, boss).get_memories([memory]), NotFound, "not_found")

    async def test_the_deadline_is_never_after_the_parent_s(self, hub: Hub, clock: Clock) -> None:
        alice = hub.bind(ALICE, session_id=await begin(hub, ALICE, ttl_s=60))
        report = await delegate(alice, expires_in_s=3600)
        assert (report.delegation.expires_at - clock.now).total_seconds() == 60
        assert report.begun.session.expires_at == report.delegation.expires_at

    async def test_a_child_has_the_role_agent_and_no_way_up(self, hub: Hub) -> None:
        report = await delegate(hub.bind(ROOT))
        child = acting(hub, report, ROOT)
        for request in (
            BeginRequest(AgentId(""), role=Role.COORDINATOR),
            BeginRequest(AgentId(""), team_id="other"),
            BeginRequest(ROOT.agent_id),
        ):
            await refused(child.begin_session(request), AccessDenied, "session_not_allowed")


class TestInheritance:
    async def test_relevance_and_importance_both_decide(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        text = "the token cache is cold at the start"
        dull, vital = [
            await remember(alice, f"{text} {word}", importance=importance)
            for word, importance in (("once", 0.1), ("again", 0.9))
        ]
        apt = await remember(alice, "token cache warming token cache", importance=0.5)
        far = await remember(alice, "a cache of nuts", importance=0.9)
        other = await remember(alice, "nothing of that kind", importance=1.0)
        report = await delegate(alice, task="warming the token cache")
        order = sorted((dull, vital, apt, far), key=report.briefing.index)
        assert order[0] == apt
        assert order.index(vital) < order.index(dull)
        assert other not in report.briefing
        one = await delegate(alice, DAVE, task="warming the token cache", limit=1)
        assert (one.memories, apt in one.briefing) == (1, True)

    async def test_thirty_at_most_by_default(self, hub: Hub) -> None:
        alice = hub.bind(ALICE)
        for number in range(40):
            await remember(alice, f"login note {number}", importance=number / 40)
        assert (await delegate(alice, task="login")).memories == 30
        assert (await delegate(alice, task="login", limit=0)).memories == 0

    async def test_what_may_not_be_handed_on_takes_no_room(self, hub: Hub) -> None:
        for number in range(5):
            memory = await remember(hub.bind(BOB), f"login secret {number}", level=Level.TEAM, importance=1.0)
            await hub.bind(BOB).share_memories([ALICE.agent_id], [memory])
        own = await remember(hub.bind(ALICE), "login for all to know, of little weight", importance=0.1)
        report = await delegate(hub.bind(ALICE), task="login", limit=1)
        assert (report.memories, own in report.briefing) == (1, True)

    async def test_of_a_long_conversation_the_last_and_the_telling_turns(self, hub: Hub) -> None:
        alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        turns = [TurnDraft("user", f"small talk {number}") for number in range(20)]
        turns[3] = TurnDraft("assistant", "the gearbox needs oil")
        ids = await alice.log_turns(turns)
        report = await delegate(alice, task="mend the gearbox", include_conversations=True, limit=6)
        seen = await acting(hub, report).read_conversation(report.delegation.parent_session_id)
        found = [turn.record.id for turn in seen]
        assert ids[3] in report.briefing
        assert [turn for turn in ids if turn in report.briefing] == [ids[3], *ids[-2:]]
        assert report.turns == 3
        assert set(found) >= {ids[3], *ids[-2:]}
        every = await delegate(alice, DAVE, task="mend the gearbox", include_conversations=True)
        assert every.turns == 20

    async def test_team_turns_go_down_with_the_conversation_and_private_ones_when_named(self, hub: Hub) -> None:
        alice = hub.bind(QUEEN, session_id=await begin(hub, QUEEN))
        drafts = [TurnDraft("user", f"help {level.name}", level=level) for level in (Level.TEAM, MINE)]
        team, private = await alice.log_turns(drafts)
        conversation = public((await alice.resume_session()).handle)
        report = await delegate(alice, task="help", include_conversations=True)
        assert (report.turns, "PRIVATE" in report.briefing) == (1, False)
        [turn] = await acting(hub, report, QUEEN).read_conversation(conversation)
        assert turn.record.id == team
        named = await delegate(alice, DAVE, memory_ids=(private,))
        seen = await acting(hub, named, QUEEN).read_conversation(conversation)
        assert private in {turn.record.id for turn in seen}

    async def test_system_turns_stay_behind(self, hub: Hub) -> None:
        root = hub.bind(ROOT, session_id=await begin(hub, ROOT, role=Role.SYSTEM))
        await root.log_turns([TurnDraft("user", "help us", level=Level.SYSTEM)])
        assert (await delegate(root, include_conversations=True)).turns == 0

    async def test_the_last_turns_that_may_go_down_do_though_later_ones_are_private(self, hub: Hub) -> None:
        alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        ids = await alice.log_turns([TurnDraft("user", f"small talk {number}") for number in range(6)])
        await alice.log_turns([TurnDraft("user", "secret", level=MINE) for _ in range(2)])
        report = await delegate(alice, task="x", include_conversations=True, limit=6)
        assert [turn for turn in ids if turn in report.briefing] == list(ids[-2:])

    async def test_the_limit_is_one_for_memories_and_turns(self, hub: Hub) -> None:
        alice = hub.bind(ALICE, session_id=await begin(hub, ALICE))
        for number in range(12):
            await remember(alice, f"login note {number}")
        await alice.log_turns([TurnDraft("user", f"login {number}") for number in range(12)])
        both = await delegate(alice, task="login", include_conversations=True, limit=10)
        assert (both.memories, both.turns) == (5, 5)
        few = await delegate(alice, DAVE, task="login", include_conversations=True, limit=20)
        assert (few.memories, few.turns) == (10, 10)
        roomy = await delegate(alice, AgentId("erin"), task="login", include_conversations=True)
        assert (roomy.memories, roomy.turns) == (12, 12)

    @pytest.mark.parametrize("max_tokens", [50, 120, 2000])
    async def test_the_briefing_keeps_to_its_budget(self, hub: Hub, max_tokens: int) -> None:
        alice = hub.bind(ALICE)
        for number in range(40):
            await remember(alice, f"login note {number}: " + "words upon words " * 20)
        for task in ("login", "login " * 2000):
            report = await delegate(alice, task=task, max_tokens=max_tokens)
            assert estimate_tokens(report.briefing) <= max_tokens
            assert "more: use retrieve_context" in report.briefing
            view = await hub.bind(ALICE).sessions.get(report.begun.session.id)
            assert view.task == task


class TestResults:
    @pytest.mark.parametrize("level", [Level.PRIVATE, Level.TEAM, Level.SWARM, Level.PROJECT])
    async def test_results_and_learnings_come_back_with_where_they_are_from(self, hub: Hub, level: Level) -> None:
        top = hub.bind(QUEEN, session_id=await begin(hub, QUEEN))
        report = await delegate(top, CAROL, "count")
        end = await acting(hub, report, QUEEN).end_session(
            success=True, output="forty-two bees", learnings=["count at dusk"], level=level
        )
        result_ids = tuple(item.id for item in end.stored)
        [view] = await top.delegations.list()
        assert (view.status, view.result_ids) == (DelegationStatus.COMPLETED, result_ids)
        for memory in await opened(top, result_ids):
            assert memory.record.owner_id == "queen/carol"
            assert memory.granted_by == ("queen/carol" if level is MINE else "")
            assert memory.metadata == {
                "session": report.begun.session.id,
                "success": True,
                "delegation": report.delegation.id,
                "chain": ["queen", "queen/carol"],
            }
        hits = (await top.retrieve_context(ContextQuery("how many bees"))).hits
        assert hits[0].record.id == result_ids[0]
        assert hits[0].granted_by == ("queen/carol" if level is MINE else "")

    async def test_a_failure_comes_back_as_a_pattern(self, hub: Hub) -> None:
        report = await delegate(hub.bind(QUEEN), CAROL, "count")
        end = await acting(hub, report, QUEEN).end_session(
            success=False, learnings=["they do not hold still"], level=MINE
        )
        [memory] = await opened(hub.bind(QUEEN), (end.stored[0].id,))
        assert (memory.record.type, memory.metadata["success"]) == ("failure_pattern", False)
        [view] = await hub.bind(QUEEN).delegations.list()
        assert (view.status, view.result_ids) == (DelegationStatus.FAILED, (memory.record.id,))

    async def test_artifacts_that_the_child_owns_come_back_and_others_do_not(self, hub: Hub) -> None:
        report = await delegate(hub.bind(QUEEN), CAROL, "draw")
        child = acting(hub, report, QUEEN)
        own = (await child.attach_artifact(ArtifactDraft("map.txt", b"here", level=MINE))).record.id
        lent = (await hub.bind(BOB).attach_artifact(ArtifactDraft("old.txt", b"there", level=MINE))).record.id
        await hub.bind(BOB).share_memories([AgentId("queen/carol")], [lent])
        end = await child.end_session(success=True, artifact_ids=[own, lent])
        assert end.granted == 1, "the memory that names it is for the project"
        _, data = await hub.bind(QUEEN).read_artifact(own)
        assert data == b"here"
        await refused(hub.bind(QUEEN).read_artifact(lent), NotFound, "not_found")
        [view] = await hub.bind(QUEEN).delegations.list()
        assert view.result_ids == (end.stored[0].id, own)
        [found] = (await hub.bind(QUEEN).retrieve_context(ContextQuery(str(own)))).hits[:1]
        assert found.record.id == end.stored[0].id

    async def test_what_came_back_outlives_the_delegation_goes_to_the_parent_alone_and_no_further(
        self, hub: Hub, clock: Clock
    ) -> None:
        report = await delegate(hub.bind(QUEEN), CAROL, "count", expires_in_s=60)
        deeper = await delegate(acting(hub, report, QUEEN), DAVE, "count one")
        low = await acting(hub, deeper, QUEEN).end_session(success=True, output="one bee", level=MINE)
        await opened(acting(hub, report, QUEEN), (low.stored[0].id,))
        await refused(hub.bind(QUEEN).get_memories([low.stored[0].id]), NotFound, "not_found")
        inner = {view.task: view.result_ids for view in await hub.bind(QUEEN).delegations.list()}
        assert inner["count one"] == ()
        high = await acting(hub, report, QUEEN).end_session(success=True, output="many bees", level=MINE)
        clock.advance(days=2)
        await hub.bind(ROOT).sweep()
        await opened(hub.bind(QUEEN), (high.stored[0].id,))
        call = hub.bind(QUEEN).share_memories([BOB.agent_id], [high.stored[0].id])
        await refused(call, AccessDenied, "not_owner")
        other = await delegate(hub.bind(QUEEN), AgentId("erin"), "many bees")
        await refused(acting(hub, other, QUEEN).get_memories([high.stored[0].id]), NotFound, "not_found")

    async def test_the_same_result_twice_is_two_each_with_where_it_is_from(self, hub: Hub) -> None:
        report = await delegate(hub.bind(ALICE), CAROL, "count")
        again = await delegate(hub.bind(ALICE), CAROL, "count again")
        first = await acting(hub, report).end_session(success=True, output="same", level=MINE)
        second = await acting(hub, again).end_session(success=True, output="same", level=MINE)
        for given, end in ((report, first), (again, second)):
            [memory] = await opened(hub.bind(ALICE), (end.stored[0].id,))
            assert memory.metadata["delegation"] == given.delegation.id
            assert memory.metadata["session"] == given.begun.session.id

    async def test_who_may_not_see_what_came_back_learns_no_id_of_it(self, hub: Hub) -> None:
        report = await delegate(hub.bind(ALICE))
        [kept] = (await acting(hub, report).end_session(success=True, output="done", level=MINE)).stored
        for who, ids in ((ALICE, (kept.id,)), (ROOT, ())):
            [view] = await hub.bind(who, project_id=DEFAULT).delegations.list()
            assert (view.result_ids, view.delegation.result_ids) == (ids, ids)

    async def test_nothing_comes_back_from_what_was_revoked(self, hub: Hub) -> None:
        report = await delegate(hub.bind(QUEEN), CAROL, "count")
        memory = await remember(acting(hub, report, QUEEN), "so far", level=MINE)
        await hub.bind(QUEEN).delegations.revoke(report.delegation.id)
        await refused(hub.bind(QUEEN).get_memories([memory]), NotFound, "not_found")
        [view] = await hub.bind(QUEEN).delegations.list()
        assert (view.status, view.result_ids) == (DelegationStatus.REVOKED, ())


async def test_a_search_by_agent_finds_what_ones_own_delegate_of_that_name_stored(hub: Hub) -> None:
    report = await delegate(hub.bind(QUEEN), CAROL, "count")
    memory = await remember(acting(hub, report, QUEEN), "seven geese")
    context = await hub.bind(QUEEN).retrieve_context(ContextQuery("geese", owner_id=CAROL))
    assert [hit.record.id for hit in context.hits] == [memory]
    assert not (await hub.bind(BOB).retrieve_context(ContextQuery("geese", owner_id=CAROL))).hits
