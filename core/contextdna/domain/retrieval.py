"""Retrieval: from a question to ranked, readable records within a token budget."""

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias, cast

from contextdna.domain.cursors import pack_cursor, unpack_cursor
from contextdna.domain.frequencies import rarity
from contextdna.domain.names import meant_agent, near_agents
from contextdna.domain.operation import Operation
from contextdna.domain.tokens import STOPWORDS, Tokeniser, estimate_tokens, quoted_phrases, words
from contextdna.domain.tool_calls import told_call
from contextdna.domain.validation import check_count, check_period, check_score, check_text
from contextdna.errors import IntegrityFault, InvalidInput
from contextdna.values.ids import RecordId
from contextdna.values.record import Kind, VisibleRecord
from contextdna.values.search import (
    Candidate,
    Context,
    ContextQuery,
    EmptyReason,
    Hit,
    Match,
    Phrase,
    RecordFilter,
    ScopeCount,
)
from contextdna.values.settings import SearchSettings

_HIT_OVERHEAD_TOKENS = 30  # id, type, level, owner and times around each content
_REASON_WORDS = 2_000  # of a long record, the part in which query words are looked for to name them
_REASON_WORDS_SHOWN = 12
_CLIP_TOKENS_MIN = 80  # below this a cut content says too little
_SHARES = 4  # as many long records at least share an answer
_CUT = " …"
_OFFSET_MAX = 10_000_000
_IMPORTANT = 0.8
_RECENT = 0.8


@dataclass(frozen=True, slots=True)
class Plan:
    """A question prepared: what to match, and its words by their tokens in the open space."""

    match: Match | None
    words_by_token: Mapping[str, str]
    no_words: bool = False
    """A query that holds only stop words or signs: answered like an empty one, and said so."""
    wider: Match | None = None
    """The same with commoner words deciding too, for when ``match`` finds too little."""


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
    plan = await _plan(op, query.text)
    where = replace(_filter(op, query), owner_id=await meant_agent(op, query.owner_id))
    page = await _page(op, where, plan, cursor, limit=query.limit)
    wanted = [entry.candidate.id for entry in page.entries]
    seen = {item.record.id: item for item in await op.tx.records.read(op.actor.reader, wanted, now=op.now)}
    hits, used, tokens = _fit(op, page.entries, seen, plan, max_tokens=query.max_tokens)
    more = page.more or used < len(page.entries)
    op.note([hit.record.id for hit in hits], hits=len(hits), query_words=len(plan.words_by_token))
    return Context(
        hits=tuple(hits),
        tokens=tokens,
        cursor=_write_cursor(query, _Cursor(cursor.offset + used, page.wide), op) if more else "",
        truncated=more or any(hit.clipped for hit in hits),
        empty=None if hits else await _explain(op, query, plan),
    )


async def best_matches(op: Operation, text: str, where: RecordFilter, *, limit: int) -> list[Candidate]:
    """Rank the actor's visible records for a text, best first; without usable words, by importance and recency."""
    plan = await _plan(op, text)
    if plan.match is None:
        newest = op.settings.search.candidates_max
        candidates = await op.tx.records.list_recent(op.actor.reader, where, now=op.now, limit=newest)
    else:
        most = max(limit, op.settings.search.candidates_max)
        candidates, _ = await _search(op, where, plan, wide=None, need=limit, most=most)
    ranked = _rank(candidates, plan, op.settings.search, now=op.now)[:limit]
    return [entry.candidate for entry in ranked]


