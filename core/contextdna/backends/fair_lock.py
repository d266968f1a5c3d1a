"""A lock whose waiters take turns by whose they are: who asks for much waits behind himself, and hardly others."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class FairLock:
    """A lock for the tasks of one event loop; of each owner's waiters the first comes first."""

    def __init__(self) -> None:
        self._is_held = False
        self._waiting: dict[str, deque[anyio.Event]] = {}

    @asynccontextmanager
    async def held_for(self, owner: str) -> AsyncIterator[None]:
        """Hold the lock, once it is the owner's turn."""
        await self._acquire(owner)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, owner: str) -> None:
        if not self._is_held:
            self._is_held = True
            return
        turn = anyio.Event()
        self._waiting.setdefault(owner, deque()).append(turn)
        try:
            await turn.wait()
        except anyio.get_cancelled_exc_class():
            if turn.is_set():  # it came while its task was being cancelled
                self._release()
            else:
                self._leave(owner, turn)
            raise

    def _release(self) -> None:
        """Hand the lock to the next owner; who has more waiters comes again behind the others."""
        if not self._waiting:
            self._is_held = False
            return
        owner = next(iter(self._waiting))
        turns = self._waiting.pop(owner)
        turn = turns.popleft()
        if turns:
            self._waiting[owner] = turns
        turn.set()

    def _leave(self, owner: str, turn: anyio.Event) -> None:
        self._waiting[owner].remove(turn)
        if not self._waiting[owner]:
            del self._waiting[owner]
