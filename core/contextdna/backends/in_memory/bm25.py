"""BM25 as SQLite's FTS5 computes it, over plain tuples of tokens."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Final

from contextdna.backends.in_memory.sheets import Indexed, StoredRecord
from contextdna.values.search import Match, Phrase

# Source: ext/fts5/fts5_aux.c of SQLite, fts5Bm25Function and fts5Bm25GetData.
K1: Final = 1.2
B: Final = 0.75
IDF_MIN: Final = 1e-6

_TOKEN: Final = re.compile(r"[a-z0-9]+")


def check(match: Match) -> None:
    """Refuse what an engine's query language could misread.

    Raises:
        ValueError: A phrase is empty or has no form, or a token is not of ``a-z0-9``.
    """
    if not all(match.all_of):
        raise ValueError("a required phrase has one form or more")
    for phrase in (*match.deciding, *match.scoring):
        if not phrase or not all(_TOKEN.fullmatch(token) for token in phrase):
            raise ValueError("a phrase is one or more tokens of a-z0-9")


def occurrences(tokens: Sequence[str], phrase: Phrase) -> int:
    """Count where a phrase stands; occurrences may overlap."""
    size = len(phrase)
    return sum(tuple(tokens[start : start + size]) == phrase for start in range(len(tokens) - size + 1))


def matches(tokens: Sequence[str], match: Match) -> bool:
    """Tell whether tokens hold every required phrase in a form, or, where none is required, any of the others."""
    if match.all_of:
        return all(any(occurrences(tokens, form) for form in forms) for forms in match.all_of)
    return any(occurrences(tokens, phrase) for phrase in match.any_of)


class Scorer:
    """Scores records for one match against the statistics of the whole index, all projects together.

    The number of records and their mean length count everything that was ever indexed, new versions too: FTS5 tables
    with ``contentless_delete`` never lower them (measured with SQLite 3.53.4).
    """

    def __init__(self, match: Match, indexed: Indexed, stored: Iterable[StoredRecord]) -> None:
        self._phrases = [*match.deciding, *match.scoring]
        all_tokens = [row.tokens for row in stored]
        self._idf = [
            _idf(indexed.records, all_tokens, phrase) * match.weights.get(phrase, 1.0) for phrase in self._phrases
        ]
        self._mean_length = indexed.tokens / indexed.records if indexed.records else 0.0

    def score(self, tokens: Sequence[str]) -> float:
        """Score one record; higher is better."""
        total = 0.0
        for phrase, idf in zip(self._phrases, self._idf, strict=True):
            frequency = float(occurrences(tokens, phrase))
            if frequency:
                length_factor = 1 - B + B * len(tokens) / self._mean_length
                total += idf * ((frequency * (K1 + 1.0)) / (frequency + K1 * length_factor))
        return total


def _idf(records: int, all_tokens: Sequence[Sequence[str]], phrase: Phrase) -> float:
    holding = sum(occurrences(tokens, phrase) > 0 for tokens in all_tokens)
    idf = math.log((records - holding + 0.5) / (holding + 0.5))
    return idf if idf > 0.0 else IDF_MIN
