"""Loop records as a caller may read them: where a phase stands, its course, what is deferred and what comes next."""

from collections.abc import Sequence

from contextdna.domain import phases
from contextdna.domain.access import Action, Caller
from contextdna.hub.door import Door
from contextdna.values.loop import FollowUpPage, Loop, LoopPage, LoopStatus


class Loops:
    """The loop part of a workspace. A phase of which the caller sees nothing answers as one that is absent."""

    def __init__(self, door: Door, caller: Caller) -> None:
        self._door = door
        self._caller = caller

    async def status(self, phase: str, *, iteration: int = 0, limit: int = 50) -> LoopStatus:
        """Tell what a phase and iteration lack, what stands, and what is open; iteration 0 is the latest.

        Raises:
            LimitExceeded: ``iteration_out_of_range`` or ``limit_out_of_range``.
        """
        return await self._door.read(
            self._caller, Action.READ_LOOPS, lambda op: phases.status(op, phase, iteration=iteration, limit=limit)
        )

    async def read(
        self, phase: str = "", *, of: Sequence[Loop] = (), newest_first: bool = False, limit: int = 50, cursor: str = ""
    ) -> LoopPage:
        """Read loop records by time, of one phase or of all, page by page.

        Raises:
            InvalidInput: ``cursor_invalid``.
        """
        return await self._door.read(
            self._caller,
            Action.READ_LOOPS,
            lambda op: phases.page(op, phase, of, newest_first=newest_first, limit=limit, cursor=cursor),
        )

    async def deferred(self, phase: str = "", *, limit: int = 50, cursor: str = "") -> FollowUpPage:
        """Read open issues: those that decisions deferred which none superseded, of the latest decision first.

        Raises:
            InvalidInput: ``cursor_invalid``.
        """
        return await self._follow_ups(phases.DEFERRED, phase, limit, cursor)

    async def next_actions(self, phase: str = "", *, limit: int = 50, cursor: str = "") -> FollowUpPage:
        """Read the next actions of decisions that none superseded, of the latest decision first.

        Raises:
            InvalidInput: ``cursor_invalid``.
        """
        return await self._follow_ups(phases.NEXT_ACTIONS, phase, limit, cursor)

    async def _follow_ups(self, about: str, phase: str, limit: int, cursor: str) -> FollowUpPage:
        return await self._door.read(
            self._caller,
            Action.READ_LOOPS,
            lambda op: phases.follow_ups(op, about, phase=phase, limit=limit, cursor=cursor),
        )
