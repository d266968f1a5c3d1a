"""What purged rows leave behind in the index and in the write-ahead log. All of it runs on the writer's thread."""

from typing import Any, Final

from contextdna.backends.sqlite.driver import retry_while_busy

# Row ids of FTS5's data table from here on are tombstones: deleted entries that a merge has not yet dropped.
# Source: ext/fts5/fts5_index.c of SQLite, FTS5_TOMBSTONE_ROWID and FTS5_SEGMENT_ROWID.
_TOMBSTONES: Final = 1 << 53


def has_purged_entries(connection: Any) -> bool:
    """Tell whether the index still holds entries of deleted records."""
    found = connection.execute("SELECT 1 FROM records_index_data WHERE id >= ? LIMIT 1", (_TOMBSTONES,))
    return bool(found.fetchall())


def merge_index(connection: Any, pages: int, deadline: float) -> bool:
    """Merge so many pages of the index (negative: begin to merge all of it); False when nothing was left to do.

    Source: https://sqlite.org/fts5.html#the_merge_command: a step that did anything changes two rows or more.
    """
    before = connection.total_changes
    retry_while_busy(
        lambda: connection.execute("INSERT INTO records_index (records_index, rank) VALUES ('merge', ?)", (pages,)),
        deadline,
    )
    return bool(connection.total_changes - before >= 2)


def empty_log(connection: Any) -> bool:
    """Move the write-ahead log into the database and empty it; False while somebody still reads from it."""
    return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
