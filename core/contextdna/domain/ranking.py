"""Candidates in order: how well their words, and those around them, answer a question, mixed with what else counts.

All of it is computed from what the candidates carry, so every backend ranks alike, and encrypted records like plain
ones. The weights are settings; docs/decisions/0021 has what they were measured with.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import compress, count, repeat
from math import sqrt
from operator import mul
from typing import Final, NamedTuple

from contextdna.domain.frequencies import rarity
from contextdna.domain.planning import Plan
from contextdna.domain.stop_words import STOP_WORDS
from contextdna.domain.tokens import words
from contextdna.domain.understanding import Understood
from contextdna.values.ids import AgentId, RecordId
from contextdna.values.level import ENCRYPTED_LEVELS
from contextdna.values.search import Candidate, Neighbour
from contextdna.values.settings import SearchSettings

# BM25 with less regard for length than usual: memories and turns are short, and a short one is not the better answer.
# Source: the formula, S. Robertson, H. Zaragoza (2009), 3.15; the values, measured, see docs/decisions/0021.
K1: Final = 1.2
B: Final = 0.3
_TIME_ALONE: Final = 0.75
"""What being of the time is worth where nothing else is asked for, of what a text is that holds the date itself."""
_PLACES: Final = (1.0, 0.8)  # of what the next one gets, those one and two places off; as measured


class Lexical(NamedTuple):
    """How well records' own words answer: two mappings, as there are hundreds of records."""

    scores: dict[RecordId, float]
    held: dict[RecordId, int]
    """Which words of the question a record holds, a bit for each place in ``Plan.terms``."""

    def add(self, other: "Lexical") -> None:
        """Add other records."""
        self.scores.update(other.scores)
        self.held.update(other.held)

    def only(self, record_ids: Iterable[RecordId]) -> "Lexical":
        """Give what there is on some records."""
        known = [record_id for record_id in record_ids if record_id in self.scores]
        return Lexical({one: self.scores[one] for one in known}, {one: self.held[one] for one in known})


class Ranked(NamedTuple):
    """A candidate with its mixed score; a tuple, as hundreds are made for each question."""

    order: tuple[float, float, RecordId]
    candidate: Candidate
    score: float
    recency: float
    """From 1 (now) down to 0."""
    timely: bool
    """It is of the time that the question states."""
    named: bool
    """It is of an agent that the question names."""


class Parts(NamedTuple):
    """What a score is the sum of."""

    lexical: float
    context: float
    """For what stands before and after."""
    link: float
    """For what is linked."""
    semantic: float
    importance: float
    recency: float
    period: float
    name: float
    grant: float


class Said(NamedTuple):
    """How often some records say the words of a question: word by word, as hundreds are read for each question."""

    ids: Sequence[RecordId]
    norms: Sequence[float]
    """BM25's regard for the length of each."""
    times: Sequence[tuple[int, Sequence[int]]]
    """(place in ``Plan.terms``, how often each record says that form of the word)."""

    def held(self) -> list[int]:
        """Give which words each record says, a bit for each place in ``Plan.terms``."""
        held = [0] * len(self.ids)
        for place, times in self.times:
            bit = 1 << place
            for row in compress(count(), times):
                held[row] |= bit
        return held


def said(plan: Plan, candidates: Sequence[Candidate]) -> tuple[Said, ...]:
    """Read the words of a question out of the sketches of candidates: of those of plain and of encrypted levels."""
    sealed = [candidate for candidate in candidates if candidate.level in ENCRYPTED_LEVELS]
    if not sealed:
        return (_said(plan, candidates, plan.open_marks),)
    plain = [candidate for candidate in candidates if candidate.level not in ENCRYPTED_LEVELS]
    return _said(plan, plain, plan.open_marks), _said(plan, sealed, plan.sealed_marks)


def _said(plan: Plan, candidates: Sequence[Candidate], marks: Sequence[tuple[bytes, int]]) -> Said:
    base, slope = K1 * (1 - B), K1 * B / plan.words_mean
    sketches = [candidate.sketch for candidate in candidates]
    return Said(
        [candidate.id for candidate in candidates],
        [base + slope * candidate.words for candidate in candidates],
        [(place, list(map(bytes.count, sketches, repeat(mark)))) for mark, place in marks],
    )


def words_held(plan: Plan, candidates: Sequence[Candidate]) -> dict[RecordId, int]:
    """Give which words of a question candidates say, a bit for each place in ``Plan.terms``."""
    return {
        record_id: held
        for some in said(plan, candidates)
        for record_id, held in zip(some.ids, some.held(), strict=True)
    }


