"""Retrieval: from a question to ranked, readable records within a token budget."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from contextdna.domain import ranking, stretches
from contextdna.domain.assembly import ANSWER_TOKENS_MIN, Assembled, assemble
from contextdna.domain.cursors import bad_cursor, pack_cursor, unpack_cursor
from contextdna.domain.empty_answers import explain
from contextdna.domain.held_rankings import HeldRankings
from contextdna.domain.memories import without_hidden_successors
from contextdna.domain.names import meant_agent
from contextdna.domain.operation import Operation
from contextdna.domain.planning import Plan, Stage, plan
from contextdna.domain.ranking import Evidence, Lexical, Ranked, Weights
from contextdna.domain.validation import check_count, check_period, check_score, check_text
from contextdna.errors import LimitExceeded
from contextdna.values.ids import RecordId
from contextdna.values.search import Candidate, Context, ContextQuery, Detail, Neighbour, RecordFilter

_OFFSET_MAX: Final = 10_000_000
_CANDIDATE_BYTES: Final = 400  # with its score and context, beside its sketch
_RANKING_BYTES: Final = 4_000  # what it is held by, and the rest of it
_SOURCES: Final = 12
"""The best matches, whose neighbours are looked at. Source: docs/decisions/0021: more find nothing more."""
_UNSAID_MIN: Final = 0.4
"""A record without a word of the question is an answer when its neighbours give it this share of the best score.

