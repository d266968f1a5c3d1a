"""Contract of ``SignalTable``."""

from dataclasses import replace
from typing import Any, Final

import anyio
import pytest

from contextdna.errors import Conflict
from contextdna.ports.database import Database, Transaction
from contextdna.values.agent import AgentStatus
from contextdna.values.event import EVERYONE, team_audience
from contextdna.values.ids import AgentId, SessionId, SignalId
from contextdna.values.record import Codec, Sealed
from contextdna.values.session import Session, SessionStatus
from contextdna.values.signal import Acknowledgement, Presence, Signal
from tests.builders import ALICE, BOB, NOW, OTHER_PROJECT, PROJECT, make_agent, make_session, minutes

pytestmark = pytest.mark.anyio

CAROL: Final = AgentId("carol")
CORE: Final = team_audience("core")


def make_signal(signal_id: str = "sig_1", **changes: Any) -> Signal:
    """Make a signal of alice's to bob, for an hour."""
    signal = Signal(
        id=SignalId(signal_id),
        project_id=PROJECT,
        name="go",
        sender_id=ALICE,
        session_id=SessionId("ses_1"),
        audience=(BOB,),
        created_at=NOW,
        expires_at=minutes(60),
        withdrawn_at=None,
        sealed=Sealed(b"payload", Codec.JSON, "key_1", b"salt"),
    )
    return replace(signal, **changes)


def make_acknowledgement(signal_id: str = "sig_1", agent_id: AgentId = BOB, **changes: Any) -> Acknowledgement:
    """Make an acknowledgement of bob's."""
    given = Acknowledgement(
        PROJECT, SignalId(signal_id), agent_id, minutes(1), Sealed(b"note", Codec.JSON, "key_1", b"salt")
    )
    return replace(given, **changes)


async def add(database: Database, *signals: Signal) -> None:
    async def unit(tx: Transaction) -> None:
        for signal in signals:
            await tx.signals.add(signal)

    await database.write(unit)


async def pending(database: Database, *addresses: str, **where: Any) -> list[str]:
    asked = {"agent_id": BOB, "now": minutes(2), "limit": 9, **where}
    found = await database.read(lambda tx: tx.signals.pending(PROJECT, addresses or (BOB,), **asked))
    return [signal.id for signal in found]


async def test_a_signal_comes_back_as_it_went_in(database: Database) -> None:
    plain = make_signal()
    odd = make_signal("sig_2", audience=(CORE, EVERYONE, AgentId("a/b"), 'odd " id'), withdrawn_at=minutes(3))
    await add(database, plain, odd)
    assert await database.read(lambda tx: tx.signals.get(PROJECT, plain.id)) == plain
    assert await database.read(lambda tx: tx.signals.get(PROJECT, odd.id)) == odd
    assert await database.read(lambda tx: tx.signals.get(OTHER_PROJECT, plain.id)) is None


async def test_a_taken_id_is_refused(database: Database) -> None:
    await add(database, make_signal())
    with pytest.raises(Conflict) as refused:
        await add(database, make_signal(name="other"))
    assert refused.value.code == "already_exists"
    await add(database, make_signal(project_id=OTHER_PROJECT))


async def test_what_waits_comes_oldest_first(database: Database) -> None:
    await add(
        database,
        make_signal("sig_3", created_at=minutes(1)),
        make_signal("sig_2", created_at=minutes(-1)),
        make_signal("sig_1", created_at=minutes(1)),
        make_signal("sig_9", project_id=OTHER_PROJECT),
    )
    assert await pending(database) == ["sig_2", "sig_1", "sig_3"]
    assert await pending(database, limit=2) == ["sig_2", "sig_1"]


async def test_only_what_is_addressed_waits_and_once(database: Database) -> None:
    await add(
        database,
        make_signal("sig_1", audience=(CAROL,)),
        make_signal("sig_2", audience=(CORE,)),
        make_signal("sig_3", audience=(BOB, CORE, EVERYONE)),
        make_signal("sig_4", sender_id=BOB, audience=(EVERYONE,)),
    )
    assert await pending(database, BOB) == ["sig_3"]
    assert await pending(database, BOB, CORE, EVERYONE) == ["sig_2", "sig_3"]
    assert await pending(database, EVERYONE, agent_id=CAROL) == ["sig_3", "sig_4"]


