"""Retrieval: from a question to ranked, readable records within a token budget."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from contextdna.domain import answers, ranking
from contextdna.domain.assembly import ANSWER_TOKENS_MIN, Assembled, assemble, likely_hits_max
from contextdna.domain.empty_answers import explain
from contextdna.domain.memories import without_hidden_successors
from contextdna.domain.names import meant_agent
from contextdna.domain.operation import Operation
from contextdna.domain.pages import Page, page_at, read_cursor, write_cursor
from contextdna.domain.planning import Plan, plan
from contextdna.domain.ranking import Evidence, Ranked, Weights
from contextdna.domain.validation import check_count, check_period, check_score, check_text
from contextdna.errors import LimitExceeded
from contextdna.values.search import Candidate, Context, ContextQuery, Detail, RecordFilter


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
    check_count(len(query.types), name="types", maximum=limits.batch_max, minimum=0)
    check_count(len(query.tags), name="tags", maximum=limits.batch_max, minimum=0)
    check_score(query.min_importance, name="min_importance")
    check_period(query.since, query.until)


async def retrieve(op: Operation, query: ContextQuery) -> Context:
    """Answer a question with what the actor may see.

    Raises:
        InvalidInput: The question is wrong, or ``cursor_invalid``.
    """
    check_query(query, op)
    question = _question_key(query, op)
    cursor = read_cursor(query.cursor, question)
    asked = await plan(op, query.text)
    where = replace(_filter(op, query), owner_id=await meant_agent(op, query.owner_id))
    page = await page_at(op, where, asked, cursor, question=question, limit=query.limit)
    answer = await _shown(op, query, page, asked)
    following = page.behind(answer.consumed)
    op.note([hit.record.id for hit in answer.hits], hits=len(answer.hits), query_words=len(asked.understood.words))
    return Context(
        hits=answer.hits,
        tokens=answer.tokens,
        cursor=write_cursor(op, page, following, question),
        truncated=following is not None or any(hit.clipped for hit in answer.hits),
        empty=None if answer.hits else await explain(op, query, has_text=asked.has_text, beyond=following is not None),
    )


async def _shown(op: Operation, query: ContextQuery, page: Page, asked: Plan) -> Assembled:
    """Read and put together what a page shows; where records fold into one, more of them are read."""
    taken = min(query.limit, likely_hits_max(query.max_tokens, query.detail))
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
        newest = await answers.listed(op, where, asked, answers.Start())
        return [(one.candidate, 0.0) for one in _ranked(op, newest.candidates, asked, newest.ranking.evidence)[:limit]]
    matching = (await answers.matches(op, where, asked, answers.Start(), need=limit)).candidates
    said = ranking.said(asked, matching)
    lexical = Weights.of(asked, said, search, complete=False).lexical(said)
    evidence = Evidence.of(lexical, ranking.Context(), {})
    best = sorted(matching, key=lambda candidate: (-lexical.scores[candidate.id], candidate.id))
    ranked = _ranked(op, best[: max(limit, search.candidates_max)], asked, evidence)[:limit]
    return [(entry.candidate, evidence.text(entry.candidate.id, 0.0)) for entry in ranked]


def _ranked(op: Operation, found: Sequence[Candidate], asked: Plan, evidence: Evidence) -> list[Ranked]:
    return ranking.rank(found, asked, evidence, op.settings.search, now_s=op.now.timestamp())


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


def _question_key(query: ContextQuery, op: Operation) -> str:
    bare = replace(query, cursor="", limit=0, max_tokens=0, detail=Detail.FULL)
    text = f"{bare!r}|{op.actor.reader!r}"
    return hashlib.blake2b(text.encode(), key=op.keys.hash_key, digest_size=8).hexdigest()