Source: docs/decisions/0021: with less, many more records are shown, and no more that answer.
"""


def check_query(query: ContextQuery, op: Operation) -> None:
    """Refuse a question that cannot be answered.

    Raises:
        InvalidInput: With the code of the first thing wrong.
    """
    limits = op.settings.limits
    check_text(query.text, name="query", bytes_max=limits.query_chars_max * 4, empty_allowed=True)
    if len(query.text) > limits.query_chars_max:
        raise LimitExceeded(
            f"query has {len(query.text)} characters, at most {limits.query_chars_max} are allowed",
            code="query_too_large",
            hint="Ask in fewer words.",
        )
    check_count(query.limit, name="limit", maximum=limits.hits_max)
    least = min(ANSWER_TOKENS_MIN, limits.answer_tokens_max)
    check_count(query.max_tokens, name="max_tokens", maximum=limits.answer_tokens_max, minimum=least)
    check_score(query.min_importance, name="min_importance")
    check_period(query.since, query.until)


async def retrieve(op: Operation, query: ContextQuery) -> Context:
    """Answer a question with what the actor may see.

    Raises:
        InvalidInput: The question is wrong, or ``cursor_invalid``.
    """
    check_query(query, op)
    cursor = _read_cursor(query, op)
    asked = await plan(op, query.text)
    where = replace(_filter(op, query), owner_id=await meant_agent(op, query.owner_id))
    page = await _page(op, where, asked, cursor, limit=query.limit)
    answer = await _shown(op, query, page, asked)
    more = page.more or answer.consumed < len(page.entries)
    go_on = page.cursor.behind(answer.consumed) if more else _Cursor(passed=page.cursor.passed + 1)
    op.note([hit.record.id for hit in answer.hits], hits=len(answer.hits), query_words=len(asked.understood.words))
    return Context(
        hits=answer.hits,
        tokens=answer.tokens,
        cursor=_write_cursor(query, go_on, op) if more or page.beyond else "",
        truncated=more or page.beyond or any(hit.clipped for hit in answer.hits),
        empty=None if answer.hits else await explain(op, query, has_text=asked.has_text, beyond=page.beyond),
    )


async def _shown(op: Operation, query: ContextQuery, page: "_Page", asked: Plan) -> Assembled:
    """Read and put together what a page shows; where records fold into one, more of them are read."""
    taken = query.limit
    while True:
        entries = page.entries[:taken]
        items = await op.tx.records.read(op.actor.reader, [entry.candidate.id for entry in entries], now=op.now)
        seen = {item.record.id: item for item in await without_hidden_successors(op, items)}
        answer = assemble(
            op,
            entries,
            seen,
            asked,
            page.evidence,
            limit=query.limit,
            max_tokens=query.max_tokens,
            detail=query.detail,
        )
        room = len(answer.hits) < query.limit and answer.consumed == len(entries)
        if not room or taken >= len(page.entries):
            return answer
        taken *= 3


async def best_matches(op: Operation, text: str, where: RecordFilter, *, limit: int) -> list[tuple[Candidate, float]]:
    """Give the actor's visible records that answer a text themselves, with how well they do (0 to 1), best first.

    Without usable words the newest come, by importance and recency.
    """
    asked = await plan(op, text)
    search = op.settings.search
    if not asked.has_text:
        where, _ = await stretches.of_records(op, where)
        found = await op.tx.records.list_recent(op.actor.reader, where, now=op.now, limit=search.candidates_max)
        return [(entry.candidate, 0.0) for entry in _ranked(op, found, asked, ranking.NO_EVIDENCE)[:limit]]
    matching = (await _search(op, where, asked, _Cursor(), need=limit)).candidates
    read = ranking.reader_of(asked)
    said = {candidate.id: read(candidate) for candidate in matching}
    weights = Weights.of(asked, said.values(), search, complete=False)
    scores = {record_id: weights.lexical(words) for record_id, words in said.items()}
    evidence = Evidence.of(scores, ranking.Context(), {})
    best = sorted(matching, key=lambda candidate: (-evidence.scores[candidate.id].score, candidate.id))
    ranked = _ranked(op, best[: max(limit, search.candidates_max)], asked, evidence)[:limit]
    return [(entry.candidate, evidence.text(entry.candidate.id, 0.0)) for entry in ranked]


class _Cursor(NamedTuple):
    """Where a page begins."""

    found: int = 0
    """How many of what is looked for last, the last that arrived first, lie before what this page ranks."""
    offset: int = 0
    """How many hits of what is ranked lie before the page."""
    wide: bool | None = None
    """Whether the first page looked for commoner words: later ones are pages of the same ranking."""
    passed: int = 0
    """How many stretches lie before, see ``stretches``."""

    @property
    def later(self) -> bool:
        """Tell whether what is ranked together here is not the first that was."""
        return bool(self.found or self.passed)

    def behind(self, consumed: int) -> "_Cursor":
        """Give where the page after so many entries begins."""
        return self._replace(offset=self.offset + consumed)


@dataclass(frozen=True, slots=True)
class _Page:
    """One page of a ranking."""

    entries: Sequence[Ranked]
    """What is left of its block."""
    evidence: Evidence
    cursor: _Cursor
    """Where it began."""
    more: bool
    """Another block comes behind."""
    beyond: bool = False
    """No more of this stretch comes behind, but another stretch."""


async def _page(op: Operation, where: RecordFilter, asked: Plan, cursor: _Cursor, *, limit: int) -> _Page:
    """Cut a page out of the ranking.

    Candidates are mixed with importance and recency in blocks of ``candidates_max``: a page never reaches over the end
    of a block, so that later pages neither repeat nor skip what the mix moves.
    """
    size = op.settings.search.candidates_max
    block, offset = divmod(cursor.offset, size)
    if not asked.has_text:
        where, beyond = await stretches.of_records(op, where, passed=cursor.passed)
        found = await op.tx.records.list_recent(op.actor.reader, where, now=op.now, limit=size + 1, offset=block * size)
        ranked = _ranked(op, found[:size], asked, ranking.NO_EVIDENCE)
        return _Page(ranked[offset:], ranking.NO_EVIDENCE, cursor, more=len(found) > size, beyond=beyond)
    answers = await _block(op, where, asked, cursor, need=limit)
    ranked = _ranked(op, answers.candidates, asked, answers.evidence)
    begun = cursor._replace(wide=answers.wide)
    if offset >= len(ranked) and answers.more:  # all that was ranked has been shown: go on with what arrived earlier
        behind = begun._replace(found=cursor.found + answers.walked, offset=0)
        return await _page(op, where, asked, behind, limit=limit)
    return _Page(ranked[offset:], answers.evidence, begun, answers.behind or answers.more, answers.beyond)


def _ranked(op: Operation, found: Sequence[Candidate], asked: Plan, evidence: Evidence) -> list[Ranked]:
    return ranking.rank(found, asked, evidence, op.settings.search, now_s=op.now.timestamp())


@dataclass(frozen=True, slots=True)
class _Answers:
    """What may answer a question."""

    candidates: Sequence[Candidate]
    """Best text first."""
    evidence: Evidence
    walked: int
    """How many the search gave last, the last that arrived first: later pages begin behind them."""
    more: bool
    """More match than are ranked at once."""
    wide: bool
    beyond: bool = False
    """Of what matches, only a stretch was looked at, and there is another one."""
    behind: bool = False
    """They are one block of a ranking, and another one comes behind it."""

    def block(self, number: int, size: int) -> "_Answers":
        """Cut out one block, with the evidence of its candidates alone."""
        inside = self.candidates[number * size : (number + 1) * size]
        evidence = self.evidence.only(candidate.id for candidate in inside)
        return replace(self, candidates=inside, evidence=evidence, behind=len(self.candidates) > (number + 1) * size)

    @property
    def size_bytes(self) -> int:
        """About how much memory they take."""
        sketches = sum(len(candidate.sketch) for candidate in self.candidates)
        return _RANKING_BYTES + _CANDIDATE_BYTES * (len(self.candidates) + len(self.evidence.semantic)) + sketches


async def _block(op: Operation, where: RecordFilter, asked: Plan, cursor: _Cursor, *, need: int) -> _Answers:
    """Give the block of a ranking in which a page begins: the one that is held, while nothing can have changed it."""
    size = op.settings.search.candidates_max
    number = cursor.offset // size
    alike = {} if cursor.later else await _alike(op, asked, where)
    held: HeldRankings[_Answers] | None = op.rankings if asked.event else None
    if held is None:
        return (await _answers(op, where, asked, cursor, alike, need=need)).block(number, size)
    searched = (cursor.found, cursor.passed, cursor.wide, need if cursor.wide is None else 0)
    key = (op.actor.reader, where, asked.looked_for, tuple(alike.items()), searched, number)
    block = held.find(key, event=asked.event, now=op.now)
    if block is None:
        block = (await _answers(op, where, asked, cursor, alike, need=need)).block(number, size)
        until = await op.tx.records.next_change(op.actor.reader, now=op.now)
        held.keep(key, block, event=asked.event, now=op.now, until=until, size_bytes=block.size_bytes)
    return block


async def _answers(
    op: Operation, where: RecordFilter, asked: Plan, cursor: _Cursor, alike: Mapping[RecordId, float], *, need: int
) -> _Answers:
    """Find what matches, score it, and add what stands beside the best of it."""
    search, reader = op.settings.search, op.actor.reader
    found = await _search(op, where, asked, cursor, need=need)
    read = ranking.reader_of(asked)
    candidates = {candidate.id: candidate for candidate in found.candidates}
    unseen = [record_id for record_id in alike if record_id not in candidates]
    if unseen:
        close = await op.tx.records.candidates(reader, where, unseen, now=op.now)
        later = found.more  # what says a word is found on later pages
        candidates.update({one.id: one for one in close if not (later and read(one).times)})
    counted = {candidate.id: read(candidate) for candidate in (*found.shown, *found.candidates)}
    weights = Weights.of(asked, counted.values(), search, complete=not (found.more or found.beyond or cursor.later))
    scores = {
        record_id: weights.lexical(counted.get(record_id) or read(candidate))
        for record_id, candidate in candidates.items()
    }
    beside = await _beside(op, where, candidates, scores)
    near = {one.candidate.id: one.candidate for one in beside if one.candidate.id not in candidates}
    around = {record_id: weights.lexical(read(candidate)) for record_id, candidate in near.items()}
    context = ranking.context(weights, {**scores, **around}, beside, search)
    if not asked.understood.phrases and not cursor.later:  # what is quoted must be there; nothing comes twice
        least = _UNSAID_MIN * max((own.score for own in scores.values()), default=0.0)
        for record_id, own in around.items():
            said = own.score > 0 and not (found.more or found.beyond)
            if said or (not own.score and context.given.get(record_id, 0.0) >= least):
                candidates[record_id], scores[record_id] = near[record_id], own
    evidence = Evidence.of(scores, context, alike)
    text = {record_id: evidence.text(record_id, search.semantic_weight) for record_id in candidates}
    best = sorted(candidates.values(), key=lambda candidate: (-text[candidate.id], candidate.id))
    return _Answers(best, evidence, found.walked, found.more, found.wide, found.beyond)


async def _alike(op: Operation, asked: Plan, where: RecordFilter) -> dict[RecordId, float]:
    """Give what is near in meaning, with its cosines; nothing without an embedder, or where words are quoted."""
    if op.recall is None or asked.understood.phrases:
        return {}
    from contextdna.domain import semantics  # what searches by meaning is loaded where it is at work

    return dict(await semantics.nearest(op, asked.text, where, limit=op.settings.search.candidates_max))


class _Found(NamedTuple):
    """What matches by its own words."""

    candidates: Sequence[Candidate]
    walked: int = 0
    """How many the last part of the stage gave: later pages begin behind them."""
    more: bool = False
    """Behind them there are more."""
    beyond: bool = False
    """That was only a stretch of what matches, and there is another one."""
    wide: bool = False
    shown: Sequence[Candidate] = ()
    """What earlier pages have shown of the other parts."""


async def _search(op: Operation, where: RecordFilter, asked: Plan, cursor: _Cursor, *, need: int) -> _Found:
    """Find what matches; when rare words and filters leave less than needed, look for commoner words too."""
    found = _Found(())
    for wide, stage in enumerate(asked.stages):
        last = wide == len(asked.stages) - 1
        if cursor.wide and not last:
            continue
        found = (await _look(op, where, stage, cursor))._replace(wide=bool(wide))
        if last or cursor.wide is False or len(found.candidates) >= need:
            break
    return found


async def _look(op: Operation, where: RecordFilter, stage: Stage, cursor: _Cursor) -> _Found:
    """Find what one stage looks for; on later pages, only what its last part still adds."""
    reader, search, (*firm, tail) = op.actor.reader, op.tx.records.search, stage
    filtered = where != RecordFilter()
    found: dict[RecordId, Candidate] = {}
    for sought in firm:
        within, _ = await stretches.of_matches(op, sought, filtered=filtered)
        some = await search(reader, where, sought.match, now=op.now, limit=sought.limit, within=within)
        found.update({candidate.id: candidate for candidate in some})
    within, behind = await stretches.of_matches(op, tail, filtered=filtered, passed=cursor.passed)
    walked = await search(
        reader, where, tail.match, now=op.now, limit=tail.limit + 1, offset=cursor.found, within=within
    )
    added = [candidate for candidate in walked[: tail.limit] if candidate.id not in found]
    firm_ones = tuple(found.values())
    more = len(walked) > tail.limit
    last = _Found(added, min(len(walked), tail.limit), more, behind and not more)
    if cursor.later:
        return last._replace(shown=firm_ones)
    return last._replace(candidates=(*firm_ones, *added))


async def _beside(
    op: Operation,
    where: RecordFilter,
    candidates: Mapping[RecordId, Candidate],
    scores: Mapping[RecordId, Lexical],
) -> list[Neighbour]:
    """Give what stands beside the best matches; beside what was only granted, nothing else is the reader's."""
    search = op.settings.search
    best = sorted(scores, key=lambda record_id: (-scores[record_id].score, record_id))[:_SOURCES]
    sources = [record_id for record_id in best if scores[record_id].score > 0 and not candidates[record_id].granted]
    if not sources or not (search.context_weight or search.link_weight):
        return []
    return await op.tx.records.neighbours(op.actor.reader, where, sources, now=op.now, within_s=search.context_window_s)


