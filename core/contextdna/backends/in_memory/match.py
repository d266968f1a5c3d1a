"""What a keyed query matches, over plain tuples of tokens."""

import re
from collections.abc import Sequence
from typing import Final

from contextdna.values.search import Forms, Match, Phrase

_TOKEN: Final = re.compile(r"[a-z0-9]+")


def check(match: Match) -> None:
    """Refuse what an engine's query language could misread.

    Raises:
        ValueError: A phrase is empty or has no form, or a token is not of ``a-z0-9``.
    """
    if not all(match.together):
        raise ValueError("a group of phrases has one phrase or more")
    required = [*match.all_of, *(forms for group in match.together for forms in group)]
    if not all(required):
        raise ValueError("a required phrase has one form or more")
    for phrase in (*match.any_of, *(form for forms in required for form in forms)):
        if not phrase or not all(_TOKEN.fullmatch(token) for token in phrase):
            raise ValueError("a phrase is one or more tokens of a-z0-9")


def occurrences(tokens: Sequence[str], phrase: Phrase) -> int:
    """Count where a phrase stands; occurrences may overlap."""
    size = len(phrase)
    return sum(tuple(tokens[start : start + size]) == phrase for start in range(len(tokens) - size + 1))


def matches(tokens: Sequence[str], match: Match) -> bool:
    """Tell whether tokens hold all that is required, or, where nothing is, anything else that decides."""
    if match.all_of:
        return _holds_all(tokens, match.all_of)
    if any(occurrences(tokens, phrase) for phrase in match.any_of):
        return True
    return any(_holds_all(tokens, group) for group in match.together)


def _holds_all(tokens: Sequence[str], some: tuple[Forms, ...]) -> bool:
    return all(any(occurrences(tokens, form) for form in forms) for forms in some)
