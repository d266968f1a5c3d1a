"""Contract of ``AgentTable``."""

from dataclasses import replace
from typing import Any

import pytest

from contextdna.errors import Conflict
from contextdna.ports.database import Database, Transaction
from contextdna.values.agent import (
    AgentChange,
    AgentCount,
    AgentEntry,
    AgentFilter,
    AgentHistoryFilter,
    AgentStatus,
)
from contextdna.values.ids import AgentEntryId, AgentId, GrantId, SessionId
from contextdna.values.principal import Reader, Role
from contextdna.values.session import SessionStatus
from tests.builders import (
    ALICE,
    BOB,
    NOW,
    OTHER_PROJECT,
    PROJECT,
    make_agent,
    make_grant,
    make_reader,
    make_session,
    minutes,
)
from tests.contract.test_signals import make_acknowledgement, make_signal

pytestmark = pytest.mark.anyio

FULL = make_agent(
    role=Role.COORDINATOR,
    agent_type="reviewer",
    capabilities=("python", "sql"),
    status=AgentStatus.IDLE,
    confidence=0.25,
    registered_by=BOB,
    heartbeat_at=minutes(1),
    retired_at=minutes(2),
    placed=True,
    credential_role=Role.AGENT,
)
ROOT = make_reader("root", role=Role.SYSTEM)
ANY = AgentHistoryFilter()


def make_agent_entry(number: int, agent_id: str = ALICE, **changes: object) -> AgentEntry:
    """Make an entry of an agent's history, each a minute after the one before."""
    entry = AgentEntry(
        AgentEntryId(f"aen_{number}"), PROJECT, AgentId(agent_id), minutes(number), AgentChange.REGISTERED, BOB
    )
    return replace(entry, **changes)  # type: ignore[arg-type]


async def history(
    database: Database,
    reader: Reader = ROOT,
    where: AgentHistoryFilter = ANY,
    *,
    place: int | None = None,
    newest_first: bool = False,
    limit: int = 100,
) -> list[str]:
    """Read ids of entries."""
    entries = await database.read(
        lambda tx: tx.agents.history(reader, where, place=place, newest_first=newest_first, limit=limit)
    )
    return [entry.id for entry in entries]


async def test_an_agent_comes_back_as_it_was_put(database: Database) -> None:
    await database.write(lambda tx: tx.agents.put(FULL))
    assert await database.read(lambda tx: tx.agents.get(PROJECT, ALICE)) == FULL
    assert await database.read(lambda tx: tx.projects.agents(PROJECT)) == [FULL]
    assert await database.read(lambda tx: tx.agents.get(PROJECT, BOB)) is None
    assert await database.read(lambda tx: tx.agents.get(OTHER_PROJECT, ALICE)) is None


async def test_putting_an_agent_again_keeps_only_when_it_was_first_seen(database: Database) -> None:
    await database.write(lambda tx: tx.agents.put(FULL))
    plain = make_agent(first_seen_at=minutes(9), last_seen_at=minutes(9), team_id="", swarm_id="")
    await database.write(lambda tx: tx.agents.put(plain))
    assert await database.read(lambda tx: tx.agents.get(PROJECT, ALICE)) == replace(plain, first_seen_at=NOW)


async def test_seeing_an_agent_changes_nothing_of_its_registration(database: Database) -> None:
    await database.write(lambda tx: tx.agents.put(FULL))
    seen = make_agent(team_id="x", swarm_id="y", last_seen_at=minutes(5), first_seen_at=minutes(5))
    await database.write(lambda tx: tx.projects.see_agent(seen))
    wanted = replace(FULL, team_id="x", swarm_id="y", last_seen_at=minutes(5))
    assert await database.read(lambda tx: tx.agents.get(PROJECT, ALICE)) == wanted


async def test_the_role_of_its_credential_is_the_last_that_was_seen(database: Database) -> None:
    for role in (Role.SYSTEM, None, Role.AGENT, None):
        await database.write(lambda tx, role=role: tx.projects.see_agent(make_agent(credential_role=role)))  # type: ignore[misc]
    known = await database.read(lambda tx: tx.agents.get(PROJECT, ALICE))
    assert known is not None
    assert known.credential_role is Role.AGENT


async def test_who_waits_for_an_agent_gave_it_something_that_is_in_force(database: Database) -> None:
    async def write(tx: Transaction) -> None:
        given = make_grant(grantee_id=ALICE, granted_by=BOB)
        nothing: tuple[dict[str, Any], ...] = ({"expires_at": NOW}, {"project_id": OTHER_PROJECT})
        for number, changes in enumerate((*nothing, {"revoked_at": NOW}, {"grantee_id": BOB}), start=1):
            over = {"id": f"grt_{number}", "granted_by": AgentId("nobody"), **changes}
            await tx.grants.add([replace(given, **over)])
        await tx.grants.add([replace(given, id=GrantId("grt_0"), expires_at=minutes(1))])
        sent = make_signal("sig_0", sender_id=AgentId("sue"), audience=(ALICE, BOB))
        for number, changes in enumerate((*nothing, {"withdrawn_at": NOW}, {"audience": ("team:core",)}, {}), start=1):
            over = {"id": f"sig_{number}", "sender_id": AgentId("nobody"), **changes}
            await tx.signals.add(replace(sent, **over))
        await tx.signals.acknowledge(make_acknowledgement("sig_5", agent_id=ALICE))
        await tx.signals.add(sent)

    await database.write(write)
    assert await database.read(lambda tx: tx.agents.waiting_for(PROJECT, ALICE, now=NOW)) == {BOB, "sue"}


