"""Contract of ``Cache``."""

import itertools
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest

from contextdna.backends.in_process import InProcessCache
from contextdna.backends.redis import Place, RedisCache, RedisLink, SharedCache
from contextdna.ports.storage import Cache
from tests.servers.redis import own_prefix, redis_url

pytestmark = pytest.mark.anyio

LONG_S = 1000.0
_NUMBERS = itertools.count()


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Held:
    """A cache, and how to let time pass for its keys."""

    cache: Cache
    clock: Clock
    link: RedisLink | None = None

    async def pass_time(self, seconds: float) -> None:
        """Let time pass: here by the clock, in Redis by bringing the end of every key nearer."""
        self.clock.now += seconds
        if self.link is not None:
            for key in await self.link._client.keys(self.link.key("*")):
                rest = await self.link._client.pttl(key)
                await self.link._client.pexpire(key, max(0, rest - round(seconds * 1000)))


class Apart(SharedCache):
    """One whose sides differ, as those of several processes do: of two keys that follow one another one is here."""

    def __init__(self, near: InProcessCache, far: RedisCache) -> None:
        super().__init__(near, far)
        self._sides = (near, far)

    async def mset(self, values: Mapping[str, bytes], *, ttl_s: float) -> None:
        """Keep each value on one side."""
        for key, value in values.items():
            await self._sides[ord(key[-1]) % 2].set(key, value, ttl_s=ttl_s)


@pytest.fixture(params=["in_process", "redis", "shared", "apart"])
async def held(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Held]:
    clock = Clock()
    near = InProcessCache(clock=clock)
    if request.param == "in_process":
        yield Held(near, clock)
        return
    link = RedisLink(Place(redis_url(), f"{own_prefix()}-cache{next(_NUMBERS)}", timeout_s=10))
    far = RedisCache(link)
    caches: dict[str, Cache] = {"redis": far, "shared": SharedCache(near, far), "apart": Apart(near, far)}
    yield Held(caches[request.param], clock, link)
    await far.clear()
    await link.close()


@pytest.fixture
def cache(held: Held) -> Cache:
    return held.cache


@pytest.mark.parametrize("value", [b"", b"bytes", bytes(range(256)) * 64])
async def test_a_value_comes_back_as_it_went_in(cache: Cache, value: bytes) -> None:
    await cache.set("a", value, ttl_s=LONG_S)
    assert await cache.get("a") == value


async def test_a_value_is_kept_until_its_time_is_over(held: Held) -> None:
    await held.cache.set("a", b"1", ttl_s=LONG_S)
    await held.pass_time(LONG_S - 100)
    assert await held.cache.get("a") == b"1"
    await held.pass_time(100)
    assert await held.cache.get("a") is None
    assert await held.cache.exists(["a"]) == 0
    assert await held.cache.keys() == []


async def test_an_unknown_key_gives_none(cache: Cache) -> None:
    assert await cache.get("a") is None


async def test_setting_again_replaces_value_and_time(held: Held) -> None:
    await held.cache.set("a", b"1", ttl_s=LONG_S)
    await held.pass_time(LONG_S - 100)
    await held.cache.set("a", b"2", ttl_s=LONG_S)
    await held.pass_time(LONG_S - 100)
    assert await held.cache.get("a") == b"2"


@pytest.mark.parametrize("ttl_s", [0, -1])
async def test_no_time_means_forgotten(cache: Cache, ttl_s: float) -> None:
    await cache.mset({"a": b"1", "b": b"1"}, ttl_s=LONG_S)
    await cache.set("a", b"2", ttl_s=ttl_s)
    await cache.mset({"b": b"2"}, ttl_s=ttl_s)
    assert await cache.mget(["a", "b"]) == {}


async def test_several_are_kept_and_fetched_at_once(held: Held) -> None:
    cache = held.cache
    await cache.mset({"a": b"1", "b": b"2"}, ttl_s=LONG_S)
    await cache.set("c", b"3", ttl_s=2 * LONG_S)
    assert await cache.mget(["c", "absent", "a"]) == {"a": b"1", "c": b"3"}
    assert await cache.exists(["a", "b", "absent", "a"]) == 2
    await held.pass_time(LONG_S)
    assert await cache.mget(["a", "b", "c"]) == {"c": b"3"}


async def test_nothing_is_asked_for_and_nothing_given(cache: Cache) -> None:
    await cache.mset({}, ttl_s=LONG_S)
    assert await cache.mget([]) == {}
    assert await cache.exists([]) == 0
    assert await cache.delete([]) == 0
    assert await cache.clear() == 0


async def test_deleting_tells_how_many_were_there(cache: Cache) -> None:
    await cache.mset({"a": b"1", "b": b"", "c": b"3"}, ttl_s=LONG_S)
    assert await cache.delete(["a", "b", "absent", "a"]) == 2
    assert await cache.mget(["a", "b", "c"]) == {"c": b"3"}
    assert await cache.delete(["a"]) == 0


async def test_clearing_forgets_all(cache: Cache) -> None:
    await cache.mset({f"key{number}": b"1" for number in range(1200)}, ttl_s=LONG_S)
    assert await cache.clear() == 1200
    assert await cache.keys() == []
    assert await cache.get("key7") is None


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["[ab]", "a*", "a:1", "a:22", "a\\", "ab", "b^c", "ä"]),
        ("a:*", ["a:1", "a:22"]),
        ("a:?", ["a:1"]),
        ("[ab]", ["[ab]"]),
        ("a?", ["a*", "a\\", "ab"]),
        ("a\\", ["a\\"]),
        ("b^c", ["b^c"]),
        ("*2", ["a:22"]),
        ("ä", ["ä"]),
        ("?", ["ä"]),
        ("absent*", []),
        ("", []),
    ],
)
async def test_keys_are_listed_by_pattern_and_in_order(cache: Cache, pattern: str, found: list[str]) -> None:
    there = ("a:1", "a:22", "ab", "[ab]", "a*", "a\\", "b^c", "ä")
    await cache.mset(dict.fromkeys(there, b"1"), ttl_s=LONG_S)
    assert await cache.keys(pattern) == sorted(found)


async def test_the_entry_unused_for_longest_makes_room() -> None:
    cache = InProcessCache(entries_max=3)
    for key in "abc":
        await cache.set(key, key.encode(), ttl_s=10)
    await cache.get("a")
    await cache.set("b", b"b2", ttl_s=10)
    await cache.set("d", b"d", ttl_s=10)
    assert [await cache.get(key) for key in "abcd"] == [b"a", b"b2", None, b"d"]


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="entries_max"):
        InProcessCache(entries_max=0)
