"""Numbered schema changes: which there are, which a database has, and which comes next. Engines run them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

from contextdna.errors import IntegrityFault, StorageUnavailable


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered change of the schema and the way back."""

    version: int
    name: str
    up: str
    down: str

    @property
    def checksum(self) -> str:
        """SHA-256 over both scripts, in hex: a released migration never changes again."""
        return sha256(f"{self.up}\0{self.down}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """What a database says of a migration that it has."""

    version: int
    name: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Step:
    """One migration to run, forward or back."""

    migration: Migration
    back: bool

    @property
    def script(self) -> str:
        """The statements to run."""
        return self.migration.down if self.back else self.migration.up


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """Where a database stands against the migrations of this program."""

    current: int
    latest: int
    applied: tuple[AppliedMigration, ...]
    pending: tuple[Migration, ...]
    moving: bool = False
    """Whether an installation is being moved into it and is not all there."""


@cache
def load_migrations(dialect: str) -> tuple[Migration, ...]:
    """Read the migrations of a dialect, in order.

    Raises:
        ValueError: The numbers have a gap, or a way back is missing.
    """
    folder = files("contextdna.backends") / "sql" / dialect / "migrations"
    texts = {entry.name: entry.read_text("utf-8") for entry in folder.iterdir() if entry.name.endswith(".sql")}
    stems = sorted(name.removesuffix(".up.sql") for name in texts if name.endswith(".up.sql"))
    if {f"{stem}.{way}.sql" for stem in stems for way in ("up", "down")} != set(texts):
        raise ValueError(f"each {dialect} migration needs one .up.sql and one .down.sql")
    migrations = tuple(
        Migration(int(stem[:4]), stem[5:], texts[f"{stem}.up.sql"], texts[f"{stem}.down.sql"]) for stem in stems
    )
    if [migration.version for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise ValueError(f"the {dialect} migrations are not numbered 1, 2, 3 …")
    return migrations


def schema_status(applied: Sequence[AppliedMigration], known: Sequence[Migration]) -> SchemaStatus:
    """Compare what a database has with what this program knows.

    Raises:
        StorageUnavailable: ``schema_newer``: a newer program made this database.
        IntegrityFault: ``migration_changed``: an applied migration is not the one known here.
    """
    current = applied[-1].version if applied else 0
    if current > len(known):
        raise StorageUnavailable(
            f"the database has schema version {current}; this program knows versions up to {len(known)}",
            code="schema_newer",
            hint="Upgrade contextdna, or open the database with the version that wrote it.",
        )
    for expected, has in enumerate(applied, 1):
        if has.version != expected or has.checksum != known[expected - 1].checksum:
            raise IntegrityFault(
                f"schema migration {has.version} ({has.name}) of the database is not the one this program knows",
                code="migration_changed",
                hint="Install an official release of contextdna, or restore the database from a backup.",
            )
    return SchemaStatus(current, len(known), tuple(applied), tuple(known[current:]))


def next_step(status: SchemaStatus, known: Sequence[Migration], target: int) -> Step | None:
    """Choose the next migration on the way to a version; None when it is reached.

    Raises:
        ValueError: There is no such version.
    """
    if not 0 <= target <= len(known):
        raise ValueError(f"schema version {target} is not between 0 and {len(known)}")
    if status.current < target:
        return Step(known[status.current], back=False)
    if status.current > target:
        return Step(known[status.current - 1], back=True)
    return None
