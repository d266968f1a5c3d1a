"""Memory is given back when many have gone, and only then."""

import sys

import pytest

from contextdna_server.http import returned_memory
from contextdna_server.http.returned_memory import GONE_MIN, GROWN_BYTES_MIN, PAUSE_LOOKS_MAX, MemoryReturn

pytestmark = pytest.mark.anyio


async def test_memory_is_given_back_once_when_many_have_gone() -> None:
    counts = iter([0, 500, 450, 500 - GONE_MIN, 500 - GONE_MIN, 500, 420, 5])
    given: list[int] = []
    memory = MemoryReturn(lambda: next(counts), give_back=lambda: given.append(1), taken=lambda: 0)
    seen = []
    for _ in range(8):
        await memory.look()
        seen.append(len(given))
    assert seen == [0, 0, 0, 1, 1, 1, 1, 2]


async def test_memory_is_given_back_when_the_process_has_grown_and_more_seldom_where_that_stays() -> None:
    given: list[int] = []
    taken = 100
    memory = MemoryReturn(lambda: 1, give_back=lambda: given.append(1), taken=lambda: taken)

    async def tries(looks: int) -> list[int]:
        at = []
        for look in range(looks):
            before = len(given)
            await memory.look()
            at += [look] * (len(given) - before)
        return at

    assert await tries(3) == []
    taken += GROWN_BYTES_MIN
    assert await tries(18) == [0, 2, 5, 10]
    assert len(await tries(PAUSE_LOOKS_MAX * 10)) < 20
    assert await tries(PAUSE_LOOKS_MAX + 1) != []
    taken += GROWN_BYTES_MIN
    assert await tries(2) == [0]
    taken = GROWN_BYTES_MIN
    assert await tries(10) == []
    taken += 100
    assert await tries(2) == [0]


def test_what_the_process_takes_is_known_on_linux() -> None:
    taken = returned_memory._resident_bytes()
    assert taken > 10_000_000 if sys.platform == "linux" else not taken


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
async def test_the_real_way_of_giving_back_works_or_is_left_out() -> None:
    returned_memory._collect_and_trim()