async def _plan(op: Operation, text: str) -> Plan:
    """Choose the query's tokens: quoted phrases must match, then rare words first until enough records match."""
    search = op.settings.search
    phrases, rest = quoted_phrases(text)
    optional = {op.spaces.open.token(word): word for word in words(rest) if word not in STOPWORDS}
    required = {op.spaces.open.token(word): word for phrase in phrases for word in words(phrase)}
    if not optional and not required:
        return Plan(match=None, words_by_token={}, no_words=bool(text.strip()))
    spaces = await op.searched()
    quoted = [_forms(words(phrase), spaces) for phrase in phrases]
    forms_by_word = {word: _forms([word], spaces) for word in optional.values()}
    counts = await _counts(op, forms_by_word.values(), quoted)
    by_rarity = sorted(_terms(forms_by_word, counts))
    most_terms = max(search.query_terms_max - len(quoted), 0)  # the work grows with the square of the words
    rarest_first, left_out = by_rarity[:most_terms], {term.word for term in by_rarity[most_terms:]}
    rare, wide = (_rare_enough(rarest_first, most) for most in (search.matches_max, search.matches_wide_max))
    found = Match((), tuple(quoted), weights=await _weights(op, (*forms_by_word.values(), *quoted), counts))
    return Plan(
        match=_deciding(found, rarest_first, rare),
        wider=_deciding(found, rarest_first, wide),
        words_by_token={token: word for token, word in optional.items() if word not in left_out} | required,
    )


_Forms: TypeAlias = tuple[Phrase, ...]
"""A word or a quoted phrase in each of the spaces that are searched."""


def _forms(some: Sequence[str], spaces: tuple[Tokeniser, ...]) -> _Forms:
    return tuple(space.tokens_of(some) for space in spaces)


class _Term(NamedTuple):
    """A query word as the index knows it: how many records hold it, and its form in each space that holds it.

    Terms sort rarest first. The word breaks ties, not its tokens: whatever the keys, a corpus ranks the same.
    """

    records: int
    word: str
    forms: _Forms


async def _counts(op: Operation, some: Iterable[_Forms], quoted: Sequence[_Forms]) -> dict[Phrase, int]:
    """Count the records of query words, and of quoted phrases where their weight depends on it."""
    asked = [form for forms in some for form in forms]
    asked += [form for forms in quoted if len(forms) > 1 for form in forms]
    return await op.frequencies.counts(op.tx, op.project_id, asked)


def _terms(forms_by_word: Mapping[str, _Forms], counts: Mapping[Phrase, int]) -> Iterator[_Term]:
    """Give the query words that any record holds."""
    for word, forms in forms_by_word.items():
        held = tuple(form for form in forms if form in counts)
        if held:
            yield _Term(sum(counts[form] for form in held), word, held)


async def _weights(op: Operation, some: Iterable[_Forms], counts: Mapping[Phrase, int]) -> dict[Phrase, float]:
    """Weigh what both spaces hold as one space would: a word is rare when it is rare in both together."""
    in_both = [forms for forms in some if len(forms) > 1 and all(form in counts for form in forms)]
    if not in_both:
        return {}
    indexed = await op.tx.records.indexed()
    weights = {}
    for forms in in_both:
        together = rarity(indexed, sum(counts[form] for form in forms))
        weights.update({form: together / rarity(indexed, counts[form]) for form in forms})
    return weights


def _deciding(found: Match, rarest_first: Sequence[_Term], deciding: int) -> Match:
    """Let the rarest words decide what is found, in either space; the others only score."""
    decide = tuple(form for term in rarest_first[:deciding] for form in term.forms)
    score = tuple(form for term in rarest_first[deciding:] for form in term.forms)
    return replace(found, any_of=decide, also=score)


def _rare_enough(rarest_first: Sequence[_Term], matches_max: int) -> int:
    """Count the words, rarest first, that together match few enough records; at least one."""
    matches = 0
    for number, term in enumerate(rarest_first):
        matches += term.records
        if number and matches > matches_max:
            return number
    return len(rarest_first)


class _Cursor(NamedTuple):
    """Where the next page begins, and whether the first one looked for commoner words: pages of one ranking."""

    offset: int = 0
    wide: bool | None = None


class _Page(NamedTuple):
    """One page of a ranking."""

    entries: "list[_Ranked]"
    more: bool
    wide: bool