async def test_what_waits_can_be_filtered_by_name_and_senders(database: Database) -> None:
    await add(database, make_signal("sig_1"), make_signal("sig_2", name="stop"), make_signal("sig_3", sender_id=CAROL))
    assert await pending(database, name="go") == ["sig_1", "sig_3"]
    assert await pending(database, senders=(CAROL,)) == ["sig_3"]
    assert await pending(database, senders=(CAROL, ALICE), name="stop") == ["sig_2"]
    assert await pending(database, without=[SignalId("sig_1"), SignalId("sig_2")]) == ["sig_3"]


async def test_what_is_over_or_answered_waits_no_more(database: Database) -> None:
    await add(
        database,
        make_signal("sig_1", expires_at=minutes(2)),
        make_signal("sig_2"),
        make_signal("sig_3"),
        make_signal("sig_4", audience=(BOB, CAROL)),
    )
    assert await database.write(lambda tx: tx.signals.withdraw(PROJECT, SignalId("sig_2"), at=minutes(1)))
    assert await database.write(lambda tx: tx.signals.acknowledge(make_acknowledgement("sig_3")))
    assert await database.write(lambda tx: tx.signals.acknowledge(make_acknowledgement("sig_4", CAROL)))
    assert await pending(database) == ["sig_4"]


async def test_what_waits_of_a_sender_is_counted_once_each_and_up_to_a_limit(database: Database) -> None:
    await add(
        database,
        make_signal("sig_1", expires_at=minutes(2)),
        make_signal("sig_2", audience=(BOB, CAROL)),
        make_signal("sig_3"),
        make_signal("sig_4", audience=(BOB, CORE)),
        make_signal("sig_5"),
        make_signal("sig_6", sender_id=CAROL),
        make_signal("sig_7", project_id=OTHER_PROJECT),
    )

    async def waiting(limit: int = 9) -> int:
        return await database.read(lambda tx: tx.signals.waiting(PROJECT, ALICE, now=minutes(2), limit=limit))

    assert [await waiting(), await waiting(2)] == [4, 2]
    assert await database.write(lambda tx: tx.signals.withdraw(PROJECT, SignalId("sig_3"), at=minutes(1)))

    async def acknowledge(tx: Transaction) -> None:
        for signal_id in ("sig_2", "sig_4", "sig_5"):
            assert await tx.signals.acknowledge(make_acknowledgement(signal_id))

    await database.write(acknowledge)
    assert await waiting() == 2  # carol, and the circle


async def test_a_signal_is_withdrawn_once(database: Database) -> None:
    await add(database, make_signal())
    assert await database.write(lambda tx: tx.signals.withdraw(PROJECT, SignalId("sig_1"), at=minutes(1)))
    assert not await database.write(lambda tx: tx.signals.withdraw(PROJECT, SignalId("sig_1"), at=minutes(2)))
    assert not await database.write(lambda tx: tx.signals.withdraw(OTHER_PROJECT, SignalId("sig_1"), at=minutes(2)))
    assert not await database.write(lambda tx: tx.signals.withdraw(PROJECT, SignalId("sig_2"), at=minutes(2)))
    found = await database.read(lambda tx: tx.signals.get(PROJECT, SignalId("sig_1")))
    assert found == make_signal(withdrawn_at=minutes(1))


async def test_an_agent_acknowledges_once(database: Database) -> None:
    await add(database, make_signal())
    first, again = make_acknowledgement(), make_acknowledgement(at=minutes(5), sealed=Sealed(b"other"))
    assert await database.write(lambda tx: tx.signals.acknowledge(first))
    assert not await database.write(lambda tx: tx.signals.acknowledge(again))
    other = make_acknowledgement(agent_id=CAROL, at=NOW)
    assert await database.write(lambda tx: tx.signals.acknowledge(other))
    assert await database.write(lambda tx: tx.signals.acknowledge(make_acknowledgement("sig_2")))
    given = await database.read(lambda tx: tx.signals.acknowledgements(PROJECT, SignalId("sig_1")))
    assert given == [other, first]


