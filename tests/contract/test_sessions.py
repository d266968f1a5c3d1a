"""Contract of what sessions, delegations and grants are found and removed by, and of ``StateTable``."""

from dataclasses import replace
from typing import Any

import pytest

from contextdna.ports.database import Database, Transaction
from contextdna.values.grant import Grant
from contextdna.values.ids import AgentId, DelegationId, GrantId, RecordId, SessionId
from contextdna.values.principal import Role
from contextdna.values.record import Codec, Sealed
from contextdna.values.session import (
    Delegation,
    DelegationStatus,
    Direction,
    Session,
    SessionFilter,
    SessionStatus,
    StateRow,
)
from tests.builders import (
    ALICE,
    BOB,
    NOW,
    OTHER_PROJECT,
    PROJECT,
    make_delegation,
    make_grant,
    make_session,
    minutes,
)

pytestmark = pytest.mark.anyio

SES = SessionId("ses_1")
CAROL = AgentId("carol")
ANY = SessionFilter()


def row(key: str, session_id: str = SES, **changes: object) -> StateRow:
    """Make a key of a session's state."""
    sealed = Sealed(b"\x00sealed", Codec.JSON_ZSTD, "key_1", b"salt")
    plain = StateRow(PROJECT, SessionId(session_id), key, 1, NOW, minutes(60), sealed)
    return replace(plain, **changes)  # type: ignore[arg-type]


async def put(database: Database, *rows: StateRow) -> None:
    async def unit(tx: Transaction) -> None:
        for one in rows:
            await tx.states.put(one)

    await database.write(unit)


async def keys(database: Database, session_id: SessionId = SES) -> list[str]:
    return [one.key for one in await database.read(lambda tx: tx.states.of(PROJECT, session_id))]


async def test_state_comes_back_as_it_went_in_by_key(database: Database) -> None:
    await put(database, row("b"), row("a"), row("c", "ses_2"), row("d", project_id=OTHER_PROJECT))
    assert await database.read(lambda tx: tx.states.of(PROJECT, SES)) == [row("a"), row("b")]
    assert await keys(database, SessionId("absent")) == []


async def test_a_key_is_written_over(database: Database) -> None:
    newer = row("a", version=7, updated_at=minutes(1), expires_at=minutes(2), sealed=Sealed(b"new"))
    await put(database, row("a"), newer)
    assert await database.read(lambda tx: tx.states.of(PROJECT, SES)) == [newer]


async def test_keys_are_removed_by_name_by_session_and_by_time(database: Database) -> None:
    await put(database, row("a"), row("b"), row("c", expires_at=NOW), row("a", "ses_2"), row("b", "ses_3"))
    assert await database.write(lambda tx: tx.states.delete(PROJECT, SES, ["a", "absent"])) == 1
    assert await database.write(lambda tx: tx.states.delete(PROJECT, SES, [])) == 0
    assert await database.write(lambda tx: tx.states.delete_expired(PROJECT, now=minutes(-1), limit=9)) == 0
    assert await database.write(lambda tx: tx.states.delete_expired(OTHER_PROJECT, now=minutes(99), limit=9)) == 0
    assert await database.write(lambda tx: tx.states.delete_expired(PROJECT, now=NOW, limit=9)) == 1
    assert await keys(database) == ["b"]
    named = [SessionId("ses_1"), SessionId("ses_2"), SessionId("absent")]
    assert await database.write(lambda tx: tx.states.delete_of(PROJECT, named)) == 2
    assert await keys(database, SessionId("ses_3")) == ["b"]


async def test_of_many_expired_keys_those_that_ended_first_go_first(database: Database) -> None:
    await put(database, row("a", expires_at=minutes(-1)), row("b", expires_at=minutes(-3)), row("c", expires_at=NOW))
    assert await database.write(lambda tx: tx.states.delete_expired(PROJECT, now=NOW, limit=1)) == 1
    assert await keys(database) == ["a", "c"]


