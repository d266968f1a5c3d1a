"""Cache and event channel within one process."""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from contextdna.values.event import Event


class InProcessCache:
    """``Cache`` that forgets the entry unused for longest when it is full.

    Args:
        entries_max: How many entries are kept.
        clock: Monotonic seconds.
    """

    def __init__(self, *, entries_max: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        if entries_max < 1:
            raise ValueError("entries_max must be at least 1")
        self._entries: OrderedDict[str, tuple[float, Any]] = OrderedDict()
        self._entries_max = entries_max
        self._clock = clock

    async def get(self, key: str) -> Any | None:
        """Fetch a value, or None when it is not there or no longer."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires_at, value = entry
        if expires_at <= self._clock():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    async def set(self, key: str, value: Any, *, ttl_s: float) -> None:
        """Keep a value for a while; a ``ttl_s`` of 0 or less forgets it."""
        self._entries.pop(key, None)
        if ttl_s <= 0:
            return
        self._entries[key] = (self._clock() + ttl_s, value)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)


class InProcessChannel:
    """``EventChannel`` between the tasks of one event loop.

    Args:
        buffer_max: How many events wait for one listener; beyond that it loses the oldest.
    """

    def __init__(self, *, buffer_max: int = 1000) -> None:
        if buffer_max < 1:
            raise ValueError("buffer_max must be at least 1")
        self._buffer_max = buffer_max
        self._listeners: dict[MemoryObjectSendStream[Event], MemoryObjectReceiveStream[Event]] = {}

    async def publish(self, events: Sequence[Event]) -> None:
        """Tell listeners; a slow listener loses the oldest events, never blocks the publisher."""
        for event in events:
            for sender, receiver in list(self._listeners.items()):
                _push(sender, receiver, event)

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[Event]]:
        """Listen from now on, until the context is left."""
        sender, receiver = anyio.create_memory_object_stream[Event](self._buffer_max)
        with sender, receiver:
            self._listeners[sender] = receiver
            try:
                yield receiver
            finally:
                del self._listeners[sender]


def _push(sender: MemoryObjectSendStream[Event], receiver: MemoryObjectReceiveStream[Event], event: Event) -> None:
    try:
        sender.send_nowait(event)
    except anyio.WouldBlock:
        receiver.receive_nowait()
        sender.send_nowait(event)