@dataclass(frozen=True, slots=True)
class Weights:
    """How much the words of a question weigh, by place in ``Plan.terms``."""

    rarities: tuple[float, ...]
    coverage: float
    """What each unit of rarity that a record holds adds to its score, as a share of it."""
    weighed: dict[int, float] = field(default_factory=dict)
    """What words weigh together that were asked for: most records hold the same few."""

    @classmethod
    def of(cls, plan: Plan, found: Sequence[Said], search: SearchSettings, *, complete: bool) -> "Weights":
        """Weigh words by how many records hold them.

        Where all visible records that hold a word were found, these are counted: what hidden records say must not show
        in a score. A word that no found record holds has no part in the coverage.

        Args:
            plan: The question.
            found: What the records say that were found.
            search: The weights of the settings.
            complete: All that match were found.
        """
        holding = [0] * len(plan.terms)
        for some in found:
            for place, times in some.times:
                holding[place] += len(times) - times.count(0)
        if complete and plan.understood.phrases:
            records = sum(len(some.ids) for some in found)
            rarities = tuple(rarity(records, holders) for holders in holding)
        else:
            counts = (*holding[: plan.rare], *(term.records for term in plan.terms[plan.rare :]))
            rarities = tuple(rarity(plan.records, holders) for holders in counts)
        known = sum(weight for place, weight in enumerate(rarities) if holding[place])
        return cls(rarities, search.coverage_weight / (known or 1.0))

    def lexical(self, found: Iterable[Said]) -> Lexical:
        """Score records by their own words."""
        lexical = Lexical({}, {})
        for some in found:
            held = some.held()
            shares = {words: 1 + self.coverage * self.of_held(words) for words in set(held)}
            scores = map(mul, self._sums(some), map(shares.__getitem__, held))
            lexical.scores.update(zip(some.ids, scores, strict=True))
            lexical.held.update(zip(some.ids, held, strict=True))
        return lexical

    def _sums(self, said: Said) -> list[float]:
        """Sum up BM25, word by word: the loop of each question that takes longest."""
        sums, norms = [0.0] * len(said.ids), said.norms
        for place, times in said.times:
            weight = self.rarities[place]
            for row in compress(count(), times):
                often = times[row]
                sums[row] += weight * often * (K1 + 1) / (often + norms[row])
        return sums

    def of_held(self, held: int) -> float:
        """Weigh some words together, given as a bit for each place."""
        weight = self.weighed.get(held)
        if weight is None:
            weight = sum(rarity for place, rarity in enumerate(self.rarities) if held >> place & 1)
            self.weighed[held] = weight
        return weight


class Context(NamedTuple):
    """What records get for what is beside them."""

    given: Mapping[RecordId, float] = {}
    """In the measure of ``Lexical.scores``."""
    linked: Mapping[RecordId, float] = {}
    """The share of it that comes from links, where there is any."""

    def only(self, record_ids: Collection[RecordId]) -> "Context":
        """Give what some records get."""
        given = {record_id: self.given[record_id] for record_id in record_ids if record_id in self.given}
        return Context(given, {record_id: self.linked[record_id] for record_id in given if record_id in self.linked})


def context(weights: Weights, lexical: Lexical, beside: Sequence[Neighbour], search: SearchSettings) -> Context:
    """Give what records get for standing beside good ones: the root of the squares of what each neighbour gives.

    So a record between two good ones gets more than beside one, but not twice as much. Words that it holds itself
    count half: a neighbour that says the same is more likely of another matter than one that says the rest.

    Args:
        weights: How much the words of the question weigh.
        lexical: How well the records and their neighbours answer by their own words.
        beside: What stands beside what.
        search: The weights.
    """
    squares: dict[RecordId, float] = {}
    linked: dict[RecordId, float] = {}
    for neighbour in beside:
        record_id = neighbour.candidate.id
        source, own = lexical.held.get(neighbour.of, 0), lexical.held.get(record_id, 0)
        place = abs(neighbour.distance)
        share = search.context_weight * _PLACES[place - 1] if place else search.link_weight
        said = weights.of_held(source & own) / (weights.of_held(source) or 1.0)
        given = share * lexical.scores.get(neighbour.of, 0.0) * (1 - said / 2)
        squares[record_id] = squares.get(record_id, 0.0) + given * given
        if not place:
            linked[record_id] = linked.get(record_id, 0.0) + given * given
    return Context(
        {record_id: sqrt(square) for record_id, square in squares.items() if square},
        {record_id: square / squares[record_id] for record_id, square in linked.items() if square},
    )