def a_world_of_sessions() -> list[Session]:
    return [
        make_session("ses_1"),
        make_session("ses_2", agent_id=BOB, lineage=(ALICE, BOB), status=SessionStatus.SUCCEEDED),
        make_session("ses_3", agent_id=CAROL, lineage=(CAROL,), swarm_id="sink", expires_at=NOW),
        make_session("ses_4", agent_id=BOB, lineage=(BOB,), swarm_id="sink", role=Role.SYSTEM),
        make_session("ses_5", project_id=OTHER_PROJECT),
        make_session("ses_6", agent_id=AgentId("al"), lineage=(AgentId("al"),)),
    ]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        pytest.param(ANY, "64321", id="any"),
        pytest.param(SessionFilter(status=SessionStatus.ACTIVE), "641", id="active"),
        pytest.param(SessionFilter(status=SessionStatus.EXPIRED), "3", id="past its end"),
        pytest.param(SessionFilter(status=SessionStatus.SUCCEEDED), "2", id="succeeded"),
        pytest.param(SessionFilter(agent_id=BOB), "42", id="of an agent"),
        pytest.param(SessionFilter(seen_by=ALICE), "21", id="of an agent and below it"),
        pytest.param(SessionFilter(seen_by=AgentId("al")), "6", id="a name within another"),
        pytest.param(SessionFilter(seen_by=BOB, of_swarm="sink"), "432", id="of an agent or a swarm, its own system"),
        pytest.param(SessionFilter(seen_by=ALICE, of_swarm="sink"), "321", id="of a swarm, no system"),
        pytest.param(SessionFilter(agent_id=BOB, seen_by=ALICE), "2", id="both"),
    ],
)
async def test_sessions_are_found_newest_first(database: Database, where: SessionFilter, found: str) -> None:
    async def unit(tx: Transaction) -> None:
        for session in a_world_of_sessions():
            await tx.sessions.add(session)

    await database.write(unit)

    async def find(before: str = "", limit: int = 9) -> str:
        rows = await database.read(
            lambda tx: tx.sessions.find(PROJECT, where, now=NOW, before=SessionId(before), limit=limit)
        )
        return "".join(session.id[-1] for session in rows)

    assert await find() == found
    assert await find(limit=1) == found[:1]
    assert await find(before=f"ses_{found[0]}") == found[1:]


async def test_overdue_are_active_sessions_past_their_end(database: Database) -> None:
    sessions = [
        make_session("ses_1", expires_at=NOW),
        make_session("ses_2", expires_at=minutes(-1)),
        make_session("ses_3", expires_at=minutes(1)),
        make_session("ses_4", expires_at=NOW, status=SessionStatus.SUCCEEDED),
        make_session("ses_5", expires_at=NOW, project_id=OTHER_PROJECT),
    ]

    async def unit(tx: Transaction) -> None:
        for session in sessions:
            await tx.sessions.add(session)

    await database.write(unit)
    overdue = await database.read(lambda tx: tx.sessions.overdue(PROJECT, now=NOW, limit=9))
    assert overdue == [sessions[1], sessions[0]]
    assert await database.read(lambda tx: tx.sessions.overdue(PROJECT, now=NOW, limit=1)) == [sessions[1]]


async def test_counts_and_versions_of_a_session_are_kept(database: Database) -> None:
    await database.write(lambda tx: tx.sessions.add(make_session(thoughts=3, state_version=4)))
    moved = make_session(thoughts=5, state_version=6)
    assert await database.read(lambda tx: tx.sessions.get(SES)) == make_session(thoughts=3, state_version=4)
    await database.write(lambda tx: tx.sessions.replace(moved))
    assert await database.read(lambda tx: tx.sessions.get(SES)) == moved


def a_world_of_delegations() -> list[Delegation]:
    accepted = {"status": DelegationStatus.ACCEPTED, "accepted_at": minutes(1)}
    return [
        make_delegation("del_1", **accepted, result_ids=(RecordId("mem_1"), RecordId("art_1"))),
        make_delegation("del_2", parent_agent_id=AgentId("alice/bob"), child_agent_id=AgentId("alice/bob/carol")),
        make_delegation("del_3", parent_agent_id=BOB, child_agent_id=ALICE, expires_at=NOW),
        make_delegation("del_4", parent_agent_id=AgentId("alice-2"), child_agent_id=CAROL),
        make_delegation("del_5", project_id=OTHER_PROJECT),
        make_delegation("del_6", parent_agent_id=BOB, child_agent_id=CAROL, status=DelegationStatus.REVOKED),
    ]


@pytest.mark.parametrize(
    ("agent_id", "direction", "status", "found"),
    [
        ("", Direction.ANY, None, "64321"),
        ("", Direction.ANY, DelegationStatus.PENDING, "42"),
        ("", Direction.ANY, DelegationStatus.EXPIRED, "3"),
        (ALICE, Direction.GIVEN, None, "21"),
        (ALICE, Direction.RECEIVED, None, "3"),
        (ALICE, Direction.ANY, None, "321"),
        (BOB, Direction.ANY, DelegationStatus.ACCEPTED, "1"),
        ("alice/bob", Direction.GIVEN, None, "2"),
    ],
)
async def test_delegations_are_found_newest_first(
    database: Database, agent_id: str, direction: Direction, status: DelegationStatus | None, found: str
) -> None:
    world = a_world_of_delegations()

    async def unit(tx: Transaction) -> None:
        for delegation in world:
            await tx.sessions.add_delegation(delegation)

    await database.write(unit)

    async def find(before: str = "", limit: int = 9) -> list[Delegation]:
        return await database.read(
            lambda tx: tx.sessions.find_delegations(
                PROJECT,
                AgentId(agent_id),
                direction=direction,
                status=status,
                now=NOW,
                before=DelegationId(before),
                limit=limit,
            )
        )

    wanted = [world[int(number) - 1] for number in found]
    assert await find() == wanted
    assert await find(limit=1) == wanted[:1]
    assert await find(before=wanted[0].id) == wanted[1:]


