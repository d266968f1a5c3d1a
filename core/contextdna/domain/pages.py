"""Pages of an answer: each begins where the one before ended, whatever is written between the two.

Of an answer that has more than a page the process holds the order, and a cursor names it. What stands on a page is
asked of the database anew: what was taken away from the reader, or is no longer what was asked for, is left out, and
nothing else moves. Where an answer is no longer held, its cursor goes on by number in what there is then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from contextdna.domain import ranking
from contextdna.domain.answers import Ranking, Start, as_they_are, block_of
from contextdna.domain.cursors import bad_cursor, pack_cursor, unpack_cursor
from contextdna.domain.listing import NOTHING_GIVEN, Given
from contextdna.domain.operation import Operation
from contextdna.domain.planning import Plan
from contextdna.domain.ranking import Evidence, Ranked
from contextdna.values.ids import RecordId
from contextdna.values.search import Candidate, RecordFilter

_NUMBER_MAX: Final = 10_000_000
_NAME_CHARS_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class BegunAnswer:
    """An answer of which pages are given."""

    ranking: Ranking
    asked_at: datetime
    first: frozenset[RecordId] = frozenset()
    """What the first ranking of the answer had, where this is a later one."""
    orders: dict[int, tuple[RecordId, ...]] = field(default_factory=dict)
    """The blocks of the ranking that pages were cut out of, as they were mixed."""

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        return self.ranking.size_bytes + 100 * len(self.first)

    @property
    def given(self) -> Given:
        """What the next ranking of the answer is not to give again."""
        return Given(self.ranking.tail, self.first.union(self.ranking.ids))


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins, and what the answer is held by in the process that gave the page before."""

    start: Start
    held: str = ""

    def at(self, offset: int) -> "Cursor":
        """Give another place in the same ranking."""
        return replace(self, start=self.start._replace(offset=offset))


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a ranking."""

    entries: Sequence[Ranked]
    """What is left of its block."""
    places: Sequence[int]
    """Where in the ranking each of them stands."""
    evidence: Evidence
    cursor: Cursor
    """Where it began."""
    end: int
    """Where its block ends in the ranking."""
    begun: BegunAnswer
    """The answer that it is a page of."""

    def behind(self, consumed: int) -> Cursor | None:
        """Give where the page after so many entries begins; None where there is none."""
        if consumed < len(self.entries):
            return self.cursor.at(self.places[consumed])
        following = self.begun.ranking.following
        if following is not None and not self.begun.ranking.ids:  # of a whole stretch nothing was left
            return Cursor(following)
        return self.cursor.at(self.end) if self.goes_on else None

    @property
    def goes_on(self) -> bool:
        """Tell whether there is more behind its block."""
        return self.end < len(self.begun.ranking.ids) or self.begun.ranking.following is not None


async def page_at(
    op: Operation, where: RecordFilter, asked: Plan, cursor: Cursor, *, question: str, limit: int
) -> Page:
    """Cut a page out of an answer: out of the one that is held, where the cursor names one.

    Candidates are mixed with importance and recency in blocks of ``candidates_max``: a page never reaches over the end
    of a block, so that later pages neither repeat nor skip what the mix moves.

    Args:
        op: The call at work.
        where: What a record must be.
        asked: The question.
        cursor: Where the page begins.
        question: A keyed hash of the question, its filters and the reader.
        limit: So many are a page.
    """
    begun = None
    if op.begun is not None and cursor.held:
        begun = op.begun.find(cursor.held, op.actor.reader, question, now=op.now)
    if begun is None:
        return await _ranked_now(op, where, asked, cursor.start, limit=limit)
    return await _held(op, where, asked, cursor, begun, limit=limit)


async def _ranked_now(
    op: Operation,
    where: RecordFilter,
    asked: Plan,
    start: Start,
    *,
    limit: int,
    before: BegunAnswer | None = None,
) -> Page:
    """Cut a page out of what there is now, behind what an earlier ranking of the answer gave."""
    size = op.settings.search.candidates_max
    number, offset = divmod(start.offset, size)
    given = NOTHING_GIVEN if before is None else before.given
    answers = await block_of(op, where, asked, start, need=limit, given=given)
    entries = _mixed(op, answers.candidates, asked, answers.ranking.evidence, at=op.now)
    following = answers.ranking.following
    same_stretch = following is not None and following.passed == start.passed
    if following is not None and offset >= len(entries) and (same_stretch or start.offset):  # all was shown
        return await _ranked_now(op, where, asked, following, limit=limit, before=before)
    first = number * size
    return Page(
        entries[offset:],
        range(first + offset, first + len(entries)),
        answers.ranking.evidence,
        Cursor(start._replace(wide=answers.ranking.wide)),
        first + len(entries),
        BegunAnswer(
            answers.ranking,
            op.now,
            frozenset() if before is None else before.first or frozenset(before.ranking.ids),
            {number: tuple([entry.candidate.id for entry in entries])},
        ),
    )


async def _held(
    op: Operation, where: RecordFilter, asked: Plan, cursor: Cursor, begun: BegunAnswer, *, limit: int
) -> Page:
    """Cut a page out of an answer as it was ranked, of what may still be read and is still asked for."""
    size, ids = op.settings.search.candidates_max, begun.ranking.ids
    while cursor.start.offset < len(ids):
        number, offset = divmod(cursor.start.offset, size)
        first = number * size
        order = begun.orders.get(number) or ids[first : first + size]
        there = await op.tx.records.candidates(op.actor.reader, where, order, now=op.now)
        kept, evidence = as_they_are(asked, begun.ranking.evidence, there)
        mixed = _mixed(op, kept, asked, evidence, at=begun.asked_at)
        order = begun.orders.setdefault(number, tuple([entry.candidate.id for entry in mixed]))
        entries = {entry.candidate.id: entry for entry in mixed}
        left = [place for place, record_id in enumerate(order) if place >= offset and record_id in entries]
        page = Page(
            [entries[order[place]] for place in left],
            [first + place for place in left],
            evidence,
            cursor,
            min(first + size, len(ids)),
            begun,
        )
        if left or not page.goes_on:
            return page
        cursor = cursor.at(page.end)
    following = begun.ranking.following
    if following is None:
        return Page((), (), begun.ranking.evidence, cursor, len(ids), begun)
    return await _ranked_now(op, where, asked, following, limit=limit, before=begun)


def _mixed(
    op: Operation, candidates: Sequence[Candidate], asked: Plan, evidence: Evidence, *, at: datetime
) -> list[Ranked]:
    return ranking.rank(candidates, asked, evidence, op.settings.search, now_s=at.timestamp())


def write_cursor(op: Operation, page: Page, following: Cursor | None, question: str) -> str:
    """Write where the next page begins, and hold the answer until it is asked for; empty where there is none."""
    if following is None:
        return ""
    held = following.held
    if not held and op.begun is not None:
        held = op.begun.keep(page.begun, op.actor.reader, question, now=op.now, size_bytes=page.begun.size_bytes)
    return pack_cursor(*following.start, held, question)


def read_cursor(cursor: str, question: str) -> Cursor:
    """Read what ``write_cursor`` wrote.

    Raises:
        InvalidInput: ``cursor_invalid``.
    """
    if not cursor:
        return Cursor(Start())
    try:
        found, offset, wide, part, passed, held, key = unpack_cursor(cursor)
    except ValueError as error:
        raise bad_cursor() from error
    if key != question or not (wide is None or isinstance(wide, bool)):
        raise bad_cursor()
    if not isinstance(held, str) or len(held) > _NAME_CHARS_MAX:
        raise bad_cursor()
    return Cursor(Start(_number(found), _number(offset), wide, _number(part), _number(passed)), held)


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _NUMBER_MAX:
        raise bad_cursor()
    return value
