"""Text to keyed index tokens.

Words are NFKC-normalised, case-folded and stemmed (Snowball, in the language of their text); runs of a script without
spaces between words become bigrams.
Each stem is then replaced by a truncated keyed hash under one of the project's two index keys, so that the index holds
no word of any record, and encrypted records share no token with plain ones.
"""

import base64
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from contextdna.domain.languages import MARKED_LANGUAGES, detect_words, stem
from contextdna.values.language import Language
from contextdna.values.level import ENCRYPTED_LEVELS, Level

_ASCII_WORD: Final = re.compile(r"[^\W_]+")
_ONE_CHAR_WORDS: Final = "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U000323af"
_NO_SPACES: Final = f"{_ONE_CHAR_WORDS}\u3040-\u30ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Chinese, Korean, Japanese, Thai, Lao, Burmese, Khmer."""
_RUN: Final = re.compile(f"([{_NO_SPACES}]+)")
_IDEOGRAPH_OR_SYLLABLE: Final = re.compile(f"[{_ONE_CHAR_WORDS}]")
_MARK_BLOCKS: Final = (
    range(0x300, 0x1E00), range(0x2C00, 0x2E00), range(0x302A, 0x309B), range(0xA600, 0xAC00), range(0xFB1E, 0xFB1F),
    range(0xFE20, 0xFE30), range(0x10000, 0x12000), range(0x16A00, 0x17000), range(0x1E000, 0x1EA00),
)  # fmt: skip
"""Where the combining marks of scripts are; those of notation and music are elsewhere."""
_UNWRITTEN: Final = re.compile(
    "[\u00ad\u0307\u034f\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef"  # hyphenation, a folded \u0130's dot, variants
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # Hebrew points
    "\u0640\u064b-\u0652\u0670]"  # Arabic vowels and the stretch of a line
)
"""What a word is written with or without, and is the same word; Cyrillic stress, too."""
_STRESSED: Final = re.compile("([\u0400-\u052f])[\u0300\u0301]")
_OPENS: Final = rf"(?:(?<!\w)|(?<=[{_NO_SPACES}]))"
_CLOSES: Final = rf"(?:(?!\w)|(?=[{_NO_SPACES}]))"
_QUOTED: Final = re.compile(
    rf"{_OPENS}\"([^\"]+)\"{_CLOSES}"
    '|\u201c([^\u201c\u201d]+)\u201d|\u201e([^\u201e\u201c\u201d"]+)[\u201c\u201d"]'
    "|\u00ab([^\u00ab\u00bb]+)\u00bb|\u300c([^\u300c\u300d]+)\u300d"
)
_PHRASE_CHARS_MAX: Final = 400
_TOKEN_BYTES: Final = 6  # 48 bits: at 100,000 stems, about 2 in 100,000 share a token
_TOKENS_HELD_MAX: Final = 50_000
_WORD_CHARS_MAX: Final = 64

_MARKED: Final = frozenset(MARKED_LANGUAGES)


def words(text: str, *, limit: int | None = None) -> list[str]:
    """Split text into normalised words, and bigrams where no spaces are written: all, or the first ``limit``."""
    if limit is not None:
        text = text[: limit * _WORD_CHARS_MAX]
    text = normalised(text)
    if text.isascii():
        return _ASCII_WORD.findall(text)[:limit]
    return list(_with_bigrams(_word().findall(text)))[:limit]


def normalised(text: str) -> str:
    """Give text in the one form that words are compared in: NFKC, case-folded, without what is optional in writing."""
    if text.isascii():
        return text.casefold()
    # Folding takes some letters apart: they are composed again.
    folded = _UNWRITTEN.sub("", unicodedata.normalize("NFKC", text).casefold())
    if "\u0300" in folded or "\u0301" in folded:
        folded = _STRESSED.sub(r"\1", folded)
    return unicodedata.normalize("NFKC", folded)


