"""A keyed query as FTS5 reads it. Tokens are checked here: nothing else of a caller's gets into a MATCH text."""

import re
from typing import Final

from contextdna.values.search import Match, Phrase

_TOKEN: Final = re.compile(r"[a-z0-9]+")


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
        ValueError: A token is not of ``a-z0-9``, or a phrase is empty or has no form.
    """
    deciding = _deciding_text(match)
    scoring = _any_text(match.scoring)
    if not deciding or not scoring:
        return (deciding,) if deciding else ()
    return (f"({deciding}) AND ({scoring})", f"({deciding}) NOT ({scoring})")


def is_scored_apart(match: Match) -> bool:
    """Tell whether a match needs ``weighted_parts``: for its weights, or where ``match_texts`` could score too little.

    FTS5 drops a phrase now and then from the score of ``("a" AND ("b b" OR "c")) NOT "d"``: where a record holds all
    words of "b b", but apart (measured with SQLite 3.53.4).
    """
    has_forms = any(len(forms) > 1 for forms in match.all_of)
    return bool(match.weights) or (has_forms and bool(match.scoring))


def weighted_parts(match: Match) -> list[tuple[str, float, int | None]]:
    """Write a match as parts that are scored apart: (MATCH text, weight, what it decides).

    FTS5 adds up the phrases of one text and cannot weigh them. So each deciding phrase is a text of its own, with the
    number of the requirement that it fulfils. A phrase that only scores is looked for among what the deciding ones
    find; its text scores these as well, and the statement takes their scores off again.

    Raises:
        ValueError: A token is not of ``a-z0-9``, or a phrase is empty or has no form.
    """
    requirements = match.all_of or (match.any_of,)
    parts: list[tuple[str, float, int | None]] = [
        (phrase_text(phrase), match.weights.get(phrase, 1.0), number)
        for number, forms in enumerate(requirements)
        for phrase in forms
    ]
    found = _deciding_text(match)
    parts += [
        (f"({found}) AND {phrase_text(phrase)}", match.weights.get(phrase, 1.0), None) for phrase in match.scoring
    ]
    return parts


def first_varint(block: bytes) -> int:
    """Read the number at the beginning of a block of FTS5, of which eight bytes or fewer are enough for us.

    Source: https://sqlite.org/fileformat2.html#varint, up to 56 bits.
    """
    value = 0
    for byte in block[:8]:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return value


def _deciding_text(match: Match) -> str:
    return " AND ".join(map(_forms_text, match.all_of)) if match.all_of else _any_text(match.any_of)


def _forms_text(forms: tuple[Phrase, ...]) -> str:
    if not forms:
        raise ValueError("a required phrase has one form or more")
    return f"({_any_text(forms)})" if len(forms) > 1 else phrase_text(forms[0])


def _any_text(phrases: tuple[Phrase, ...]) -> str:
    return " OR ".join(map(phrase_text, phrases))
