"""A record's words as its row keeps them: enough to score the record, without opening it and without its text.

A sketch is one mark of five bytes for each word of the record, made of the word's keyed token. A record of up to 256
words has all of them; in a longer one a word that stands there more than ``TIMES_MAX`` times has no more marks than
that. A mark is looked for at any place, and not only at
every fifth byte: one that is not there is found in one of a million million places, so that whatever the keys, a corpus
ranks the same.
"""

import base64
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

MARK_BYTES: Final = 5
TIMES_MAX: Final = 8  # with BM25's k1 of 1.2 the ninth time adds a hundredth
_SHORT: Final = 256  # so few words are written as they come: to count them would take longer than it saves


@lru_cache(maxsize=100_000)
def mark(token: str) -> bytes:
    """Give the mark of a token: the first 40 of its 48 bits, or those of its text where it is no keyed token."""
    try:
        return base64.b32decode(token[:8].upper())[:MARK_BYTES].ljust(MARK_BYTES, b"\0")
    except ValueError:
        return token.encode()[:MARK_BYTES].ljust(MARK_BYTES, b"\0")


def sketch(tokens: Sequence[str]) -> bytes:
    """Sketch a record's tokens."""
    return b"".join(map(mark, tokens if len(tokens) <= _SHORT else _at_most(tokens)))


def _at_most(tokens: Iterable[str]) -> Iterable[str]:
    seen: dict[str, int] = {}
    for token in tokens:
        times = seen[token] = seen.get(token, 0) + 1
        if times <= TIMES_MAX:
            yield token
