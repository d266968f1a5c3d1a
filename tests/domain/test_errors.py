"""The tree of errors."""

from collections.abc import Iterator
from copy import copy

import pytest

import contextdna.client.errors  # noqa: F401 - its errors belong to the tree
from contextdna.errors import ContextDnaError, StorageUnavailable


def kinds(of: type[ContextDnaError]) -> Iterator[type[ContextDnaError]]:
    yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


KINDS = [kind for kind in kinds(ContextDnaError) if kind.__module__.startswith("contextdna.")]


@pytest.mark.parametrize("kind", KINDS)
def test_each_caller_gets_a_copy_that_says_the_same(kind: type[ContextDnaError]) -> None:
    error = kind("what went wrong", code="a_code", hint="what to do")
    same = copy(error)
    assert type(same) is kind
    assert (str(same), vars(same)) == (str(error), vars(error))


def test_a_copy_has_no_trace_of_the_first() -> None:
    with pytest.raises(StorageUnavailable) as raised:
        raise StorageUnavailable("away", retryable=True)
    same = copy(raised.value)
    assert same.retryable
    assert same.__traceback__ is None
