"""What is listed by its age, part by part: what matches behind what was ranked, and the newest records."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from contextdna.domain.operation import Operation
from contextdna.domain.periods import Period
from contextdna.values.ids import RecordId
from contextdna.values.search import Candidate, RecordFilter

Fetch: TypeAlias = Callable[[int, int], Awaitable[Sequence[Candidate]]]
"""Gives so many candidates behind so many others, the last first."""

_TAIL: Final = 100
"""So many of the last of a part tell where it ends when the list has moved."""
_REACH_MAX: Final = 6_400


@dataclass(frozen=True, slots=True)
class Given:
    """What earlier parts of an answer gave; empty where that is not known."""

    tail: Collection[RecordId] = frozenset()
    """The end of the part before, in the list."""
    earlier: Collection[RecordId] = frozenset()
    """What may come again."""


NOTHING_GIVEN: Final = Given()


class Walked(NamedTuple):
    """A part of a list."""

    found: Sequence[Candidate]
    """What earlier parts did not give."""
    offset: int
    """Where the next part begins."""
    more: bool
    """Behind it there is more."""
    tail: tuple[RecordId, ...]
    """Its end."""


class Place(NamedTuple):
    """A place in several lists that follow each other."""

    part: int
    """Which of them."""
    offset: int


async def walk(fetch: Fetch, given: Given, *, offset: int, limit: int) -> Walked:
    """Give the next part of a list.

    Args:
        fetch: The list.
        given: What is not to come again.
        offset: Where the part before ended.
        limit: How much of the list makes a part.
    """
    start = await _moved(fetch, given.tail, offset) if given.tail and offset else offset
    listed = await fetch(limit + 1, start)
    part = listed[:limit]
    found = [candidate for candidate in part if candidate.id not in given.earlier]
    tail = tuple([candidate.id for candidate in part[-_TAIL:]])
    return Walked(found, start + len(part), len(listed) > limit, tail)


async def _moved(fetch: Fetch, tail: Collection[RecordId], offset: int) -> int:
    """Give where a part that ended at an offset ends now: what was written since has moved the list."""
    reach = _TAIL
    while True:
        start = max(offset - reach, 0)
        count = offset + reach - start
        listed = await fetch(count, start)
        ends = [place for place, candidate in enumerate(listed, start + 1) if candidate.id in tail]
        if ends:
            return ends[-1]
        if reach >= _REACH_MAX or (not start and len(listed) < count):
            return offset
        reach *= 4


class Listed(NamedTuple):
    """A part of lists that follow each other."""

    found: Sequence[Candidate]
    following: Place | None
    """Where the next part begins; None where there is none."""
    tail: tuple[RecordId, ...]
    """Its end in the list in which the next part begins."""


async def walk_recent(
    op: Operation, parts: Sequence[RecordFilter], given: Given, *, place: Place, limit: int
) -> Listed:
    """List the newest visible records that pass one filter after the other."""
    found: list[Candidate] = []
    part, offset = place
    while part < len(parts):
        walked = await walk(partial(_recent, op, parts[part]), given, offset=offset, limit=limit - len(found))
        found += walked.found
        if walked.more:
            return Listed(found, Place(part, walked.offset), walked.tail)
        part, offset, given = part + 1, 0, replace(given, tail=())
    return Listed(found, None, ())


async def _recent(op: Operation, where: RecordFilter, limit: int, offset: int) -> Sequence[Candidate]:
    return await op.tx.records.list_recent(op.actor.reader, where, now=op.now, limit=limit, offset=offset)


def by_time(where: RecordFilter, period: Period) -> tuple[RecordFilter, ...]:
    """Cut a filter by a time: what was stored then, what was stored later, and what was stored before."""
    return tuple(_cut(where, period))


def _cut(where: RecordFilter, period: Period) -> Iterator[RecordFilter]:
    spans = [(period.since, period.until)]
    if period.until is not None:
        spans.append((period.until, None))
    if period.since is not None:
        spans.append((None, period.since))
    for since, until in spans:
        begin = max(filter(None, (since, where.since)), default=None)
        end = min(filter(None, (until, where.until)), default=None)
        if begin is None or end is None or begin < end:
            yield replace(where, since=begin, until=end)
