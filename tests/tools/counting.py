"""A real tokeniser of a small vocabulary, which the word vectors of the tests come with."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest


@cache
def open_real_counter() -> Callable[[str], int]:
    """Give what counts the tokens of a text; skips the test where no tokeniser is there."""
    tokenizers, wordllama = pytest.importorskip("tokenizers"), find_spec("wordllama")
    if wordllama is None or not wordllama.origin:
        pytest.skip("no tokeniser is there")
    path = Path(wordllama.origin).parent / "tokenizers" / "l2_supercat_tokenizer_config.json"
    tokeniser = tokenizers.Tokenizer.from_file(str(path))
    tokeniser.no_padding()
    tokeniser.no_truncation()
    return lambda text: len(tokeniser.encode(text, add_special_tokens=False).ids)
