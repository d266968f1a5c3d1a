"""Contract of ``ProjectTable``, ``SessionTable`` and ``GrantTable``."""

from dataclasses import replace

import pytest

from contextdna.errors import Conflict
from contextdna.ports.database import Database, Transaction
from contextdna.values.ids import AgentId, DelegationId, GrantId, ProjectId, RecordId, SessionId
from contextdna.values.principal import Role
from contextdna.values.project import Project
from contextdna.values.record import Codec, Sealed
from contextdna.values.session import DelegationStatus, SessionStatus
from tests.builders import (
    ALICE,
    BOB,
    NOW,
    OTHER_PROJECT,
    PROJECT,
    make_agent,
    make_delegation,
    make_grant,
    make_session,
    minutes,
)

pytestmark = pytest.mark.anyio

RECORDS = [RecordId("mem_1"), RecordId("mem_2")]
CAROL = AgentId("carol")


async def test_a_project_is_added_once(database: Database) -> None:
    assert await database.write(lambda tx: tx.projects.add(Project(PROJECT, NOW)))
    assert not await database.write(lambda tx: tx.projects.add(Project(PROJECT, minutes(1))))
    assert not await database.write(lambda tx: tx.projects.add(Project(PROJECT, NOW)))
    assert await database.read(lambda tx: tx.projects.get(PROJECT)) == Project(PROJECT, NOW)
    assert await database.read(lambda tx: tx.projects.get(OTHER_PROJECT)) is None


async def test_projects_are_listed_by_id(database: Database) -> None:
    async def unit(tx: Transaction) -> None:
        for name in ("b", "c", "a", "B"):
            await tx.projects.add(Project(ProjectId(name), NOW))

    await database.write(unit)
    assert [project.id for project in await database.read(lambda tx: tx.projects.all())] == ["B", "a", "b", "c"]


async def test_seeing_an_agent_again_keeps_when_it_was_first_seen(database: Database) -> None:
    await database.write(lambda tx: tx.projects.see_agent(make_agent()))
    moved = make_agent(team_id="x", swarm_id="y", role=Role.SYSTEM, first_seen_at=minutes(5), last_seen_at=minutes(5))
    await database.write(lambda tx: tx.projects.see_agent(moved))
    assert await database.read(lambda tx: tx.projects.agents(PROJECT)) == [replace(moved, first_seen_at=NOW)]


async def test_an_agent_keeps_the_highest_role_that_it_was_seen_in(database: Database) -> None:
    for role in (Role.COORDINATOR, Role.AGENT):
        agent = make_agent(role=role)
        await database.write(lambda tx, agent=agent: tx.projects.see_agent(agent))  # type: ignore[misc]
    assert [agent.role for agent in await database.read(lambda tx: tx.projects.agents(PROJECT))] == [Role.COORDINATOR]


async def test_agents_are_listed_by_id_all_or_the_named_ones(database: Database) -> None:
    async def unit(tx: Transaction) -> None:
        for name in ("c", "a", "b"):
            await tx.projects.see_agent(make_agent(name))
        await tx.projects.see_agent(make_agent("d", project_id=OTHER_PROJECT))

    await database.write(unit)
    assert [agent.id for agent in await database.read(lambda tx: tx.projects.agents(PROJECT))] == ["a", "b", "c"]
    named = [AgentId(name) for name in ("d", "c", "a", "absent")]
    assert [agent.id for agent in await database.read(lambda tx: tx.projects.agents(PROJECT, named))] == ["a", "c"]
    assert await database.read(lambda tx: tx.projects.agents(PROJECT, [])) == []


async def test_a_session_comes_back_as_it_went_in(database: Database) -> None:
    session = make_session(
        lineage=(ALICE, BOB),
        parent_id=SessionId("ses_0"),
        delegation_id=DelegationId("del_1"),
        sealed=Sealed(b"\x00\xff", Codec.JSON_ZSTD, "key_1", b"salt"),
        role=Role.COORDINATOR,
    )
    await database.write(lambda tx: tx.sessions.add(session))
    assert await database.read(lambda tx: tx.sessions.get(session.id)) == session
    assert await database.read(lambda tx: tx.sessions.get(SessionId("ses_2"))) is None


async def test_adding_a_session_twice_is_refused(database: Database) -> None:
    await database.write(lambda tx: tx.sessions.add(make_session()))
    with pytest.raises(Conflict) as refused:
        await database.write(lambda tx: tx.sessions.add(make_session(team_id="x")))
    assert refused.value.code == "already_exists"
    assert await database.read(lambda tx: tx.sessions.get(SessionId("ses_1"))) == make_session()