async def test_of_many_acknowledgements_at_once_one_counts(database: Database) -> None:
    await add(database, make_signal())
    counted = []

    async def acknowledge() -> None:
        counted.append(await database.write(lambda tx: tx.signals.acknowledge(make_acknowledgement())))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(acknowledge)
    assert sorted(counted) == [False] * 19 + [True]


async def test_what_has_expired_goes_with_its_acknowledgements(database: Database) -> None:
    await add(
        database,
        make_signal("sig_1", expires_at=minutes(2)),
        make_signal("sig_2", expires_at=minutes(1)),
        make_signal("sig_3", expires_at=minutes(3)),
        make_signal("sig_4", expires_at=minutes(1), project_id=OTHER_PROJECT),
    )
    for name in ("sig_1", "sig_2", "sig_3"):
        await database.write(lambda tx, name=name: tx.signals.acknowledge(make_acknowledgement(name)))  # type: ignore[misc]

    async def left() -> list[str]:
        async def unit(tx: Transaction) -> list[str]:
            names = [SignalId(f"sig_{number}") for number in range(1, 4)]
            signals = [name for name in names if await tx.signals.get(PROJECT, name)]
            given = [name for name in names if await tx.signals.acknowledgements(PROJECT, name)]
            assert given == signals
            return list(signals)

        return await database.read(unit)

    assert await database.write(lambda tx: tx.signals.delete_expired(PROJECT, now=minutes(2), limit=1)) == 1
    assert await left() == ["sig_1", "sig_3"]
    assert await database.write(lambda tx: tx.signals.delete_expired(PROJECT, now=minutes(2), limit=9)) == 1
    assert await left() == ["sig_3"]
    assert await database.write(lambda tx: tx.signals.delete_expired(PROJECT, now=minutes(2), limit=9)) == 0
    assert await database.read(lambda tx: tx.signals.get(OTHER_PROJECT, SignalId("sig_4"))) is not None
    await add(database, make_signal("sig_1"))  # nothing of the first one is in its way


async def test_the_presence_of_an_agent_is_told_by_sight_and_sessions(database: Database) -> None:
    async def presence(*agent_ids: AgentId, now: float = 10) -> Presence | None:
        return await database.read(lambda tx: tx.signals.presence(PROJECT, agent_ids, now=minutes(now)))

    assert await presence(ALICE) is None

    async def unit(tx: Transaction) -> None:
        await tx.projects.see_agent(make_agent(ALICE, last_seen_at=minutes(3)))
        await tx.projects.see_agent(make_agent(BOB, last_seen_at=minutes(1)))
        await tx.projects.see_agent(make_agent(CAROL, project_id=OTHER_PROJECT))
        await tx.sessions.add(make_session("ses_1", updated_at=minutes(4), expires_at=minutes(20)))
        await tx.sessions.add(make_session("ses_2", expires_at=minutes(30)))
        ended = make_session("ses_3", status=SessionStatus.SUCCEEDED, updated_at=minutes(5), ended_at=minutes(5))
        await tx.sessions.add(ended)

    await database.write(unit)
    assert await presence(ALICE) == Presence(minutes(5), minutes(30), minutes(5))
    assert await presence(ALICE, now=25) == Presence(minutes(5), minutes(30), minutes(20))
    assert await presence(ALICE, now=30) == Presence(minutes(5), None, minutes(30))
    assert await presence(BOB) == Presence(minutes(1))
    assert await presence(BOB, ALICE) == Presence(minutes(5), minutes(30), minutes(5))
    assert await presence(CAROL) is None


async def test_work_moves_the_sight_of_a_known_agent_forward_only(database: Database) -> None:
    await database.write(lambda tx: tx.projects.see_agent(make_agent(ALICE, last_seen_at=minutes(3))))
    for at in (minutes(5), minutes(4)):
        await database.write(lambda tx, at=at: tx.projects.touch_agent(PROJECT, ALICE, at=at))  # type: ignore[misc]
    await database.write(lambda tx: tx.projects.touch_agent(PROJECT, BOB, at=NOW))
    await database.write(lambda tx: tx.projects.touch_agent(OTHER_PROJECT, ALICE, at=NOW))
    assert await database.read(lambda tx: tx.projects.agents(PROJECT)) == [make_agent(ALICE, last_seen_at=minutes(5))]
    assert await database.read(lambda tx: tx.projects.agents(OTHER_PROJECT)) == []


