"""What is SQLite's own: migrations, groups of writes, processes that share a file, faults of the disk."""

import os
import signal
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from contextdna import AgentId, Context, ContextQuery, HubSettings, MemoryDraft, Principal, open_hub
from contextdna.backends.migrations import Migration, load_migrations
from contextdna.backends.sqlite import (
    SqliteDatabase,
    driver,
    has_wal_reset_bug,
    migrate_sqlite,
    open_sqlite,
    sqlite_schema_status,
)
from contextdna.backends.sqlite.driver import library, mapped_error
from contextdna.backends.sqlite.schema import migrate, statements_of
from contextdna.backends.sqlite.units import GroupWriter, WritingExecutor
from contextdna.domain import retrieval
from contextdna.domain.operation import Operation
from contextdna.domain.retrieval import retrieve
from contextdna.errors import Conflict, ContextDnaError, IntegrityFault, StorageUnavailable
from contextdna.ports.database import Transaction
from contextdna.values.record import Sealed
from contextdna.values.search import Match, RecordFilter
from tests.backends.samples import ANNA, NOW, PROJECT, audit_entry, audit_head, indexed, record
from tests.forked import Forked

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "contextdna.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    async with open_sqlite(path, busy_timeout_s=0.3) as opened:
        yield opened


def inserting(name: str, *tokens: str, **changes: Any) -> Callable[[Transaction], Awaitable[None]]:
    return lambda tx: tx.records.insert([indexed(name, *tokens, **changes)])


async def found(database: SqliteDatabase, *tokens: str) -> set[str]:
    match = Match(tuple((token,) for token in tokens))
    hits = await database.read(lambda tx: tx.records.search(ANNA, RecordFilter(), match, now=NOW, limit=10_000))
    return {hit.id for hit in hits}


async def stored(database: SqliteDatabase) -> int:
    return await database.read(lambda tx: tx.records.total(PROJECT))


async def execute(database: SqliteDatabase, statement: str) -> list[Any]:
    """Run a statement on the writing connection."""
    raw = database._writer.thread.raw
    rows: list[Any] = await database._writer.alone(lambda: raw.execute(statement).fetchall())
    return rows


async def together(database: SqliteDatabase, *units: Callable[[Transaction], Awaitable[Any]]) -> list[Any]:
    """Queue units while the writer is held up, so that they form one group; give results or errors."""
    held_up, go_on = threading.Event(), threading.Event()
    outcomes: list[Any] = [None] * len(units)

    async def hold_up(tx: Transaction) -> None:
        held_up.set()
        go_on.wait(10)

    async def write(place: int) -> None:
        try:
            outcomes[place] = await database.write(units[place])
        except Exception as error:  # noqa: BLE001 - the outcome under test
            outcomes[place] = error

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(database.write, hold_up)
        await anyio.to_thread.run_sync(held_up.wait, 10)
        for place in range(len(units)):
            tasks.start_soon(write, place)
        await anyio.wait_all_tasks_blocked()
        go_on.set()
    return outcomes


def schema_of(path: Path) -> list[Any]:
    connection = library.connect(path)
    rows = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema"
        " WHERE name NOT LIKE '%schema_migrations' ORDER BY type, name"
    ).fetchall()
    connection.close()
    return list(rows)


def bytes_of(path: Path) -> bytes:
    """Read the database file and, while it is open, its write-ahead log."""
    log = path.with_name(path.name + "-wal")
    return path.read_bytes() + (log.read_bytes() if log.exists() else b"")


