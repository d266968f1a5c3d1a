"""What is of PostgreSQL alone: migrations, locks, lost connections, walls. The rest is in the contract suites."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg
import pytest

from contextdna.backends.migrations import Migration, load_migrations
from contextdna.backends.postgres import (
    PostgresDatabase,
    Server,
    database,
    migrate_postgres,
    open_postgres,
)
from contextdna.backends.postgres.channel import PostgresChannel, open_channel
from contextdna.backends.postgres.driver import connecting_error, mapped_error
from contextdna.backends.postgres.scopes import Wide, load_catalogue, lock_key
from contextdna.backends.postgres.units import KnownSessions
from contextdna.backends.relational.statements import load_statements
from contextdna.backends.sqlite import open_sqlite
from contextdna.errors import Conflict, ContextDnaError, IntegrityFault, InvalidInput, StorageUnavailable
from contextdna.hub import storages
from contextdna.hub.opening import open_hub
from contextdna.ports.database import Database, Transaction
from contextdna.values.ids import EventId, ProjectId, RecordId, TokenId
from contextdna.values.search import Match, RecordFilter
from tests.builders import (
    NOW,
    OTHER_PROJECT,
    PROJECT,
    make_entry,
    make_event,
    make_head,
    make_indexed,
    make_reader,
    make_session,
    make_token,
)
from tests.hub.rig import settings_in
from tests.servers.postgres import empty_database_url, fresh_database_url

pytestmark = pytest.mark.anyio

DEADLINE_S: Final = 30


def server(url: str) -> Server:
    return Server(url, acquire_timeout_s=10, statement_timeout_s=30)


async def run(url: str, *statements: str) -> list[Any]:
    """Run SQL as whoever got hold of the role could; gives the rows of the last."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return [tuple(row) for row in await connection.fetch(statements[-1])]
    finally:
        await connection.close()


@pytest.fixture
def url() -> str:
    return empty_database_url()


@pytest.fixture
async def opened(url: str, anyio_backend: str) -> AsyncIterator[PostgresDatabase]:
    async with open_postgres(url, pool_max=4) as one:
        yield one


# Statements


def test_both_dialects_have_the_same_statements() -> None:
    assert set(load_statements("postgres")) == set(load_statements("sqlite"))


async def test_the_server_takes_every_statement(opened: PostgresDatabase) -> None:
    async with opened._links.take() as link:
        for name in load_statements("postgres"):
            await link._prepare(name)


def test_every_statement_is_about_a_project_or_known_not_to_be() -> None:
    wide = {name for name, place in load_catalogue().places.items() if place is Wide.ALL}
    assert wide == {
        "audit_chains",
        "audit_heads",
        "answers_delete_before",
        "blob_use",
        "events_delete_before",
        "events_last_seq",
        "events_since",
        "keys_all",
        "projects_all",
    }


def test_known_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextdna.backends.postgres.units._SESSIONS_MAX", 2)
    known = KnownSessions()
    for name in ("a", "b", "c"):
        known.keep(name, PROJECT)
    assert list(known) == ["b", "c"]


# Migrations


async def test_the_schema_goes_back_to_nothing_and_forward_again() -> None:
    url = fresh_database_url()
    things = "SELECT relkind, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 2"
    functions = "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    assert [step.back for step in await migrate_postgres(server(url))] == [False]
    made = await run(url, things)
    assert await migrate_postgres(server(url)) == ()
    assert [step.back for step in await migrate_postgres(server(url), target=0)] == [True]
    assert {name for _, name in await run(url, things)} == {"schema_migrations", "schema_migrations_pkey"}
    assert await run(url, functions) == []
    await migrate_postgres(server(url))
    assert await run(url, things) == made


async def test_servers_that_start_together_migrate_once() -> None:
    url = fresh_database_url()
    taken = await asyncio.gather(*(migrate_postgres(server(url)) for _ in range(4)))
    assert sorted(map(len, taken)) == [0, 0, 0, 1]


async def test_a_migration_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh_database_url()
    [first] = load_migrations("postgres")
    broken = Migration(2, "broken", "CREATE TABLE half (id text); SELECT no_such_function();", "")
    monkeypatch.setattr("contextdna.backends.postgres.schema.load_migrations", lambda _: (first, broken))
    with pytest.raises(StorageUnavailable):
        await migrate_postgres(server(url))
    assert await run(url, "SELECT version FROM schema_migrations") == [(1,)]
    assert await run(url, "SELECT to_regclass('half')::text") == [(None,)]


