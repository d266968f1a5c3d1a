"""A keyed query as FTS5 reads it. Tokens are checked here: nothing else of a caller's gets into a MATCH text."""

import re
from typing import Final

from contextdna.values.search import Match

_TOKEN: Final = re.compile(r"[a-z0-9]+")

Phrase = tuple[str, ...]


def phrase_text(phrase: Phrase) -> str:
    """Quote a phrase.

    Raises:
        ValueError: A token is not of ``a-z0-9``, or there is none.
    """
    if not phrase or not all(_TOKEN.fullmatch(token) for token in phrase):
        raise ValueError("a phrase is one or more tokens of a-z0-9")
    return f'"{" ".join(phrase)}"'


def match_texts(match: Match) -> tuple[str, ...]:
    """Write a match as one or two MATCH texts, or none where nothing decides.

    With phrases that only score the texts are ``deciding AND scoring`` and ``deciding NOT scoring``: together they are
    the rows that match, apart they score every phrase once, and they share no row.

    Raises:
        ValueError: A token is not of ``a-z0-9``, or a phrase is empty.
    """
    operator = " AND " if match.all_of else " OR "
    deciding = operator.join(phrase_text(phrase) for phrase in match.deciding)
    scoring = " OR ".join(phrase_text(phrase) for phrase in match.scoring)
    if not deciding or not scoring:
        return (deciding,) if deciding else ()
    return (f"({deciding}) AND ({scoring})", f"({deciding}) NOT ({scoring})")
