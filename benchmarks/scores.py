"""How good an answer is: recall among the first hits, and the reciprocal rank of the first right one."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.report import Row

RANKS = (5, 10, 20)


@dataclass(frozen=True, slots=True)
class Score:
    """One question's answer."""

    category: str
    recall: tuple[float, ...]
    """Share of the evidence among the first hits, for each of `RANKS`."""
    reciprocal_rank: float
    """1 over the place of the first hit that is evidence; 0 where none is."""
    tokens: int
    hits: int


def score(category: str, hits: Sequence[str], evidence: frozenset[str], *, tokens: int) -> Score:
    """Judge the ids of an answer's hits, best first, by those that should be there (at least one)."""
    recall = tuple(len(evidence & set(hits[:rank])) / len(evidence) for rank in RANKS)
    first = next((place for place, hit in enumerate(hits, start=1) if hit in evidence), None)
    return Score(category, recall, 1 / first if first else 0.0, tokens=tokens, hits=len(hits))


def by_category(scores: Sequence[Score]) -> list[Row]:
    """Give the means of each category in order of name, and of all."""
    names = sorted({one.category for one in scores})
    rows = [_means(name, (one for one in scores if one.category == name)) for name in names]
    return [*rows, _means("all", scores)] if scores else []


def _means(name: str, scores: Iterable[Score]) -> Row:
    of_it = list(scores)
    recall = {
        f"recall@{rank}": round(statistics.fmean(one.recall[at] for one in of_it), 4) for at, rank in enumerate(RANKS)
    }
    return {
        "category": name,
        "questions": len(of_it),
        **recall,
        "MRR": round(statistics.fmean(one.reciprocal_rank for one in of_it), 4),
        "tokens a query": round(statistics.fmean(one.tokens for one in of_it)),
        "hits": round(statistics.fmean(one.hits for one in of_it), 1),
    }
