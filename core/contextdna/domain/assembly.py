"""An answer put together: ranked records opened, near-duplicates folded, cut to a token budget, with their reasons."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from contextdna.domain.operation import Operation
from contextdna.domain.planning import Plan
from contextdna.domain.ranking import NOTHING, Evidence, Ranked
from contextdna.domain.readable import readable
from contextdna.domain.tokens import estimate_tokens, words
from contextdna.errors import IntegrityFault
from contextdna.values.ids import RecordId
from contextdna.values.level import Level
from contextdna.values.record import VisibleRecord
from contextdna.values.search import Hit

_HIT_OVERHEAD_TOKENS: Final = 30  # id, type, level, owner and times around each content
_REASON_WORDS_SHOWN: Final = 12
_CLIP_TOKENS_MIN: Final = 80  # below this a cut content says too little
_SHARES: Final = 4  # as many long records at least share an answer
_CUT: Final = " …"
_IMPORTANT: Final = 0.8
_RECENT: Final = 0.8
_SHOWN_MIN: Final = 0.005  # a part of a score that is less is no reason
_ALIKE: Final = 0.9  # two texts that share so much of their words say the same
_ALIKE_WORDS_MIN: Final = 5
_ALIKE_WORDS_MAX: Final = 500  # of longer texts the beginnings are compared


@dataclass(frozen=True, slots=True)
class Assembled:
    """What of a page fits."""

    hits: tuple[Hit, ...]
    consumed: int
    """Entries of the page that are shown, folded or unreadable; the next page begins behind them."""
    tokens: int


def assemble(
    op: Operation,
    page: Sequence[Ranked],
    seen: Mapping[RecordId, VisibleRecord],
    plan: Plan,
    evidence: Evidence,
    *,
    max_tokens: int,
) -> Assembled:
    """Open the page's records until the budget is used.

    A long record gets a quarter of the budget at first, so that others have room, then what they leave.
    """
    hits: list[Hit] = []
    whole: list[str] = []
    said = _Said()
    left, consumed = max_tokens, len(page)
    for position, hit in _opened(op, page, seen, plan, evidence):
        words_said = _text_words(hit)
        first = said.before(hit.record.level, words_said)
        if first is not None:
            hits[first] = replace(hits[first], same_ids=(*hits[first].same_ids, hit.record.id))
            continue
        overhead = _HIT_OVERHEAD_TOKENS + estimate_tokens(" ".join((*hit.tags, *hit.why)))
        room = left - overhead
        if hits and room < _CLIP_TOKENS_MIN and estimate_tokens(hit.content) > room:
            consumed = position
            break
        share = max(max_tokens // _SHARES - overhead, _CLIP_TOKENS_MIN)
        shown = _within(hit, hit.content, min(room, share))
        hits.append(shown)
        whole.append(hit.content)
        said.add(hit.record.level, words_said)
        left -= overhead + estimate_tokens(shown.content)
    for position, hit in enumerate(hits):
        if hit.clipped and left > 0:
            before = estimate_tokens(hit.content)
            hits[position] = _within(hit, whole[position], before + left)
            left -= estimate_tokens(hits[position].content) - before
    return Assembled(tuple(hits), consumed, max_tokens - left)


class _Said:
    """The texts that an answer shows already."""

    def __init__(self) -> None:
        self._texts: list[tuple[Level, frozenset[str]]] = []

    def before(self, level: Level, asked: frozenset[str]) -> int | None:
        """Give the place of a text of the same level that says nearly the same words; None where there is none."""
        if len(asked) < _ALIKE_WORDS_MIN:
            return None
        least, most = len(asked) * _ALIKE, len(asked) / _ALIKE
        for place, (its_level, held) in enumerate(self._texts):
            if level is its_level and least <= len(held) <= most:
                shared = len(asked & held)
                if shared >= _ALIKE * (len(asked) + len(held) - shared):
                    return place
        return None

    def add(self, level: Level, said: frozenset[str]) -> None:
        """Take a text that is shown."""
        self._texts.append((level, said))


def _text_words(hit: Hit) -> frozenset[str]:
    return frozenset(words(hit.content, limit=_ALIKE_WORDS_MAX))


def _opened(
    op: Operation, page: Sequence[Ranked], seen: Mapping[RecordId, VisibleRecord], plan: Plan, evidence: Evidence
) -> Iterator[tuple[int, Hit]]:
    """Open the records of a page one by one, each with its place on it."""
    unreadable = 0
    for position, entry in enumerate(page):
        item = seen.get(entry.candidate.id)
        if item is None:
            continue
        try:
            yield position, _hit(op, entry, item, plan, evidence)
        except IntegrityFault:  # one damaged record must not hide the others; the audit entry tells
            unreadable += 1
            op.note(unreadable=unreadable)


def _hit(op: Operation, entry: Ranked, item: VisibleRecord, plan: Plan, evidence: Evidence) -> Hit:
    body = op.open(item.record)
    return Hit(
        record=item.record,
        content=readable(item.record.kind, body),
        tags=tuple(body.get("tags", ())),
        score=round(entry.score, 4),
        why=tuple(_reasons(entry, item, plan, evidence)) or ("recent and important first",),
        granted_by=item.granted_by,
    )


def _reasons(entry: Ranked, item: VisibleRecord, plan: Plan, evidence: Evidence) -> Iterator[str]:
    """Say why a record is there, with the parts of its score."""
    if plan.has_text:
        yield from _text_reasons(entry.candidate.id, plan, evidence)
    elif plan.understood.no_words:
        yield "recent and important first: the query has no searchable word"
    if entry.timely and plan.understood.period is not None:
        yield f"of that time: {' '.join(plan.understood.period.words)}"
    if item.record.importance >= _IMPORTANT:
        yield f"important {item.record.importance:.2f}"
    if entry.recency >= _RECENT:
        yield "recent"
    if item.granted_by:
        yield f"shared by {item.granted_by}"


def _text_reasons(record_id: RecordId, plan: Plan, evidence: Evidence) -> Iterator[str]:
    own, around = evidence.scores.get(record_id, NOTHING), evidence.context.get(record_id, 0.0)
    lexical = own.score / evidence.lexical_max
    if lexical >= _SHOWN_MIN or own.held:
        yield f"lexical {lexical:.2f}: {', '.join(_held_words(own.held, plan))}"
    elif plan.matches and not around:
        yield "lexical 0.00: the quoted words"
    if around / evidence.lexical_max >= _SHOWN_MIN:
        yield f"context {around / evidence.lexical_max:.2f}: beside or linked with another hit"
    semantic = evidence.semantic.get(record_id, 0.0)
    if semantic > 0:
        yield f"semantic {semantic:.2f}"


def _held_words(held: int, plan: Plan) -> Iterable[str]:
    """Name the words that a record holds, in the order of the question."""
    places = {term.word: place for place, term in enumerate(plan.terms)}
    asked = (*plan.understood.words, *(word for phrase in plan.understood.phrases for word in phrase))
    found = [word for word in dict.fromkeys(asked) if word in places and held >> places[word] & 1]
    return found[:_REASON_WORDS_SHOWN]


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
