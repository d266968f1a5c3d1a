"""Looking at a data folder without touching it: for doctor, and for commands that must not make an installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from contextdna.backends.migrations import SchemaStatus, load_migrations
from contextdna.backends.relational.statements import load_statements
from contextdna.backends.relational.transaction import tables_over
from contextdna.backends.sqlite.driver import library, mapped_error
from contextdna.backends.sqlite.schema import DIALECT, read_status
from contextdna.backends.sqlite.units import ReadingExecutor, drive
from contextdna.errors import StorageUnavailable
from contextdna.hub.opening import DATABASE_FILE
from contextdna.ports.database import Unit
from contextdna.values.ids import ProjectId
from contextdna.values.key import WrappedKey

R = TypeVar("R")

BUSY_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class View:
    """A database opened for looking only."""

    connection: Any

    def ask(self, unit: Unit[R]) -> R:
        """Run a reading unit on one snapshot.

        Raises:
            ContextDnaError: What the engine's error means.
        """
        try:
            self.connection.execute("BEGIN")
            try:
                answer: R = drive(unit, tables_over(ReadingExecutor(self.connection, load_statements(DIALECT))))
                return answer
            finally:
                self.connection.execute("COMMIT")
        except library.Error as error:
            raise mapped_error(error) from error

    def value(self, query: str) -> Any:
        """Fetch the first column of the first row.

        Raises:
            ContextDnaError: What the engine's error means.
        """
        try:
            row = self.connection.execute(query).fetchone()
        except library.Error as error:
            raise mapped_error(error) from error
        return row[0] if row else None

    def schema(self) -> SchemaStatus:
        """Compare the schema with the migrations of this version.

        Raises:
            StorageUnavailable: ``schema_newer``.
            IntegrityFault: ``migration_changed``, or the file is damaged.
        """
        try:
            return read_status(self.connection, load_migrations(DIALECT))
        except library.Error as error:
            raise mapped_error(error) from error

    def project_ids(self) -> tuple[ProjectId, ...]:
        """List the projects."""

        async def unit(tx: Any) -> tuple[ProjectId, ...]:
            return tuple(sorted(project.id for project in await tx.projects.all()))

        return self.ask(unit)

    def keys(self) -> list[WrappedKey]:
        """List the wrapped project keys."""

        async def unit(tx: Any) -> list[WrappedKey]:
            rows: list[WrappedKey] = await tx.keys.all()
            return rows

        return self.ask(unit)


@contextmanager
def look_at(data_dir: Path) -> Iterator[View]:
    """Open the database of a data folder for reading, leaving every file as it is.

    Raises:
        StorageUnavailable: ``no_installation``, or the file cannot be read.
        IntegrityFault: ``not_a_database``.
    """
    path = require_installation(data_dir)
    try:
        connection = library.connect(_uri(path), uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)
    except library.Error as error:
        raise mapped_error(error) from error
    try:
        connection.execute("PRAGMA query_only = 1")
        yield View(connection)
    except library.Error as error:
        raise mapped_error(error) from error
    finally:
        connection.close()


def require_installation(data_dir: Path) -> Path:
    """Give the database file of a data folder.

    Raises:
        StorageUnavailable: ``no_installation``.
    """
    path = data_dir / DATABASE_FILE
    if not path.exists():
        raise no_installation(data_dir)
    return path


def no_installation(data_dir: Path) -> StorageUnavailable:
    """Make the error for a folder that holds no database, or an empty one."""
    return StorageUnavailable(
        f"there is no installation in {data_dir}",
        code="no_installation",
        hint="Name its folder with --data DIR; `contextdna serve` makes a new one.",
    )


def _uri(path: Path) -> str:
    """Without a write-ahead log nobody has the file open and it is complete: read so, nothing appears beside it."""
    complete = not path.with_name(path.name + "-wal").exists()
    return f"{path.absolute().as_uri()}?mode=ro" + ("&immutable=1" if complete else "")
