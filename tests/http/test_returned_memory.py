"""Memory is given back when many have gone, and only then."""

import sys

import pytest

from contextdna_server.http import returned_memory
from contextdna_server.http.returned_memory import GONE_MIN, MemoryReturn

pytestmark = pytest.mark.anyio


async def test_memory_is_given_back_once_when_many_have_gone() -> None:
    counts = iter([0, 500, 450, 500 - GONE_MIN, 500 - GONE_MIN, 500, 420, 5])
    given: list[int] = []
    memory = MemoryReturn(lambda: next(counts), give_back=lambda: given.append(1))
    seen = []
    for _ in range(8):
        await memory.look()
        seen.append(len(given))
    assert seen == [0, 0, 0, 1, 1, 1, 1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
async def test_the_real_way_of_giving_back_works_or_is_left_out() -> None:
    returned_memory._collect_and_trim()