def _filter(op: Operation, query: ContextQuery) -> RecordFilter:
    return RecordFilter(
        kinds=query.kinds,
        types=query.types,
        tiers=query.tiers,
        levels=query.levels,
        tag_tokens=op.spaces.open.tags(query.tags),
        sealed_tag_tokens=op.spaces.sealed.tags(query.tags),
        owner_id=query.owner_id,
        session_id=query.session_id,
        since=query.since,
        until=query.until,
        as_of=query.as_of,
        min_importance=query.min_importance,
    )


def _cursor_key(query: ContextQuery, op: Operation) -> str:
    bare = replace(query, cursor="", limit=0, max_tokens=0, detail=Detail.FULL)
    text = f"{bare!r}|{op.actor.reader!r}"
    return hashlib.blake2b(text.encode(), key=op.keys.hash_key, digest_size=8).hexdigest()


def _write_cursor(query: ContextQuery, cursor: _Cursor, op: Operation) -> str:
    return pack_cursor(*cursor, _cursor_key(query, op))


def _read_cursor(query: ContextQuery, op: Operation) -> _Cursor:
    if not query.cursor:
        return _Cursor()
    try:
        found, offset, wide, passed, key = unpack_cursor(query.cursor)
    except ValueError as error:
        raise bad_cursor() from error
    if key != _cursor_key(query, op) or not (wide is None or isinstance(wide, bool)):
        raise bad_cursor()
    return _Cursor(_place(found), _place(offset), wide, _place(passed))


def _place(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _OFFSET_MAX:
        raise bad_cursor()
    return value
