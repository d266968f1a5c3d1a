"""Reads from a standby: what it may answer, what it may not however it lags, and what happens when it is away."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest

from contextdna.backends.postgres import PostgresDatabase, open_postgres, replicas, standby_problem
from contextdna.backends.postgres.driver import _OF_READS, Server
from contextdna.backends.postgres.places import STANDBY_PLACE, STATEMENTS, Places, Stand
from contextdna.backends.relational.statements import load_statements
from contextdna.errors import NotFound, StorageUnavailable
from contextdna.hub.opening import open_hub
from contextdna.ports.database import Transaction, Unit
from contextdna.values.agent import AgentStatus
from contextdna.values.ids import GrantId, ProjectId, RecordId, SessionId
from contextdna.values.level import Level
from contextdna.values.session import DelegationStatus, SessionStatus
from contextdna.values.settings import PostgresSettings
from tests.backends.test_postgres import Passage
from tests.builders import (
    NOW,
    OTHER_PROJECT,
    PROJECT,
    make_agent,
    make_delegation,
    make_event,
    make_grant,
    make_indexed,
    make_session,
)
from tests.hub.rig import ALICE, BOB, remember, settings_in
from tests.servers.postgres import EVERYWHERE, empty_database_url, run_elsewhere
from tests.servers.standby import Pair, at_standby, own_pair, standby_url

pytestmark = pytest.mark.anyio

DEADLINE_S: Final = 30


@pytest.fixture
def standby() -> Iterator[str]:
    with standby_url() as url:
        yield url


class World:
    """A database with one replica, and a second server process that writes to it."""

    def __init__(self, here: PostgresDatabase, elsewhere: PostgresDatabase, standby: str) -> None:
        self.here = here
        self.elsewhere = elsewhere
        self._standby = standby

    @property
    def answered(self) -> int:
        """How many calls the replica has answered."""
        assert self.here._replicas is not None
        return sum(replica.answered for replica in self.here._replicas._replicas)

    async def look(self, unit: Unit[Any]) -> tuple[Any, bool]:
        """Read as a call that may lag; gives the answer and whether it is the replica's."""
        before = self.answered
        answer = await self.here.read(unit, enough=lambda _: True)
        return answer, self.answered > before

    async def pause(self) -> None:
        """Let the standby come no further."""
        await self._run("SELECT pg_wal_replay_pause()")
        with anyio.fail_after(DEADLINE_S):
            while await self._run("SELECT pg_get_wal_replay_pause_state()") != "paused":
                await anyio.lowlevel.checkpoint()

    async def go_on(self) -> None:
        """Let it come as far as there is anything."""
        await self._run("SELECT pg_wal_replay_resume()")

    async def until_it_answers(self, unit: Unit[Any]) -> Any:
        """Read until the replica answers."""
        with anyio.fail_after(DEADLINE_S):
            while True:
                answer, is_lagging = await self.look(unit)
                if is_lagging:
                    return answer
                await anyio.sleep(0.005)

    async def _run(self, statement: str) -> Any:
        connection = await asyncpg.connect(self._standby)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()


def prompt_database_url() -> str:
    """Give an empty database whose commits are sent to the standby at once: the tests' server takes its time."""
    url = empty_database_url()
    run_elsewhere(url, [f"ALTER DATABASE {urlsplit(url).path[1:]} SET synchronous_commit = on"])
    return url


@asynccontextmanager
async def opened(standby: str, *, url: str = "", replica: str = "", lag_max_s: float = 3600.0) -> AsyncIterator[World]:
    url = url or prompt_database_url()
    there = replica or at_standby(url, standby)
    async with (
        open_postgres(url, pool_max=4, replicas=[there], replica_lag_max_s=lag_max_s) as here,
        open_postgres(url, pool_max=4) as elsewhere,
    ):
        yield World(here, elsewhere, standby)


async def total(tx: Transaction) -> int:
    return await tx.records.total(PROJECT)


def storing(number: int, project_id: ProjectId = PROJECT) -> Unit[None]:
    async def unit(tx: Transaction) -> None:
        await tx.records.insert([make_indexed(f"mem_{number}", project_id=project_id)])

    return unit


