"""From a question to what the index is asked: which words decide what is found, and what each word weighs.

A search costs what it finds, so common words do not decide alone. Rare ones do, each by itself, while together they
stand in few enough records; commoner ones decide in groups, of which a record must hold every word. All of them score.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import prod
from typing import Final, NamedTuple, TypeAlias

from contextdna.domain.operation import Operation
from contextdna.domain.stop_words import STOP_WORDS
from contextdna.domain.understanding import Understood, spoken, understand
from contextdna.values.search import Forms, IndexStatistics, Match, Phrase
from contextdna.values.sketch import mark

_COUNTED_MAX: Final = 128  # at the beginning of a long text, and at its end, where the question often stands
_GROUPED_MAX: Final = 6  # of the common words, so many may decide in groups
_GROUP_WORDS_MAX: Final = 4
_GROUP_STEPS_MAX: Final = 60_000  # entries of the index that groups may walk over; 3 to 5 ms


class Term(NamedTuple):
    """A word of the question that the index holds.

    Terms sort rarest first. The word breaks ties, not its tokens: whatever the keys, a corpus ranks the same.
    """

    records: int
    word: str
    open: tuple[str, ...]
    """Its tokens in records of plain levels: one for each stem that some record holds."""
    sealed: tuple[str, ...]
    """The same in records of encrypted levels."""

    @property
    def forms(self) -> Forms:
        """What a record that holds the word holds one of."""
        return tuple((token,) for token in (*self.open, *self.sealed))


class Sought(NamedTuple):
    """What is looked for at once."""

    match: Match
    limit: int
    """So many that match are enough: the last that arrived."""
    most: int
    """No more than so many can match, visible or not."""


Stage: TypeAlias = tuple[Sought, ...]
"""What is looked for together. Of the last part, later pages look for those that arrived before."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A question prepared."""

    text: str
    understood: Understood
    terms: tuple[Term, ...] = ()
    """The words that score, rarest first."""
    rare: int = 0
    """So many of them, the first ones, find by themselves: every visible record that holds one is found."""
    records: int = 0
    """How many records the project has."""
    open_marks: tuple[tuple[bytes, int], ...] = ()
    """What the sketch of a record of a plain level holds of them: (mark, place in ``terms``)."""
    sealed_marks: tuple[tuple[bytes, int], ...] = ()
    """The same for records of encrypted levels."""
    words_mean: float = 1.0
    """Words of a record of the project, on average."""
    stages: tuple[Stage, ...] = ()
    """What is looked for; then what is looked for when that finds too little."""
    event: int = 0
    """The place of the project's newest event, as it was prepared; 0 where that was not asked."""

    @property
    def looked_for(self) -> Hashable:
        """All that decides what is found and how well its words answer; of the question's words only keyed tokens."""
        tokens = tuple((term.open, term.sealed) for term in self.terms)
        counts = tuple(term.records for term in self.terms)
        return (self.stages, tokens, counts, self.records, self.words_mean, bool(self.understood.phrases))

    @property
    def has_text(self) -> bool:
        """Tell whether the question has words that decide what is found, held by the index or not."""
        return bool(self.understood.words or self.understood.phrases) and not self.understood.only_time


async def plan(op: Operation, text: str) -> Plan:
    """Prepare a question."""
    understood, statistics = await _understand(op, text)
    if not (understood.words or understood.phrases):
        return Plan(text, understood)
    quoted = [_phrase_forms(op, stems) for stems in understood.phrase_forms]
    most = max(op.settings.search.query_terms_max - len(quoted), 1)  # a long text costs no more than a long question
    terms = tuple(sorted(_terms(op, understood, statistics))[:most])
    stages = _dated(op, understood, terms) if understood.only_time else _stages(op, quoted, terms, statistics.records)
    return Plan(
        text,
        understood,
        terms=terms,
        rare=0 if quoted else _rare_first(op, terms),
        records=statistics.records,
        open_marks=tuple((mark(token), place) for place, term in enumerate(terms) for token in term.open),
        sealed_marks=tuple((mark(token), place) for place, term in enumerate(terms) for token in term.sealed),
        words_mean=max(statistics.words / max(statistics.records, 1), 1.0),
        stages=tuple(stage for stage in stages if stage),
        event=0 if understood.only_time else statistics.event,  # what is of a time is no ranking to hold
    )


async def _understand(op: Operation, text: str) -> tuple[Understood, IndexStatistics]:
    """Take a question apart in the languages of the project's records, and count its words.

    The languages are as good as always those of the last question; where they are not, it is counted once more.
    """
    spaces = (op.spaces.open, op.spaces.sealed)
    marked = [(space.marked_token(),) for space in spaces]
    while True:
        languages = op.frequencies.languages
        understood = understand(text, default_language=op.settings.search.language, now=op.now, languages=languages)
        stems = dict.fromkeys(stem for forms in _words(understood).values() for stem in forms)
        if not stems:
            return understood, IndexStatistics(0, 0, 0, {})
        asked = [(space.stem_token(stem),) for space in spaces for stem in stems]
        statistics = await op.frequencies.of(op.tx, op.project_id, [*asked, *marked])
        found = await spoken(spaces, partial(_counts, op)) if any(map(statistics.counts.get, marked)) else ()
        if set(found) <= set(understood.languages):
            return understood, statistics
        op.frequencies.languages = tuple(dict.fromkeys((*languages, *found)))


