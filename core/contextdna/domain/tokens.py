"""Text to keyed index tokens.

Words are NFKC-normalised, case-folded and stemmed (Snowball, in the language of their text); CJK runs become bigrams.
Each stem is then replaced by a truncated keyed hash under one of the project's two index keys, so that the index holds
no word of any record, and encrypted records share no token with plain ones.
"""

import base64
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from contextdna.domain.languages import MARKED_LANGUAGES, detect_words, stem
from contextdna.values.language import Language
from contextdna.values.level import ENCRYPTED_LEVELS, Level

_WORD: Final = re.compile(r"[^\W_]+")
_CJK: Final = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+)")
_QUOTED: Final = re.compile(r'"([^"]{1,400})"')
_TOKEN_BYTES: Final = 6  # 48 bits: at 100,000 stems, about 2 in 100,000 share a token
_TOKENS_HELD_MAX: Final = 50_000
_WORD_CHARS_MAX: Final = 64

_MARKED: Final = frozenset(MARKED_LANGUAGES)


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


class Tokeniser:
    """Turns words into the tokens of one of a project's spaces, remembering the ones it has seen."""

    def __init__(self, index_key: bytes) -> None:
        self._base = hashlib.blake2b(key=index_key, digest_size=_TOKEN_BYTES)
        self._held: dict[Language, dict[str, str]] = {language: {} for language in Language}
        self._held_stems: dict[str, str] = {}

    def token(self, word: str, language: Language = Language.ENGLISH) -> str:
        """Give the token of one normalised word of a text in a language."""
        held = self._held[language]
        token = held.get(word)
        if token is None:
            if len(held) >= _TOKENS_HELD_MAX:
                held.clear()
            token = held[word] = self.stem_token(stem(word, language))
        return token

    def stem_token(self, stem: str) -> str:
        """Give the token of a stem."""
        token = self._held_stems.get(stem)
        if token is None:
            if len(self._held_stems) >= _TOKENS_HELD_MAX:
                self._held_stems.clear()
            token = self._held_stems[stem] = self._hash(stem)
        return token

    def language_token(self, language: Language) -> str:
        """Give the token that all records in a language hold, where it is one of ``MARKED_LANGUAGES``."""
        return self.stem_token(f"language\x1f{language}")

    def marked_token(self) -> str:
        """Give the token that all records in any of ``MARKED_LANGUAGES`` hold."""
        return self.stem_token("language\x1f")

    def tokens(self, text: str, *, limit: int, default: Language = Language.ENGLISH) -> tuple[str, ...]:
        """Give the tokens of a text in order, those of at most ``limit`` words, in the language it is found to be in.

        A text in one of ``MARKED_LANGUAGES`` has two tokens more: that of all of these languages, and that of its own.

        Args:
            text: What to index.
            limit: How many words to index.
            default: The language of a text whose words leave doubt.
        """
        found = words(text, limit=limit)
        language = detect_words(found, default)
        tokens = self.tokens_of(found, language)
        if language not in _MARKED:
            return tokens
        return (*tokens, self.marked_token(), self.language_token(language))

    def tokens_of(self, some: Iterable[str], language: Language = Language.ENGLISH) -> tuple[str, ...]:
        """Give the tokens of normalised words of a text in a language."""
        held, token = self._held[language], self.token
        return tuple([held.get(word) or token(word, language) for word in some])

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