@pytest.mark.parametrize(
    ("change", "kind", "code"),
    [
        ("UPDATE schema_migrations SET checksum = 'other'", IntegrityFault, "migration_changed"),
        ("INSERT INTO schema_migrations VALUES (2, 'later', '', now())", StorageUnavailable, "schema_newer"),
    ],
)
async def test_a_foreign_schema_is_refused(change: str, kind: type[ContextDnaError], code: str) -> None:
    url = fresh_database_url()
    await migrate_postgres(server(url))
    await run(url, change, "SELECT 1")
    with pytest.raises(kind) as refused:
        async with open_postgres(url):
            pass
    assert refused.value.code == code


# One writer at a time in each project


async def waiting_locks(url: str) -> int:
    return int((await run(url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))[0][0])


async def until(condition: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    with anyio.fail_after(DEADLINE_S):
        while not await condition():
            await anyio.lowlevel.checkpoint()


@pytest.fixture
async def two_servers(url: str, anyio_backend: str) -> AsyncIterator[tuple[PostgresDatabase, PostgresDatabase]]:
    """Open the database as two server processes do."""
    async with open_postgres(url, pool_max=4) as one, open_postgres(url, pool_max=4) as other:
        yield one, other


@pytest.mark.parametrize("first", [0, 1])
async def test_of_two_servers_that_update_a_record_the_later_one_loses(
    two_servers: tuple[PostgresDatabase, PostgresDatabase], url: str, first: int
) -> None:
    winner, loser = two_servers[first], two_servers[1 - first]
    await winner.write(lambda tx: tx.records.insert([make_indexed()]))
    order: list[str] = []

    def update(name: str) -> Any:
        async def unit(tx: Transaction) -> bool:
            [held] = await tx.records.take(PROJECT, [RecordId("mem_1")])
            order.append(f"{name} saw {held.version}")
            return held.version == 1 and await tx.records.replace(
                make_indexed(version=2, subject=name), expected_version=1, reindex=False
            )

        return unit

    holder = await asyncpg.connect(url)
    await holder.execute(f"SELECT pg_advisory_lock({lock_key(PROJECT)})")

    async def queued(number: int) -> bool:
        return await waiting_locks(url) == number

    async with asyncio.TaskGroup() as tasks:
        early = tasks.create_task(winner.write(update("early")))
        await until(lambda: queued(1))
        late = tasks.create_task(loser.write(update("late")))
        await until(lambda: queued(2))
        await holder.close()
    assert (early.result(), late.result()) == (True, False)
    assert order == ["early saw 1", "late saw 2"]
    [record] = await loser.read(lambda tx: tx.records.take(PROJECT, [RecordId("mem_1")]))
    assert (record.version, record.subject) == (2, "early")


async def test_chains_have_no_fork_and_no_gap_whoever_appends(
    two_servers: tuple[PostgresDatabase, PostgresDatabase],
) -> None:
    async def append(tx: Transaction) -> None:
        head = await tx.audit.head(PROJECT)
        seq = head.seq + 1 if head else 1
        await tx.audit.append([make_entry(seq)], make_head(seq))

    await asyncio.gather(*(two_servers[number % 2].write(append) for number in range(30)))
    entries = await two_servers[0].read(lambda tx: tx.audit.entries(PROJECT, after_seq=0, limit=99))
    assert [entry.seq for entry in entries] == list(range(1, 31))


async def test_projects_do_not_wait_for_each_other(
    two_servers: tuple[PostgresDatabase, PostgresDatabase], url: str
) -> None:
    holder = await asyncpg.connect(url)
    await holder.execute(f"SELECT pg_advisory_lock({lock_key(PROJECT)})")
    with anyio.fail_after(DEADLINE_S):
        await two_servers[0].write(lambda tx: tx.records.insert([make_indexed(project_id=OTHER_PROJECT)]))
        assert await two_servers[1].read(lambda tx: tx.records.total(OTHER_PROJECT)) == 1
    await holder.close()


async def test_what_was_read_before_its_lock_is_read_again_under_it(
    two_servers: tuple[PostgresDatabase, PostgresDatabase],
) -> None:
    one, _ = two_servers
    await one.write(lambda tx: tx.sessions.add(make_session()))
    runs: list[str] = []

    async def unit(tx: Transaction) -> None:
        session = await tx.sessions.get(make_session().id)
        runs.append("looked")
        assert session is not None
        await tx.events.append([make_event()])
        await tx.records.total(session.project_id)

    await one.write(unit)
    assert runs == ["looked", "looked"], "its project was not known before"
    assert await one.read(lambda tx: tx.sessions.get(make_session().id)) is not None
    runs.clear()
    await one.write(lambda tx: tx.sessions.get(make_session().id))
    await one.write(lambda tx: tx.records.insert([make_indexed()]))
    assert len(await one.read(lambda tx: tx.events.after(PROJECT, EventId(""), limit=9))) == 1, "written once"


async def test_a_unit_about_two_projects_holds_both(two_servers: tuple[PostgresDatabase, PostgresDatabase]) -> None:
    def both(first: ProjectId, second: ProjectId) -> Any:
        async def unit(tx: Transaction) -> None:
            for project_id in (first, second):
                head = await tx.audit.head(project_id)
                seq = head.seq + 1 if head else 1
                await tx.audit.append([make_entry(seq, project_id=project_id)], make_head(seq, project_id))

        return unit

    pairs = [(PROJECT, OTHER_PROJECT), (OTHER_PROJECT, PROJECT)] * 8
    await asyncio.gather(*(two_servers[number % 2].write(both(*pair)) for number, pair in enumerate(pairs)))
    heads = await two_servers[0].read(lambda tx: tx.audit.heads())
    assert [head.seq for head in heads] == [16, 16]


async def test_a_unit_about_all_projects_waits_for_those_about_one(
    two_servers: tuple[PostgresDatabase, PostgresDatabase],
) -> None:
    async def clear(tx: Transaction) -> int:
        return await tx.events.delete_before(NOW.replace(year=2030), limit=999)

    async def add(database: Database, number: int) -> None:
        project_id = (PROJECT, OTHER_PROJECT)[number % 2]
        await database.write(lambda tx: tx.events.append([make_event(f"evt_{number}", project_id=project_id)]))

    adding = [add(two_servers[number % 2], number) for number in range(20)]
    *_, early = await asyncio.gather(*adding, two_servers[0].write(clear))
    assert (early or 0) + await two_servers[1].write(clear) == 20


@pytest.mark.parametrize("first", [0, 1])
async def test_events_are_seen_in_the_order_of_their_places(
    two_servers: tuple[PostgresDatabase, PostgresDatabase], url: str, first: int
) -> None:
    """Whoever has a place commits before the next one gets any, whichever server and project that is of."""
    projects = (PROJECT, OTHER_PROJECT) if first == 0 else (OTHER_PROJECT, PROJECT)
    raw = await asyncpg.connect(url)
    await raw.execute("BEGIN; SELECT set_config('contextdna.project', '*', true)")
    await raw.execute(
        "INSERT INTO events (project_id, id, name, agent_id, record_ids, at, subject, audience)"
        " VALUES ($1, 'evt_slow', 'memory.stored', 'alice', '[]', now(), '', '[]')",
        projects[0],
    )
    quick = asyncio.create_task(
        two_servers[0].write(lambda tx: tx.events.append([make_event("evt_quick", project_id=projects[1])]))
    )

    async def queued() -> bool:
        return await waiting_locks(url) == 1

    await until(queued)
    assert await two_servers[1].read(lambda tx: tx.events.since(0, limit=9)) == []
    await raw.execute("COMMIT")
    await quick
    await raw.close()
    seen = await two_servers[1].read(lambda tx: tx.events.since(0, limit=9))
    assert [event.id for event in seen] == ["evt_slow", "evt_quick"]


async def test_the_revision_changes_with_every_commit_of_another(
    two_servers: tuple[PostgresDatabase, PostgresDatabase],
) -> None:
    revisions = [await two_servers[0].revision()]
    for number in range(5):
        await two_servers[1].write(lambda tx, n=number: tx.events.append([make_event(f"evt_{n}")]))  # type: ignore[misc]
        revisions.append(await two_servers[0].revision())
    assert len(set(revisions)) == 6


# Hints to other servers


async def told(hints: AsyncIterator[None]) -> None:
    with anyio.fail_after(DEADLINE_S):
        await anext(hints)


async def hearing(*channels: PostgresChannel) -> None:
    async def ready() -> bool:
        return all(channel.hears_others for channel in channels)

    await until(ready)


async def test_servers_are_told_of_each_other_s_events(url: str) -> None:
    async with open_channel(server(url)) as one, open_channel(server(url)) as other:
        await hearing(one, other)
        async with one.listen() as here, other.listen() as there:
            await one.publish([make_event()])
            await told(here)
            await told(there)
            await other.publish([make_event()])
            await told(here)
            await told(there)


async def test_what_was_published_before_there_was_a_connection_is_told_with_it(url: str) -> None:
    async with open_channel(server(url)) as one:
        await hearing(one)
        async with one.listen() as here, open_channel(server(url)) as other:
            await other.publish([make_event()])
            await told(here)


async def test_a_channel_comes_back_after_its_connection_was_cut(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextdna.backends.postgres.channel._AGAIN_S", 0.01)
    async with open_channel(server(url)) as one, open_channel(server(url)) as other:
        await hearing(one, other)
        async with other.listen() as there:
            await kill_others(url)
            await told(there)  # something may have been missed
            await hearing(one, other)
            await one.publish([make_event()])
            await told(there)


async def test_a_channel_without_a_server_tells_its_own_process(tmp_path: Path) -> None:
    async with open_channel(server(f"postgresql:///none?host={tmp_path}")) as alone, alone.listen() as here:
        await alone.publish([make_event()])
        await told(here)
        assert not alone.hears_others


async def test_what_fails_beside_an_open_channel_is_raised_as_it_is(url: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_channel(server(url)):
            raise ZeroDivisionError


# What fails, and how


async def test_a_transaction_that_loses_is_run_again(opened: PostgresDatabase, url: str) -> None:
    await opened.write(lambda tx: tx.records.insert([make_indexed()]))
    runs = 0

    async def unit(tx: Transaction) -> int:
        nonlocal runs
        runs += 1
        await tx.records.mark_deleted(PROJECT, [RecordId("mem_1")], deleted_at=NOW)
        if runs < 3:
            raise asyncpg.DeadlockDetectedError("mem_1 is in the way")
        return runs

    assert await opened.write(unit) == 3


async def test_one_that_always_loses_is_told_so_without_its_values(
    opened: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_PAUSE_MAX_S", 0.0)

    async def unit(tx: Transaction) -> None:
        await tx.records.total(PROJECT)
        raise asyncpg.SerializationError("a secret")

    with pytest.raises(StorageUnavailable) as failed:
        await opened.write(unit)
    assert (failed.value.code, failed.value.retryable) == ("storage_busy", True)
    assert "secret" not in str(failed.value)
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__


async def kill_others(url: str) -> None:
    others = "usename = current_user AND pid <> pg_backend_pid()"
    await run(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")  # noqa: S608 - ours


async def test_calls_go_on_when_idle_connections_were_cut(opened: PostgresDatabase, url: str) -> None:
    await asyncio.gather(*(opened.read(lambda tx: tx.records.total(PROJECT)) for _ in range(3)))
    await kill_others(url)
    assert await opened.read(lambda tx: tx.records.total(PROJECT)) == 0
    await kill_others(url)
    await opened.write(lambda tx: tx.records.insert([make_indexed()]))
    assert await opened.read(lambda tx: tx.records.total(PROJECT)) == 1


async def test_a_unit_that_is_cut_off_is_run_again_and_written_once(opened: PostgresDatabase, url: str) -> None:
    runs = 0

    async def unit(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        await tx.records.insert([make_indexed()])
        if runs == 1:
            raise ConnectionResetError

    await opened.write(unit)
    assert runs == 2
    assert await opened.read(lambda tx: tx.records.total(PROJECT)) == 1


async def test_a_connection_lost_in_the_commit_leaves_the_outcome_open(
    opened: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextdna.backends.postgres.driver import Link

    script = Link.script

    async def cut(link: Link, text: str) -> str:
        if text == "COMMIT":
            link.cut()
        return await script(link, text)

    monkeypatch.setattr(Link, "script", cut)
    with pytest.raises(StorageUnavailable) as failed:
        await opened.write(lambda tx: tx.records.insert([make_indexed()]))
    assert (failed.value.code, failed.value.retryable) == ("storage_outcome_unknown", False)


async def test_a_statement_past_its_time_is_given_up(url: str) -> None:
    async with open_postgres(url, statement_timeout_s=0.2) as slow:
        holder = await asyncpg.connect(url)
        await holder.execute(f"SELECT pg_advisory_lock({lock_key(PROJECT)})")
        with pytest.raises(StorageUnavailable) as failed:
            await slow.write(lambda tx: tx.records.insert([make_indexed()]))
        assert (failed.value.code, failed.value.retryable) == ("storage_timeout", True)
        await holder.close()
        await slow.write(lambda tx: tx.records.insert([make_indexed()]))


class Passage:
    """A way to the server that a test can stop up: what is sent then arrives nowhere, and nothing comes back."""

    def __init__(self, url: str) -> None:
        self.is_open = True
        self._there = f"{parse_qs(urlsplit(url).query)['host'][0]}/.s.PGSQL.5432"
        self._tasks: set[asyncio.Task[None]] = set()

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_unix_connection(self._there)
        for source, target in ((reader, forth), (back, writer)):
            self._tasks.add(asyncio.create_task(self._carry(source, target)))

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            if self.is_open:
                target.write(data)
        target.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.mark.skipif("CONTEXTDNA_TEST_POSTGRES_URL" in os.environ, reason="needs the server's socket")
async def test_a_server_that_hangs_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contextdna.backends.postgres.driver.SLACK_S", 0.1)
    monkeypatch.setattr(database, "_ROLLBACK_S", 0.1)
    passage = Passage(url)
    door = await asyncio.start_server(passage.meet, "127.0.0.1", 0)
    place = urlsplit(url)
    way = f"postgresql://{place.username}@127.0.0.1:{door.sockets[0].getsockname()[1]}{place.path}?sslmode=disable"
    async with open_postgres(way, statement_timeout_s=0.2, acquire_timeout_s=2) as far:
        assert await far.read(lambda tx: tx.records.total(PROJECT)) == 0
        passage.is_open = False
        for call in (far.read, far.write):
            with anyio.fail_after(DEADLINE_S), pytest.raises(StorageUnavailable) as failed:
                await call(lambda tx: tx.records.total(PROJECT))
            assert (failed.value.code, failed.value.retryable) == ("storage_unreachable", True)
        passage.is_open = True
        assert await far.read(lambda tx: tx.records.total(PROJECT)) == 0
    door.close()
    await passage.close()


async def test_who_waits_too_long_for_a_connection_is_told_so(url: str) -> None:
    async with open_postgres(url, pool_max=1, acquire_timeout_s=0.2) as narrow:
        async with narrow._links.take():
            for call in (narrow.read, narrow.write):
                with pytest.raises(StorageUnavailable) as failed:
                    await call(lambda tx: tx.records.total(PROJECT))
                assert (failed.value.code, failed.value.retryable) == ("storage_busy", True)
        assert await narrow.read(lambda tx: tx.records.total(PROJECT)) == 0


async def test_readers_find_a_connection_while_writers_wait(url: str) -> None:
    async with open_postgres(url, pool_max=4) as busy:
        holder = await asyncpg.connect(url)
        await holder.execute(f"SELECT pg_advisory_lock({lock_key(PROJECT)})")
        async with asyncio.TaskGroup() as tasks:
            for number in range(9):
                tasks.create_task(busy.write(lambda tx, n=number: tx.records.insert([make_indexed(f"mem_{n}")])))  # type: ignore[misc]
            with anyio.fail_after(DEADLINE_S):
                assert await busy.read(lambda tx: tx.records.total(PROJECT)) == 0
            await holder.close()
        assert await busy.read(lambda tx: tx.records.total(PROJECT)) == 9


async def test_a_cancelled_write_leaves_nothing_and_its_connection_serves_on(
    opened: PostgresDatabase, url: str
) -> None:
    holder = await asyncpg.connect(url)
    await holder.execute(f"SELECT pg_advisory_lock({lock_key(PROJECT)})")
    waiting = asyncio.create_task(opened.write(lambda tx: tx.records.insert([make_indexed()])))

    async def queued() -> bool:
        return await waiting_locks(url) == 1

    await until(queued)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await holder.close()
    assert await opened.write(lambda tx: tx.records.total(PROJECT)) == 0


async def test_a_closed_database_says_so(url: str) -> None:
    async with open_postgres(url) as closed:
        pass
    with pytest.raises(StorageUnavailable) as failed:
        await closed.read(lambda tx: tx.records.total(PROJECT))
    assert failed.value.code == "storage_closed"


@pytest.mark.parametrize(
    ("of", "code"),
    [
        (asyncpg.InvalidPasswordError("password of bob"), "storage_login_refused"),
        (asyncpg.InvalidCatalogNameError("secret_db"), "storage_login_refused"),
        (asyncpg.CannotConnectNowError("starting"), "storage_unreachable"),
        (asyncpg.TooManyConnectionsError("sorry"), "storage_busy"),
        (ConnectionRefusedError("10.1.2.3"), "storage_unreachable"),
        (TimeoutError(), "storage_unreachable"),
        (ValueError("invalid port in secret"), "storage_url_invalid"),
    ],
)
def test_why_no_connection_could_be_made_is_told_without_a_secret(of: Exception, code: str) -> None:
    error = connecting_error(of, Server("postgresql://nowhere/none", 10, 10))
    assert error.code == code
    assert error.hint
    assert not re.search("bob|secret|10.1", error.message)


@pytest.mark.parametrize(
    ("of", "kind", "code"),
    [
        (asyncpg.UniqueViolationError("Key (id)=(secret)"), Conflict, "already_exists"),
        (asyncpg.CheckViolationError("secret"), IntegrityFault, "constraint_violated"),
        (asyncpg.RestrictViolationError("secret"), IntegrityFault, "constraint_violated"),
        (asyncpg.DiskFullError("secret"), StorageUnavailable, "storage_full"),
        (asyncpg.ReadOnlySQLTransactionError("secret"), StorageUnavailable, "storage_read_only"),
        (asyncpg.InsufficientPrivilegeError("secret"), StorageUnavailable, "storage_no_permission"),
        (asyncpg.AdminShutdownError("secret"), StorageUnavailable, "storage_unreachable"),
        (asyncpg.DataCorruptedError("secret"), IntegrityFault, "database_corrupt"),
        (asyncpg.UndefinedTableError("secret"), StorageUnavailable, "storage_error"),
        (asyncpg.InterfaceError("connection is closed"), StorageUnavailable, "storage_unreachable"),
    ],
)
def test_what_a_server_refuses_is_told_without_values(of: Exception, kind: type[ContextDnaError], code: str) -> None:
    error = mapped_error(of)
    assert (type(error), error.code) == (kind, code)
    assert error.hint
    assert "secret" not in error.message


async def test_what_cannot_be_stored_is_refused_as_input(opened: PostgresDatabase) -> None:
    for item in (make_indexed(subject="a\0b"), make_indexed(version=2**64)):
        with pytest.raises(InvalidInput) as refused:
            await opened.write(lambda tx, one=item: tx.records.insert([one]))  # type: ignore[misc]
        assert refused.value.code == "value_unstorable"


# Walls


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_log SET action = 'other'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "UPDATE agent_history SET what = 'other'",
        "DELETE FROM agent_history",
        "TRUNCATE agent_history",
    ],
)
async def test_nobody_rewrites_what_was_done(opened: PostgresDatabase, url: str, change: str) -> None:
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await run(url, change, "SELECT 1")


async def test_a_transaction_sees_the_project_that_it_names_and_no_other(opened: PostgresDatabase, url: str) -> None:
    if (await run(url, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"))[0][0]:
        pytest.skip("row-level security does not hold for the role of the tests")
    items = [make_indexed("a"), make_indexed("b", project_id=OTHER_PROJECT)]
    await opened.write(lambda tx: tx.records.insert(items))
    seen = "SELECT id FROM records ORDER BY id"
    named = "SELECT set_config('contextdna.project', '{}', false)"
    assert await run(url, seen) == []
    assert await run(url, named.format(f"={PROJECT}"), seen) == [("a",)]
    assert await run(url, named.format("="), seen) == []
    assert await run(url, named.format("*"), seen) == [("a",), ("b",)]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(url, named.format(f"={PROJECT}"), "INSERT INTO audit_heads VALUES ('gemini', 1, '', '')", seen)
    walled = "SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity"
    tables = (
        "SELECT table_name FROM information_schema.columns WHERE column_name = 'project_id' AND table_schema = 'public'"
    )
    views = {"memories", "turns", "artifacts", "loop_records", "tasks"}
    open_to_all = {"records_index", "access_changes", *views}
    assert set(await run(url, tables)) - set(await run(url, walled)) == {(name,) for name in open_to_all}


async def test_tokens_are_seen_by_who_names_the_installation(opened: PostgresDatabase, url: str) -> None:
    if (await run(url, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"))[0][0]:
        pytest.skip("row-level security does not hold for the role of the tests")
    await opened.write(lambda tx: tx.access_tokens.add(make_token(TokenId("tok_1"))))
    assert await opened.read(lambda tx: tx.access_tokens.get(TokenId("tok_1"))) is not None
    seen, named = "SELECT count(*) FROM access_tokens", "SELECT set_config('contextdna.project', '{}', false)"
    assert await run(url, seen) == await run(url, named.format(f"={PROJECT}"), seen) == [(0,)]
    assert await run(url, named.format("="), seen) == await run(url, named.format("*"), seen) == [(1,)]


async def test_a_statement_that_forgets_its_project_gives_nothing_of_others(opened: PostgresDatabase, url: str) -> None:
    if (await run(url, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"))[0][0]:
        pytest.skip("row-level security does not hold for the role of the tests")
    await opened.write(lambda tx: tx.records.insert([make_indexed("b", project_id=OTHER_PROJECT)]))
    forgetful = {**opened._catalogue.texts, "records_total": "SELECT count(*) FROM records WHERE $1::text IS NOT NULL"}
    async with opened._links.take() as link:
        link._statements = forgetful
    assert await opened.read(lambda tx: tx.records.total(PROJECT)) == 0


# Ranking


async def test_a_corpus_has_the_same_ten_best_as_on_sqlite(opened: PostgresDatabase, tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(40)]
    corpus = [
        make_indexed(
            f"mem_{number:03}", tokens=[words[(number * step) % (5 + step)] for step in range(1, 4 + number % 30)]
        )
        for number in range(300)
    ]
    reader = make_reader()

    async def ask(tx: Transaction) -> list[Any]:
        answers: list[Any] = []
        for number in range(20):
            some = [(words[number],), (words[number + 3], words[number + 4])]
            found = await tx.records.search(reader, RecordFilter(), Match(tuple(some)), now=NOW, limit=10)
            answers += [found, (await tx.records.statistics(PROJECT, some)).counts]
        return answers

    async with open_sqlite(tmp_path / "contextdna.db") as sqlite:
        for backend in (sqlite, opened):
            await backend.write(lambda tx: tx.records.insert(corpus))
        assert await opened.read(ask) == await sqlite.read(ask)


# Opening


async def test_a_hub_names_the_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(storages, "find_spec", lambda _: None)
    with pytest.raises(ContextDnaError) as refused:
        async with open_hub(settings_in(tmp_path, database="postgresql://nowhere/none")):
            pass
    assert refused.value.code == "driver_missing"
    assert "contextdna[postgres]" in refused.value.hint


async def test_a_server_without_the_installation_s_key_does_not_start(url: str, tmp_path: Path) -> None:
    async with open_hub(settings_in(tmp_path / "one", database=url)):
        pass
    with pytest.raises(ContextDnaError) as refused:
        async with open_hub(settings_in(tmp_path / "other", database=url)):
            pass
    assert refused.value.code == "key_missing"
    assert not (tmp_path / "other" / "master.key").exists()


async def test_an_unreachable_server_is_named_without_its_password(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, database=f"postgresql://bob:secret@/none?host={tmp_path}")
    with pytest.raises(StorageUnavailable) as refused:
        async with open_hub(settings):
            pass
    assert (refused.value.code, refused.value.retryable) == ("storage_unreachable", True)
    assert "secret" not in f"{refused.value}{refused.value.hint}{settings!r}"
