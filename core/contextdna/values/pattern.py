"""Patterns of keys."""

import re


def key_pattern(pattern: str) -> re.Pattern[str]:
    """Give what matches the keys that a pattern means: ``*`` is any text, ``?`` one character, all else itself."""
    return re.compile("".join({"*": ".*", "?": "."}.get(sign) or re.escape(sign) for sign in pattern), re.DOTALL)