async def test_a_replica_answers_and_what_this_process_wrote_is_always_there(standby: str) -> None:
    async with opened(standby) as world:
        await world.here.write(storing(1))
        assert await world.until_it_answers(total) == 1
        await world.pause()
        await world.here.write(storing(2))
        assert await world.look(total) == (2, False)
        await world.elsewhere.write(storing(3))
        assert await world.look(total) == (3, False)
        await world.go_on()
        assert await world.until_it_answers(total) == 3


async def test_what_others_wrote_may_come_later_but_no_later_than_is_tolerated(standby: str) -> None:
    async with opened(standby) as world:
        await world.here.write(storing(1))
        await world.until_it_answers(total)
        await world.pause()
        await world.elsewhere.write(storing(2))
        assert await world.look(total) == (1, True)
        places = world.here._replicas.places if world.here._replicas else None
        assert isinstance(places, Places)
        places._lag_max_s = 0.0
        assert await world.look(total) == (2, False)


CHANGES: Final[dict[str, Unit[Any]]] = {
    "a grant is revoked": lambda tx: tx.grants.revoke(PROJECT, [GrantId("grt_1")], at=NOW),
    "a record is narrowed": lambda tx: tx.records.replace(
        make_indexed("mem_1", level=Level.PRIVATE, version=2), expected_version=1, reindex=False
    ),
    "a record is forgotten": lambda tx: tx.records.mark_deleted(PROJECT, [RecordId("mem_1")], deleted_at=NOW),
    "a record is purged": lambda tx: tx.records.delete(PROJECT, [RecordId("mem_1")]),
    "a session ends": lambda tx: tx.sessions.replace(make_session(status=SessionStatus.CLOSED, ended_at=NOW)),
    "a session's secret is changed": lambda tx: tx.sessions.replace(make_session(secret_digest=b"other")),
    "a delegation is revoked": lambda tx: tx.sessions.replace_delegation(
        make_delegation(status=DelegationStatus.REVOKED, ended_at=NOW)
    ),
    "an agent is retired": lambda tx: tx.agents.put(make_agent(status=AgentStatus.RETIRED, retired_at=NOW)),
    "a name is taken": lambda tx: tx.agents.put(make_agent("carol")),
}


async def prepare(tx: Transaction) -> None:
    await tx.records.insert([make_indexed("mem_1")])
    await tx.grants.add([make_grant()])
    await tx.sessions.add(make_session())
    await tx.sessions.add_delegation(make_delegation())
    await tx.agents.put(make_agent())


async def test_a_right_that_was_taken_away_is_taken_away_on_a_replica_that_lags(standby: str) -> None:
    async with opened(standby) as world:
        await world.here.write(prepare)
        for number, (what, change) in enumerate(CHANGES.items()):
            await world.until_it_answers(total)
            await world.pause()
            await world.elsewhere.write(storing(2 + number))
            assert (await world.look(total))[1], f"the replica lags, but nobody lost a right before {what}"
            await world.elsewhere.write(change)
            assert not (await world.look(total))[1], what
            await world.go_on()


async def test_what_is_about_no_one_project_is_asked_of_the_primary(standby: str) -> None:
    async def both(tx: Transaction) -> int:
        return await total(tx) + await tx.records.total(OTHER_PROJECT)

    async with opened(standby) as world:
        await world.here.write(storing(1))
        await world.here.write(storing(2, OTHER_PROJECT))
        await world.until_it_answers(total)
        assert await world.look(both) == (2, False)
        assert not (await world.look(lambda tx: tx.projects.all()))[1]
        assert not (await world.look(lambda tx: tx.sessions.get(SessionId("ses_1"))))[1]


async def test_what_a_replica_refuses_or_lacks_is_asked_of_the_primary(standby: str) -> None:
    async def found(tx: Transaction) -> int:
        if await total(tx) < 2:
            raise NotFound("no such record")
        return 2

    async with opened(standby) as world:
        await world.here.write(storing(1))
        await world.until_it_answers(total)
        await world.pause()
        await world.elsewhere.write(storing(2))
        assert await world.here.read(found, enough=lambda _: True) == 2
        assert await world.here.read(total, enough=lambda count: count > 1) == 2
        with pytest.raises(RuntimeError):
            await world.here.read(storing(3), enough=lambda _: True)


