"""What need not go to the server at once: rows on which nothing in a unit depends, and answers that are known already.

Each exchange with the server costs more than the statement. So inserts wait until the commit, or until a statement
looks at their tables, and go together; and what unit after unit asks is asked once, as long as the lock is held.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, Final

from contextdna.backends.postgres.scopes import Catalogue, load_catalogue
from contextdna.backends.relational.statements import Params, Row

HELD: Final = (
    "record_insert",
    "index_insert",
    "index_replace",
    "totals_add",
    "session_replace",
    "state_put",
    "agent_touch",
    "answer_keep",
    "audit_append",
    "audit_head_set",
    "event_append",
)
"""Statements that may wait, in the order in which they are written: how many rows they change, nobody asks.

Events come last: the first one keeps all others from writing events until the commit.
"""

REMEMBERED: Final = frozenset(
    {"agent_is_retired", "answer_get", "audit_head", "keys_generation", "records_duplicates_of_one", "session_get"}
)
"""Queries of one project whose rows stand, under its lock, until something is written to their table."""

_BESIDE_THE_INDEX: Final = (
    "records_duplicates_of_one",
    "records_take",
    "records_refs",
    "record_read",
    "record_replace",
    "record_replace_indexed",
    "totals_recount",
)
"""Statements that neither look at the index, nor change under which number a record stands in it."""

Places = tuple[int, ...]
_APART: Final[Mapping[tuple[str, str], tuple[Places, Places] | None]] = {
    ("agent_is_retired", "agent_touch"): None,
    ("answer_get", "answer_keep"): ((0, 1, 2), (0, 1, 2)),
    ("audit_head", "audit_head_set"): ((0,), (0,)),
    ("records_duplicates_of_one", "record_insert"): ((0, 7), (1, 21)),
    ("session_get", "session_replace"): ((0,), (0,)),
    ("states_of", "state_put"): ((0, 1), (0, 1)),
    **dict.fromkeys(product(_BESIDE_THE_INDEX, ("index_replace",)), None),
}
"""Where a query and a held statement of one table name their rows: they meet where all of these are the same.

None: the query asks for nothing that the statement changes.
"""

_TELLING: Final[Mapping[str, tuple[Places, Places]]] = {
    "agent_is_retired": ((0, 1), (0, 1)),
    "records_duplicates_of_one": ((0, 1, 2, 3, 4, 7, 8), (1, 2, 4, 3, 5, 21, 6)),
    "session_get": ((0,), (0,)),
}
"""Remembered queries whose rows tell by what they were asked for: where in the parameters, and where in the row."""

_RETOLD: Final = {"audit_head_set": "audit_head", "session_replace": "session_get"}
"""Held statements whose parameters are a whole row, as the query would give it."""


def _meet(asked: str, params: Params, held: str, rows: Iterable[Params]) -> bool:
    """Tell whether a statement depends on rows of a table that both are about."""
    if (asked, held) not in _APART:
        return True
    places = _APART[asked, held]
    if places is None:
        return False
    (*scopes, last), (*scopes_held, last_held) = places
    wanted = params[last]  # says most: the others are the same more often than not
    return any(
        row[last_held] == wanted and all(params[a] == row[b] for a, b in zip(scopes, scopes_held, strict=True))
        for row in rows
    )


@cache
def _queries_about(name: str) -> tuple[str, ...]:
    """Give the remembered queries of the tables that a statement is about."""
    touched = load_catalogue().touched
    return tuple(query for query in sorted(REMEMBERED) if touched[query] & touched[name])


def _values(of: Sequence[Any], places: Places) -> tuple[Any, ...]:
    return tuple([of[place] for place in places])


class Held:
    """Rows that wait, in one transaction; a unit that fails takes back its own."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._touched = catalogue.touched
        self._rows: dict[str, list[Params]] = {}
        self._written: dict[str, int] = {}
        self._begin: dict[str, int] = {}
        self._saved: dict[str, int] | None = None

    def begin_unit(self) -> None:
        """Note where a unit begins."""
        self._begin = {name: len(rows) for name, rows in self._rows.items()}
        self._saved = None

    def note_savepoint(self) -> None:
        """Note that from here on the server can take back what it is told."""
        self._saved = dict(self._written)

    def take_back(self) -> dict[str, list[Params]]:
        """Forget what the unit held, and give it; what it wrote of others behind the savepoint is written again."""
        own: dict[str, list[Params]] = {}
        for name, rows in self._rows.items():
            begin = self._begin.get(name, 0)
            if len(rows) > begin:
                own[name] = rows[begin:]
                del rows[begin:]
            if self._saved is not None:
                self._written[name] = self._saved.get(name, 0)
        return own

    def add(self, name: str, rows: Sequence[Params]) -> None:
        """Hold rows of a statement."""
        self._rows.setdefault(name, []).extend(rows)

    def before(self, name: str, params: Params) -> list[str]:
        """Give what has to be written before a statement is run."""
        touched = self._touched[name]
        return [held for held in self._waiting() if touched & self._touched[held] and self._is_met(held, name, params)]

    def before_holding(self, name: str) -> list[str]:
        """Give what has to be written before rows of a held statement wait, too: others that are about its tables."""
        touched = self._touched[name]
        return [held for held in self._waiting() if held != name and touched & self._touched[held]]

    def all(self) -> list[str]:
        """Give what is to be written before the commit."""
        return list(self._waiting())

    def take(self, name: str, *, own: bool) -> list[Params]:
        """Give what is to be written now of a statement, and count it as written.

        Args:
            name: The statement.
            own: Whether the rows of the unit at work, too, or only those of the units before it.
        """
        rows, written = self._rows[name], self._written.get(name, 0)
        upto = len(rows) if own else self._begin.get(name, 0)
        self._written[name] = max(written, upto)
        return _joined(name, rows[written:upto])

    def has_own(self, name: str) -> bool:
        """Tell whether the unit at work holds rows of a statement that are not written."""
        return len(self._rows[name]) > max(self._begin.get(name, 0), self._written.get(name, 0))

    def _waiting(self) -> Iterable[str]:
        return (name for name in HELD if len(self._rows.get(name, ())) > self._written.get(name, 0))

    def _is_met(self, held: str, name: str, params: Params) -> bool:
        return _meet(name, params, held, self._rows[held][self._written.get(held, 0) :])


