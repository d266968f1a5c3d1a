"""In which language a text is, and the stems of its words.

A word is stemmed by its own looks where they tell, so that names and identifiers have one form in every record: a word
in Cyrillic letters as Russian, one with a digit as English; other words in the language of their text.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import Stemmer

from contextdna.domain.stop_words import STOP_WORDS
from contextdna.values.language import Language

MARKED_LANGUAGES: Final = tuple(one for one in Language if one not in (Language.ENGLISH, Language.RUSSIAN))
"""Languages whose records say so in the index: a query cannot tell by a word's looks that it is in one of them."""

_WORD_CHARS_MAX: Final = 64
_SAMPLE_WORDS: Final = 80
_CYRILLIC: Final = ("\u0400", "\u052f")

# How sure one must be. Tuned on questions and answers of a sentence or two, and on code, logs and lists of names.
_HITS_MIN: Final = 2  # different stop words of the language found
_LEAD_OVER_DEFAULT: Final = 2
_SHARE_MIN: Final = 0.15  # of the different words
_SHARE_ENGLISH: Final = 0.15  # of the words are stop words of English alone: nothing more is asked


def _speakers() -> dict[str, tuple[Language, ...]]:
    """List the languages in Latin letters that have a stop word, without single letters: code is full of them."""
    speakers: dict[str, tuple[Language, ...]] = {}
    for language, stop_words in STOP_WORDS.items():
        if language is not Language.RUSSIAN:
            speakers.update({word: (*speakers.get(word, ()), language) for word in stop_words if len(word) > 1})
    return speakers


_SPEAKERS: Final = _speakers()
_ONLY_ENGLISH: Final = frozenset(word for word, spoken in _SPEAKERS.items() if spoken == (Language.ENGLISH,))


def detect_words(words: Sequence[str], default: Language) -> Language:
    """Tell the language of a text by its first normalised words; the default where they leave doubt.

    Short texts, code and texts of several languages are in the default language.
    """
    sample = words[:_SAMPLE_WORDS]
    if sum(map(_ONLY_ENGLISH.__contains__, sample)) > _SHARE_ENGLISH * len(sample):
        return Language.ENGLISH if default is Language.ENGLISH or len(sample) > _HITS_MIN else default
    different = set(sample)
    cyrillic = sum(map(_is_cyrillic, different))
    if 2 * cyrillic > len(different):
        return Language.RUSSIAN
    hits: dict[Language, int] = {}
    for word in different:
        for language in _SPEAKERS.get(word, ()):
            hits[language] = hits.get(language, 0) + 1
    return _clearest(hits, default, hits_min=max(_HITS_MIN, _SHARE_MIN * len(different)))


def _clearest(hits: dict[Language, int], default: Language, *, hits_min: float) -> Language:
    best = max(hits.values(), default=0)
    leading = [language for language, count in hits.items() if count == best]
    if best < hits_min or len(leading) > 1 or best - hits.get(default, 0) < _LEAD_OVER_DEFAULT:
        return default
    return leading[0]


def _is_cyrillic(word: str) -> bool:
    return _CYRILLIC[0] <= word[0] <= _CYRILLIC[1]


@lru_cache(maxsize=50_000)
def stem(word: str, language: Language = Language.ENGLISH) -> str:
    """Give the stem of a normalised word of a text in a language."""
    if word and _is_cyrillic(word):
        language = Language.RUSSIAN
    elif language is Language.RUSSIAN or not word.isalpha():
        language = Language.ENGLISH
    word = word[:_WORD_CHARS_MAX]
    stemmed: str = _per_thread.stemmer(language).stemWord(word)
    return stemmed or word


def stems(word: str, languages: Iterable[Language]) -> tuple[str, ...]:
    """Give the different stems of a normalised word in languages, in their order."""
    return tuple(dict.fromkeys(stem(word, language) for language in languages))


def phrase_stems(words: Sequence[str], languages: Iterable[Language]) -> Iterator[tuple[str, ...]]:
    """Give the different forms of a phrase in languages: a phrase stands in a text of one language."""
    yield from dict.fromkeys(tuple(stem(word, language) for word in words) for language in languages)


class _PerThread(threading.local):
    """A thread's own stemmers: PyStemmer's objects must not be shared."""

    def __init__(self) -> None:
        self._stemmers: dict[Language, Any] = {}

    def stemmer(self, language: Language) -> Any:
        held = self._stemmers.get(language)
        if held is None:
            held = self._stemmers[language] = Stemmer.Stemmer(language.value, 0)
        return held


_per_thread: Final = _PerThread()
