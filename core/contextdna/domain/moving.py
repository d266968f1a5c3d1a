"""Moving an installation row by row: what is copied is counted and digested on its way, and once more on both sides."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from struct import pack
from typing import Any, Final, TypeAlias

from contextdna.errors import Conflict, IntegrityFault
from contextdna.ports.moving import MoveSide, MoveTarget
from contextdna.values.move import MovedRow, MovedTable, MoveProgress, MoveState, Tallies, Tally

Told: TypeAlias = Callable[[MoveProgress], None]
Columns: TypeAlias = Mapping[str, Collection[int]]
"""By table, the places of what one side keeps as JSON: compared by what it says, not by how it is written."""

_CHANGED_HINT: Final = (
    "Stop all servers of the source, then move it again with --restart, which empties the incomplete target first."
)


async def copy(
    source: MoveSide, target: MoveTarget, tables: Sequence[MovedTable], state: MoveState, *, lists: Columns, told: Told
) -> Tallies:
    """Copy the tables, from where an earlier run has come to; gives the tallies of what was read.

    Raises:
        ContextDnaError: A side cannot do it. What was written stands, and is where the next run goes on.
    """
    tallies = dict(state.tallies)
    begun = next((place for place, table in enumerate(tables) if table.name == state.part), 0)
    async with source.snapshot():
        for table in tables[begun:]:
            after = state.place if table.name == state.part else ""
            done = sum(tally.rows for (part, _), tally in tallies.items() if part == table.name)
            total = await source.count(table)
            told(MoveProgress("copy", table.name, done, total))
            async for rows in source.batches(table, after):
                sent = [_canonical(row, lists[table.name]) for row in rows]
                changed = _advance(tallies, table, sent)
                await target.add(table, sent, source.place_of(table, rows[-1]), changed)
                done += len(sent)
                told(MoveProgress("copy", table.name, done, max(done, total)))
    return tallies


async def take_stock(side: MoveSide, tables: Sequence[MovedTable], *, lists: Columns, told: Told) -> Tallies:
    """Count and digest all rows of a side."""
    tallies: dict[tuple[str, str], Tally] = {}
    async with side.snapshot():
        for table in tables:
            done, total = 0, await side.count(table)
            async for rows in side.batches(table):
                _advance(tallies, table, [_canonical(row, lists[table.name]) for row in rows])
                done += len(rows)
                told(MoveProgress("check", table.name, done, max(done, total)))
    return tallies


def compare(*, copied: Tallies, source: Tallies, target: Tallies) -> None:
    """Check that a target holds what its source holds, and that this is what was copied.

    Raises:
        Conflict: ``move_source_changed``: the source was written since.
        IntegrityFault: ``move_unequal``: the target does not hold what was written to it.
    """
    changed = _differences(copied, source)
    if changed:
        raise source_changed(changed)
    unequal = _differences(copied, target)
    if unequal:
        raise IntegrityFault(
            f"the target does not hold what was copied: {unequal}",
            code="move_unequal",
            hint="Check disk and memory of the target, then move again with --restart; the source is as it was.",
        )


def source_changed(what: str) -> Conflict:
    """Make the error for a source that was written meanwhile."""
    return Conflict(
        f"the source was changed while it was moved: {what}", code="move_source_changed", hint=_CHANGED_HINT
    )


async def lists_of(tables: Sequence[MovedTable], *sides: MoveSide) -> Columns:
    """Find the columns that one side or the other keeps as JSON."""
    found = {}
    for table in tables:
        names = frozenset[str]().union(*[await side.json_columns(table) for side in sides])
        found[table.name] = [place for place, column in enumerate(table.columns) if column in names]
    return found


def rows_by_table(tables: Sequence[MovedTable], tallies: Tallies) -> Mapping[str, int]:
    """Count the rows of each table."""
    return {
        table.name: sum(tally.rows for (part, _), tally in tallies.items() if part == table.name) for table in tables
    }


def _differences(one: Tallies, other: Tallies) -> str:
    """Name tables that differ, and in how many rows: no value of a row."""
    apart = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    named = dict.fromkeys(part for part, _ in apart)
    counts = [
        f"{part} ({_count(one, apart, part)} rows against {_count(other, apart, part)})" for part in list(named)[:5]
    ]
    more = f" and {len(named) - 5} tables more" if len(named) > 5 else ""
    return f"{', '.join(counts)}{more}"


def _count(tallies: Tallies, keys: Collection[tuple[str, str]], part: str) -> int:
    return sum(tallies.get(key, Tally()).rows for key in keys if key[0] == part)


def _advance(
    tallies: dict[tuple[str, str], Tally], table: MovedTable, rows: Sequence[MovedRow]
) -> Mapping[tuple[str, str], Tally]:
    """Take rows into the tallies; gives those that changed."""
    changed = {}
    for row in rows:
        key = (table.name, row[0] if table.is_of_projects else "")
        before = tallies.get(key, Tally())
        digest = hashlib.sha256(before.digest + _encoded(row)).digest()
        tallies[key] = changed[key] = Tally(before.rows + 1, digest)
    return changed


def _canonical(row: MovedRow, lists: Collection[int]) -> MovedRow:
    """Write JSON as the tables of an embedded database hold it."""
    if not lists:
        return row
    return tuple(
        _canonical_json(value) if place in lists and value is not None else value for place, value in enumerate(row)
    )


def _canonical_json(text: str) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
    except ValueError as error:
        raise IntegrityFault(
            "a list in the source is no JSON", code="database_corrupt", hint="Restore the source from a backup."
        ) from error


def _encoded(row: MovedRow) -> bytes:
    """Write a row so that no other one is written alike."""
    return b"".join(map(_encoded_value, row))


def _encoded_value(value: Any) -> bytes:
    match value:
        case str():
            data = value.encode("utf-8", "surrogatepass")
            return b"t%d:%b" % (len(data), data)
        case bytes():
            return b"b%d:%b" % (len(value), value)
        case int():
            return b"i%d;" % value
        case None:
            return b"n"
        case float():
            return b"f" + pack("<d", value)
    raise TypeError(f"a column of type {type(value).__name__} cannot be moved")
