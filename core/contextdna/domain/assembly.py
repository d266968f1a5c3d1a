"""An answer put together: ranked records opened, near-duplicates folded, cut to a token budget, with their reasons."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from contextdna.domain.operation import Operation
from contextdna.domain.planning import Plan
from contextdna.domain.ranking import NOTHING, Evidence, Ranked
from contextdna.domain.readable import one_line, readable
from contextdna.domain.tokens import estimate_tokens, words
from contextdna.errors import IntegrityFault
from contextdna.values.ids import RecordId
from contextdna.values.level import Level
from contextdna.values.record import VisibleRecord
from contextdna.values.search import Detail, Hit

_ANSWER_OVERHEAD_TOKENS: Final = 30  # what stands around all hits, the cursor most of all
_HIT_OVERHEAD_TOKENS: Final = 58
"""What stands around each content beside what is counted. Source: 180 to 200 characters of JSON, as measured."""
_LINE_OVERHEAD_TOKENS: Final = 40
"""The same in a compact answer. Source: 115 to 150 characters of JSON."""
_SHOWN_TOKENS_MIN: Final = 20  # of the first hit, however small the budget
_LINE_CHARS: Final = 120
_CHARS_PER_TOKEN_MAX: Final = 8  # no text has more on average: a longer one does not fit, and is not counted
_REASON_WORDS_SHOWN: Final = 12
_CLIP_TOKENS_MIN: Final = 80  # below this a cut content says too little
_SHARES: Final = 4  # as many long records at least share an answer
_CUT: Final = " …"
_IMPORTANT: Final = 0.8
_RECENT: Final = 0.8
_SHOWN_MIN: Final = 0.005  # a part of a score that is less is no reason
_REASON_CHARS_MAX: Final = 40
_SAME_NAMED_MAX: Final = 8  # of those that a hit stands for; a filter by tag or time finds the others
_ID_TOKENS: Final = 10
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
    limit: int,
    max_tokens: int,
    detail: Detail,
) -> Assembled:
    """Open the page's records until so many are shown or the budget is used.

    A long record gets a quarter of the budget at first, so that others have room, then what they leave; in a compact
    answer each gets a line.
    """
    if detail is Detail.COMPACT:
        opened = _opened(op, page, seen, plan, evidence)
        return _lines(op, page, opened, limit=limit, max_tokens=max_tokens)
    shown: list[_Shown] = []
    said = _Said()
    left, consumed = max_tokens - _ANSWER_OVERHEAD_TOKENS, len(page)
    for position, hit in _opened(op, page, seen, plan, evidence):
        if len(shown) == limit:
            consumed = position
            break
        if (same := said.like(hit)) is not None:
            left -= shown[same].fold(hit)
            continue
        overhead = _HIT_OVERHEAD_TOKENS + estimate_tokens(" ".join((*hit.tags, *hit.why, hit.record.session_id)))
        room = left - overhead
        if shown and room < _CLIP_TOKENS_MIN and _fitting(op, hit.content, room) is None:
            consumed = position
            break
        share = max(max_tokens // _SHARES - overhead, _CLIP_TOKENS_MIN)
        shown.append(_within(op, hit, hit.content, max(min(room, share), _SHOWN_TOKENS_MIN)))
        left -= overhead + shown[-1].tokens
    for cut in (entry for entry in shown if entry.hit.clipped):
        if left > 0:
            before = cut.tokens
            cut.take(_within(op, cut.hit, cut.whole, before + left))
            left -= cut.tokens - before
    return Assembled(tuple(entry.hit for entry in shown), consumed, max_tokens - left)


def _lines(
    op: Operation, page: Sequence[Ranked], opened: Iterator[tuple[int, Hit]], *, limit: int, max_tokens: int
) -> Assembled:
    """Show a line of each record."""
    shown: list[_Shown] = []
    said = _Said()
    left, consumed = max_tokens - _ANSWER_OVERHEAD_TOKENS, len(page)
    for position, hit in opened:
        if len(shown) == limit:
            consumed = position
            break
        if (same := said.like(hit)) is not None:
            left -= shown[same].fold(hit)
            continue
        line, clipped = _line(hit.content)
        tokens = op.count_tokens(line)
        if shown and _LINE_OVERHEAD_TOKENS + tokens > left:
            consumed = position
            break
        shown.append(_Shown(replace(hit, content=line, clipped=clipped, tags=(), why=()), hit.content, tokens))
        left -= _LINE_OVERHEAD_TOKENS + tokens
    return Assembled(tuple(entry.hit for entry in shown), consumed, max_tokens - left)


@dataclass(slots=True)
class _Shown:
    """A hit as it is shown."""

    hit: Hit
    whole: str
    tokens: int
    """Of the content that is shown."""

    def take(self, other: "_Shown") -> None:
        """Show it as another one."""
        self.hit, self.tokens = other.hit, other.tokens

    def fold(self, other: Hit) -> int:
        """Take another hit that says nearly the same into this one; gives the tokens that naming it takes."""
        if len(self.hit.same_ids) == _SAME_NAMED_MAX:
            return 0
        self.hit = replace(self.hit, same_ids=(*self.hit.same_ids, other.record.id))
        return _ID_TOKENS


class _Said:
    """The texts that an answer shows already."""

    def __init__(self) -> None:
        self._texts: list[tuple[Level, frozenset[str]]] = []

    def like(self, hit: Hit) -> int | None:
        """Give the place of the hit shown that says nearly the same words; where there is none, note its words."""
        said = _text_words(hit)
        first = self._before(hit.record.level, said)
        if first is None:
            self._texts.append((hit.record.level, said))
        return first

    def _before(self, level: Level, asked: frozenset[str]) -> int | None:
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
        why=tuple(_reasons(entry, item, plan, evidence)),
        granted_by=item.granted_by,
    )


def _reasons(entry: Ranked, item: VisibleRecord, plan: Plan, evidence: Evidence) -> Iterator[str]:
    """Say why a record is there, with the parts of its score."""
    if plan.has_text:
        yield from _text_reasons(entry.candidate.id, plan, evidence)
    elif plan.understood.no_words:
        yield "recent and important first: the query has no searchable word"
    else:
        yield "recent and important first"
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
    elif plan.understood.phrases:
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
    return [word[:_REASON_CHARS_MAX] for word in found[:_REASON_WORDS_SHOWN]]


def _within(op: Operation, hit: Hit, content: str, tokens: int) -> _Shown:
    """Show as much of a hit's content as tokens allow."""
    counted = _fitting(op, content, tokens)
    if counted is not None:
        return _Shown(replace(hit, content=content, clipped=False), content, counted)
    cut, counted = _clip(op, content, max(tokens, 1))
    return _Shown(replace(hit, content=cut, clipped=True), content, counted)


def _fitting(op: Operation, content: str, tokens: int) -> int | None:
    """Count the tokens of a text that fits; None for one that does not."""
    if len(content) > tokens * _CHARS_PER_TOKEN_MAX:
        return None
    counted = op.count_tokens(content)
    return counted if counted <= tokens else None


def _clip(op: Operation, content: str, tokens: int) -> tuple[str, int]:
    """Cut a text to tokens; gives it with how many it has."""
    chars = tokens * _CHARS_PER_TOKEN_MAX
    while True:
        cut = content[:chars].rstrip() + _CUT
        counted = op.count_tokens(cut)
        if counted <= tokens or chars <= 1:
            return cut, counted
        chars = max(min(int(chars * tokens / counted), chars - 1), 1)


def _line(content: str) -> tuple[str, bool]:
    """Give the beginning of a text as one line, and whether more of it is left."""
    content = content.strip()
    line = one_line(content[: 4 * _LINE_CHARS])
    if len(line) <= _LINE_CHARS and len(content) <= 4 * _LINE_CHARS:
        return line, False
    words_shown = line[: _LINE_CHARS + 1].rsplit(" ", 1)[0]
    return words_shown[:_LINE_CHARS] + _CUT, True
