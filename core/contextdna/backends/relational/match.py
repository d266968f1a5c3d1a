"""A keyed query as FTS5 reads it. Tokens are checked here: nothing else of a caller's gets into a MATCH text."""

import re
from typing import Final

from contextdna.values.search import Forms, Match, Phrase

_TOKEN: Final = re.compile(r"[a-z0-9]+")


def phrase_text(phrase: Phrase) -> str:
    """Quote a phrase.

    Raises:
        ValueError: A token is not of ``a-z0-9``, or there is none.
    """
    if not phrase or not all(_TOKEN.fullmatch(token) for token in phrase):
        raise ValueError("a phrase is one or more tokens of a-z0-9")
    return f'"{" ".join(phrase)}"'


def match_groups(match: Match) -> tuple[tuple[Forms, ...], ...]:
    """Give a match as groups of which one must be there: of it everything, each in one of its forms.

    Raises:
        ValueError: A token is not of ``a-z0-9``, or a phrase is empty or has no form.
    """
    groups = (match.all_of,) if match.all_of else (*(((phrase,),) for phrase in match.any_of), *match.together)
    for group in groups:
        _all_text(group)
    return groups


def match_text(match: Match) -> str:
    """Write a match; it has something that decides.

    Raises:
        ValueError: A token is not of ``a-z0-9``, or a phrase is empty or has no form.
    """
    if match.all_of:
        return _all_text(match.all_of)
    return " OR ".join((*map(phrase_text, match.any_of), *(f"({_all_text(group)})" for group in match.together)))


def _all_text(some: tuple[Forms, ...]) -> str:
    if not some:
        raise ValueError("a group of phrases has one phrase or more")
    return " AND ".join(map(_forms_text, some))


def _forms_text(forms: Forms) -> str:
    if not forms:
        raise ValueError("a required phrase has one form or more")
    return f"({' OR '.join(map(phrase_text, forms))})" if len(forms) > 1 else phrase_text(forms[0])