async def _page(op: Operation, where: RecordFilter, plan: Plan, cursor: _Cursor, *, limit: int) -> _Page:
    """Cut a page out of the ranking; without a text, out of the newest records.

    Candidates are ranked in blocks of ``candidates_max``, best BM25 first: a page never reaches over the end of a
    block, so that later pages neither repeat nor skip what the mix with importance and recency moves.
    """
    if plan.match is None:
        found = await op.tx.records.list_recent(
            op.actor.reader, where, now=op.now, limit=limit + 1, offset=cursor.offset
        )
        ranked = _rank(found[:limit], plan, op.settings.search, now=op.now, newest_first=True)
        return _Page(ranked, more=len(found) > limit, wide=False)
    block_size = op.settings.search.candidates_max
    block, offset = divmod(cursor.offset, block_size)
    found, wide = await _search(op, where, plan, wide=cursor.wide, need=limit, most=(block + 1) * block_size + 1)
    best = found[0].bm25 if found else 0.0
    inside = found[block * block_size : (block + 1) * block_size]
    ranked = _rank(inside, plan, op.settings.search, now=op.now, best=best)
    end = offset + limit
    more = end < len(ranked) or len(found) > (block + 1) * block_size
    return _Page(ranked[offset:end], more=more, wide=wide)


async def _search(
    op: Operation, where: RecordFilter, plan: Plan, *, wide: bool | None, need: int, most: int
) -> tuple[list[Candidate], bool]:
    """Find the best candidates; when rare words and filters leave less than needed, look for commoner words too.

    Args:
        op: The call at work.
        where: What counts.
        plan: The question; it has a match.
        wide: Whether commoner words decide too; None chooses, and is answered with the choice.
        need: How many candidates are enough.
        most: How many candidates to give.
    """
    matches = [match for match in (plan.match, plan.wider) if match is not None and match.deciding]
    if not matches:
        return [], False
    reader = op.actor.reader
    if not wide:
        found = await op.tx.records.search(reader, where, matches[0], now=op.now, limit=most)
        if wide is False or len(found) >= need or matches[-1] == matches[0]:
            return found, False
    return await op.tx.records.search(reader, where, matches[-1], now=op.now, limit=most), True


class _Ranked(NamedTuple):
    """A candidate with its mixed score; a tuple, as hundreds are made for each question."""

    order: tuple[float, float, RecordId]
    candidate: Candidate
    score: float
    lexical: float
    recency: float


def _rank(
    candidates: Sequence[Candidate],
    plan: Plan,
    search: SearchSettings,
    *,
    now: datetime,
    newest_first: bool = False,
    best: float = 0.0,
) -> list[_Ranked]:
    """Mix normalised BM25, importance and recency, best first with a fixed order for equal scores.

    With ``newest_first`` the candidates keep their order. BM25 counts as a share of ``best``, or of the best here.
    """
    best = best or max((candidate.bm25 for candidate in candidates), default=0.0) or 1.0
    lexical_weight = search.lexical_weight if plan.match is not None else 0.0
    importance_weight, recency_weight = search.importance_weight, search.recency_weight
    weight_sum = lexical_weight + importance_weight + recency_weight
    half_life_s, now_s = search.recency_half_life_days * 86_400, now.timestamp()
    ranked = []
    for candidate in candidates:
        created_s = candidate.created_at.timestamp()
        lexical = candidate.bm25 / best
        recency = 0.5 ** (max(0.0, now_s - created_s) / half_life_s)
        mixed = lexical_weight * lexical + importance_weight * candidate.importance + recency_weight * recency
        score = mixed / weight_sum
        ranked.append(_Ranked((-score, -created_s, candidate.id), candidate, score, lexical, recency))
    if not newest_first:
        ranked.sort()
    return ranked


