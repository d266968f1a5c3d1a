"""How many bytes of a SQLite file each table takes, without the `dbstat` extension, which few builds have.

A table is dropped inside a transaction, the pages that this frees are counted, and the transaction is rolled back.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from contextdna.backends.sqlite.driver import library

_TABLES = """
SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual') AND name NOT LIKE 'sqlite%'
"""


def table_bytes(path: Path) -> dict[str, int]:
    """Give the bytes of each table with its indexes; of a virtual one, those of all that it keeps."""
    with _opened(path) as connection:
        names = [name for (name,) in connection.execute(_TABLES).fetchall()]
        return {name: _freed_by_dropping(connection, name) for name in names}


def file_bytes(path: Path) -> int:
    """Give the size of the file with all that was committed."""
    with _opened(path) as connection:
        return _pragma(connection, "page_count") * _pragma(connection, "page_size")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with closing(library.connect(str(path), isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")  # with them a table is emptied row by row before it is dropped
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield connection


def _freed_by_dropping(connection: Any, table: str) -> int:
    before = _pragma(connection, "freelist_count")
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(f'DROP TABLE "{table}"')
        return (_pragma(connection, "freelist_count") - before) * _pragma(connection, "page_size")
    finally:
        connection.execute("ROLLBACK")


def _pragma(connection: Any, name: str) -> int:
    [(value,)] = connection.execute(f"PRAGMA {name}").fetchall()
    return int(value)
