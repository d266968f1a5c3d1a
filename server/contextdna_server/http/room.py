"""How many connections a server holds, and which one goes when another comes."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

logger = logging.getLogger(__name__)

HEALTH_PATH: Final = "/healthz"
READY_PATH: Final = "/readyz"
ROOMLESS_PATHS: Final = frozenset({HEALTH_PATH, READY_PATH})
"""Served to connections beyond the bound, too: who is crowded lives."""

SPARE_CONNECTIONS: Final = 100
"""Connections beyond ``http.connections_max``: they are told that there is no room, or how the server is."""

TELL_EACH_S: Final = 60.0
_OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Guest(Protocol):
    """A connection."""

    def make_way(self) -> None:
        """Close at once: it rests, and another needs its place."""


class Room:
    """The open connections of one listening socket.

    Where all places are taken, the connection that has rested longest makes way: one that never showed a good
    credential before any that did.

    Args:
        places: How many are served at the same time.
        spare: How many more are held.
    """

    def __init__(self, places: int, *, spare: int = SPARE_CONNECTIONS) -> None:
        self.places = places
        self._spare_max = spare
        self._inside: set[Guest] = set()
        self._spare: dict[Guest, None] = {}
        self._strangers: dict[Guest, None] = {}  # these rest, longest first; so do the known
        self._known: dict[Guest, None] = {}
        self._tell = Seldom()

    def __len__(self) -> int:
        return len(self._inside) + len(self._spare)

    def enter(self, guest: Guest) -> None:
        """Take a new connection, which rests until it asks for something."""
        if self._has_place():
            self._inside.add(guest)
            self._strangers[guest] = None
            return
        if len(self._spare) >= self._spare_max:
            oldest = next(iter(self._spare))
            del self._spare[oldest]
            oldest.make_way()
        self._spare[guest] = None

    def serves(self, guest: Guest) -> bool:
        """Tell whether a connection that asks for something has a place, or gets one now."""
        if guest in self._spare and self._has_place():
            del self._spare[guest]
            self._inside.add(guest)
        if guest not in self._inside:
            self._tell("all %d connections are in use: http.connections_max", self.places)
            return False
        return True

    def rest(self, guest: Guest, *, is_known: bool) -> None:
        """Note that a connection has nothing to do now; one that rests already rests on."""
        if guest in self._inside:
            (self._known if is_known else self._strangers).setdefault(guest)

    def wake(self, guest: Guest) -> None:
        """Note that a connection is in use."""
        self._strangers.pop(guest, None)
        self._known.pop(guest, None)

    def leave(self, guest: Guest) -> None:
        """Forget a connection."""
        self.wake(guest)
        self._inside.discard(guest)
        self._spare.pop(guest, None)

    def _has_place(self) -> bool:
        if len(self._inside) < self.places:
            return True
        for resting in (self._strangers, self._known):
            if resting:
                oldest = next(iter(resting))
                self.leave(oldest)
                oldest.make_way()
                return True
        return False


class Seldom:
    """Logs a warning, and the same one again not before ``TELL_EACH_S``."""

    def __init__(self) -> None:
        self._told_at: dict[str, float] = {}

    def __call__(self, text: str, *values: object) -> None:
        """Log, or keep silent."""
        now = time.monotonic()
        if now - self._told_at.get(text, -TELL_EACH_S) >= TELL_EACH_S:
            self._told_at[text] = now
            logger.warning(text, *values)


LoopFaults = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]


def out_of_files_handler(otherwise: LoopFaults | None) -> LoopFaults:
    """Give an event loop's exception handler that tells seldom of connections that the system has no files for.

    Args:
        otherwise: Handles all else; None: the loop's own.
    """
    tell = Seldom()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _OUT_OF_FILES:
            tell("connections wait, the system gives no more files: %s", error.strerror)
        elif otherwise is not None:
            otherwise(loop, context)
        else:
            loop.default_exception_handler(context)

    return handle
