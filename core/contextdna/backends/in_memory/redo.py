"""What units change, as bytes that do it again: which rows of which sheets were put and removed, in order."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import cache
from itertools import islice
from operator import attrgetter
from typing import Any, Final, Generic, NoReturn, TypeVar, cast, get_args, get_type_hints

from contextdna.backends.in_memory.row_codec import Codec, Convert, codec_of
from contextdna.backends.in_memory.sheets import Sheet, Sheets
from contextdna.errors import IntegrityFault

K = TypeVar("K")
V = TypeVar("V")

REMOVED: Final = object()
"""Stands for the row of a change that removed one."""

Change = tuple[str, Any, Any]
"""A sheet's name, a key, and the row that was put there or ``REMOVED``."""

_ROWS_AT_ONCE: Final = 500
_NAMES: Final = tuple(field.name for field in fields(Sheets))
_JSON: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_sheets: Final = attrgetter(*_NAMES)


class RecordedRows(dict[K, V]):
    """Rows that note what is changed in them. Rows keep their order, so all that happens is noted in its order."""

    __slots__ = ("changes", "name")

    def __init__(self, rows: dict[K, V], name: str, changes: list[Change]) -> None:
        super().__init__(rows)
        self.name = name
        self.changes = changes

    def __setitem__(self, key: K, row: V) -> None:
        super().__setitem__(key, row)
        self.changes.append((self.name, key, row))

    def __delitem__(self, key: K) -> None:
        super().__delitem__(key)
        self.changes.append((self.name, key, REMOVED))

    def setdefault(self, key: K, row: V) -> V:
        """Put a row where there is none, and give the one that is there then."""
        if key not in self:
            self[key] = row
        return self[key]

    def pop(self, key: K) -> V:  # type: ignore[override]  # no default: a row is always there
        """Remove a row and give it."""
        row = self[key]
        del self[key]
        return row

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError("rows are put and removed one by one, so that each change is noted")

    update = clear = popitem = __ior__ = _refuse


class RecordedSheet(Sheet[K, V], Generic[K, V]):
    """A writable sheet that notes what is changed in it."""

    __slots__ = ("_changes", "_name")

    def __init__(self, rows: dict[K, V], name: str, changes: list[Change]) -> None:
        super().__init__(rows, writable=True)
        self._name = name
        self._changes = changes

    def change(self) -> dict[K, V]:
        """Give rows that may be changed."""
        if not self._own:
            self.rows = RecordedRows(self.rows, self._name, self._changes)
            self._own = True
        return self.rows


def recorded(sheets: Sheets, changes: list[Change]) -> Sheets:
    """Give the tables as a new unit sees them; what it changes is noted."""
    each = zip(_sheets(sheets), _NAMES, strict=True)
    return Sheets(*[RecordedSheet(sheet.rows, name, changes) for sheet, name in each])


def settled(sheets: Sheets) -> Sheets:
    """Give the tables as a unit left them, for others to see."""
    return Sheets(*[Sheet(sheet.rows) for sheet in _sheets(sheets)])


def encode(changes: Iterable[Change]) -> bytes:
    """Write changes."""
    encoders = _encoders()
    rows: list[list[Any]] = []
    for name, key, row in changes:
        of_key, of_row = encoders[name]
        written = [name, of_key(key)]
        if row is not REMOVED:
            written.append(of_row(row))
        rows.append(written)
    return _JSON.encode(rows).encode("ascii")


def apply(data: bytes, sheets: Sheets) -> None:
    """Do changes again, in place: the tables are nobody else's yet.

    Raises:
        IntegrityFault: ``log_damaged``: no version of ours wrote that.
    """
    try:
        for name, key, *row in json.loads(data):
            keys, values = _codecs()[name]
            rows = cast("Sheet[Any, Any]", getattr(sheets, name)).rows
            if row:
                rows[keys.decode(key)] = values.decode(row[0])
            else:
                del rows[keys.decode(key)]
    except (ValueError, TypeError, KeyError) as error:
        raise IntegrityFault(
            f"an entry of the write-ahead log changes no rows of ours ({type(error).__name__})",
            code="log_damaged",
            hint="Use the version of contextdna that wrote it, or restore the data folder from a backup.",
        ) from error


def snapshot(sheets: Sheets) -> Iterator[bytes]:
    """Write all rows, as changes of empty tables, some at a time."""
    every = ((name, key, row) for name in _NAMES for key, row in getattr(sheets, name).rows.items())
    while some := list(islice(every, _ROWS_AT_ONCE)):
        yield encode(some)


@cache
def _encoders() -> dict[str, tuple[Convert, Convert]]:
    return {name: (keys.encode or _as_it_is, rows.encode or _as_it_is) for name, (keys, rows) in _codecs().items()}


def _as_it_is(value: Any) -> Any:
    return value


@cache
def _codecs() -> dict[str, tuple[Codec, Codec]]:
    hints = get_type_hints(Sheets)
    return {name: cast("tuple[Codec, Codec]", tuple(map(codec_of, get_args(hints[name])))) for name in _NAMES}
