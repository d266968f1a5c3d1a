"""Rankings that a process holds, so that a question asked again is not looked up again.

A ranking is held for one reader, and holds exactly as long as looking it up again would give the same: until the next
event of its project, of this or another process (whatever changes an answer tells of it in the same transaction), and
until the next moment at which something begins or ends by itself. The records of an answer are read anew each time.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

R = TypeVar("R")

_TTL: Final = timedelta(minutes=10)
"""Far less than events are kept, whose numbers tell of writes."""
_BYTES_MAX: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Held(Generic[R]):
    ranking: R
    since: datetime
    until: datetime
    size_bytes: int


class HeldRankings(Generic[R]):
    """One project's rankings, bounded in number and memory; those not asked for longest go first.

    It holds ids, numbers and keyed marks, no word of a record or question. Used by several threads.

    Args:
        number_max: How many are held; 0 holds none.
        bytes_max: How much memory they may take, about.
    """

    def __init__(self, number_max: int, *, bytes_max: int = _BYTES_MAX) -> None:
        self.number_max = number_max
        self._bytes_max = bytes_max
        self._held: OrderedDict[Hashable, _Held[R]] = OrderedDict()
        self._event = 0
        self._lock = threading.Lock()
        self.size_bytes = 0
        """About how much memory they take."""

    def __len__(self) -> int:
        """Count the rankings."""
        return len(self._held)

    def find(self, key: Hashable, *, event: int, now: datetime) -> R | None:
        """Give a ranking, where looking it up would give the same.

        Args:
            key: All that the ranking depends on beside what is stored, the reader among it.
            event: The place of the project's newest event, in the snapshot of the call.
            now: The time of the call.
        """
        with self._lock:
            self._move_to(event)
            held = self._held.get(key) if event == self._event else None
            if held is None or not held.since <= now < held.until:
                return None
            self._held.move_to_end(key)
            return held.ranking

    def keep(
        self, key: Hashable, ranking: R, *, event: int, now: datetime, until: datetime | None, size_bytes: int
    ) -> None:
        """Hold a ranking.

        Args:
            key: As for ``find``.
            ranking: The ranking.
            event: The place of the project's newest event, in the snapshot that it was looked up in.
            now: When it was looked up.
            until: When something begins or ends by itself that may change it; None for never.
            size_bytes: About how much memory it takes.
        """
        ends = now + _TTL if until is None else min(until, now + _TTL)
        held = _Held(ranking, now, ends, size_bytes)
        with self._lock:
            self._move_to(event)
            if event != self._event or not event:
                return
            self._drop(key)
            self._held[key] = held
            self.size_bytes += held.size_bytes
            while self._held and (len(self._held) > self.number_max or self.size_bytes > self._bytes_max):
                self._drop(next(iter(self._held)))

    def _move_to(self, event: int) -> None:
        """Let go of all that was held before an event. A call whose snapshot is older leaves what is newer alone."""
        if event > self._event:
            self._held.clear()
            self.size_bytes = 0
            self._event = event

    def _drop(self, key: Hashable) -> None:
        gone = self._held.pop(key, None)
        if gone is not None:
            self.size_bytes -= gone.size_bytes
