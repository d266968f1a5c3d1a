"""Transport sessions that are open in this process, by caller: the one unused for longest makes room for a new one.

Nothing is refused for them, as nothing is lost with one: its calls are served by themselves (``affinity``), and only
notifications on a stream of its own would end, so that sessions with an open request go last.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from contextdna_server.http.limits import CallerKey, Clock

SESSIONS_MAX: Final = 10_000
"""In all. Source: as many as the SDK keeps by itself."""


class HeldSessions:
    """Counts sessions.

    Args:
        caller_max: How many one caller may have.
        all_max: How many all may have.
        clock: Seconds that only grow.
    """

    def __init__(self, caller_max: int, *, all_max: int = SESSIONS_MAX, clock: Clock = time.monotonic) -> None:
        self._caller_max = caller_max
        self._all_max = all_max
        self._clock = clock
        self._used_at: dict[str, float] = {}
        self._keys: OrderedDict[str, CallerKey] = OrderedDict()
        self._of_callers: dict[CallerKey, OrderedDict[str, None]] = {}
        self._busy: dict[str, int] = {}
        self._most = 0

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, session: str, key: CallerKey) -> list[str]:
        """Hold a new session, and give those to end for it."""
        own = self._of_callers.get(key, OrderedDict())
        over = []
        if len(own) >= self._caller_max:
            over.append(self._oldest(own))
        elif len(self._keys) >= self._all_max:
            over.append(self._oldest(self._keys))
        for ended in over:
            self.forget(ended)
        self._keys[session] = key
        self._used_at[session] = self._clock()
        self._of_callers.setdefault(key, OrderedDict())[session] = None
        self._most = max(self._most, len(self._keys))
        return over

    def most(self) -> int:
        """Give how many there were at the same time since this was asked last."""
        most, self._most = self._most, len(self._keys)
        return most

    @contextmanager
    def using(self, session: str) -> Iterator[None]:
        """Note that a session is used, and for how long a request of it is open."""
        if session in self._keys:
            self._keys.move_to_end(session)
            self._of_callers[self._keys[session]].move_to_end(session)
        self._busy[session] = self._busy.get(session, 0) + 1
        try:
            yield
        finally:
            self._busy[session] -= 1
            if not self._busy[session]:
                del self._busy[session]
            if session in self._keys:
                self._used_at[session] = self._clock()

    def forget(self, session: str) -> None:
        """Count a session as over."""
        key = self._keys.pop(session, None)
        if key is not None:
            del self._used_at[session]
            own = self._of_callers[key]
            del own[session]
            if not own:
                del self._of_callers[key]

    def forget_unused(self, idle_s: float) -> int:
        """Count those as over that had no request for so many seconds; give how many."""
        before = self._clock() - idle_s
        unused = [session for session, at in self._used_at.items() if at <= before and session not in self._busy]
        for session in unused:
            self.forget(session)
        return len(unused)

    def _oldest(self, sessions: Iterable[str]) -> str:
        """Give the session unused for longest; of those with open requests the first only where all have some."""
        return next((session for session in sessions if session not in self._busy), "") or next(iter(sessions))