async def _counts(op: Operation, phrases: Sequence[Phrase]) -> Mapping[Phrase, int]:
    return (await op.frequencies.of(op.tx, op.project_id, phrases)).counts


def _words(understood: Understood) -> dict[str, tuple[str, ...]]:
    """Give the stems of the words that may score, those in quotes too; of a long text, of its two ends."""
    quoted: dict[str, tuple[str, ...]] = {}
    for phrase, forms in zip(understood.phrases, understood.phrase_forms, strict=True):
        for place, word in enumerate(phrase):
            if word not in understood.forms and word not in quoted and word not in STOP_WORDS[understood.language]:
                quoted[word] = tuple(dict.fromkeys(stems[place] for stems in forms))
    said = list(understood.forms.items())
    begin = said[:_COUNTED_MAX]
    return {**dict(begin), **dict(said[len(begin) :][-_COUNTED_MAX:]), **quoted}


def _terms(op: Operation, understood: Understood, statistics: IndexStatistics) -> Iterator[Term]:
    """Give the words that any record holds."""
    counts = statistics.counts
    for word, stems in _words(understood).items():
        plain = tuple(token for token in map(op.spaces.open.stem_token, stems) if (token,) in counts)
        sealed = tuple(token for token in map(op.spaces.sealed.stem_token, stems) if (token,) in counts)
        records = sum(counts[token,] for token in (*plain, *sealed))
        if records:
            yield Term(records, word, plain, sealed)


def _phrase_forms(op: Operation, forms: Sequence[Sequence[str]]) -> Forms:
    """Give a quoted phrase as it may stand in the index."""
    spaces = (op.spaces.open, op.spaces.sealed)
    return tuple(dict.fromkeys(tuple(map(space.stem_token, stems)) for space in spaces for stems in forms))


def _stages(op: Operation, quoted: Sequence[Forms], terms: Sequence[Term], records: int) -> Iterator[Stage]:
    """Give what is looked for, and what is looked for when that finds too little."""
    search = op.settings.search
    if quoted:
        yield (Sought(Match((), tuple(quoted)), search.found_max, records),)
        return
    rare = _rare_first(op, terms)
    room = search.found_max  # for words that go together; they crowd out no rare one
    if rare:
        room = max(search.matches_max - sum(term.records for term in terms[:rare]), search.matches_max // 4)
    groups = tuple(_groups(terms[rare:][:_GROUPED_MAX], records, matches_max=room))
    narrow = (
        Sought(Match(_any(terms[:rare])), search.found_max, _records(terms[:rare])),
        Sought(Match((), together=groups), room, _GROUP_STEPS_MAX),
    )
    yield tuple(sought for sought in narrow if sought.match)
    wide = max(_rare(terms, search.matches_wide_max), 1)
    if wide > rare:
        common = Sought(Match(_any(terms[rare:wide])), search.found_max, _records(terms[rare:wide]))
        yield tuple(sought for sought in (*narrow, common) if sought.match)


def _dated(op: Operation, understood: Understood, terms: Sequence[Term]) -> Iterator[Stage]:
    """Give what to look for where only a date is asked for: records that hold all of its words."""
    if terms and len(terms) == len(understood.words):
        yield (
            Sought(Match((), tuple(term.forms for term in terms)), op.settings.search.candidates_max, terms[0].records),
        )


def _rare_first(op: Operation, terms: Sequence[Term]) -> int:
    """Count the words that find by themselves; the rarest one does where it stands in no more than can be scored."""
    search = op.settings.search
    return _rare(terms, search.matches_max) or _rare(terms[:1], search.found_max)


def _records(terms: Sequence[Term]) -> int:
    return sum(term.records for term in terms)


def _any(terms: Sequence[Term]) -> tuple[tuple[str, ...], ...]:
    return tuple(form for term in terms for form in term.forms)


def _rare(terms: Sequence[Term], matches_max: int) -> int:
    """Count the words, rarest first, that together stand in few enough records."""
    matches = 0
    for number, term in enumerate(terms):
        matches += term.records
        if matches > matches_max:
            return number
    return len(terms)


def _groups(common: Sequence[Term], records: int, *, matches_max: int) -> Iterator[tuple[Forms, ...]]:
    """Choose groups of common words that few enough records hold whole, by what is likely if words were independent.

    Small groups first: what holds a greater one holds a smaller one too.
    """
    chosen: list[frozenset[Term]] = []
    matches, steps = 0.0, 0
    for size in range(2, _GROUP_WORDS_MAX + 1):
        for group in combinations(common, size):
            if any(smaller <= set(group) for smaller in chosen):
                continue
            likely = records * prod(term.records / max(records, 1) for term in group)
            if matches + likely > matches_max or steps + group[0].records > _GROUP_STEPS_MAX:
                continue
            matches, steps = matches + likely, steps + group[0].records
            chosen.append(frozenset(group))
            yield tuple(term.forms for term in group)
