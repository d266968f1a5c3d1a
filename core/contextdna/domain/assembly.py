"""An answer put together: ranked records opened, near-duplicates folded, cut to a token budget, with their reasons."""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from contextdna.domain.operation import Operation
from contextdna.domain.planning import Plan
from contextdna.domain.ranking import Evidence, Ranked
from contextdna.domain.readable import one_line, readable
from contextdna.domain.reasons import Reasons
from contextdna.domain.tokens import estimate_tokens, normalised
from contextdna.errors import IntegrityFault
from contextdna.values.ids import AgentId, RecordId
from contextdna.values.level import Level
from contextdna.values.record import Kind, VisibleRecord
from contextdna.values.search import Detail, Hit

ANSWER_TOKENS_MIN: Final = 200
"""Least budget of an answer: a hit and some words of it fit, so that every page shows something."""
_ANSWER_OVERHEAD_TOKENS: Final = 80  # what stands around all hits, the cursor most of all
_HIT_OVERHEAD_TOKENS: Final = 74
"""What stands around each content beside what is counted.

Source: about 160 characters of JSON, 21 tokens of them the id, counted as docs/decisions/0021 says.
"""
_LINE_OVERHEAD_TOKENS: Final = 50
"""The same in a compact answer. Source: about 120 characters of JSON, counted likewise."""
_WHY_TOKENS: Final = 25
"""Of reasons, which every hit has, at least."""
_FIELD_TOKENS: Final = 4
"""Of a field that not every hit has, beside its text."""
_ID_TOKENS: Final = 24
"""One of ``same_ids``, with what stands around it. Source: 21 to 23, counted likewise."""
_SHOWN_TOKENS_MIN: Final = 20  # of the first hit's content
_LINE_CHARS: Final = 120
_CHARS_PER_TOKEN_MAX: Final = 8  # no text has more on average: a longer one does not fit, and is not counted
_CLIP_TOKENS_MIN: Final = 80  # below this a cut content says too little
_SHARES: Final = 4  # as many long records at least share an answer
_CUT: Final = " …"
_SAME_NAMED_MAX: Final = 8  # of those that a hit stands for; a filter by tag or time finds the others
_ALIKE_BYTES_MIN: Final = 16  # what is shorter is hardly a statement: "yes", said twice, answers two questions
_ALIKE_CHARS_FIRST: Final = 2_000  # texts that begin alike are compared whole
_STOPS: Final = ".,;:\u2026\u3002"
_OPENING: Final = "\"'`([\u201c\u2018\u201e\u00ab"
_CLOSING: Final = f"{_STOPS}\"'`)]\u201d\u2019\u201c\u00bb"
"""Signs around words that change nothing. Around anything else they may: "(5)", "-5", "C++", "ready?"."""
_SPACES_AND_SIGNS: Final = bytes(code for code in range(0x80) if not chr(code).isalnum())
_SMALL: Final = bytes(range(256)).lower()


@dataclass(frozen=True, slots=True)
class Assembled:
    """What of a page fits."""

    hits: tuple[Hit, ...]
    consumed: int
    """Entries of the page that are shown, folded or unreadable; the next page begins behind them."""
    tokens: int


def likely_hits_max(max_tokens: int, detail: Detail) -> int:
    """Give how many hits of few words fit an answer, so that no more records are read at first."""
    overhead = _LINE_OVERHEAD_TOKENS if detail is Detail.COMPACT else _HIT_OVERHEAD_TOKENS + _WHY_TOKENS
    return max(max_tokens - _ANSWER_OVERHEAD_TOKENS, 0) // overhead + 1


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
    answer = _Answer(op, max_tokens, compact=detail is Detail.COMPACT)
    consumed = len(page)
    for position, hit in _opened(op, page, seen, plan, evidence):
        if len(answer.shown) == limit or not answer.take(hit):
            consumed = position
            break
    answer.use_up()
    return Assembled(tuple(entry.hit for entry in answer.shown), consumed, max_tokens - answer.left)


@dataclass(slots=True)
class _Shown:
    """A hit as it is shown."""

    hit: Hit
    whole: Hit
    tokens: int
    """Of the content that is shown."""
    overhead: int
    """Of what stands around it, the ids of those that say the same left out."""