async def test_what_was_delegated_under_an_agent_in_the_lineage_counts_as_given_by_it(database: Database) -> None:
    delegation = make_delegation(child_session_id=SessionId("ses_2"))

    async def unit(tx: Transaction) -> None:
        await tx.sessions.add(make_session("ses_2", agent_id=BOB, lineage=(CAROL, ALICE, BOB)))
        await tx.sessions.add_delegation(delegation)

    async def find(agent_id: AgentId, direction: Direction) -> list[Delegation]:
        return await database.read(
            lambda tx: tx.sessions.find_delegations(
                PROJECT, agent_id, direction=direction, status=None, now=NOW, before=DelegationId(""), limit=9
            )
        )

    await database.write(unit)
    given = {agent_id: await find(agent_id, Direction.GIVEN) for agent_id in (ALICE, BOB, CAROL, AgentId("caro"))}
    assert given == {ALICE: [delegation], BOB: [], CAROL: [delegation], AgentId("caro"): []}
    assert await find(CAROL, Direction.RECEIVED) == []


def resting(grant_id: str, on: str, **changes: Any) -> Grant:
    return make_grant(grant_id, rests_on=GrantId(on), **changes)


async def test_what_rests_on_a_grant_ends_with_it_however_deep(database: Database) -> None:
    grants = [
        make_grant("g1"),
        resting("g2", "g1", grantee_id=CAROL),
        resting("g3", "g2"),
        resting("g4", "g9"),
        resting("g5", "g1", project_id=OTHER_PROJECT),
        resting("g6", "g2", revoked_at=minutes(-1)),
    ]
    await database.write(lambda tx: tx.grants.add(grants))
    assert await database.write(lambda tx: tx.grants.revoke(PROJECT, [GrantId("g1")], at=NOW)) == 3
    left = await database.read(lambda tx: tx.grants.on_records(PROJECT, [RecordId("mem_1")], now=NOW))
    assert left == [grants[3]]
    other = await database.read(lambda tx: tx.grants.on_records(OTHER_PROJECT, [RecordId("mem_1")], now=NOW))
    assert other == [grants[4]]


async def test_what_rests_on_the_grants_of_a_delegation_ends_with_it(database: Database) -> None:
    grants = [
        make_grant("g1", delegation_id=DelegationId("del_1")),
        resting("g2", "g1", delegation_id=DelegationId("del_2")),
        make_grant("g3", delegation_id=DelegationId("del_2")),
    ]
    await database.write(lambda tx: tx.grants.add(grants))
    assert await database.write(lambda tx: tx.grants.revoke_delegation(PROJECT, DelegationId("del_1"), at=NOW)) == 2
    left = await database.read(lambda tx: tx.grants.on_records(PROJECT, [RecordId("mem_1")], now=NOW))
    assert left == [grants[2]]


async def test_grants_that_are_long_over_are_removed(database: Database) -> None:
    grants = [
        make_grant("g1", revoked_at=minutes(-9)),
        make_grant("g2", expires_at=minutes(-9)),
        make_grant("g3", expires_at=NOW),
        make_grant("g4"),
        make_grant("g5", expires_at=minutes(-9), project_id=OTHER_PROJECT),
    ]
    await database.write(lambda tx: tx.grants.add(grants))
    assert await database.write(lambda tx: tx.grants.delete_ended(PROJECT, before=minutes(-5), limit=1)) == 1
    assert await database.write(lambda tx: tx.grants.delete_ended(PROJECT, before=minutes(-5), limit=9)) == 1
    assert await database.write(lambda tx: tx.grants.delete_ended(PROJECT, before=minutes(-5), limit=9)) == 0
    await database.write(lambda tx: tx.grants.add(grants[:2]))  # their ids are free again
    left = await database.read(lambda tx: tx.grants.active_for(PROJECT, [RecordId("mem_1")], BOB, now=minutes(-5)))
    assert [grant.id for grant in left] == ["g3", "g4"]