def _fit(
    op: Operation, page: Sequence[_Ranked], seen: Mapping[RecordId, VisibleRecord], plan: Plan, *, max_tokens: int
) -> tuple[list[Hit], int, int]:
    """Open the page's records until the budget is used; gives (hits, entries consumed, tokens).

    A long record gets a quarter of the budget at first, so that others have room, then what they leave.
    """
    hits: list[Hit] = []
    whole: list[str] = []
    left, consumed = max_tokens, len(page)
    for position, hit in _opened(op, page, seen, plan):
        overhead = _HIT_OVERHEAD_TOKENS + estimate_tokens(" ".join((*hit.tags, *hit.why)))
        room = left - overhead
        if hits and room < _CLIP_TOKENS_MIN and estimate_tokens(hit.content) > room:
            consumed = position
            break
        share = max(max_tokens // _SHARES - overhead, _CLIP_TOKENS_MIN)
        shown = _within(hit, hit.content, min(room, share))
        hits.append(shown)
        whole.append(hit.content)
        left -= overhead + estimate_tokens(shown.content)
    for position, hit in enumerate(hits):
        if hit.clipped and left > 0:
            before = estimate_tokens(hit.content)
            hits[position] = _within(hit, whole[position], before + left)
            left -= estimate_tokens(hits[position].content) - before
    return hits, consumed, max_tokens - left


def _opened(
    op: Operation, page: Sequence[_Ranked], seen: Mapping[RecordId, VisibleRecord], plan: Plan
) -> Iterator[tuple[int, Hit]]:
    """Open the records of a page one by one, each with its place on it."""
    unreadable = 0
    for position, entry in enumerate(page):
        item = seen.get(entry.candidate.id)
        if item is None:
            continue
        try:
            yield position, _hit(op, entry, item, plan)
        except IntegrityFault:  # one damaged record must not hide the others; the audit entry tells
            unreadable += 1
            op.note(unreadable=unreadable)


def _within(hit: Hit, content: str, tokens: int) -> Hit:
    """Give a hit with as much of its content as tokens allow."""
    if estimate_tokens(content) <= tokens:
        return replace(hit, content=content, clipped=False)
    return replace(hit, content=_clip(content, max(tokens, 1)), clipped=True)


def _clip(content: str, tokens: int) -> str:
    chars = int(tokens * 3.5)
    while chars > 1 and estimate_tokens(content[:chars] + _CUT) > tokens:
        chars = int(chars * 0.9)
    return content[:chars].rstrip() + _CUT


def _hit(op: Operation, entry: _Ranked, item: VisibleRecord, plan: Plan) -> Hit:
    body = op.open(item.record)
    content, tags = readable(item.record.kind, body), tuple(body.get("tags", ()))
    reasons = list(_matched(op, plan, entry, " ".join((content, *tags))))
    if item.record.importance >= _IMPORTANT:
        reasons.append(f"important {item.record.importance:.2f}")
    if entry.recency >= _RECENT:
        reasons.append("recent")
    if item.granted_by:
        reasons.append(f"shared by {item.granted_by}")
    return Hit(
        record=item.record,
        content=content,
        tags=tags,
        score=round(entry.score, 4),
        why=tuple(reasons) or ("newest first",),
        granted_by=item.granted_by,
    )


def _matched(op: Operation, plan: Plan, entry: _Ranked, text: str) -> Iterator[str]:
    if plan.match is not None:
        held = set(op.spaces.open.tokens_of(words(text, limit=_REASON_WORDS)))
        matched = [word for token, word in plan.words_by_token.items() if token in held]
        yield f"lexical {entry.lexical:.2f}: {', '.join(matched[:_REASON_WORDS_SHOWN])}"
    elif plan.no_words:
        yield "newest first: the query has no searchable word"


def one_line(text: str) -> str:
    """Fold a text into one line without control characters, so that it cannot pose as the text around it."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def readable(kind: Kind, body: Mapping[str, object]) -> str:
    """Give the text of a record's body that a model reads."""
    match kind:
        case Kind.ARTIFACT:
            excerpt = str(body.get("excerpt", ""))
            head = f"{body['name']} ({body['media_type']}, {body['size_bytes']} bytes)"
            return f"{head}\n{excerpt}" if excerpt else head
        case Kind.LOOP:
            verdict = body.get("decision") or body.get("score")
            return f"{body['loop']} {verdict}: {body.get('reasoning', '')}".strip()
        case Kind.TASK:
            result = f"Result: {body['result']}" if body["result"] else ""
            return "\n".join(str(part) for part in (body["title"], body["description"], result) if part)
        case Kind.TURN:
            calls = cast("Sequence[Mapping[str, Any]]", body.get("tool_calls", ()))
            return "\n".join(filter(None, (str(body["content"]), *map(told_call, calls))))
        case _:
            return str(body["content"])


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


async def _explain(op: Operation, query: ContextQuery, plan: Plan) -> EmptyReason:
    counts = await op.tx.records.count_visible(op.actor.reader, now=op.now)
    visible = sum(counts.values())
    levels: dict[str, int] = {}
    types: dict[str, int] = {}
    for (_, level, type_), records in counts.items():
        levels[level] = levels.get(level, 0) + records
        types[type_] = types.get(type_, 0) + records
    suggestions = _suggest(query, plan, types)
    if query.owner_id and (near := await near_agents(op, query.owner_id)):
        suggestions = (f"no agent of that name is known; near: {', '.join(near)}", *suggestions)
    return EmptyReason(
        message=_empty_message(op, query, visible),
        visible=visible,
        by_level=tuple(ScopeCount(name, records) for name, records in sorted(levels.items())),
        by_type=tuple(ScopeCount(name, records) for name, records in sorted(types.items())),
        suggestions=suggestions,
    )


def _empty_message(op: Operation, query: ContextQuery, visible: int) -> str:
    """Say what was searched. Whether a word occurs in records the reader may not see must not show here."""
    scope = f"project {op.project_id}, as agent {op.actor.agent_id}"
    if visible == 0:
        return f"Nothing is visible in {scope} yet."
    if query.cursor:
        return "There are no further hits."
    return f"No record matches query and filters in {scope}; {visible} records are visible there."


def _suggest(query: ContextQuery, plan: Plan, types: Mapping[str, int]) -> tuple[str, ...]:
    suggestions = []
    for wanted in query.types:
        if wanted not in types:
            near = difflib.get_close_matches(wanted, types, n=2, cutoff=0.5)
            suggestions.append(f"type {wanted} has no visible records" + (f"; near: {', '.join(near)}" if near else ""))
    if any((query.types, query.tiers, query.levels, query.tags, query.owner_id, query.since, query.until)):
        suggestions.append("retry with fewer filters")
    if plan.match is not None:
        suggestions.append("retry with other words, or an empty query for recent records")
    return tuple(suggestions)


def _cursor_key(query: ContextQuery, op: Operation) -> str:
    bare = replace(query, cursor="", limit=0, max_tokens=0)
    text = f"{bare!r}|{op.actor.reader!r}"
    return hashlib.blake2b(text.encode(), key=op.keys.hash_key, digest_size=8).hexdigest()


def _write_cursor(query: ContextQuery, cursor: _Cursor, op: Operation) -> str:
    return pack_cursor(*cursor, _cursor_key(query, op))


def _read_cursor(query: ContextQuery, op: Operation) -> _Cursor:
    if not query.cursor:
        return _Cursor()
    try:
        offset, wide, key = unpack_cursor(query.cursor)
    except ValueError as error:
        raise _bad_cursor() from error
    if isinstance(offset, bool) or not isinstance(offset, int) or not isinstance(wide, bool):
        raise _bad_cursor()
    if key != _cursor_key(query, op) or not 0 <= offset <= _OFFSET_MAX:
        raise _bad_cursor()
    return _Cursor(offset, wide)


def _bad_cursor() -> InvalidInput:
    return InvalidInput(
        "the cursor does not belong to this query",
        code="cursor_invalid",
        hint="Send the cursor of the last answer with the same query and filters, or none.",
    )
