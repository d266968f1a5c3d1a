"""What may answer a question: found by words, by meaning and by what stands beside the best, and scored.

Without words the newest records are listed, those of the time first that a question asks for alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import Final, NamedTuple

from contextdna.domain import ranking, stretches
from contextdna.domain.held_rankings import HeldRankings
from contextdna.domain.listing import NOTHING_GIVEN, Fetch, Given, Place, by_time, walk, walk_recent
from contextdna.domain.operation import Operation
from contextdna.domain.planning import Plan, Stage
from contextdna.domain.ranking import Evidence, Lexical, Weights
from contextdna.values.ids import RecordId
from contextdna.values.search import Candidate, Match, Neighbour, RecordFilter, Stretch

_CANDIDATE_BYTES: Final = 400  # with its score and context, beside its sketch
_RECORD_BYTES: Final = 250  # of what is only ranked: its id and scores
_RANKING_BYTES: Final = 4_000  # what it is held by, and the rest of it
_SOURCES: Final = 12
"""The best matches, whose neighbours are looked at. Source: docs/decisions/0021: more find nothing more."""
_UNSAID_MIN: Final = 0.4
"""A record without a word of the question is an answer when its neighbours give it this share of the best score.

Source: docs/decisions/0021: with less, many more records are shown, and no more that answer.
"""


class Start(NamedTuple):
    """Where a page begins."""

    found: int = 0
    """How many of what is looked for last, the last that arrived first, lie before what this page ranks."""
    offset: int = 0
    """How many of what is ranked lie before the page."""
    wide: bool | None = None
    """Whether the first page looked for commoner words: later ones are pages of the same ranking."""
    part: int = 0
    """Which of the lists is meant that follow each other, where no word is asked for."""
    passed: int = 0
    """How many stretches lie before, see ``stretches``."""

    @property
    def is_first(self) -> bool:
        """Tell whether nothing was ranked before."""
        return not (self.found or self.part or self.passed)


@dataclass(frozen=True, slots=True)
class Ranking:
    """What may answer a question, by its ids."""

    ids: tuple[RecordId, ...]
    """Best text first."""
    evidence: Evidence
    following: Start | None
    """Where what is not ranked yet begins; None where there is nothing."""
    wide: bool | None = None
    tail: tuple[RecordId, ...] = ()
    """The end of what was walked over: the next ranking begins behind it."""

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        return _RANKING_BYTES + _RECORD_BYTES * (len(self.ids) + len(self.evidence.semantic))


@dataclass(frozen=True, slots=True)
class Answers:
    """What may answer a question, best text first: all that was ranked, or one block of it."""

    candidates: Sequence[Candidate]
    ranking: Ranking

    def block(self, number: int, size: int) -> "Answers":
        """Cut out one block."""
        return replace(self, candidates=self.candidates[number * size : (number + 1) * size])

    @property
    def size_bytes(self) -> int:
        """About how much memory they take."""
        sketches = sum(len(candidate.sketch) for candidate in self.candidates)
        return self.ranking.size_bytes + _CANDIDATE_BYTES * len(self.candidates) + sketches


async def block_of(
    op: Operation, where: RecordFilter, asked: Plan, start: Start, *, need: int, given: Given = NOTHING_GIVEN
) -> Answers:
    """Give the block of a ranking in which a page begins: the one that is held, while nothing can have changed it.

    Args:
        op: The call at work.
        where: What a record must be.
        asked: The question.
        start: Where the page begins.
        need: So many are a page.
        given: What earlier pages gave, where that is known.
    """
    size = op.settings.search.candidates_max
    number = start.offset // size
    if not asked.has_text:
        return (await listed(op, where, asked, start, given=given)).block(number, size)
    alike = await _alike(op, asked, where)
    held: HeldRankings[Answers] | None = op.rankings if asked.event and given is NOTHING_GIVEN else None
    if held is None:
        return (await _answers(op, where, asked, start, alike, need=need, given=given)).block(number, size)
    searched = (start.found, start.passed, start.wide, need if start.wide is None else 0)
    key = (op.actor.reader, where, asked.looked_for, tuple(alike.items()), searched, number)
    block = held.find(key, event=asked.event, now=op.now)
    if block is None:
        block = (await _answers(op, where, asked, start, alike, need=need, given=given)).block(number, size)
        until = await op.tx.records.next_change(op.actor.reader, now=op.now)
        held.keep(key, block, event=asked.event, now=op.now, until=until, size_bytes=block.size_bytes)
    return block


async def listed(
    op: Operation, where: RecordFilter, asked: Plan, start: Start, *, given: Given = NOTHING_GIVEN
) -> Answers:
    """List the newest records; where only a time is asked for, those of it first, and with them what holds the date."""
    period = asked.understood.period if asked.understood.only_time else None
    dated = {one.id: one for stage in asked.stages for one in (await _look(op, where, stage, Start())).candidates}
    if not start.is_first:  # they stood on the pages before
        given = replace(given, earlier=frozenset(given.earlier).union(dated))
    parts = (where,) if period is None else by_time(where, period)
    narrowed = [await stretches.of_records(op, part, passed=start.passed) for part in parts]
    newest = await walk_recent(
        op,
        [part for part, _ in narrowed],
        given,
        place=Place(start.part, start.found),
        limit=op.settings.search.candidates_max,
    )
    candidates = {**(dated if start.is_first else {}), **{one.id: one for one in newest.found}}
    held = ranking.words_held(asked, tuple(dated.values()))
    lexical = Lexical(dict.fromkeys(held, 1.0), held)
    place = newest.following
    following = None if place is None else Start(found=place.offset, part=place.part, passed=start.passed)
    if following is None and any(behind for _, behind in narrowed):
        following = Start(passed=start.passed + 1)
    evidence = Evidence.of(lexical, ranking.Context(), {})
    return Answers(tuple(candidates.values()), Ranking(tuple(candidates), evidence, following, tail=newest.tail))


def as_they_are(asked: Plan, evidence: Evidence, candidates: Sequence[Candidate]) -> tuple[list[Candidate], Evidence]:
    """Give of candidates that were ranked before those that still say a word, if they did, and what was known then."""
    says, known = ranking.words_held(asked, candidates), evidence.lexical
    kept = [one for one in candidates if says[one.id] or not known.held.get(one.id)]
    lexical = Lexical({one.id: known.scores.get(one.id, 0.0) for one in kept}, {one.id: says[one.id] for one in kept})
    return kept, replace(evidence.only(lexical.scores), lexical=lexical)


async def _answers(
    op: Operation,
    where: RecordFilter,
    asked: Plan,
    start: Start,
    alike: Mapping[RecordId, float],
    *,
    need: int,
    given: Given,
) -> Answers:
    """Find what matches, score it, and add what stands beside the best of it."""
    search, reader = op.settings.search, op.actor.reader
    found = await matches(op, where, asked, start, need=need, given=given)
    candidates = {candidate.id: candidate for candidate in found.candidates}
    if not start.is_first:  # what is near in meaning stood on the pages before, whatever words it holds
        candidates = {record_id: one for record_id, one in candidates.items() if record_id not in alike}
        alike = {}
    unseen = [record_id for record_id in alike if record_id not in candidates]
    counted = ranking.said(asked, (*found.shown, *found.candidates))
    weights = Weights.of(asked, counted, search, complete=start.is_first and not (found.more or found.beyond))
    lexical = weights.lexical(counted)
    if unseen:
        close = await op.tx.records.candidates(reader, where, unseen, now=op.now)
        candidates.update({one.id: one for one in close})
        lexical.add(weights.lexical(ranking.said(asked, close)))
    if len(lexical.scores) != len(candidates):  # what stood on the pages before is counted, and not ranked again
        lexical = lexical.only(candidates)
    beside = await _beside(op, where, candidates, lexical.scores)
    near = {one.candidate.id: one.candidate for one in beside if one.candidate.id not in candidates}
    around = weights.lexical(ranking.said(asked, tuple(near.values())))
    all_words = Lexical({**lexical.scores, **around.scores}, {**lexical.held, **around.held})
    context = ranking.context(weights, all_words, beside, search)
    if not asked.understood.phrases and start.is_first:  # what is quoted must be there; nothing comes twice
        least = _UNSAID_MIN * max(lexical.scores.values(), default=0.0)
        complete = not (found.more or found.beyond)
        shown = [
            record_id
            for record_id, score in around.scores.items()
            if (complete if score > 0 else context.given.get(record_id, 0.0) >= least)
        ]
        candidates.update({record_id: near[record_id] for record_id in shown})
        lexical.add(around.only(shown))
    evidence = Evidence.of(lexical, context, alike)
    texts = zip(evidence.texts(candidates, search.semantic_weight), candidates, strict=True)
    best = [candidates[record_id] for _, record_id in sorted([(-text, record_id) for text, record_id in texts])]
    following, tail = None, found.tail if found.more else ()
    if found.more:
        following = Start(found.walked, wide=found.wide, passed=start.passed)
    elif found.beyond:
        following = Start(wide=found.wide, passed=start.passed + 1)
    return Answers(best, Ranking(tuple([one.id for one in best]), evidence, following, found.wide, tail))


async def _alike(op: Operation, asked: Plan, where: RecordFilter) -> dict[RecordId, float]:
    """Give what is near in meaning, with its cosines; nothing without an embedder, or where words are quoted."""
    if op.recall is None or asked.understood.phrases:
        return {}
    from contextdna.domain import semantics  # what searches by meaning is loaded where it is at work

    return dict(await semantics.nearest(op, asked.text, where, limit=op.settings.search.candidates_max))


class Found(NamedTuple):
    """What matches by its own words."""

    candidates: Sequence[Candidate]
    walked: int = 0
    """How many the last part of the stage has given so far: later pages begin behind them."""
    more: bool = False
    """Behind them there are more."""
    beyond: bool = False
    """That was only a stretch of what matches, and there is another one."""
    wide: bool = False
    shown: Sequence[Candidate] = ()
    """What earlier pages have shown of the other parts."""
    tail: tuple[RecordId, ...] = ()
    """The end of the last part of the stage."""


async def matches(
    op: Operation, where: RecordFilter, asked: Plan, start: Start, *, need: int, given: Given = NOTHING_GIVEN
) -> Found:
    """Find what matches; when rare words and filters leave less than needed, look for commoner words too."""
    found = Found(())
    for wide, stage in enumerate(asked.stages):
        last = wide == len(asked.stages) - 1
        if start.wide and not last:
            continue
        found = (await _look(op, where, stage, start, given=given))._replace(wide=bool(wide))
        if last or start.wide is False or len(found.candidates) >= need:
            break
    return found


async def _look(
    op: Operation, where: RecordFilter, stage: Stage, start: Start, *, given: Given = NOTHING_GIVEN
) -> Found:
    """Find what one stage looks for; behind an offset, only what its last part still adds."""
    *firm, tail = stage
    filtered = where != RecordFilter()
    found: dict[RecordId, Candidate] = {}
    for sought in firm:
        within, _ = await stretches.of_matches(op, sought, filtered=filtered)
        some = await _matching(op, where, sought.match, within)(sought.limit, 0)
        found.update({candidate.id: candidate for candidate in some})
    within, behind = await stretches.of_matches(op, tail, filtered=filtered, passed=start.passed)
    walked = await walk(_matching(op, where, tail.match, within), given, offset=start.found, limit=tail.limit)
    added = [candidate for candidate in walked.found if candidate.id not in found]
    firm_ones = tuple(found.values())
    last = Found(added, walked.offset, walked.more, behind and not walked.more, tail=walked.tail)
    if not start.is_first:
        return last._replace(shown=firm_ones)
    return last._replace(candidates=(*firm_ones, *added))


def _matching(op: Operation, where: RecordFilter, match: Match, within: Stretch) -> Fetch:
    async def fetch(limit: int, offset: int) -> Sequence[Candidate]:
        return await op.tx.records.search(
            op.actor.reader, where, match, now=op.now, limit=limit, offset=offset, within=within
        )

    return fetch


async def _beside(
    op: Operation,
    where: RecordFilter,
    candidates: Mapping[RecordId, Candidate],
    scores: Mapping[RecordId, float],
) -> list[Neighbour]:
    """Give what stands beside the best matches; beside what was only granted, nothing else is the reader's."""
    search = op.settings.search
    best = nsmallest(_SOURCES, [(-score, record_id) for record_id, score in scores.items() if score > 0])
    sources = [record_id for _, record_id in best if not candidates[record_id].granted]
    if not sources or not (search.context_weight or search.link_weight):
        return []
    return await op.tx.records.neighbours(op.actor.reader, where, sources, now=op.now, within_s=search.context_window_s)
