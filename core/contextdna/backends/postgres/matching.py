"""A match as the statements of PostgreSQL take it."""

import json
from collections.abc import Sequence

from contextdna.backends.relational.match import match_groups
from contextdna.backends.relational.statements import Params
from contextdna.values.search import Match


def match_params(match: Match) -> Params:
    """Write a match as a ``tsquery`` of its words, and its groups where phrases are to be found in the text.

    Raises:
        ValueError: A phrase is empty, a required one has no form, or a token is not of ``a-z0-9``.
    """
    groups = match_groups(match)
    words = " | ".join(f"({' & '.join(map(_any_form, needs))})" for needs in groups)
    has_phrase = any(len(phrase) > 1 for needs in groups for forms in needs for phrase in forms)
    texts = [[[" ".join(phrase) for phrase in forms] for forms in needs] for needs in groups]
    return (words, json.dumps(texts) if has_phrase else None)


def _any_form(forms: Sequence[Sequence[str]]) -> str:
    return f"({' | '.join(' & '.join(phrase) for phrase in forms)})"
