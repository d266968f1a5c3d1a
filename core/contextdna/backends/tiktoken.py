"""Counting tokens as OpenAI's models do, by the package tiktoken (extra ``tiktoken``) and a file of its ranks.

The file is read here, as the package would fetch one from the network. Splitting is that of cl100k_base.
"""

import base64
import binascii
from collections.abc import Callable
from pathlib import Path
from typing import Final

from contextdna.errors import SettingsInvalid

_FILE_BYTES_MAX: Final = 16 * 1024 * 1024  # the largest of the published ones has 4 MB
_RANK_MAX: Final = 2**31
_PIECE_CHARS: Final = 2_000
"""Texts are encoded in pieces of this size: a long run without a space takes time by the square of its length."""
_SPLIT: Final = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)
"""Where cl100k_base parts a text before it merges. Source: tiktoken_ext/openai_public.py, tiktoken 0.14."""


def token_counter(path: Path) -> Callable[[str], int]:
    """Give what counts the tokens of a text; a cut between two pieces of a long one may cost it a token.

    Args:
        path: A file of a token in base64 and its rank a line, such as cl100k_base.tiktoken.

    Raises:
        SettingsInvalid: ``tiktoken_missing`` or ``token_file_invalid``.
    """
    try:
        import tiktoken
    except ImportError as error:
        raise SettingsInvalid(
            "search.token_file is set, but the package tiktoken is not installed",
            code="tiktoken_missing",
            hint="Install contextdna[tiktoken], or leave search.token_file empty.",
        ) from error
    encode = tiktoken.Encoding(path.name, pat_str=_SPLIT, mergeable_ranks=_ranks(path), special_tokens={})

    def count(text: str) -> int:
        pieces = (text[start : start + _PIECE_CHARS] for start in range(0, len(text), _PIECE_CHARS))
        return sum(len(encode.encode_ordinary(piece)) for piece in pieces)

    return count


def _ranks(path: Path) -> dict[bytes, int]:
    try:
        with path.open("rb") as file:
            held = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _invalid(path, f"cannot be read: {error.strerror}") from error
    if len(held) > _FILE_BYTES_MAX:
        raise _invalid(path, f"is larger than {_FILE_BYTES_MAX} bytes")
    try:
        lines = (line.split() for line in held.splitlines() if line)
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    except (ValueError, binascii.Error) as error:
        raise _invalid(path, "is not one token in base64 and its rank a line") from error
    given = frozenset(ranks.values())
    complete = all(bytes([byte]) in ranks for byte in range(256))
    if not complete or len(given) < len(ranks) or min(given) < 0 or max(given) > _RANK_MAX:  # the package would panic
        raise _invalid(path, "lacks a byte, or its ranks are not those of an encoding")
    return ranks


def _invalid(path: Path, what: str) -> SettingsInvalid:
    return SettingsInvalid(
        f"the file of tokens {path} {what}",
        code="token_file_invalid",
        hint="Name a file such as cl100k_base.tiktoken in search.token_file, or leave it empty.",
    )