async def test_what_was_heard_of_is_there(standby: str) -> None:
    async def tell(tx: Transaction) -> None:
        await storing(2)(tx)
        await tx.events.append([make_event()])

    async with opened(standby) as world:
        await world.here.write(storing(1))
        await world.until_it_answers(total)
        await world.pause()
        await world.elsewhere.write(tell)
        assert await world.look(total) == (1, True)
        assert len(await world.here.read(lambda tx: tx.events.since(0, limit=9))) == 1
        assert await world.look(total) == (2, False)


async def test_the_primary_answers_while_a_replica_is_away_hangs_or_is_cut(
    standby: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "_ANSWER_S", 0.2)
    monkeypatch.setattr(replicas, "_CONNECT_S", 0.2)
    url = empty_database_url()
    passage = Passage(at_standby(url, standby))
    door = await asyncio.start_server(passage.meet, "127.0.0.1", 0)
    place = urlsplit(url)
    way = f"postgresql://{place.username}@127.0.0.1:{door.sockets[0].getsockname()[1]}{place.path}?sslmode=disable"
    async with opened(standby, replica=way) as world:
        await world.here.write(storing(1))
        await world.until_it_answers(total)
        passage.is_open = False
        assert await world.look(total) == (1, False)
        [away] = (await world.here.status()).replicas
        assert (away.sound, away.problem) == (False, "storage_unreachable")
        passage.is_open = True
        assert await world.until_it_answers(total) == 1
        await run_there(world, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        assert (await world.look(total))[0] == 1
        assert await world.until_it_answers(total) == 1
        [back] = (await world.here.status()).replicas
        assert back.sound
        assert back.lag_s < DEADLINE_S
    door.close()
    await passage.close()


async def run_there(world: World, statement: str) -> None:
    await world._run(f"{statement} AND backend_type = 'client backend'")


async def test_another_replica_answers_for_one_that_is_away(standby: str) -> None:
    url = prompt_database_url()
    there = ["postgresql://nobody@127.0.0.1:1/nothing", at_standby(url, standby)]
    async with open_postgres(url, pool_max=4, replicas=there) as one:
        world = World(one, one, standby)
        await one.write(storing(1))
        for _ in range(2):  # they take turns
            assert await world.until_it_answers(total) == 1
        away, back = (await one.status()).replicas
        assert (away.sound, back.sound) == (False, True)


async def test_a_standby_is_left_out_until_it_has_what_the_primarys_present_run_began_with(standby: str) -> None:
    url = prompt_database_url()
    async with opened(standby, url=url) as world:
        await world.here.write(storing(1))
        await world.until_it_answers(total)
        await world.pause()
        # So a server that was promoted, restored or restarted finds it.
        await run_at(world.elsewhere, "UPDATE histories SET server_start = 'of another'")
        assert await world.look(total) == (1, False)
        [behind] = (await world.here.status()).replicas
        assert (behind.sound, behind.problem) == (False, "storage_other_history")
        assert world.here._replicas is not None
        [replica] = world.here._replicas._replicas
        await replica.breaker.probe()
        assert replica.breaker.problem is not None
        primary, copy = (Server(one, 5, 5) for one in (url, at_standby(url, standby)))
        assert await standby_problem(copy, primary=primary) == "storage_other_history"
        assert await standby_problem(primary, primary=primary) == "storage_not_standby"
        await world.go_on()
        assert await world.until_it_answers(total) == 1
        [back] = (await world.here.status()).replicas
        assert back.sound
        assert await standby_problem(copy, primary=primary) == ""


async def test_a_standby_that_is_further_on_another_way_does_not_answer_without_the_last_change_of_rights(
    standby: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    further = STATEMENTS[STANDBY_PLACE].replace("(pg_last_wal_replay_lsn()", "('F/0'::pg_lsn")
    monkeypatch.setattr(replicas, "STATEMENTS", {**STATEMENTS, STANDBY_PLACE: further})
    async with opened(standby) as world:
        await world.here.write(prepare)
        await world.until_it_answers(total)
        await world.pause()
        await world.elsewhere.write(storing(2))
        assert (await world.look(total))[1]
        await world.elsewhere.write(CHANGES["a grant is revoked"])
        assert await world.look(total) == (2, False)
        await world.go_on()
        assert await world.until_it_answers(total) == 2


async def run_at(database: PostgresDatabase, statement: str) -> None:
    async with database._links.take() as link:
        await link.script(statement)


@pytest.mark.parametrize("where", ["nowhere", "the primary itself"])
async def test_a_replica_that_is_none_is_left_out(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "_CONNECT_S", 0.5)
    url = empty_database_url()
    there = url if where == "the primary itself" else "postgresql://nobody:secret@127.0.0.1:1/nothing"
    async with open_postgres(url, pool_max=4, replicas=[there]) as one:
        await one.write(storing(1))
        assert one._replicas is not None
        [replica] = one._replicas._replicas
        await replica.breaker.probe()
        assert await one.read(total, enough=lambda _: True) == 1
        [status] = (await one.status()).replicas
        assert status.problem == ("storage_not_standby" if where == "the primary itself" else "storage_unreachable")
        assert "secret" not in repr(status)


def test_what_is_written_of_reads_is_named_as_it_is() -> None:
    assert set(load_statements("postgres")) >= _OF_READS


# How far a standby must be


class Primary:
    """What a primary would say."""

    def __init__(self) -> None:
        self.place = 100
        self.marks: dict[str, str] = {}
        self.history = "first"
        self.asked = 0
        self.is_away = False
        self.wait = anyio.Event()
        self.wait.set()

    async def ask(self, projects: Iterable[ProjectId], *, anew: bool = False) -> list[Any]:
        self.asked += 1
        if anew:
            self.history += " anew"
        marks = [(one, self.marks[one], "") for one in projects if one in self.marks]
        told = [("", str(self.place), self.history), *marks]
        await self.wait.wait()
        if self.is_away:
            raise StorageUnavailable("it is away", code="storage_unreachable", retryable=True)
        return told


@pytest.fixture
def primary(anyio_backend: str) -> Primary:
    return Primary()


async def test_calls_that_come_together_ask_once_and_later_ones_again(primary: Primary) -> None:
    places = Places(primary.ask, lag_max_s=3600)
    primary.wait = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(places.least, PROJECT)
        await anyio.wait_all_tasks_blocked()
        for _ in range(5):
            tasks.start_soon(places.least, OTHER_PROJECT)
        await anyio.wait_all_tasks_blocked()
        assert primary.asked == 1
        primary.wait.set()
    assert primary.asked == 2


async def test_a_write_during_a_question_is_not_taken_as_answered(primary: Primary) -> None:
    places = Places(primary.ask, lag_max_s=3600)
    assert (await places.least(PROJECT)).place == 100
    primary.wait = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(places.least, PROJECT)
        await anyio.wait_all_tasks_blocked()
        primary.place = 200
        places.note_write([PROJECT])
        primary.wait.set()
    assert (await places.least(PROJECT)).place == 200
    primary.place = 300
    assert (await places.least(PROJECT)).place == 200
    places.note_write(None)
    assert (await places.least(PROJECT)).place == 300
    assert (await places.least(OTHER_PROJECT)).place == 300


async def test_a_question_that_failed_leaves_what_was_written_to_be_asked(primary: Primary) -> None:
    places = Places(primary.ask, lag_max_s=3600)
    assert (await places.least(PROJECT)).place == 100
    places.note_write([PROJECT])
    primary.place, primary.is_away = 200, True
    with pytest.raises(StorageUnavailable):
        await places.least(PROJECT)
    primary.is_away = False
    assert (await places.least(PROJECT)).place == 200


async def test_what_is_older_than_tolerated_must_be_there(primary: Primary) -> None:
    now = 0.0
    places = Places(primary.ask, lag_max_s=8, clock=lambda: now)
    for second in range(20):
        now, primary.place = float(second), 100 + second
        assert (await places.least(PROJECT)).place == max(100, 100 + second - 8)
    assert places.lag_s(119) == 0.0
    assert places.lag_s(115) == 4.0
    now, primary.place = 100.0, 500
    assert (await places.least(PROJECT)).place == 500


async def test_a_primary_that_is_not_as_far_is_another_one_and_another_history_begins(primary: Primary) -> None:
    places = Places(primary.ask, lag_max_s=3600)
    primary.place = 1000
    assert (await places.least(PROJECT)).place == 1000
    primary.place = 50
    assert (await places.least(PROJECT)).place == 50
    assert await places.least(OTHER_PROJECT) == Stand(50, "first anew", "")


async def test_another_history_further_on_forgets_what_was_known_of_the_first(primary: Primary) -> None:
    places = Places(primary.ask, lag_max_s=3600)
    assert await places.least(PROJECT) == Stand(100, "first", "")
    primary.place, primary.history = 900, "second"
    assert await places.least(PROJECT) == Stand(900, "second", "")


@pytest.mark.parametrize(
    ("stand", "has_all"),
    [
        (Stand(100, "run", "mark"), True),
        (Stand(101, "run", "mark"), True),
        (Stand(99, "run", "mark"), False),
        (Stand(10**12, "run", "older mark"), False),
        (Stand(10**12, "run", ""), False),
        (Stand(10**12, "other run", "mark"), False),
        (Stand(10**12, "", "mark"), False),
    ],
)
def test_a_standby_has_what_is_needed_by_its_marks_and_not_by_its_place_alone(stand: Stand, has_all: bool) -> None:
    assert stand.covers(Stand(100, "run", "mark")) is has_all
    assert not Stand(100, "", "").covers(Stand(100, "", ""))


async def test_each_change_of_rights_raises_what_is_needed(primary: Primary) -> None:
    places = Places(primary.ask, lag_max_s=3600)
    assert (await places.least(PROJECT)).place == 100
    primary.place = 200
    assert (await places.least(PROJECT)).place == 100
    primary.marks[PROJECT] = "7"
    assert (await places.least(PROJECT)).place == 200
    primary.place = 300
    assert (await places.least(PROJECT)).place == 200
    assert (await places.least(OTHER_PROJECT)).place == 300


# Through the door


async def test_who_lost_a_share_reads_it_no_more_whatever_a_replica_still_holds(standby: str, tmp_path: Path) -> None:
    url = prompt_database_url()
    own = PostgresSettings(pool_max=4, replicas=(at_standby(url, standby),), replica_lag_max_s=3600)
    settings = settings_in(tmp_path / "data", database=url)
    async with open_hub(replace(settings, postgres=own)) as one, open_hub(settings) as other:
        database: Any = one._rooms.door.database
        while not isinstance(database, PostgresDatabase):
            database = database._inner
        world = World(database, database, standby)
        mine = await remember(one.bind(ALICE), "a private thing", level=Level.PRIVATE)
        await one.bind(ALICE).share_memories([BOB.agent_id], [mine])
        with anyio.fail_after(DEADLINE_S):
            while not world.answered:
                assert (await one.bind(BOB).get_memories([mine]))[0]
        is_lagging = False
        while not is_lagging:  # what the process hears of its own events comes a little later
            await world.go_on()
            await world.until_it_answers(total)
            await world.pause()
            before = world.answered
            assert (await one.bind(BOB).get_memories([mine]))[0]
            is_lagging = world.answered > before
        await other.bind(ALICE).revoke_shares([BOB.agent_id], [mine])
        with pytest.raises(NotFound):
            await one.bind(BOB).get_memories([mine])
        assert world.answered == before + 1


@pytest.mark.skipif(not EVERYWHERE, reason="starts servers of its own; CONTEXTDNA_TEST_EVERYWHERE=1 runs it")
async def test_a_replica_that_is_killed_comes_back_and_one_that_is_promoted_is_the_primary() -> None:
    with own_pair() as pair:
        here = open_postgres(pair.url("one", "two"), pool_max=4, replicas=[pair.url("two")], replica_lag_max_s=3600)
        async with here as one:
            world = World(one, one, pair.url("two"))
            await one.write(storing(1))
            await world.until_it_answers(total)
            pair.kill("two")
            assert await world.look(total) == (1, False)
            await one.write(storing(2))
            pair.start("two")
            assert await world.until_it_answers(total) == 2

            pair.kill("one")
            with pytest.raises(StorageUnavailable) as away:
                await one.write(storing(3))
            assert away.value.retryable
            with pytest.raises(StorageUnavailable):
                await one.read(total, enough=lambda _: True)
            await world._run("SELECT pg_promote()")
            await until_written(one, storing(4))
            assert await world.look(total) == (3, False)
            [promoted] = (await one.status()).replicas
            assert promoted.problem in ("storage_not_standby", "storage_unreachable")


async def get_ahead(pair: Pair, standby: str) -> None:
    """Let the log of the first server go on, and a standby follow it to the end."""
    for _ in range(2):
        run_elsewhere(pair.url("one"), ["SELECT pg_logical_emit_message(false, '', 'on')", "SELECT pg_switch_wal()"])
    primary = await asyncpg.connect(pair.url("one"))
    copy = await asyncpg.connect(pair.url(standby))
    end = await primary.fetchval("SELECT pg_current_wal_lsn()::text")
    with anyio.fail_after(DEADLINE_S):
        while not await copy.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", end):
            await anyio.lowlevel.checkpoint()
    await primary.close()
    await copy.close()


async def until_written(database: PostgresDatabase, unit: Unit[Any]) -> None:
    """Write as soon as a server is found that takes it."""
    with anyio.fail_after(DEADLINE_S):
        while True:
            try:
                return await database.write(unit)
            except StorageUnavailable:
                await anyio.sleep(0.05)


async def require_left_behind(world: World) -> None:
    """See that a replica answers nothing more, and that it is told why."""
    for _ in range(20):
        assert not (await world.look(total))[1]
        await anyio.sleep(0.01)
    [behind] = (await world.here.status()).replicas
    assert (behind.sound, behind.problem) == (False, "storage_other_history")


@pytest.mark.skipif(not EVERYWHERE, reason="starts servers of its own; CONTEXTDNA_TEST_EVERYWHERE=1 runs it")
async def test_a_replica_that_is_further_than_the_standby_that_was_promoted_answers_nothing_more() -> None:
    with own_pair() as pair:
        pair.add_standby("three")
        there = pair.url("three")
        async with open_postgres(pair.url("one", "two"), replicas=[there], replica_lag_max_s=3600) as here:
            world = World(here, here, there)
            await here.write(prepare)
            await world.until_it_answers(total)
            pair.kill("two")
            await get_ahead(pair, "three")
            pair.kill("one")
            pair.start("two")
            run_elsewhere(pair.url("two"), ["SELECT pg_promote()"])
            await until_written(here, CHANGES["a grant is revoked"])
            await require_left_behind(world)


@pytest.mark.skipif(not EVERYWHERE, reason="starts servers of its own; CONTEXTDNA_TEST_EVERYWHERE=1 runs it")
async def test_a_replica_that_is_further_than_a_restored_primary_answers_nothing_more() -> None:
    with own_pair() as pair:
        there = pair.url("two")
        async with open_postgres(pair.url("one"), replicas=[there], replica_lag_max_s=3600) as here:
            world = World(here, here, there)
            await here.write(prepare)
            await world.until_it_answers(total)
            pair.kill("one")
            copy = pair.keep_copy("one")
            pair.start("one")
            await until_written(here, storing(2))
            assert await world.until_it_answers(total) == 2  # it follows the server that was started again
            await get_ahead(pair, "two")
            pair.kill("one")
            pair.put_back("one", copy)
            pair.start("one")
            await until_written(here, CHANGES["a grant is revoked"])
            await require_left_behind(world)
            assert await world.look(total) == (1, False)
