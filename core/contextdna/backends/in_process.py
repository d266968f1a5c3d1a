"""Cache and event channel within one process."""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio

from contextdna.values.event import Event
from contextdna.values.pattern import key_pattern


class InProcessCache:
    """``Cache`` that forgets the entry unused for longest when it is full.

    Args:
        entries_max: How many entries are kept.
        clock: Monotonic seconds.
    """

    def __init__(self, *, entries_max: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        if entries_max < 1:
            raise ValueError("entries_max must be at least 1")
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._entries_max = entries_max
        self._clock = clock

    async def get(self, key: str) -> bytes | None:
        """Fetch a value, or None when it is not there or no longer."""
        return self._get(key)

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Keep a value for a while; a ``ttl_s`` of 0 or less forgets it."""
        self._entries.pop(key, None)
        if ttl_s <= 0:
            return
        self._entries[key] = (self._clock() + ttl_s, value)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)

    async def delete(self, keys: Sequence[str]) -> int:
        """Forget keys; gives how many were there."""
        return sum(self._get(key) is not None and self._entries.pop(key) is not None for key in set(keys))

    async def mget(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Fetch several values; keys that are not there are left out."""
        return {key: value for key in keys if (value := self._get(key)) is not None}

    async def mset(self, values: Mapping[str, bytes], *, ttl_s: float) -> None:
        """Keep several values for a while."""
        for key, value in values.items():
            await self.set(key, value, ttl_s=ttl_s)

    async def exists(self, keys: Sequence[str]) -> int:
        """Tell how many of some keys are there."""
        return sum(self._get(key) is not None for key in set(keys))

    async def clear(self) -> int:
        """Forget all keys; gives how many there were."""
        there = len(await self.keys())
        self._entries.clear()
        return there

    async def keys(self, pattern: str = "*") -> list[str]:
        """List keys in order; in the pattern ``*`` is any text and ``?`` one character."""
        matches, now = key_pattern(pattern).fullmatch, self._clock()
        return sorted(key for key, (expires_at, _) in self._entries.items() if expires_at > now and matches(key))

    def _get(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires_at, value = entry
        if expires_at <= self._clock():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value


class InProcessChannel:
    """``EventChannel`` between the tasks of one event loop."""

    def __init__(self) -> None:
        self._listeners: set[_Ear] = set()

    @property
    def hears_others(self) -> bool:
        """Whether it tells of what other processes commit."""
        return False

    async def publish(self, events: Sequence[Event]) -> None:
        """Tell listeners that there is something new."""
        if events:
            self.hint()

    def hint(self) -> None:
        """Tell listeners that there may be something new."""
        for ear in self._listeners:
            ear.told.set()

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[None]]:
        """Listen from now on, until the context is left."""
        ear = _Ear()
        self._listeners.add(ear)
        try:
            yield ear
        finally:
            self._listeners.discard(ear)


class _Ear:
    """One listener: whatever it was told since it looked last is one hint."""

    def __init__(self) -> None:
        self.told = anyio.Event()

    def __aiter__(self) -> "_Ear":
        return self

    async def __anext__(self) -> None:
        await self.told.wait()
        self.told = anyio.Event()
