"""Runs the migrations on a SQLite file, each recorded in its own transaction; safe when processes start together."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from contextdna.backends.migrations import (
    AppliedMigration,
    Migration,
    SchemaStatus,
    Step,
    load_migrations,
    next_step,
    schema_status,
)
from contextdna.backends.sqlite.driver import (
    connect_writer,
    library,
    on_thread,
    retry_while_busy,
    with_mapped_errors,
)

DIALECT: Final = "sqlite"

_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  version INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  checksum TEXT NOT NULL,
  applied_at INTEGER NOT NULL
) STRICT
"""


async def sqlite_schema_status(path: Path, *, busy_timeout_s: float = 30.0) -> SchemaStatus:
    """Tell which migrations a database has and which are pending.

    Raises:
        StorageUnavailable: ``schema_newer``, or the file cannot be opened.
        IntegrityFault: ``migration_changed``, or the file is damaged.
    """
    async with on_thread(lambda: connect_writer(path, busy_timeout_s=busy_timeout_s)) as thread:
        return await thread.run(with_mapped_errors, read_status, thread.raw, load_migrations(DIALECT))


async def migrate_sqlite(path: Path, *, target: int | None = None, busy_timeout_s: float = 30.0) -> tuple[Step, ...]:
    """Migrate a database up or down to a version (the latest, when None) and give the steps that were taken.

    Raises:
        StorageUnavailable: ``schema_newer``, or busy, full or read-only. The last complete step stands.
        IntegrityFault: ``migration_changed``, or the file is damaged.
        ValueError: There is no such version.
    """
    async with on_thread(lambda: connect_writer(path, busy_timeout_s=busy_timeout_s)) as thread:
        return await thread.run(migrate, thread.raw, load_migrations(DIALECT), target, busy_timeout_s)


def migrate(connection: Any, known: Sequence[Migration], target: int | None, busy_timeout_s: float) -> tuple[Step, ...]:
    """Bring a connection's database to a version, one transaction a step, looked at anew inside each.

    Raises:
        StorageUnavailable: ``schema_newer``, or busy, full or read-only.
        IntegrityFault: ``migration_changed``, or the file is damaged.
    """
    goal = len(known) if target is None else target
    taken: list[Step] = []
    while next_step(with_mapped_errors(read_status, connection, known), known, goal):
        deadline = time.monotonic() + busy_timeout_s
        retry_while_busy(lambda: connection.execute("BEGIN IMMEDIATE"), deadline)
        try:
            # Another process may have taken the step meanwhile.
            step = next_step(read_status(connection, known), known, goal)
            if step:
                _take(connection, step)
            connection.execute("COMMIT")
        except BaseException as error:
            with suppress(library.Error):
                connection.execute("ROLLBACK")
            if isinstance(error, library.Error):
                with_mapped_errors(_raise, error)
            raise
        if step:
            taken.append(step)
    return tuple(taken)


def read_status(connection: Any, known: Sequence[Migration]) -> SchemaStatus:
    """Compare the database's own record of migrations with the known ones."""
    ledger = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migrations'")
    rows = []
    if ledger.fetchall():
        rows = connection.execute("SELECT version, name, checksum FROM schema_migrations ORDER BY version").fetchall()
    status = schema_status([AppliedMigration(*row) for row in rows], known)
    return replace(status, moving=bool(rows and connection.execute("SELECT 1 FROM moves").fetchall()))


def _take(connection: Any, step: Step) -> None:
    migration = step.migration
    connection.execute(_LEDGER)
    for statement in statements_of(step.script):
        connection.execute(statement)
    if step.back:
        connection.execute("DELETE FROM schema_migrations WHERE version = ?", (migration.version,))
    else:
        connection.execute(
            "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (?, ?, ?, ?)",
            (migration.version, migration.name, migration.checksum, time.time_ns() // 1000),
        )


def statements_of(script: str) -> Iterator[str]:
    """Split a script into statements (the driver's executescript would commit first)."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if library.complete_statement(statement):
            yield statement
            statement = ""
    if any(line.strip() and not line.lstrip().startswith("--") for line in statement.splitlines()):
        raise ValueError("a migration script ends inside a statement")


def _raise(error: BaseException) -> None:
    raise error
