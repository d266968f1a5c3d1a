"""SQLite: one file, several processes, durable groups of writes."""

from contextdna.backends.sqlite.database import SqliteDatabase, open_sqlite
from contextdna.backends.sqlite.driver import ENGINE_VERSION, has_wal_reset_bug
from contextdna.backends.sqlite.schema import migrate_sqlite, sqlite_schema_status

__all__ = [
    "ENGINE_VERSION",
    "SqliteDatabase",
    "has_wal_reset_bug",
    "migrate_sqlite",
    "open_sqlite",
    "sqlite_schema_status",
]