def put(path: Path, data: bytes) -> None:
    """Make a file of these bytes."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def start(path: Path, name: str, records: int) -> Forked:
    return Forked(Path(__file__).with_name("writing_process.py"), path, name, records)


def finish(process: Forked) -> list[str]:
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    return out.split()


class TestMigrations:
    async def test_going_down_and_up_again_gives_the_same_schema(self, path: Path) -> None:
        await migrate_sqlite(path)
        fresh = schema_of(path)
        down = await migrate_sqlite(path, target=0)
        assert schema_of(path) == [row for row in fresh if row[1] == "sqlite_sequence"]
        up = await migrate_sqlite(path)
        assert schema_of(path) == fresh
        assert [step.back for step in down] == [True] * len(load_migrations("sqlite"))
        assert len(up) == len(down)

    async def test_each_migration_is_recorded(self, path: Path) -> None:
        before = await sqlite_schema_status(path)
        assert (before.current, before.applied) == (0, ())
        await migrate_sqlite(path)
        status = await sqlite_schema_status(path)
        assert status.current == status.latest == len(status.applied)
        assert status.pending == ()

    async def test_a_failing_migration_leaves_nothing_behind(self, path: Path) -> None:
        await migrate_sqlite(path)
        fresh = schema_of(path)
        bad = Migration(2, "bad", "CREATE TABLE half (a);\nCREATE TABLE projects (a);\n", "DROP TABLE half;\n")
        connection = library.connect(path, isolation_level=None)
        with pytest.raises(ContextDnaError):
            migrate(connection, (*load_migrations("sqlite"), bad), None, 1.0)
        connection.close()
        assert schema_of(path) == fresh
        assert (await sqlite_schema_status(path)).current == 1

    async def test_a_newer_schema_is_refused(self, path: Path) -> None:
        await migrate_sqlite(path)
        self._run(path, "INSERT INTO schema_migrations VALUES (99, 'later', 'x', 0)")
        with pytest.raises(StorageUnavailable) as refused:
            async with open_sqlite(path):
                pass
        assert refused.value.code == "schema_newer"
        assert "Upgrade" in refused.value.hint

    async def test_a_changed_migration_is_refused(self, path: Path) -> None:
        await migrate_sqlite(path)
        self._run(path, "UPDATE schema_migrations SET checksum = 'other'")
        with pytest.raises(IntegrityFault) as refused:
            async with open_sqlite(path):
                pass
        assert refused.value.code == "migration_changed"

    async def test_a_version_that_does_not_exist_is_refused(self, path: Path) -> None:
        with pytest.raises(ValueError, match="schema version"):
            await migrate_sqlite(path, target=1000)

    def test_a_script_that_ends_inside_a_statement_is_refused(self) -> None:
        with pytest.raises(ValueError, match="inside a statement"):
            list(statements_of("CREATE TABLE a (b);\nCREATE TABLE c (d"))

    @staticmethod
    def _run(path: Path, statement: str) -> None:
        connection = library.connect(path, isolation_level=None)
        connection.execute(statement)
        connection.close()


class TestAuditLog:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE audit_log SET action = 'other'",
            "DELETE FROM audit_log",
            "INSERT OR REPLACE INTO audit_log SELECT * FROM audit_log",
            "REPLACE INTO audit_log SELECT project_id, seq, 0, '', '', '', '', '', '', '', '', '', '', mac"
            " FROM audit_log",
        ],
    )
    async def test_entries_can_be_neither_changed_nor_removed(self, database: SqliteDatabase, statement: str) -> None:
        await database.write(lambda tx: tx.audit.append([audit_entry(1)], audit_head(1)))
        with pytest.raises(library.IntegrityError, match="append-only"):
            await execute(database, statement)
        entries = await database.read(lambda tx: tx.audit.entries(PROJECT, after_seq=0, limit=10))
        assert entries == [audit_entry(1)]

    async def test_a_taken_number_is_a_conflict(self, database: SqliteDatabase) -> None:
        await database.write(lambda tx: tx.audit.append([audit_entry(1)], audit_head(1)))
        with pytest.raises(Conflict) as refused:
            await database.write(lambda tx: tx.audit.append([audit_entry(1)], audit_head(1)))
        assert refused.value.code == "already_exists"


class TestUnits:
    async def test_a_bad_unit_of_a_group_fails_alone(self, database: SqliteDatabase) -> None:
        async def bad(tx: Transaction) -> None:
            await tx.records.insert([indexed("mem_bad", "bad")])
            raise LookupError("the unit's own")

        taken = inserting("mem_a", "again")
        outcomes = await together(database, inserting("mem_a", "good"), bad, taken, inserting("mem_b", "good"))
        assert outcomes[0] is outcomes[3] is None
        assert isinstance(outcomes[1], LookupError)
        assert isinstance(outcomes[2], Conflict)
        assert await found(database, "good", "bad", "again") == {"mem_a", "mem_b"}
        assert await stored(database) == 2

    async def test_a_bad_unit_that_searched_takes_no_others_index_entries_along(self, database: SqliteDatabase) -> None:
        async def bad(tx: Transaction) -> None:
            await tx.records.insert([indexed("mem_bad", "good")])
            assert (await tx.records.statistics(PROJECT, [("good",)])).counts == {("good",): 2}
            raise LookupError

        outcomes = await together(database, inserting("mem_a", "good"), bad, inserting("mem_b", "good"))
        assert isinstance(outcomes[1], LookupError)
        assert await found(database, "good") == {"mem_a", "mem_b"}
        assert await execute(database, "PRAGMA integrity_check") == [("ok",)]

    async def test_a_unit_sees_what_it_wrote(self, database: SqliteDatabase) -> None:
        async def unit(tx: Transaction) -> list[str]:
            await tx.records.insert([indexed("mem_a", "one"), indexed("mem_b", "two")])
            await tx.records.replace(indexed("mem_b", "three", version=2), expected_version=1, reindex=True)
            await tx.records.delete(PROJECT, [record("mem_a").id])
            match = Match((("one",), ("two",), ("three",)))
            hits = await tx.records.search(ANNA, RecordFilter(), match, now=NOW, limit=9)
            return [hit.id for hit in hits]

        assert await database.write(unit) == ["mem_b"]
        assert await found(database, "one", "two", "three") == {"mem_b"}

    async def test_a_unit_that_suspends_is_refused_and_undone(self, database: SqliteDatabase) -> None:
        async def unit(tx: Transaction) -> None:
            await tx.records.insert([indexed("mem_a")])
            await anyio.lowlevel.checkpoint()

        with pytest.raises(RuntimeError):
            await database.write(unit)
        assert await stored(database) == 0

    async def test_a_unit_that_awaits_a_future_is_told_so(self, database: SqliteDatabase) -> None:
        class Never:
            def __await__(self) -> Any:
                yield

        async def unit(tx: Transaction) -> None:
            await Never()

        with pytest.raises(RuntimeError, match="suspended"):
            await database.read(unit)

    async def test_a_read_unit_cannot_write(self, database: SqliteDatabase) -> None:
        with pytest.raises(RuntimeError, match="may not write"):
            await database.read(inserting("mem_a"))
        assert await stored(database) == 0

    async def test_a_reading_connection_refuses_writes_by_itself(self, database: SqliteDatabase) -> None:
        async def unit(tx: Transaction) -> None:
            database._readers[0]._execute("DELETE FROM records")

        with pytest.raises(StorageUnavailable) as refused:
            await database.read(unit)
        assert refused.value.code == "storage_read_only"

    async def test_a_read_unit_sees_one_snapshot(self, database: SqliteDatabase) -> None:
        begun, go_on = threading.Event(), threading.Event()

        async def count_twice(tx: Transaction) -> tuple[int, int]:
            first = await tx.records.total(PROJECT)
            begun.set()
            go_on.wait(10)
            return first, await tx.records.total(PROJECT)

        counts: list[tuple[int, int]] = []

        async def read() -> None:
            counts.append(await database.read(count_twice))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.to_thread.run_sync(begun.wait, 10)
            await database.write(inserting("mem_a"))
            go_on.set()
        assert counts == [(0, 0)]
        assert await stored(database) == 1

    async def test_more_reads_than_connections_are_all_answered(self, database: SqliteDatabase) -> None:
        await database.write(inserting("mem_a"))
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(stored, database)
        assert len(database._readers) <= 3

    async def test_short_reads_do_not_wait_for_searches(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        searching, go_on, at_once = threading.Event(), threading.Event(), threading.Semaphore(1)
        contexts: list[Context] = []

        async def search(op: Operation, query: ContextQuery) -> Context:
            assert at_once.acquire(blocking=False), "another search was at work"
            searching.set()
            assert go_on.wait(10)
            at_once.release()
            return await retrieve(op, query)

        monkeypatch.setattr(retrieval, "retrieve", search)
        settings = HubSettings(projects=(PROJECT,), data_dir=path.parent)
        async with open_hub(settings) as hub, anyio.create_task_group() as tasks:
            workspace = hub.bind(Principal(AgentId("anna"), (PROJECT,)))
            (kept,) = await workspace.store_memories([MemoryDraft("the sky is blue")])

            async def ask() -> None:
                contexts.append(await workspace.retrieve_context(ContextQuery("sky")))

            for _ in range(5):
                tasks.start_soon(ask)
            await anyio.to_thread.run_sync(searching.wait, 10)
            with anyio.fail_after(10):
                (memory,), _ = await workspace.get_memories([kept.id])
            assert (memory.content, contexts) == ("the sky is blue", [])
            go_on.set()
        assert [len(context.hits) for context in contexts] == [1] * 5

    async def test_more_writes_than_a_group_holds_are_all_kept(self, path: Path) -> None:
        async with open_sqlite(path, group_max=4) as database:
            async with anyio.create_task_group() as tasks:
                for number in range(100):
                    tasks.start_soon(database.write, inserting(f"mem_{number}"))
            assert await stored(database) == 100


class TestCancellation:
    async def test_a_cancelled_caller_leaves_its_unit_undone_and_the_others_whole(
        self, database: SqliteDatabase
    ) -> None:
        held_up, go_on = threading.Event(), threading.Event()

        async def hold_up(tx: Transaction) -> None:
            held_up.set()
            go_on.wait(10)

        scope = anyio.CancelScope()

        async def cancelled() -> None:
            with scope:
                await database.write(inserting("mem_cancelled"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(database.write, hold_up)
            await anyio.to_thread.run_sync(held_up.wait, 10)
            tasks.start_soon(database.write, inserting("mem_a"))
            tasks.start_soon(cancelled)
            tasks.start_soon(database.write, inserting("mem_b"))
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            await anyio.wait_all_tasks_blocked()
            go_on.set()
        assert await found(database, "token") == {"mem_a", "mem_b"}

    async def test_a_caller_cancelled_in_mid_commit_harms_nobody(self, database: SqliteDatabase) -> None:
        held_up, go_on = threading.Event(), threading.Event()

        async def slow(tx: Transaction) -> None:
            await tx.records.insert([indexed("mem_slow")])
            held_up.set()
            go_on.wait(10)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(database.write, slow)
            await anyio.to_thread.run_sync(held_up.wait, 10)
            tasks.cancel_scope.cancel()
            go_on.set()
        await database.write(inserting("mem_a"))
        assert "mem_a" in await found(database, "token")

    async def test_closing_finishes_what_is_queued(self, path: Path) -> None:
        async with open_sqlite(path) as database, anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(database.write, inserting(f"mem_{number}"))
        async with open_sqlite(path) as again:
            assert await stored(again) == 20
        with pytest.raises(StorageUnavailable) as refused:
            await database.write(inserting("mem_late"))
        assert refused.value.code == "storage_closed"

    async def test_a_writer_that_stops_leaves_nobody_waiting(
        self, database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(self: GroupWriter, group: Any) -> None:
            raise MemoryError

        monkeypatch.setattr(GroupWriter, "_commit", fail)
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(self._expect_stopped, database, f"mem_{number}")
        monkeypatch.undo()
        await self._expect_stopped(database, "mem_later")
        assert await stored(database) == 0

    @staticmethod
    async def _expect_stopped(database: SqliteDatabase, name: str) -> None:
        with pytest.raises(StorageUnavailable) as refused:
            await database.write(inserting(name))
        assert refused.value.code == "storage_stopped"


class TestFaults:
    async def test_a_full_disk_changes_nothing_and_passes(self, database: SqliteDatabase) -> None:
        await database.write(inserting("mem_a"))
        await self._let_grow_by(database, 2)
        with pytest.raises(StorageUnavailable) as refused:
            await database.write(inserting("mem_big", sealed=Sealed(b"x" * 1_000_000)))
        assert refused.value.code == "storage_full"
        assert refused.value.hint
        assert await found(database, "token") == {"mem_a"}
        await self._let_grow_by(database, 1_000_000)
        await database.write(inserting("mem_big", sealed=Sealed(b"x" * 1_000_000)))
        assert await found(database, "token") == {"mem_a", "mem_big"}

    async def test_a_full_disk_fails_the_unit_that_met_it_alone(self, database: SqliteDatabase) -> None:
        await database.write(inserting("mem_a"))
        await self._let_grow_by(database, 40)
        outcomes = await together(
            database,
            inserting("mem_b"),
            inserting("mem_big", sealed=Sealed(b"x" * 1_000_000)),
            inserting("mem_c"),
        )
        assert outcomes[0] is outcomes[2] is None
        assert isinstance(outcomes[1], StorageUnavailable)
        assert outcomes[1].code == "storage_full"
        assert await found(database, "token") == {"mem_a", "mem_b", "mem_c"}
        assert await execute(database, "PRAGMA integrity_check") == [("ok",)]

    async def test_a_commit_that_fails_fails_the_group(
        self, database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = database._writer._execute
        commits = iter((False, True, True))

        def execute_but_commit(statement: str) -> Any:
            if statement == "COMMIT" and next(commits):
                error = library.OperationalError("disk I/O error")
                error.sqlite_errorcode = 10
                raise error
            return real(statement)

        monkeypatch.setattr(database._writer, "_execute", execute_but_commit)
        outcomes = await together(database, inserting("mem_a"), inserting("mem_b"))
        monkeypatch.undo()
        assert [outcome.code for outcome in outcomes] == ["storage_io_error"] * 2
        assert await stored(database) == 0
        await database.write(inserting("mem_c"))
        assert await found(database, "token") == {"mem_c"}

    async def test_a_lock_held_too_long_is_busy_and_may_be_tried_again(
        self, database: SqliteDatabase, path: Path
    ) -> None:
        other = library.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable) as refused:
            await database.write(inserting("mem_a"))
        assert refused.value.code == "storage_busy"
        assert refused.value.retryable
        other.execute("ROLLBACK")
        await database.write(inserting("mem_a"))
        other.close()

    async def test_a_folder_in_the_place_of_the_file_cannot_be_opened(self, path: Path) -> None:
        os.makedirs(path)
        with pytest.raises(StorageUnavailable) as refused:
            async with open_sqlite(path):
                pass
        assert refused.value.code == "storage_cannot_open"

    async def test_a_file_in_the_place_of_the_folder_cannot_be_opened(self, path: Path) -> None:
        path.parent.write_text("")
        with pytest.raises(StorageUnavailable) as refused:
            async with open_sqlite(path):
                pass
        assert refused.value.code == "storage_cannot_open"

    async def test_another_kind_of_file_is_not_a_database(self, path: Path) -> None:
        put(path, b"not a database " * 1000)
        with pytest.raises(IntegrityFault) as refused:
            async with open_sqlite(path):
                pass
        assert refused.value.code == "not_a_database"

    async def test_a_read_only_file_is_refused(self, path: Path) -> None:
        if os.geteuid() == 0:
            pytest.skip("root may write every file")
        await migrate_sqlite(path)
        os.chmod(path, 0o400)
        os.chmod(path.parent, 0o500)
        try:
            with pytest.raises(StorageUnavailable) as refused:
                async with open_sqlite(path):
                    pass
        finally:
            os.chmod(path.parent, 0o700)
        assert refused.value.code in {"storage_read_only", "storage_cannot_open"}

    async def test_a_write_to_a_read_only_connection_says_so(self, path: Path) -> None:
        await migrate_sqlite(path)
        connection = library.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
        with pytest.raises(library.OperationalError) as refused:
            connection.execute("DELETE FROM projects")
        connection.close()
        assert mapped_error(refused.value).code == "storage_read_only"

    async def test_a_damaged_file_is_reported_unsound(self, path: Path) -> None:
        async with open_sqlite(path) as database:
            for number in range(50):
                await database.write(inserting(f"mem_{number}", sealed=Sealed(b"x" * 2000)))
        data = bytearray(bytes_of(path))
        for page in range(4, len(data) // 4096):
            data[page * 4096 : page * 4096 + 64] = b"\xff" * 64
        put(path, bytes(data))
        try:
            async with open_sqlite(path) as damaged:
                status = await damaged.status(deep=True)
        except IntegrityFault as error:
            assert error.code == "database_corrupt"  # noqa: PT017 - either is right, by which page was met first
        else:
            assert not status.sound
            assert status.problem

    def test_every_result_code_of_the_engine_means_something(self) -> None:
        codes = [value for name, value in vars(library).items() if name.startswith("SQLITE_") and name.isupper()]
        for code in {value & 0xFF for value in codes if isinstance(value, int)} | set(range(1, 27)):
            error = library.OperationalError("text of the driver")
            error.sqlite_errorcode = code
            ours = mapped_error(error)
            assert ours.hint
            assert "text of the driver" not in ours.message

    @staticmethod
    async def _let_grow_by(database: SqliteDatabase, pages: int) -> None:
        now = (await execute(database, "PRAGMA page_count"))[0][0]
        await execute(database, f"PRAGMA max_page_count = {now + pages}")


class TestFile:
    async def test_only_the_owner_may_read_it(self, path: Path) -> None:
        async with open_sqlite(path) as database:
            await database.write(inserting("mem_a"))
            for file in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    async def test_closing_leaves_one_file(self, path: Path) -> None:
        async with open_sqlite(path) as database:
            await database.write(inserting("mem_a"))
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    async def test_nothing_of_a_purged_record_remains(self, path: Path, database: SqliteDatabase) -> None:
        token, text = "c0ffee5ecre7", b"the secret text of a purged record " * 400
        await database.write(inserting("mem_a", "kept", "common"))
        await database.write(inserting("mem_secret", token, "common", sealed=Sealed(text)))
        await database.write(inserting("mem_b", "kept", "common"))
        await database.shred_remains()
        assert text[:30] in bytes_of(path)
        assert token.encode() in bytes_of(path)
        await database.write(lambda tx: tx.records.delete(PROJECT, [record("mem_secret").id]))
        await database.shred_remains()
        remains = bytes_of(path)
        assert text[:30] not in remains
        assert token.encode() not in remains
        assert b"mem_secret" not in remains
        assert await found(database, "common") == {"mem_a", "mem_b"}

    async def test_the_settings_of_the_engine_are_in_force(self, database: SqliteDatabase) -> None:
        assert await execute(database, "PRAGMA journal_mode") == [("wal",)]
        assert await execute(database, "PRAGMA synchronous") == [(2,)]
        assert await execute(database, "PRAGMA secure_delete") == [(1,)]
        assert await execute(database, "PRAGMA foreign_keys") == [(1,)]

    async def test_an_engine_that_is_too_old_is_refused(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(driver, "ENGINE_VERSION", "3.40.1")
        with pytest.raises(StorageUnavailable) as refused:
            async with open_sqlite(path):
                pass
        assert refused.value.code == "engine_too_old"

    async def test_an_engine_with_the_wal_reset_bug_shares_no_file(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(driver, "ENGINE_VERSION", "3.51.2")
        async with open_sqlite(path) as alone:
            await alone.write(inserting("mem_a"))
            with pytest.raises(StorageUnavailable) as refused:
                async with open_sqlite(path):
                    pass
            assert refused.value.code == "engine_unsafe"
        async with open_sqlite(path) as again:
            assert await stored(again) == 1

    async def test_a_healthy_database_is_sound(self, database: SqliteDatabase) -> None:
        await database.write(inserting("mem_a"))
        status = await database.status(deep=True)
        assert (status.engine, status.schema_version, status.sound) == ("sqlite", 1, True)
        assert status.size_bytes > 0

    async def test_the_status_does_not_wait_for_a_writer_that_waits_for_another_process(
        self, path: Path, database: SqliteDatabase
    ) -> None:
        with closing(library.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(database.write, inserting("mem_a"))
                await anyio.lowlevel.checkpoint()
                with anyio.fail_after(20):  # the writer would wait longer
                    assert (await database.status()).sound
                other.execute("ROLLBACK")
        assert await stored(database) == 1

    @pytest.mark.parametrize(
        ("version", "hit"),
        [("3.6.23", False), ("3.7.0", True), ("3.40.1", True), ("3.51.2", True), ("3.51.3", False), ("3.53.4", False)],
    )
    def test_versions_with_the_wal_reset_bug_are_known(self, version: str, *, hit: bool) -> None:
        assert has_wal_reset_bug(version) is hit


class TestProcesses:
    async def test_several_may_make_the_same_file_at_once(self, path: Path) -> None:
        processes = [start(path, f"n{number}", 0) for number in range(4)]
        for process in processes:
            assert finish(process) == ["opened"]
        status = await sqlite_schema_status(path)
        assert status.current == status.latest

    async def test_eight_writers_lose_nothing(self, path: Path) -> None:
        each = 200
        processes = [start(path, f"n{number}", each) for number in range(8)]
        acknowledged = {name for process in processes for name in finish(process)[1:]}
        assert len(acknowledged) == 8 * each
        async with open_sqlite(path) as database:
            assert await found(database, "shared") == acknowledged
            entries = await database.read(lambda tx: tx.audit.entries(PROJECT, after_seq=0, limit=10_000))
            assert [entry.seq for entry in entries] == list(range(1, 8 * each + 1))
            assert (await database.status(deep=True)).sound

    async def test_a_killed_writer_loses_nothing_that_it_acknowledged(self, path: Path) -> None:
        process = start(path, "n", 100_000)
        acknowledged = [process.stdout.readline().strip() for _ in range(120)][1:]
        process.send_signal(signal.SIGKILL)
        with process:  # not communicate, which passes over what the lines above were read ahead with
            acknowledged += process.stdout.read().split()
        async with open_sqlite(path) as database:
            kept = await found(database, "shared")
            assert set(acknowledged) <= kept
            assert len(kept) - len(acknowledged) <= 1
            head = await database.read(lambda tx: tx.audit.head(PROJECT))
            assert head is not None
            assert head.seq == len(kept) == await stored(database)
            assert (await database.status(deep=True)).sound


async def test_a_statement_for_many_rows_sees_what_was_held_back_before_it() -> None:
    statements = {
        "index_insert": "INSERT INTO texts VALUES (?)",
        "audit_append": "INSERT INTO entries VALUES (?)",
        "event_append": "INSERT INTO events VALUES (?)",
        "events_delete": "DELETE FROM events WHERE id = ?",
    }
    with closing(library.connect(":memory:", isolation_level=None)) as connection:
        for table in ("texts", "entries", "events"):
            connection.execute(f"CREATE TABLE {table} (id)")
        executor = WritingExecutor(connection, statements)
        await executor.run_many("event_append", [(1,), (2,), (3,)])
        await executor.run_many("events_delete", [(1,), (3,)])
        executor.write_held()
        assert connection.execute("SELECT id FROM events").fetchall() == [(2,)]
