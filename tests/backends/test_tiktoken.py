"""Counting tokens by tiktoken, with a small encoding of the test's own; nothing is ever fetched."""

import base64
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from contextdna.backends.tiktoken import token_counter
from contextdna.errors import SettingsInvalid
from tests.tiny_encoding import BYTES, TOKENS, write_encoding


@pytest.fixture
def count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    monkeypatch.setattr("socket.socket.connect", _no_network)
    return token_counter(write_encoding(tmp_path))


def _no_network(*_: object) -> None:
    raise AssertionError("it went online")


def test_tokens_are_those_of_the_file(count: Callable[[str], int]) -> None:
    assert [count(text) for text in ("", "the", "the the", "thx", "é")] == [0, 1, 2, 2, 2]


def test_what_looks_like_a_special_token_is_text(count: Callable[[str], int]) -> None:
    assert count("<|endoftext|>") == 13


@pytest.mark.parametrize("text", ["a" * 300_000, "^" * 300_000, " " * 300_000, "\ud800" * 9, "the " * 75_000])
def test_every_text_is_counted_soon(count: Callable[[str], int], text: str) -> None:
    assert len(text) // 4 <= count(text) <= 3 * len(text)


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(SettingsInvalid) as caught:
        token_counter(write_encoding(tmp_path))
    assert (caught.value.code, "contextdna[tiktoken]" in caught.value.hint) == ("tiktoken_missing", True)


def lines(tokens: Iterable[bytes], *, first: int = 0) -> bytes:
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens, first))


@pytest.mark.parametrize(
    "held",
    [
        b"",
        b"<html>not found</html>",
        b"\xff\xfe",
        lines(BYTES[1:]),
        lines(TOKENS, first=-1),
        lines(TOKENS, first=2**40),
        lines(BYTES) + b"dGhl 7\n",
        lines(BYTES) + b"dGhl\n",
        lines(BYTES) + b"!!! 256\n",
    ],
)
def test_a_file_that_is_no_encoding_is_refused(tmp_path: Path, held: bytes) -> None:
    path = tmp_path / "some.tiktoken"
    path.write_bytes(held)
    with pytest.raises(SettingsInvalid) as caught:
        token_counter(path)
    assert caught.value.code == "token_file_invalid"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        token_counter(tmp_path / "none")
    assert caught.value.code == "token_file_invalid"
