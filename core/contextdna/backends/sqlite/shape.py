"""Which tables an installation has, read off the schema itself: what is moved is all of it, with no list to keep."""

from contextlib import closing
from functools import cache
from typing import Any, Final

from contextdna.backends.migrations import load_migrations
from contextdna.backends.sqlite.driver import library
from contextdna.backends.sqlite.schema import DIALECT, statements_of
from contextdna.values.move import MovedTable

_OF_MOVES: Final = ("moves", "move_tallies")
_PROJECT: Final = "project_id"
_RECORDS: Final = "records"


@cache
def moved_tables() -> tuple[MovedTable, ...]:
    """List the tables, in an order in which each comes after those that it hangs on.

    They are those of the embedded database: what only another engine has, it must be able to make again.
    """
    with closing(library.connect(":memory:", isolation_level=None)) as connection:
        for migration in load_migrations(DIALECT):
            for statement in statements_of(migration.up):
                connection.execute(statement)
        kinds = dict(connection.execute("SELECT name, type FROM pragma_table_list WHERE schema = 'main'"))
        made = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY rowid").fetchall()
        return tuple(
            _table(connection, name, kinds[name], sql)
            for name, sql in made
            if kinds[name] in {"table", "virtual"} and not name.startswith("sqlite_") and name not in _OF_MOVES
        )


def is_index(table: MovedTable) -> bool:
    """Tell whether a table is the index of words, which keeps no rows as they were written."""
    return table.columns == (_PROJECT, "seq", "content")


def own_order(table: MovedTable) -> tuple[str, ...]:
    """Give what rows are ordered by in the embedded database: those with a number of their own lie in its order."""
    if table.counted or table.of_records or not table.is_of_projects:
        return table.key
    return (_PROJECT, *table.key)


def _table(connection: Any, name: str, kind: str, sql: str) -> MovedTable:
    columns = connection.execute("SELECT name, type, pk FROM pragma_table_info(?)", (name,)).fetchall()
    if kind == "virtual":  # its rowid is the seq of a record
        return MovedTable(name, (_PROJECT, "seq", *(column[0] for column in columns)), ("seq",), of_records=True)
    key = [column[0] for column in sorted(columns, key=lambda column: column[2]) if column[2]]
    names = [column[0] for column in columns]
    of_records = _PROJECT not in names and key == ["seq"]
    leading = [_PROJECT] if of_records or _PROJECT in names else []
    others = [column for column in names if column != _PROJECT]
    counted = key[0] if "AUTOINCREMENT" in sql or name == _RECORDS else ""
    return MovedTable(
        name,
        (*leading, *others),
        tuple(column for column in key if column != _PROJECT),
        counted=counted,
        of_records=of_records,
    )