async def test_who_is_at_work_and_who_is_gone_is_told_by_sight_and_sessions(database: Database) -> None:
    def ended(session_id: str, agent_id: AgentId, at: float) -> Session:
        return make_session(session_id, agent_id=agent_id, status=SessionStatus.SUCCEEDED, ended_at=minutes(at))

    async def unit(tx: Transaction) -> None:
        for name, seen, team_id in (("alice", 0, "core"), ("bob", 8, "core"), ("carol", 9, ""), ("dave", 1, "core")):
            await tx.projects.see_agent(make_agent(AgentId(name), last_seen_at=minutes(seen), team_id=team_id))
        await tx.projects.see_agent(make_agent(AgentId("erin"), last_seen_at=minutes(9)))
        await tx.agents.put(make_agent(AgentId("frank"), last_seen_at=minutes(9), status=AgentStatus.RETIRED))
        await tx.sessions.add(make_session("ses_1", expires_at=minutes(20)))
        await tx.sessions.add(ended("ses_2", ALICE, 5))
        await tx.sessions.add(ended("ses_3", BOB, 8))
        await tx.sessions.add(ended("ses_4", CAROL, 8))

    await database.write(unit)
    names = [AgentId(name) for name in ("alice", "bob", "carol", "dave", "erin", "frank", "nobody")]

    async def gone(now: float) -> set[AgentId]:
        return await database.read(lambda tx: tx.agents.gone(PROJECT, names, now=minutes(now)))

    async def at_work(now: float, team_id: str | None = None, swarm_id: str | None = None) -> list[AgentId]:
        where = {"team_id": team_id, "swarm_id": swarm_id}
        return await database.read(
            lambda tx: tx.agents.at_work(PROJECT, **where, seen_since=minutes(2), now=minutes(now))
        )

    async def in_session(now: float) -> set[AgentId]:
        return await database.read(lambda tx: tx.agents.in_session(PROJECT, names, now=minutes(now)))

    assert (await gone(10), await gone(20)) == ({"bob", "frank"}, {"alice", "bob", "frank"})
    assert (await in_session(10), await in_session(20)) == ({"alice"}, set())
    assert (await at_work(10), await at_work(20)) == (["alice", "carol", "erin"], ["carol", "erin"])
    assert await at_work(10, team_id="core") == ["alice", "erin"]
    assert await at_work(10, swarm_id="no such") == []
    assert await database.read(lambda tx: tx.agents.gone(OTHER_PROJECT, names, now=minutes(20))) == set()


async def test_a_host_of_others_is_at_work_by_its_own_session_or_heartbeat_only(database: Database) -> None:
    host = AgentId("host")

    async def at_work(now: float) -> list[AgentId]:
        return await database.read(
            lambda tx: tx.agents.at_work(PROJECT, team_id=None, swarm_id=None, seen_since=minutes(2), now=minutes(now))
        )

    async def unit(tx: Transaction) -> None:
        await tx.projects.see_agent(make_agent(host, last_seen_at=minutes(9)))
        await tx.projects.see_agent(make_agent(ALICE, last_seen_at=minutes(0)))
        await tx.sessions.add(make_session("ses_1", principal_id=host, expires_at=minutes(20)))

    await database.write(unit)
    assert (await at_work(10), await at_work(20)) == (["alice"], ["host"])
    await database.write(lambda tx: tx.agents.put(make_agent(host, last_seen_at=minutes(9), heartbeat_at=minutes(1))))
    assert await at_work(10) == ["alice"]
    await database.write(lambda tx: tx.agents.put(make_agent(host, last_seen_at=minutes(9), heartbeat_at=minutes(3))))
    assert await at_work(10) == ["alice", "host"]
    await database.write(lambda tx: tx.agents.put(make_agent(host, last_seen_at=minutes(9))))
    await database.write(
        lambda tx: tx.sessions.add(make_session("ses_2", agent_id=host, principal_id=host, expires_at=minutes(20)))
    )
    assert await at_work(10) == ["alice", "host"]
