"""Text to keyed index tokens.

Words are NFKC-normalised, case-folded and stemmed (Snowball English); CJK runs become bigrams. Each stem is then
replaced by a truncated keyed hash under one of the project's two index keys, so that the index holds no word of any
record, and encrypted records share no token with plain ones.
"""

import base64
import hashlib
import re
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import Stemmer

from contextdna.values.level import ENCRYPTED_LEVELS, Level

_WORD: Final = re.compile(r"[^\W_]+")
_CJK: Final = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+)")
_QUOTED: Final = re.compile(r'"([^"]{1,400})"')
_TOKEN_BYTES: Final = 6  # 48 bits: at 100,000 stems, about 2 in 100,000 share a token
_TOKENS_HELD_MAX: Final = 50_000
_WORD_CHARS_MAX: Final = 64

# Source: the Snowball project's English stop word list (BSD-3-Clause), with single letters left by apostrophes.
STOPWORDS: Final = frozenset(
    """a about above after again against all am an and any are as at be because been before being below between both but
    by can could d did do does doing don down during each few for from further had has have having he her here hers
    herself him himself his how i if in into is it its itself just ll m me more most my myself no nor not now o of off
    on once only or other our ours ourselves out over own re s same shall she should so some such t than that the their
    theirs them themselves then there these they this those through to too under until up ve very was we were what when
    where which while who whom why will with would you your yours yourself yourselves""".split()  # noqa: SIM905 - a word list reads best as words
)


def words(text: str, *, limit: int | None = None) -> list[str]:
    """Split text into normalised words and CJK bigrams, in order: all, or the first ``limit``."""
    if limit is not None:
        text = text[: limit * _WORD_CHARS_MAX]
    text = normalised(text)
    found = _WORD.findall(text)
    return (found if text.isascii() else list(_with_bigrams(found)))[:limit]


def normalised(text: str) -> str:
    """Give text in the one form that words are compared in: NFKC, case-folded."""
    return (text if text.isascii() else unicodedata.normalize("NFKC", text)).casefold()


def quoted_phrases(text: str) -> tuple[list[str], str]:
    """Take the phrases in double quotes out of a query; gives (phrases, the rest)."""
    phrases = [phrase for phrase in _QUOTED.findall(text) if words(phrase)]
    return phrases, _QUOTED.sub(" ", text)


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """Give the stem of a normalised word."""
    stemmed: str = _per_thread.stemmer.stemWord(word[:_WORD_CHARS_MAX])
    return stemmed


class Tokeniser:
    """Turns words into the tokens of one of a project's spaces, remembering the ones it has seen."""

    def __init__(self, index_key: bytes) -> None:
        self._base = hashlib.blake2b(key=index_key, digest_size=_TOKEN_BYTES)
        self._held: dict[str, str] = {}

    def token(self, word: str) -> str:
        """Give the token of one normalised word."""
        held = self._held.get(word)
        if held is None:
            if len(self._held) >= _TOKENS_HELD_MAX:
                self._held.clear()
            held = self._held[word] = self._hash(stem(word))
        return held

    def tokens(self, text: str, *, limit: int) -> tuple[str, ...]:
        """Give the tokens of a text in order, at most ``limit``."""
        return self.tokens_of(words(text, limit=limit))

    def tokens_of(self, some: Iterable[str]) -> tuple[str, ...]:
        """Give the tokens of normalised words."""
        held, token = self._held, self.token
        return tuple([held.get(word) or token(word) for word in some])

    def tags(self, tags: Iterable[str]) -> tuple[str, ...]:
        """Give the tokens of whole tags, each once, for exact filters."""
        return tuple(self._hash("tag\x1f" + normalised(tag).strip()) for tag in dict.fromkeys(tags))

    def _hash(self, text: str) -> str:
        state = self._base.copy()
        state.update(text.encode())
        return base64.b32encode(state.digest()).decode().rstrip("=").lower()


@dataclass(frozen=True, slots=True)
class TokenSpaces:
    """How a project's index writes a word: in plain records one way, in encrypted ones another.

    The keys are independent, so that a plain record's text says nothing about the tokens of an encrypted one.
    """

    open: Tokeniser
    sealed: Tokeniser

    def of(self, level: Level) -> Tokeniser:
        """Give the space that records of a level are indexed in."""
        return self.sealed if level in ENCRYPTED_LEVELS else self.open


class _PerThread(threading.local):
    """A stemmer for each thread: PyStemmer's objects must not be shared."""

    def __init__(self) -> None:
        self.stemmer = Stemmer.Stemmer("english", 0)


_per_thread: Final = _PerThread()


def _with_bigrams(found: Iterable[str]) -> Iterator[str]:
    for word in found:
        for piece in _CJK.split(word):
            if not piece:
                continue
            if _CJK.match(piece) and len(piece) > 1:
                yield from (piece[i : i + 2] for i in range(len(piece) - 1))
            else:
                yield piece


def estimate_tokens(text: str) -> int:
    """Estimate a language model's tokens, erring high: 3.5 ASCII characters a token, 1.3 tokens any other one.

    Source: cl100k on English prose gives about 4.4 characters a token, on code about 3.3, on CJK about 1.2 tokens a
    character.
    """
    if text.isascii():
        return int(len(text) / 3.5) + 1
    ascii_chars = sum(1 for char in text if char < "\x80")
    return int(ascii_chars / 3.5 + 1.3 * (len(text) - ascii_chars)) + 1
