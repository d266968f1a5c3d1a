"""Retrieval: from a question to ranked, readable records within a token budget."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from contextdna.domain import ranking
from contextdna.domain.assembly import assemble
from contextdna.domain.cursors import bad_cursor, pack_cursor, unpack_cursor
from contextdna.domain.empty_answers import explain
from contextdna.domain.memories import without_hidden_successors
from contextdna.domain.names import meant_agent
from contextdna.domain.operation import Operation
from contextdna.domain.planning import Plan, plan
from contextdna.domain.ranking import Evidence, Lexical, Ranked
from contextdna.domain.validation import check_count, check_period, check_score, check_text
from contextdna.values.ids import RecordId
from contextdna.values.search import Candidate, Context, ContextQuery, Detail, Neighbour, RecordFilter

_OFFSET_MAX: Final = 10_000_000
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
    check_count(query.limit, name="limit", maximum=limits.hits_max)
    check_count(query.max_tokens, name="max_tokens", maximum=limits.answer_tokens_max, minimum=50)
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
    wanted = [entry.candidate.id for entry in page.entries]
    items = await op.tx.records.read(op.actor.reader, wanted, now=op.now)
    seen = {item.record.id: item for item in await without_hidden_successors(op, items)}
    answer = assemble(op, page.entries, seen, asked, page.evidence, max_tokens=query.max_tokens, detail=query.detail)
    more = page.more or answer.consumed < len(page.entries)
    op.note([hit.record.id for hit in answer.hits], hits=len(answer.hits), query_words=len(asked.understood.words))
    return Context(
        hits=answer.hits,
        tokens=answer.tokens,
        cursor=_write_cursor(query, page.cursor.behind(answer.consumed), op) if more else "",
        truncated=more or any(hit.clipped for hit in answer.hits),
        empty=None if answer.hits else await explain(op, query, has_text=asked.has_text),
    )


async def best_matches(op: Operation, text: str, where: RecordFilter, *, limit: int) -> list[tuple[Candidate, float]]:
    """Give the actor's visible records that answer a text themselves, with how well they do (0 to 1), best first.

    Without usable words the newest come, by importance and recency.
    """
    asked = await plan(op, text)
    search = op.settings.search
    if not asked.has_text:
        found = await op.tx.records.list_recent(op.actor.reader, where, now=op.now, limit=search.candidates_max)
        return [(entry.candidate, 0.0) for entry in _ranked(op, found, asked, ranking.NO_EVIDENCE)[:limit]]
    matching, _ = await _search(op, where, asked, _Cursor(), need=limit)
    score = ranking.scorer(asked, search)
    evidence = Evidence.of({candidate.id: score(candidate) for candidate in matching}, {}, {})
    best = sorted(matching, key=lambda candidate: (-evidence.scores[candidate.id].score, candidate.id))
    ranked = _ranked(op, best[: max(limit, search.candidates_max)], asked, evidence)[:limit]
    return [(entry.candidate, evidence.text(entry.candidate.id, 0.0)) for entry in ranked]


class _Cursor(NamedTuple):
    """Where a page begins."""

    found: int = 0
    """How many of what matches, the last arrived first, lie before what this page ranks."""
    offset: int = 0
    """How many hits of what is ranked lie before the page."""
    wide: bool | None = None
    """Whether the first page looked for commoner words: later ones are pages of the same ranking."""

    def behind(self, consumed: int) -> "_Cursor":
        """Give where the page after so many entries begins."""
        return self._replace(offset=self.offset + consumed)


@dataclass(frozen=True, slots=True)
class _Page:
    """One page of a ranking."""

    entries: Sequence[Ranked]
    evidence: Evidence
    cursor: _Cursor
    """Where it began."""
    more: bool


async def _page(op: Operation, where: RecordFilter, asked: Plan, cursor: _Cursor, *, limit: int) -> _Page:
    """Cut a page out of the ranking.

    Candidates are mixed with importance and recency in blocks of ``candidates_max``: a page never reaches over the end
    of a block, so that later pages neither repeat nor skip what the mix moves.
    """
    size = op.settings.search.candidates_max
    block, offset = divmod(cursor.offset, size)
    if not asked.has_text:
        found = await op.tx.records.list_recent(op.actor.reader, where, now=op.now, limit=size + 1, offset=block * size)
        ranked = _ranked(op, found[:size], asked, ranking.NO_EVIDENCE)
        more = offset + limit < len(ranked) or len(found) > size
        return _Page(ranked[offset : offset + limit], ranking.NO_EVIDENCE, cursor, more)
    answers = await _answers(op, where, asked, cursor, need=limit)
    inside = answers.candidates[block * size : (block + 1) * size]
    ranked = _ranked(op, inside, asked, answers.evidence)
    more_ranked = offset + limit < len(ranked) or len(answers.candidates) > (block + 1) * size
    begun = cursor._replace(wide=answers.wide)
    if not ranked and answers.more:  # all that was ranked has been shown: go on with what arrived earlier
        return await _page(op, where, asked, _Cursor(cursor.found + answers.found, 0, answers.wide), limit=limit)
    return _Page(ranked[offset : offset + limit], answers.evidence, begun, more_ranked or answers.more)


def _ranked(op: Operation, found: Sequence[Candidate], asked: Plan, evidence: Evidence) -> list[Ranked]:
    return ranking.rank(found, asked, evidence, op.settings.search, now_s=op.now.timestamp())


@dataclass(frozen=True, slots=True)
class _Answers:
    """What may answer a question."""

    candidates: Sequence[Candidate]
    """Best text first."""
    evidence: Evidence
    found: int
    """How many of them match by their own words."""
    more: bool
    """More match than are ranked at once."""
    wide: bool


async def _answers(op: Operation, where: RecordFilter, asked: Plan, cursor: _Cursor, *, need: int) -> _Answers:
    """Find what matches, score it, and add what stands beside the best of it."""
    search, reader = op.settings.search, op.actor.reader
    found, wide = await _search(op, where, asked, cursor, need=need)
    more, found = len(found) > search.found_max, found[: search.found_max]
    candidates = {candidate.id: candidate for candidate in found}
    alike = {} if cursor.found else await _alike(op, asked, where)
    unseen = [record_id for record_id in alike if record_id not in candidates]
    if unseen:
        close = await op.tx.records.candidates(reader, where, unseen, now=op.now)
        candidates.update({candidate.id: candidate for candidate in close})
    score = ranking.scorer(asked, search)
    scores = {record_id: score(candidate) for record_id, candidate in candidates.items()}
    beside = await _beside(op, where, scores)
    context = ranking.context(scores, beside, search)
    if not asked.understood.phrases and not cursor.found:  # what is quoted must be there; nothing comes twice
        least = _UNSAID_MIN * max((own.score for own in scores.values()), default=0.0)
        for candidate in {near.candidate.id: near.candidate for near in beside}.values():
            own = scores.get(candidate.id) or score(candidate)
            said = own.score > 0 and not more
            if said or (not own.score and context.get(candidate.id, 0.0) >= least):
                candidates[candidate.id], scores[candidate.id] = candidate, own
    evidence = Evidence.of(scores, context, alike)
    text = {record_id: evidence.text(record_id, search.semantic_weight) for record_id in candidates}
    best = sorted(candidates.values(), key=lambda candidate: (-text[candidate.id], candidate.id))
    return _Answers(best, evidence, len(found), more, wide)


async def _alike(op: Operation, asked: Plan, where: RecordFilter) -> dict[RecordId, float]:
    """Give what is near in meaning, with its cosines; nothing without an embedder, or where words are quoted."""
    if op.recall is None or asked.understood.phrases:
        return {}
    from contextdna.domain import semantics  # what searches by meaning is loaded where it is at work

    return dict(await semantics.nearest(op, asked.text, where, limit=op.settings.search.candidates_max))


async def _search(
    op: Operation, where: RecordFilter, asked: Plan, cursor: _Cursor, *, need: int
) -> tuple[list[Candidate], bool]:
    """Find what matches; when rare words and filters leave less than needed, look for commoner words too."""
    most = op.settings.search.found_max + 1
    found: list[Candidate] = []
    for wide, match in enumerate(asked.matches):
        last = wide == len(asked.matches) - 1
        if cursor.wide and not last:
            continue
        found = await op.tx.records.search(op.actor.reader, where, match, now=op.now, limit=most, offset=cursor.found)
        if last or cursor.wide is False or len(found) >= need:
            return found, bool(wide)
    return found, False


async def _beside(op: Operation, where: RecordFilter, scores: Mapping[RecordId, Lexical]) -> list[Neighbour]:
    """Give what stands beside the best matches."""
    search = op.settings.search
    best = sorted(scores, key=lambda record_id: (-scores[record_id].score, record_id))[:_SOURCES]
    sources = [record_id for record_id in best if scores[record_id].score > 0]
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
        found, offset, wide, key = unpack_cursor(query.cursor)
    except ValueError as error:
        raise bad_cursor() from error
    if key != _cursor_key(query, op) or not (wide is None or isinstance(wide, bool)):
        raise bad_cursor()
    return _Cursor(_place(found), _place(offset), wide)


def _place(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _OFFSET_MAX:
        raise bad_cursor()
    return value