@dataclass(frozen=True, slots=True)
class Evidence:
    """How well candidates answer a question."""

    lexical: Lexical
    context: Context
    """What their neighbours add."""
    semantic: Mapping[RecordId, float]
    """Cosines to the question, of the records that are near it; empty where nothing was searched by meaning."""
    lexical_max: float = 1.0
    """The best sum of own words and context there is."""
    semantic_min: float = 0.0
    """The least cosine among them: being near at all is no merit."""
    semantic_span: float = 1.0
    """From the least cosine to the greatest."""

    @classmethod
    def of(cls, lexical: Lexical, context: Context, semantic: Mapping[RecordId, float]) -> "Evidence":
        """Weigh evidence by the best there is of each sort."""
        sums = [score + context.given.get(record_id, 0.0) for record_id, score in lexical.scores.items()]
        least, most = min(semantic.values(), default=0.0), max(semantic.values(), default=0.0)
        return cls(lexical, context, semantic, max(sums, default=0.0) or 1.0, least, most - least or 1.0)

    def only(self, record_ids: Iterable[RecordId]) -> "Evidence":
        """Give what there is on some records, weighed as before."""
        ids = tuple(record_ids)
        return replace(self, lexical=self.lexical.only(ids), context=self.context.only(ids))

    def text(self, record_id: RecordId, semantic_weight: float) -> float:
        """Give how well a record's text answers, from 0 to 1."""
        return self.texts((record_id,), semantic_weight)[0]

    def texts(self, record_ids: Iterable[RecordId], semantic_weight: float) -> list[float]:
        """Give how well the texts of records answer, from 0 to 1."""
        score, given, most = self.lexical.scores.get, self.context.given.get, self.lexical_max
        if not self.semantic:
            return [(score(one, 0.0) + given(one, 0.0)) / most for one in record_ids]
        return [
            (1 - semantic_weight) * (score(one, 0.0) + given(one, 0.0)) / most + semantic_weight * self.nearness(one)
            for one in record_ids
        ]

    def nearness(self, record_id: RecordId) -> float:
        """Give a record's place between the farthest and the nearest in meaning, from 0 to 1."""
        return max(self.semantic.get(record_id, 0.0) - self.semantic_min, 0.0) / self.semantic_span


NO_EVIDENCE: Final = Evidence(Lexical({}, {}), Context(), {})


def rank(
    candidates: Sequence[Candidate], plan: Plan, evidence: Evidence, search: SearchSettings, *, now_s: float
) -> list[Ranked]:
    """Mix what is known of candidates, best first, with a fixed order for equal scores.

    Args:
        candidates: What to rank, each once.
        plan: The question.
        evidence: How well the candidates answer it.
        search: The weights.
        now_s: The time of the question, in seconds since the epoch.
    """
    agents, period = _Named(plan.understood), plan.understood.period
    half_life_s = search.recency_half_life_days * 86_400
    text_weight, weights = _weights(plan, search)
    period_weight = _period_weight(plan, search)
    texts = evidence.texts([candidate.id for candidate in candidates], search.semantic_weight)
    ranked = []
    for candidate, text in zip(candidates, texts, strict=True):
        created_s = candidate.created_us / 1_000_000
        recency = 0.5 ** (max(0.0, now_s - created_s) / half_life_s)
        timely = period is not None and period.holds(datetime.fromtimestamp(created_s, UTC))
        mixed = search.importance_weight * candidate.importance + search.recency_weight * recency + text_weight * text
        score = mixed / weights
        if timely:
            score += period_weight
        named = agents[candidate.owner_id]
        if named:
            score += search.name_weight
        if candidate.granted:
            score += search.grant_weight
        ranked.append(Ranked((-score, -created_s, candidate.id), candidate, score, recency, timely, named))
    ranked.sort()
    return ranked


def parts(entry: Ranked, plan: Plan, evidence: Evidence, search: SearchSettings) -> Parts:
    """Give what the score of a ranked candidate is the sum of."""
    record_id = entry.candidate.id
    text_weight, weights = _weights(plan, search)
    semantic_weight = search.semantic_weight if evidence.semantic else 0.0
    words_share = (1 - semantic_weight) * text_weight / weights / evidence.lexical_max
    around = words_share * evidence.context.given.get(record_id, 0.0)
    link = around * evidence.context.linked.get(record_id, 0.0)
    return Parts(
        lexical=words_share * evidence.lexical.scores.get(record_id, 0.0),
        context=around - link,
        link=link,
        semantic=semantic_weight * evidence.nearness(record_id) * text_weight / weights,
        importance=search.importance_weight * entry.candidate.importance / weights,
        recency=search.recency_weight * entry.recency / weights,
        period=_period_weight(plan, search) * entry.timely,
        name=search.name_weight * entry.named,
        grant=search.grant_weight * bool(entry.candidate.granted),
    )


def _weights(plan: Plan, search: SearchSettings) -> tuple[float, float]:
    """Give the weight of the text, and of all that is mixed."""
    text_weight = search.lexical_weight if plan.has_text or plan.understood.only_time else 0.0
    return text_weight, text_weight + search.importance_weight + search.recency_weight or 1.0


def _period_weight(plan: Plan, search: SearchSettings) -> float:
    """Give what being of the time adds: little, but where the question asks for nothing else."""
    return search.period_weight + (_TIME_ALONE * search.lexical_weight if plan.understood.only_time else 0.0)


class _Named(dict[AgentId, bool]):
    """Which agents a question names: those whose id is made of words that it says, stop words among them."""

    def __init__(self, understood: Understood) -> None:
        super().__init__()
        self._said = understood.said
        self._stop_words = STOP_WORDS[understood.language]

    def __missing__(self, agent_id: AgentId) -> bool:
        parts = words(agent_id)
        named = self._said.issuperset(parts) and not self._stop_words.issuperset(parts)  # "will" names nobody
        self[agent_id] = named
        return named