async def test_only_a_retired_agent_is_retired(database: Database) -> None:
    await database.write(lambda tx: tx.agents.put(make_agent(status=AgentStatus.RETIRED)))
    await database.write(lambda tx: tx.agents.put(make_agent(BOB)))
    assert await database.read(lambda tx: tx.agents.is_retired(PROJECT, ALICE))
    for project_id, agent_id in ((PROJECT, BOB), (OTHER_PROJECT, ALICE), (PROJECT, AgentId("absent"))):
        assert not await database.read(lambda tx, p=project_id, a=agent_id: tx.agents.is_retired(p, a))  # type: ignore[misc]


async def directory(database: Database) -> None:
    async def unit(tx: Transaction) -> None:
        await tx.agents.put(make_agent("a", agent_type="coder", capabilities=("python", "sql")))
        await tx.agents.put(make_agent("a/b", agent_type="coder", capabilities=("python3",), team_id=""))
        await tx.agents.put(make_agent("c", status=AgentStatus.IDLE, swarm_id=""))
        await tx.agents.put(make_agent("d", status=AgentStatus.RETIRED, capabilities=("python",)))
        await tx.agents.put(make_agent("e", project_id=OTHER_PROJECT))

    await database.write(unit)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (AgentFilter(), ["a", "a/b", "c", "d"]),
        (AgentFilter(agent_type="coder"), ["a", "a/b"]),
        (AgentFilter(capability="python"), ["a", "d"]),
        (AgentFilter(capability="python", status=AgentStatus.ACTIVE), ["a"]),
        (AgentFilter(status=AgentStatus.IDLE), ["c"]),
        (AgentFilter(team_id=""), ["a/b"]),
        (AgentFilter(swarm_id=""), ["c"]),
        (AgentFilter(team_id="core", swarm_id="lift"), ["a", "d"]),
        (AgentFilter(agent_type="x"), []),
    ],
)
async def test_the_directory_is_filtered(database: Database, where: AgentFilter, found: list[str]) -> None:
    await directory(database)
    agents = await database.read(lambda tx: tx.agents.page(PROJECT, where, after=AgentId(""), limit=100))
    assert [agent.id for agent in agents] == found


async def test_the_directory_is_read_in_pages(database: Database) -> None:
    await directory(database)
    pages = []
    after = AgentId("")
    while page := await database.read(
        lambda tx, after=after: tx.agents.page(PROJECT, AgentFilter(), after=after, limit=3)  # type: ignore[misc]
    ):
        pages.append([agent.id for agent in page])
        after = page[-1].id
    assert pages == [["a", "a/b", "c"], ["d"]]


async def test_agents_are_counted_by_swarm_team_and_status(database: Database) -> None:
    await directory(database)
    assert await database.read(lambda tx: tx.agents.counts(PROJECT)) == [
        AgentCount("", "core", AgentStatus.IDLE, 1),
        AgentCount("lift", "", AgentStatus.ACTIVE, 1),
        AgentCount("lift", "core", AgentStatus.ACTIVE, 1),
        AgentCount("lift", "core", AgentStatus.RETIRED, 1),
    ]


async def test_an_entry_comes_back_as_it_went_in_with_its_place(database: Database) -> None:
    entry = make_agent_entry(
        1, what=AgentChange.CONFIDENCE_CHANGED, session_id=SessionId("ses_1"), confidence=0.5, details='{"a":1}'
    )
    await database.write(lambda tx: tx.agents.append([entry, make_agent_entry(2)]))
    found = await database.read(lambda tx: tx.agents.history(ROOT, ANY, place=None, newest_first=False, limit=10))
    assert found == [entry, make_agent_entry(2)]
    assert found[0].seq < found[1].seq
    assert await database.read(lambda tx: tx.agents.place(PROJECT, entry.id)) == found[0].seq
    assert await database.read(lambda tx: tx.agents.place(OTHER_PROJECT, entry.id)) is None
    assert await database.read(lambda tx: tx.agents.place(PROJECT, AgentEntryId("absent"))) is None


