"""How far a question looks at once: where little passes a filter, an answer must not cost all that is stored.

What is looked at is counted whether the reader may see it or not. So that more than such a number lies there can be
told from an answer, and nothing else of what is hidden.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from contextdna.domain.operation import Operation
from contextdna.domain.planning import Sought
from contextdna.values.record import Kind
from contextdna.values.search import EVERYTHING, RecordFilter, Stretch

RECORDS_MAX: Final = 20_000
"""So many newest records are filtered at once where no word finds any. Source: docs/search.md: 0.6 µs each."""
MATCHES_MAX: Final = 10_000
"""So many records with the words of a question are filtered at once. Source: docs/search.md: 2.2 µs each."""

_BEFORE_ALL: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LISTED_BY_KIND: Final = frozenset({Kind.ARTIFACT, Kind.LOOP, Kind.TASK})


async def of_records(op: Operation, where: RecordFilter, *, passed: int = 0) -> tuple[RecordFilter, bool]:
    """Narrow a filter to the newest records of what it asks for; True where older ones lie behind.

    A session, a subject and the kinds of which there are few are lists of their own, and whole.

    Args:
        op: The call at work.
        where: The filter.
        passed: How many such stretches lie before.
    """
    if where.session_id or where.subject or (len(where.kinds) == 1 and where.kinds[0] in _LISTED_BY_KIND):
        return where, False
    moment, project_id = op.tx.records.moment, op.project_id
    until = where.until
    if passed:
        until = await moment(project_id, place=passed * RECORDS_MAX, since=where.since, until=until) or _BEFORE_ALL
    since = await moment(project_id, place=RECORDS_MAX, since=where.since, until=until)
    if since is None:
        return replace(where, until=until), False
    behind = await moment(project_id, place=1, since=where.since, until=since)
    return replace(where, since=since, until=until), behind is not None


async def of_matches(op: Operation, sought: Sought, *, filtered: bool, passed: int = 0) -> tuple[Stretch, bool]:
    """Give the last of what matches; True where more lies behind.

    Args:
        op: The call at work.
        sought: What is looked for.
        filtered: The question has filters, so that little may be left of what matches.
        passed: How many such stretches lie before.
    """
    if sought.most <= MATCHES_MAX or not (filtered or sought.match.any_of):
        return EVERYTHING, False
    arrival, first = op.tx.records.arrival, passed * MATCHES_MAX + 1
    newest = await arrival(op.project_id, sought.match, place=first) if passed else EVERYTHING.newest
    behind = await arrival(op.project_id, sought.match, place=first + MATCHES_MAX)
    return Stretch(newest, behind), behind > 0