def quoted_phrases(text: str) -> tuple[list[str], str]:
    """Take the quoted phrases out of a query; gives (phrases, the rest).

    A straight quote within a word, or behind one where none is open, is none: 5" is a size. What is too long for a
    phrase stays in the rest.
    """
    phrases: list[str] = []

    def take(match: re.Match[str]) -> str:
        phrase = match[match.lastindex or 0]
        if len(phrase) > _PHRASE_CHARS_MAX:
            return match[0]
        phrases.append(phrase)
        return " "

    rest = _QUOTED.sub(take, text)
    return [phrase for phrase in phrases if words(phrase)], rest


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

        The Chinese characters and Korean syllables of its bigrams follow, each once: some are words. A text in one of
        ``MARKED_LANGUAGES`` has two tokens more: that of all of these languages, and that of its own.

        Args:
            text: What to index.
            limit: How many words to index.
            default: The language of a text whose words leave doubt.
        """
        found = words(text, limit=limit)
        language = detect_words(found, default)
        tokens = self.tokens_of(found if text.isascii() else (*found, *_characters(found)), language)
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


@cache
def _word() -> re.Pattern[str]:
    """Compile what a word is in any script, when the first text asks for it: regular expressions know no marks."""
    blocks = (code for block in _MARK_BLOCKS for code in block)
    codes = {code: None for code in blocks if unicodedata.category(chr(code)) in ("Mn", "Mc")}
    begins, ends = ([code for code in codes if code + side not in codes] for side in (-1, 1))
    marks = "".join(f"{chr(begin)}-{chr(end)}" for begin, end in zip(begins, ends, strict=True))
    # The look ahead spares words in Latin letters the long list.
    return re.compile(rf"[^\W_]+(?:(?![\0-\u02ff])[{marks}]+[^\W_]*)*")


def _with_bigrams(found: Iterable[str]) -> Iterator[str]:
    for word in found:
        for piece in _RUN.split(word):
            if not piece:
                continue
            if len(piece) > 1 and _RUN.match(piece):
                yield from (piece[i : i + 2] for i in range(len(piece) - 1))
            else:
                yield piece


def _characters(found: Iterable[str]) -> Iterator[str]:
    """Give the different characters of bigrams that may be a word alone, and stand nowhere alone."""
    alone = set(found)
    pairs = (word for word in found if len(word) == 2 and _RUN.fullmatch(word))
    for char in dict.fromkeys(char for pair in pairs for char in pair):
        if char not in alone and _IDEOGRAPH_OR_SYLLABLE.match(char):
            yield char


def _byte_kinds() -> bytes:
    """Give the kind of each byte of UTF-8, as ``_COSTS`` names them; bytes that go on with a character have none."""
    ascii_kinds = (
        "l" if char.islower() else "u" if char.isupper() else "d" if char.isdigit()
        else char if char in ' "' else "n" if char in "\n\r\t" else "s"
        for char in map(chr, range(0x80))
    )  # fmt: skip
    led = "-" * 0x40 + "a" * 8 + "o" * 8 + "c" * 4 + "o" * 12 + "w" * 16 + "p" * 16
    return "".join((*ascii_kinds, led)).encode()


_ASCII_COSTS: Final = (
    (b"l", 0.32), (b"u", 0.75), (b"d", 1.15), (b"s", 1.0), (b'"', 0.35), (b"n", 1.0), (b"n ", 1.6),
    (b"lu", 0.65), (b"ld", 0.4), (b"dl", 0.4), (b"ud", 0.4), (b"du", 0.4),
)  # fmt: skip
"""Tokens of small and capital letters, digits, signs, quotes, breaks and indented lines; of changes within words."""
_COSTS: Final = (*_ASCII_COSTS, (b"a", 1.6), (b"c", 0.6), (b"o", 1.3), (b"w", 1.5), (b"p", 4.5))
"""The same; tokens of letters with accents, of Cyrillic, of other characters of two bytes, of three, of four."""
_KINDS: Final = _byte_kinds()


def estimate_tokens(text: str) -> int:
    """Estimate a language model's tokens, erring high.

    Letters share a token with their word; digits, signs and capitals hardly do, and keys and hashes, which mix them,
    least of all.

    Source: measured, see docs/decisions/0021: against a vocabulary of 32,000, which is a small one, it counts 1.1 to
    1.4 times as much of prose and code, and no less of logs, numbers, hashes and emoji.
    """
    count = text.encode("utf-8", "surrogatepass").translate(_KINDS).count
    costs = _ASCII_COSTS if text.isascii() else _COSTS
    return int(sum([count(kinds) * cost for kinds, cost in costs])) + 1