async def test_an_entry_is_added_once(database: Database) -> None:
    await database.write(lambda tx: tx.agents.append([make_agent_entry(1)]))
    with pytest.raises(Conflict) as refused:
        await database.write(lambda tx: tx.agents.append([make_agent_entry(2), make_agent_entry(1, BOB)]))
    assert refused.value.code == "already_exists"
    assert await history(database) == ["aen_1"]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (ANY, ["aen_1", "aen_2", "aen_3", "aen_4"]),
        (AgentHistoryFilter(agent_id=BOB), ["aen_2", "aen_4"]),
        (AgentHistoryFilter(what=(AgentChange.RETIRED,)), ["aen_3"]),
        (AgentHistoryFilter(what=(AgentChange.RETIRED, AgentChange.UPDATED)), ["aen_3", "aen_4"]),
        (AgentHistoryFilter(since=minutes(3)), ["aen_3", "aen_4"]),
        (AgentHistoryFilter(until=minutes(3)), ["aen_1", "aen_2"]),
        (AgentHistoryFilter(agent_id=BOB, since=minutes(3), until=minutes(4)), []),
    ],
)
async def test_the_history_is_filtered_and_read_both_ways(
    database: Database, where: AgentHistoryFilter, found: list[str]
) -> None:
    entries = [
        make_agent_entry(1),
        make_agent_entry(2, BOB),
        make_agent_entry(3, what=AgentChange.RETIRED),
        make_agent_entry(4, BOB, what=AgentChange.UPDATED),
        make_agent_entry(5, BOB, project_id=OTHER_PROJECT),
    ]
    await database.write(lambda tx: tx.agents.append(entries))
    assert await history(database, where=where) == found
    assert await history(database, where=where, newest_first=True) == found[::-1]


async def test_the_history_goes_on_behind_a_place_in_both_directions(database: Database) -> None:
    await database.write(lambda tx: tx.agents.append([make_agent_entry(number) for number in range(5)]))
    place = await database.read(lambda tx: tx.agents.place(PROJECT, AgentEntryId("aen_2")))
    assert await history(database, place=place, limit=1) == ["aen_3"]
    assert await history(database, place=place) == ["aen_3", "aen_4"]
    assert await history(database, place=place, newest_first=True) == ["aen_1", "aen_0"]


@pytest.mark.parametrize(
    ("reader", "found"),
    [
        pytest.param(make_reader("root", role=Role.SYSTEM, swarm_id=""), ["1", "2", "3", "4", "5", "6"], id="system"),
        pytest.param(make_reader("queen", swarm_id=""), ["1", "2"], id="the agent and those below it"),
        pytest.param(make_reader("queen/drone"), ["2"], id="the agent itself, not its queen"),
        pytest.param(make_reader("drone"), [], id="another of the same name"),
        pytest.param(make_reader("que%n"), [], id="a name like a pattern"),
        pytest.param(make_reader("cora", role=Role.COORDINATOR), ["1", "4"], id="a coordinator of the swarm"),
        pytest.param(
            make_reader("cora", role=Role.COORDINATOR, swarm_id=""), ["1", "2", "3", "4"], id="one of the project"
        ),
        pytest.param(make_reader("zoe"), [], id="any other agent"),
        pytest.param(make_reader("queen", project_id=OTHER_PROJECT), [], id="its namesake of another project"),
    ],
)
async def test_the_history_is_given_only_to_whom_it_concerns(
    database: Database, reader: Reader, found: list[str]
) -> None:
    async def unit(tx: Transaction) -> None:
        await tx.agents.put(make_agent("queen"))
        await tx.agents.put(make_agent("queen/drone", swarm_id=""))
        await tx.agents.put(make_agent("queenie", swarm_id="sink"))
        await tx.agents.put(make_agent("carl", role=Role.COORDINATOR))
        await tx.agents.put(make_agent("op", role=Role.SYSTEM))
        names = ("queen", "queen/drone", "queenie", "carl", "op", "unseen")
        await tx.agents.append([make_agent_entry(number, name) for number, name in enumerate(names, start=1)])

    await database.write(unit)
    ids = [f"aen_{number}" for number in found]
    assert await history(database, reader) == ids
    assert await history(database, reader, newest_first=True) == ids[::-1]


async def test_the_sessions_of_an_agent_are_the_active_ones_with_it_in_their_lineage(database: Database) -> None:
    drone = AgentId("alice/drone")
    own = make_session("ses_2", lineage=(ALICE,))
    below = make_session("ses_1", agent_id=drone, lineage=(ALICE, drone))
    others = [
        make_session("ses_3", status=SessionStatus.SUCCEEDED),
        make_session("ses_4", agent_id=BOB, lineage=(BOB,)),
        make_session("ses_5", agent_id=AgentId("alice2"), lineage=(AgentId("alice2"),)),
        make_session("ses_6", project_id=OTHER_PROJECT),
    ]

    async def unit(tx: Transaction) -> None:
        for session in (own, below, *others):
            await tx.sessions.add(session)

    await database.write(unit)
    assert await database.read(lambda tx: tx.sessions.with_agent(PROJECT, ALICE, limit=9)) == [below, own]
    assert await database.read(lambda tx: tx.sessions.with_agent(PROJECT, drone, limit=9)) == [below]
    assert await database.read(lambda tx: tx.sessions.with_agent(PROJECT, ALICE, limit=1)) == [below]