async def test_replacing_a_session_stores_its_new_state(database: Database) -> None:
    await database.write(lambda tx: tx.sessions.add(make_session()))
    await database.write(lambda tx: tx.sessions.add(make_session("ses_2")))
    ended = make_session(
        status=SessionStatus.SUCCEEDED, ended_at=minutes(1), updated_at=minutes(1), sealed=Sealed(b'{"output":1}')
    )
    await database.write(lambda tx: tx.sessions.replace(ended))
    await database.write(lambda tx: tx.sessions.replace(make_session("absent")))
    assert await database.read(lambda tx: tx.sessions.get(ended.id)) == ended
    assert await database.read(lambda tx: tx.sessions.get(SessionId("ses_2"))) == make_session("ses_2")
    assert await database.read(lambda tx: tx.sessions.get(SessionId("absent"))) is None


async def test_a_delegation_is_added_and_replaced(database: Database) -> None:
    await database.write(lambda tx: tx.sessions.add_delegation(make_delegation()))
    assert await database.read(lambda tx: tx.sessions.get_delegation(DelegationId("del_1"))) == make_delegation()
    assert await database.read(lambda tx: tx.sessions.get_delegation(DelegationId("del_2"))) is None
    with pytest.raises(Conflict):
        await database.write(lambda tx: tx.sessions.add_delegation(make_delegation(depth=2)))
    ended = make_delegation(status=DelegationStatus.COMPLETED, ended_at=minutes(1))
    await database.write(lambda tx: tx.sessions.replace_delegation(ended))
    await database.write(lambda tx: tx.sessions.replace_delegation(make_delegation("absent")))
    assert await database.read(lambda tx: tx.sessions.get_delegation(DelegationId("del_1"))) == ended
    assert await database.read(lambda tx: tx.sessions.get_delegation(DelegationId("absent"))) is None


async def test_below_a_session_are_the_active_ones_begun_in_it(database: Database) -> None:
    parent = SessionId("ses_1")
    below = [make_session("ses_3", parent_id=parent), make_session("ses_2", parent_id=parent)]
    others = [
        make_session("ses_1"),
        make_session("ses_4", parent_id=parent, status=SessionStatus.EXPIRED),
        make_session("ses_5", parent_id=SessionId("ses_2")),
    ]

    async def unit(tx: Transaction) -> None:
        for session in (*below, *others):
            await tx.sessions.add(session)

    await database.write(unit)
    assert await database.read(lambda tx: tx.sessions.below(parent)) == [below[1], below[0]]
    assert await database.read(lambda tx: tx.sessions.below(SessionId(""))) == []


async def test_around_a_session_are_the_outermost_and_the_active_ones_in_it(database: Database) -> None:
    parents = {"ses_1": "", "ses_2": "ses_1", "ses_3": "ses_2", "ses_4": "ses_1", "ses_5": "ses_3", "ses_6": ""}

    async def unit(tx: Transaction) -> None:
        for name, parent in parents.items():
            over = {"status": SessionStatus.CLOSED} if name == "ses_4" else {}
            await tx.sessions.add(make_session(name, parent_id=SessionId(parent), **over))

    await database.write(unit)
    for name, counted in {"ses_1": 4, "ses_3": 4, "ses_5": 4, "ses_6": 1, "absent": 0}.items():
        around = database.read(lambda tx, name=name: tx.sessions.count_around(SessionId(name), most=9))  # type: ignore[misc]
        assert await around == counted
    assert await database.read(lambda tx: tx.sessions.count_around(SessionId("ses_5"), most=2)) == 2


async def test_a_grant_is_added_once(database: Database) -> None:
    grant = make_grant(expires_at=minutes(5), delegation_id=DelegationId("del_1"))
    await database.write(lambda tx: tx.grants.add([grant]))
    assert await database.read(lambda tx: tx.grants.active_for(PROJECT, RECORDS, BOB, now=NOW)) == [grant]
    with pytest.raises(Conflict) as refused:
        await database.write(lambda tx: tx.grants.add([make_grant("grt_2"), make_grant()]))
    assert refused.value.code == "already_exists"
    assert await database.read(lambda tx: tx.grants.active_for(PROJECT, RECORDS, BOB, now=NOW)) == [grant]