def _joined(name: str, rows: Sequence[Params]) -> list[Params]:
    """Put together what comes to one row: only the last head of a chain counts, and totals are sums."""
    if name == "audit_head_set":
        return list({row[0]: row for row in rows}.values())
    if name == "totals_add":
        totals: dict[Any, tuple[int, int]] = {}
        for project_id, records, words in rows:
            before = totals.get(project_id, (0, 0))
            totals[project_id] = (before[0] + records, before[1] + words)
        return [(project_id, *total) for project_id, total in totals.items()]
    return list(rows)


class Remembered:
    """Rows that queries gave under the lock."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[tuple[Any, ...], list[Row]]] = {}

    def get(self, name: str, params: Params) -> list[Row] | None:
        """Give what a query would give; None where that is not known."""
        return self._rows[name].get(tuple(params)) if name in self._rows else None

    def keep(self, name: str, params: Params, rows: list[Row]) -> None:
        """Remember what a query gave, where it is one of those that are asked again."""
        if name in REMEMBERED:
            self._rows.setdefault(name, {})[tuple(params)] = rows

    def unknown(self, name: str, asked: Iterable[Params]) -> list[Params]:
        """Give what several ask a query, as far as one exchange can tell all the answers apart."""
        if name not in REMEMBERED:
            return []
        places = _TELLING[name][0] if name in _TELLING else None
        wanted: dict[Any, Params] = {}
        for params in asked:
            if self.get(name, params) is None:
                wanted.setdefault(tuple(params) if places is None else _values(params, places), params)
        return list(wanted.values()) if len(wanted) < 2 or places is not None else []

    def keep_many(self, name: str, asked: Sequence[Params], rows: Sequence[Row]) -> None:
        """Remember what a query gave to several parameters."""
        if len(asked) == 1:
            self.keep(name, asked[0], list(rows))
            return
        places, telling = _TELLING[name]
        found: dict[Any, list[Row]] = {}
        for row in rows:
            found.setdefault(_values(row, telling), []).append(row)
        for params in asked:
            self.keep(name, params, found.get(_values(params, places), []))

    def forget(self, name: str, rows: Sequence[Params]) -> None:
        """Forget what rows change that are taken back."""
        for query in _queries_about(name):
            known = self._rows.get(query, {})
            for params in [params for params in known if _meet(query, params, name, rows)]:
                del known[params]

    def hold(self, name: str, rows: Sequence[Params]) -> None:
        """Forget what held rows change, or know it as it will be."""
        for query in _queries_about(name):
            known = self._rows.get(query)
            if not known:
                continue
            for row in rows:
                if _RETOLD.get(name) == query and (row[0],) in known:
                    known[row[0],] = [tuple(row)]
                    continue
                for params in [params for params in known if _meet(query, params, name, [row])]:
                    del known[params]

    def change(self, name: str) -> None:
        """Forget what a statement may change."""
        for query in _queries_about(name):
            self._rows.pop(query, None)
