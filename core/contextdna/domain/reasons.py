"""Why a hit is there: the parts of its score in few words, as tokens are what an answer is made of."""

from collections.abc import Iterator
from typing import Final

from contextdna.domain.planning import Plan
from contextdna.domain.ranking import Evidence, Parts, Ranked, parts
from contextdna.values.ids import RecordId
from contextdna.values.settings import SearchSettings

_WORDS_SHOWN_MAX: Final = 12
_WORD_CHARS_MAX: Final = 40
_SHOWN_MIN: Final = 0.005  # a part that is less is no reason


class Reasons:
    """Tells the reasons of one answer's hits."""

    def __init__(self, plan: Plan, evidence: Evidence, search: SearchSettings) -> None:
        self._plan = plan
        self._evidence = evidence
        self._search = search
        self._asked = _asked(plan)

    def of(self, entry: Ranked, granted_by: str) -> Iterator[str]:
        """Say why a record is there: the parts of its score, and what they are for."""
        part, understood = parts(entry, self._plan, self._evidence, self._search), self._plan.understood
        if self._plan.has_text:
            yield from self._text(entry.candidate.id, part)
        elif understood.only_time:
            yield from self._text(entry.candidate.id, part)
            yield "of its time first, then recent and important: the query states only a time"
        elif understood.no_words:
            yield "recent and important first: the query has no searchable word"
        else:
            yield "recent and important first"
        if entry.timely and understood.period is not None:
            yield f"period {_short(part.period)}: {' '.join(understood.period.words)}"
        mixed = (("importance", part.importance), ("recency", part.recency))
        if told := [f"{name} {_short(value)}" for name, value in mixed if value >= _SHOWN_MIN]:
            yield ", ".join(told)
        if entry.named:
            yield f"by {entry.candidate.owner_id}, who is named {_short(part.name)}"
        if granted_by:
            yield f"shared by {granted_by} {_short(part.grant)}"

    def _text(self, record_id: RecordId, part: Parts) -> Iterator[str]:
        held = self._evidence.lexical.held.get(record_id, 0)
        if held:
            words = [word for word, place in self._asked if held >> place & 1]
            yield f"lexical {_short(part.lexical)}: {', '.join(words[:_WORDS_SHOWN_MAX])}"
        elif self._plan.understood.phrases:
            yield "lexical .00: the quoted words"
        for name, value in (("context", part.context), ("link", part.link)):
            if value >= _SHOWN_MIN:
                yield f"{name} {_short(value)}"
        if record_id in self._evidence.semantic:  # by which it is found, even where it is the farthest of them
            yield f"semantic {_short(part.semantic)}"


def _short(part: float) -> str:
    """Give a part of a score in few tokens: ".05"."""
    return f"{part:.2f}".removeprefix("0")


def _asked(plan: Plan) -> list[tuple[str, int]]:
    """List the words that score, as they are shown, with their places in ``Plan.terms``; in the question's order."""
    places = {term.word: place for place, term in enumerate(plan.terms)}
    said = (*plan.understood.words, *(word for phrase in plan.understood.phrases for word in phrase))
    return [(word[:_WORD_CHARS_MAX], places[word]) for word in dict.fromkeys(said) if word in places]