async def test_active_grants_are_those_in_force_for_the_agent(database: Database) -> None:
    await database.write(
        lambda tx: tx.grants.add(
            [
                make_grant("g9"),
                make_grant("g1", "mem_2", expires_at=minutes(1)),
                make_grant("g2", expires_at=NOW),
                make_grant("g3", revoked_at=minutes(-1)),
                make_grant("g4", grantee_id=CAROL),
                make_grant("g5", "mem_3"),
                make_grant("g6", project_id=OTHER_PROJECT),
                make_grant("g7", granted_by=CAROL, delegation_id=DelegationId("del_1")),
            ]
        )
    )
    found = await database.read(lambda tx: tx.grants.active_for(PROJECT, RECORDS, BOB, now=NOW))
    assert [grant.id for grant in found] == ["g1", "g7", "g9"]
    assert await database.read(lambda tx: tx.grants.active_for(PROJECT, [], BOB, now=NOW)) == []


async def test_given_grants_are_those_in_force(database: Database) -> None:
    await database.write(
        lambda tx: tx.grants.add(
            [
                make_grant("g9"),
                make_grant("g1", "mem_7", grantee_id=CAROL, expires_at=minutes(1)),
                make_grant("g2", expires_at=NOW),
                make_grant("g3", revoked_at=minutes(-1)),
                make_grant("g4", grantee_id=AgentId("dave")),
                make_grant("g5", granted_by=CAROL),
                make_grant("g6", project_id=OTHER_PROJECT),
                make_grant("g7", delegation_id=DelegationId("del_1")),
            ]
        )
    )
    found = await database.read(
        lambda tx: tx.grants.given(PROJECT, granted_by=ALICE, grantee_ids=[BOB, CAROL], now=NOW)
    )
    assert [grant.id for grant in found] == ["g1", "g7", "g9"]
    assert await database.read(lambda tx: tx.grants.given(PROJECT, granted_by=ALICE, grantee_ids=[], now=NOW)) == []
    found = await database.read(lambda tx: tx.grants.on_records(PROJECT, [RecordId("mem_7")], now=NOW))
    assert [grant.id for grant in found] == ["g1"]
    assert await database.read(lambda tx: tx.grants.on_records(PROJECT, [], now=NOW)) == []


async def test_revoking_counts_what_was_in_force(database: Database) -> None:
    grants = [
        make_grant("g1"),
        make_grant("g2", expires_at=NOW),
        make_grant("g3", revoked_at=minutes(-1)),
        make_grant("g4", project_id=OTHER_PROJECT),
        make_grant("g5"),
    ]
    await database.write(lambda tx: tx.grants.add(grants))
    named = [GrantId(name) for name in ("g1", "g2", "g3", "g4", "absent")]
    assert await database.write(lambda tx: tx.grants.revoke(PROJECT, named, at=NOW)) == 1
    assert await database.write(lambda tx: tx.grants.revoke(PROJECT, named, at=NOW)) == 0
    assert await database.write(lambda tx: tx.grants.revoke(PROJECT, [], at=NOW)) == 0
    left = await database.read(lambda tx: tx.grants.active_for(PROJECT, RECORDS, BOB, now=NOW))
    assert left == [grants[4]]
    before = await database.read(lambda tx: tx.grants.active_for(PROJECT, RECORDS, BOB, now=minutes(-5)))
    assert [grant.id for grant in before] == ["g2", "g5"]


async def test_revoking_a_delegation_ends_all_its_grants(database: Database) -> None:
    delegation = DelegationId("del_1")
    await database.write(
        lambda tx: tx.grants.add(
            [
                make_grant("g1", delegation_id=delegation),
                make_grant("g2", "mem_2", delegation_id=delegation),
                make_grant("g3", delegation_id=delegation, expires_at=NOW),
                make_grant("g4", delegation_id=DelegationId("del_2")),
                make_grant("g5"),
                make_grant("g6", delegation_id=delegation, project_id=OTHER_PROJECT),
            ]
        )
    )
    assert await database.write(lambda tx: tx.grants.revoke_delegation(PROJECT, delegation, at=NOW)) == 2
    assert await database.write(lambda tx: tx.grants.revoke_delegation(PROJECT, delegation, at=NOW)) == 0
    assert await database.write(lambda tx: tx.grants.revoke_delegation(PROJECT, DelegationId(""), at=NOW)) == 0
    left = await database.read(lambda tx: tx.grants.active_for(PROJECT, RECORDS, BOB, now=NOW))
    assert [grant.id for grant in left] == ["g4", "g5"]
    elsewhere = await database.read(lambda tx: tx.grants.active_for(OTHER_PROJECT, RECORDS, BOB, now=NOW))
    assert [grant.id for grant in elsewhere] == ["g6"]
