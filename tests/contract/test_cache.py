"""Contract of ``Cache``."""

import pytest

from contextdna.backends.in_process import InProcessCache

pytestmark = pytest.mark.anyio


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> InProcessCache:
    return InProcessCache(entries_max=3, clock=clock)


async def test_a_value_is_kept_until_its_time_is_over(cache: InProcessCache, clock: Clock) -> None:
    await cache.set("a", {"any": "value"}, ttl_s=10)
    clock.now += 9.5
    assert await cache.get("a") == {"any": "value"}
    clock.now += 0.5
    assert await cache.get("a") is None
    assert await cache.get("a") is None


async def test_an_unknown_key_gives_none(cache: InProcessCache) -> None:
    assert await cache.get("a") is None


async def test_setting_again_replaces_value_and_time(cache: InProcessCache, clock: Clock) -> None:
    await cache.set("a", 1, ttl_s=10)
    clock.now += 9
    await cache.set("a", 2, ttl_s=10)
    clock.now += 9
    assert await cache.get("a") == 2


@pytest.mark.parametrize("ttl_s", [0, -1])
async def test_no_time_means_forgotten(cache: InProcessCache, ttl_s: float) -> None:
    await cache.set("a", 1, ttl_s=10)
    await cache.set("a", 2, ttl_s=ttl_s)
    assert await cache.get("a") is None


async def test_the_entry_unused_for_longest_makes_room(cache: InProcessCache) -> None:
    for key in "abc":
        await cache.set(key, key, ttl_s=10)
    await cache.get("a")
    await cache.set("b", "b2", ttl_s=10)
    await cache.set("d", "d", ttl_s=10)
    assert [await cache.get(key) for key in "abcd"] == ["a", "b2", None, "d"]


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="entries_max"):
        InProcessCache(entries_max=0)
