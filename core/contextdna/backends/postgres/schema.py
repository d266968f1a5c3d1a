"""Runs the migrations on PostgreSQL, each recorded in its own transaction; safe when processes start together."""

import time
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from contextdna.backends.migrations import (
    AppliedMigration,
    Migration,
    SchemaStatus,
    Step,
    load_migrations,
    next_step,
    schema_status,
)
from contextdna.backends.postgres.driver import DRIVER_ERRORS, SLACK_S, Server, connect, mapped_error
from contextdna.backends.postgres.scopes import DIALECT, MIGRATION
from contextdna.errors import ContextDnaError

R = TypeVar("R")

_STEP_S: Final = 600.0
"""How long a statement of a migration may take, as it may read every row, and the wait for another process's."""

_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  version integer PRIMARY KEY,
  name text NOT NULL,
  checksum text NOT NULL,
  applied_at timestamptz NOT NULL
)
"""


async def postgres_schema_status(server: Server) -> SchemaStatus:
    """Tell which migrations a database has and which are pending.

    Raises:
        StorageUnavailable: ``schema_newer``, or the server is away.
        IntegrityFault: ``migration_changed``.
    """
    connection = await connect(server)
    try:
        return await _mapped(read_status(connection, load_migrations(DIALECT)))
    finally:
        await connection.close()


async def migrate_postgres(server: Server, *, target: int | None = None) -> tuple[Step, ...]:
    """Migrate a database up or down to a version (the latest, when None) and give the steps that were taken.

    Raises:
        StorageUnavailable: ``schema_newer``, or the server is away. The last complete step stands.
        IntegrityFault: ``migration_changed``.
        ValueError: There is no such version.
    """
    connection = await connect(server)
    try:
        return await _mapped(migrate(connection, load_migrations(DIALECT), target))
    finally:
        await connection.close()


async def migrate(connection: Any, known: Sequence[Migration], target: int | None) -> tuple[Step, ...]:
    """Bring a connection's database to a version, one transaction a step, looked at anew inside each.

    Raises:
        StorageUnavailable: ``schema_newer``.
        IntegrityFault: ``migration_changed``.
    """
    goal = len(known) if target is None else target
    taken: list[Step] = []
    while next_step(await read_status(connection, known), known, goal):
        async with connection.transaction():
            await connection.execute(f"SET LOCAL statement_timeout = {int(_STEP_S * 1000)}")
            await connection.execute(f"SELECT pg_advisory_xact_lock({MIGRATION})", timeout=_STEP_S + SLACK_S)
            # Another process may have taken the step meanwhile.
            step = next_step(await read_status(connection, known), known, goal)
            if step:
                await _take(connection, step)
                taken.append(step)
    return tuple(taken)


async def read_status(connection: Any, known: Sequence[Migration]) -> SchemaStatus:
    """Compare the database's own record of migrations with the known ones."""
    rows = []
    if await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL"):
        rows = await connection.fetch("SELECT version, name, checksum FROM schema_migrations ORDER BY version")
    status = schema_status([AppliedMigration(*row) for row in rows], known)
    return replace(status, moving=bool(rows and await connection.fetch("SELECT FROM moves")))


async def _take(connection: Any, step: Step) -> None:
    migration = step.migration
    await connection.execute(_LEDGER)
    await connection.execute(step.script, timeout=_STEP_S + SLACK_S)
    if step.back:
        await connection.execute("DELETE FROM schema_migrations WHERE version = $1", migration.version)
    else:
        await connection.execute(
            "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)",
            migration.version,
            migration.name,
            migration.checksum,
            time.time_ns() // 1000,
        )


async def _mapped(answer: Awaitable[R]) -> R:
    failure: ContextDnaError
    try:
        return await answer
    except DRIVER_ERRORS as error:
        failure = mapped_error(error)
    raise failure
