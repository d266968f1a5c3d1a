"""Rows as bytes and back."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextdna.backends.in_memory import redo
from contextdna.backends.in_memory.sheets import Sheets
from contextdna.errors import IntegrityFault
from tests.servers.postgres import EVERYWHERE

KINDS = {name: get_args(kind) for name, kind in get_type_hints(Sheets).items()}
st.register_type_strategy(str, st.text(max_size=8))
st.register_type_strategy(bytes, st.binary(max_size=8))
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])
st.register_type_strategy(datetime, st.datetimes(timezones=ZONES).map(lambda at: at.replace(fold=0)))
st.register_type_strategy(float, st.floats(allow_nan=False))


@pytest.mark.parametrize("name", [field.name for field in fields(Sheets)])
@settings(max_examples=100 if EVERYWHERE else 3)
@given(data=st.data())
def test_every_row_that_a_sheet_may_hold_comes_back_as_it_was(name: str, data: st.DataObject) -> None:
    key, row = (data.draw(st.from_type(kind)) for kind in KINDS[name])
    sheets = Sheets()
    redo.apply(redo.encode([(name, key, row)]), sheets)
    [found] = getattr(sheets, name).rows.items()
    assert found == (key, row)
    assert sorted(repr(found[1])) == sorted(repr(row)), "of the same types, too; sets have no order"
    redo.apply(redo.encode([(name, key, redo.REMOVED)]), sheets)
    assert getattr(sheets, name).rows == {}


def test_changes_are_noted_in_their_order() -> None:
    before = Sheets()
    before.index_revisions.rows.update({"a": 1, "b": 2, "c": 3})  # type: ignore[dict-item]
    changes: list[redo.Change] = []
    rows: dict[Any, Any] = redo.recorded(before, changes).index_revisions.change()
    rows["b"] = 4
    rows.pop("a")
    del rows["c"]
    assert rows.setdefault("a", 5) == 5
    assert rows.setdefault("b", 6) == 4
    after = Sheets()
    after.index_revisions.rows.update(before.index_revisions.rows)
    redo.apply(redo.encode(changes), after)
    assert list(after.index_revisions.rows.items()) == list(rows.items()) == [("b", 4), ("a", 5)]
    for way in ("update", "clear", "popitem"):
        with pytest.raises(NotImplementedError):
            getattr(rows, way)()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}x",
        b'[["no_such_sheet","p",1]]',
        b'[["index_revisions","p","one"]]',
        b'[["index_revisions","gone"]]',
        b'[["projects","p",["p"]]]',
        b'[["projects","p",["p","2026-01-01T00:00:00+00:00","more"]]]',
        b'[["projects","p",["p","yesterday"]]]',
    ],
)
def test_what_is_no_change_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityFault) as refused:
        redo.apply(data, Sheets())
    assert refused.value.code == "log_damaged"
