"""Transport sessions that are open in this process, by caller: the one unused for longest makes room for a new one.

Nothing is refused for them, as nothing is lost with one: its calls are served by themselves (``affinity``), and only
notifications on a stream of its own would end. So sessions with an open request stay, and those without are few.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any, Final

from contextdna_server.http.limits import CallerKey, Clock

IDLE_MAX: Final = 400
"""Sessions without an open request, of all callers: each takes some 45 KB."""

Ended = tuple[str, Any]
"""A session to end, and whom the SDK knows as its owner."""


class HeldSessions:
    """Counts sessions.

    Args:
        caller_max: How many without an open request one caller may have.
        all_max: How many of them all may have.
        clock: Seconds that only grow.
    """

    def __init__(self, caller_max: int, *, all_max: int = IDLE_MAX, clock: Clock = time.monotonic) -> None:
        self._caller_max = caller_max
        self._all_max = all_max
        self._clock = clock
        self._owners: dict[str, tuple[CallerKey, Any]] = {}
        self._idle: OrderedDict[str, float] = OrderedDict()
        self._idle_of: dict[CallerKey, OrderedDict[str, None]] = {}
        self._busy: dict[str, int] = {}
        self._most = 0

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, session: str, key: CallerKey, owner: Any = None) -> list[Ended]:
        """Hold a new session, and give those to end for it.

        Args:
            session: Its id.
            key: Whose it is.
            owner: Whom the SDK knows as its owner.
        """
        self._owners[session] = key, owner
        self._most = max(self._most, len(self._owners))
        return self._rest(session)

    def _rest(self, session: str) -> list[Ended]:
        """Count a session as idle from now on, and give those to end for it."""
        key, _ = self._owners[session]
        own = self._idle_of.setdefault(key, OrderedDict())
        own[session] = None
        self._idle[session] = self._clock()
        over = []
        while len(own) > self._caller_max:
            over.append(self._drop(next(iter(own))))
        while len(self._idle) > self._all_max:
            over.append(self._drop(next(iter(self._idle))))
        return over

    def _drop(self, session: str) -> Ended:
        owner = self._owners[session][1]
        self.forget(session)
        return session, owner

    def most(self) -> int:
        """Give how many there were at the same time since this was asked last."""
        most, self._most = self._most, len(self._owners)
        return most

    def begin(self, session: str) -> None:
        """Note that a request of a session is open."""
        self._busy[session] = self._busy.get(session, 0) + 1
        self._forget_idle(session)

    def finish(self, session: str) -> list[Ended]:
        """Note that a request of a session is over, and give those to end for it."""
        self._busy[session] -= 1
        if self._busy[session]:
            return []
        del self._busy[session]
        return self._rest(session) if session in self._owners else []

    def forget(self, session: str) -> None:
        """Count a session as over."""
        self._forget_idle(session)
        self._owners.pop(session, None)

    def forget_unused(self, idle_s: float) -> int:
        """Count those as over that had no request for so many seconds; give how many."""
        before = self._clock() - idle_s
        unused = [session for session, at in self._idle.items() if at <= before]
        for session in unused:
            self.forget(session)
        return len(unused)

    def _forget_idle(self, session: str) -> None:
        if self._idle.pop(session, None) is None:
            return
        key, _ = self._owners[session]
        own = self._idle_of[key]
        del own[session]
        if not own:
            del self._idle_of[key]
