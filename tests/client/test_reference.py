"""The reference in the documents is that of the code, and names all that may be imported."""

import re

import contextdna.client
from tests.client.reference import PAGE, START, reference


def test_the_reference_is_that_of_the_code() -> None:
    _, start, shown = PAGE.read_text(encoding="utf-8").partition(START)
    assert start + shown == reference(), "run: uv run python -m tests.client.reference"


def test_all_public_names_are_in_the_documents() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in contextdna.client.__all__ if not re.search(rf"\b{name}\b", page)] == []