class _Answer:
    """The hits that are shown, within a budget of tokens."""

    def __init__(self, op: Operation, max_tokens: int, *, compact: bool) -> None:
        self.shown: list[_Shown] = []
        self.left = max_tokens - _ANSWER_OVERHEAD_TOKENS
        self._op = op
        self._share = max_tokens // _SHARES
        self._compact = compact
        self._places: dict[tuple[Level, AgentId, Kind, str, bytes], list[int]] = {}

    def take(self, hit: Hit) -> bool:
        """Show a hit, or fold it into one that says the same; False where there is no room for it."""
        begins, record = _begins(hit.content), hit.record
        places = self._places.setdefault((record.level, record.owner_id, record.kind, record.type, begins), [])
        if places and len(begins) >= _ALIKE_BYTES_MIN:
            compared = _compared(hit.content)
            for place in places:
                if compared == _compared(self.shown[place].whole.content):
                    return self._fold(place, hit)
        fitted = self._line(hit, self.left) if self._compact else self._content(hit, self.left)
        if fitted is None:
            return False
        places.append(len(self.shown))
        self._show(len(self.shown), fitted)
        return True

    def use_up(self) -> None:
        """Give cut contents what the others leave."""
        for place, cut in enumerate(self.shown):
            if cut.hit.clipped and not self._compact and self.left > 0:
                fitted = self._within(cut.whole, cut.tokens + self.left, cut.overhead)
                hit = replace(fitted.hit, score=cut.hit.score, same_ids=cut.hit.same_ids)
                self._show(place, replace(fitted, hit=hit))

    def _fold(self, place: int, hit: Hit) -> bool:
        """Fold a hit into one that says the same, and show the newer; False where the other's id has no room."""
        old = self.shown[place]
        named = len(old.hit.same_ids) < _SAME_NAMED_MAX
        room = self.left - _ID_TOKENS * named
        if room < 0:
            return False
        new, other = old, hit
        hit = replace(hit, score=old.hit.score, why=old.whole.why)  # those of the place that it takes
        if hit.record.created_at > old.hit.record.created_at:
            room += old.overhead + old.tokens
            fitted = self._line(hit, room) if self._compact else self._content(hit, room)
            if fitted is None:
                return False
            new, other = fitted, old.hit
        same_ids = (*old.hit.same_ids, other.record.id) if named else old.hit.same_ids
        self.left -= _ID_TOKENS * named
        self._show(place, replace(new, hit=replace(new.hit, score=old.hit.score, same_ids=same_ids)))
        return True

    def _show(self, place: int, shown: _Shown) -> None:
        """Show a hit at a place, in place of what is shown there."""
        for old in self.shown[place : place + 1]:
            self.left += old.overhead + old.tokens
        self.left -= shown.overhead + shown.tokens
        self.shown[place : place + 1] = [shown]

    def _content(self, hit: Hit, room: int) -> _Shown | None:
        """Fit a hit into tokens with as much of its content as its share; None where that is too little to show."""
        overhead = _overhead(hit)
        if room - overhead < _SHOWN_TOKENS_MIN and not self.shown:  # something must be shown
            hit = replace(hit, tags=(), why=(), clipped=True)
            overhead = _overhead(hit)
        room -= overhead
        if self.shown and room < _CLIP_TOKENS_MIN and _fitting(self._op, hit.content, room) is None:
            return None
        return self._within(hit, min(room, max(self._share - overhead, _CLIP_TOKENS_MIN)), overhead)

    def _within(self, hit: Hit, tokens: int, overhead: int) -> _Shown:
        """Show as much of a hit's content as tokens allow."""
        counted = _fitting(self._op, hit.content, tokens)
        if counted is not None:
            return _Shown(hit, hit, counted, overhead)
        cut, counted = _clip(self._op, hit.content, max(tokens, 1))
        return _Shown(replace(hit, content=cut, clipped=True), hit, counted, overhead)

    def _line(self, hit: Hit, room: int) -> _Shown | None:
        """Fit a line of a hit into tokens; None where there is no room for it."""
        line, clipped = _line(hit.content)
        tokens = self._op.count_tokens(line)
        overhead = _LINE_OVERHEAD_TOKENS + _FIELD_TOKENS * clipped + _around((hit.record.owner_id, hit.record.type))
        if self.shown and overhead + tokens > room:
            return None
        if overhead + tokens > room:  # something must be shown
            line, tokens = _clip(self._op, line, max(room - overhead, 1))
            clipped = True
        return _Shown(replace(hit, content=line, clipped=clipped, tags=(), why=()), hit, tokens, overhead)


def _overhead(hit: Hit) -> int:
    """Count the tokens of what stands around a content."""
    record = hit.record
    fields = _FIELD_TOKENS * (bool(record.session_id) + bool(hit.granted_by) + bool(hit.tags))
    texts = (record.owner_id, record.type, record.session_id, hit.granted_by, *hit.tags, *hit.why)
    return _HIT_OVERHEAD_TOKENS + fields + _around(texts)


def _around(texts: Iterable[str]) -> int:
    """Count the tokens of texts in quotes."""
    return estimate_tokens('","'.join(filter(None, texts)))


def _begins(text: str) -> bytes:
    """Give the letters and digits that a text begins with: few texts share them, and these are compared."""
    text = text[:_ALIKE_CHARS_FIRST]
    text = text if text.isascii() else normalised(text)
    return text.encode("utf-8", "surrogatepass").translate(_SMALL, _SPACES_AND_SIGNS)


def _compared(text: str) -> str:
    """Give a text as it is compared: its words in their order, without stops, and without what changes no word.

    Nothing else is left out: a number, a "not" or another order makes it another statement.
    """
    return " ".join(map(_plain_word, unicodedata.normalize("NFC", text).split()))


def _plain_word(word: str) -> str:
    """Give a word without brackets and quotes, its first letter small; anything else, such as "10⁵", as it is."""
    bare = word.lstrip(_OPENING).rstrip(_CLOSING)
    if bare.isalpha() and bare[1:] == bare[1:].lower():
        return bare.lower()
    return word.rstrip(_STOPS) or word


def _opened(
    op: Operation, page: Sequence[Ranked], seen: Mapping[RecordId, VisibleRecord], plan: Plan, evidence: Evidence
) -> Iterator[tuple[int, Hit]]:
    """Open the records of a page one by one, each with its place on it."""
    unreadable = 0
    reasons = Reasons(plan, evidence, op.settings.search)
    for position, entry in enumerate(page):
        item = seen.get(entry.candidate.id)
        if item is None:
            continue
        try:
            yield position, _hit(op, entry, item, reasons)
        except IntegrityFault:  # one damaged record must not hide the others; the audit entry tells
            unreadable += 1
            op.note(unreadable=unreadable)


def _hit(op: Operation, entry: Ranked, item: VisibleRecord, reasons: Reasons) -> Hit:
    body = op.open(item.record)
    return Hit(
        record=item.record,
        content=readable(item.record.kind, body),
        tags=tuple(body.get("tags", ())),
        score=round(entry.score, 4),
        why=tuple(reasons.of(entry, item.granted_by)),
        granted_by=item.granted_by,
    )


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
