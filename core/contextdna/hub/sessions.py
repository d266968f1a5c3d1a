"""Sessions as a caller may know them: whose they are, and how far they have come."""

from contextdna.domain import endings, sessions
from contextdna.domain.access import Action, Caller
from contextdna.hub.door import Door
from contextdna.values.ids import AgentId, SessionId
from contextdna.values.session import SessionStatus


class Sessions:
    """The session part of a workspace. Sessions are begun, resumed and ended by the workspace itself."""

    def __init__(self, door: Door, caller: Caller) -> None:
        self._door = door
        self._caller = caller

    async def progress(
        self, *, status: str = "", thoughts: int = 0, thoughts_total: int | None = None
    ) -> sessions.SessionView:
        """Tell how far the call's session has come: so many thoughts more, or in all, and what it is at.

        Raises:
            InvalidInput: ``progress_empty`` or ``thoughts_twice``.
        """
        return await self._door.write(
            self._caller,
            Action.PROGRESS_SESSION,
            lambda op: sessions.progress(op, status=status, thoughts=thoughts, thoughts_total=thoughts_total),
        )

    async def get(self, session_id: SessionId = SessionId("")) -> sessions.SessionView:
        """Show a session by its public id, without one the call's own.

        It is shown to itself, the agents above it, coordinators of its swarm and the role system.

        Raises:
            NotFound: No such session, or none of the caller's business.
        """
        return await self._door.read(self._caller, Action.READ_SESSIONS, lambda op: sessions.get(op, session_id))

    async def list(
        self,
        *,
        status: SessionStatus | None = None,
        agent_id: AgentId = AgentId(""),
        before: SessionId = SessionId(""),
        limit: int = 50,
    ) -> tuple[sessions.SessionView, ...]:
        """List the sessions that are the caller's business, the newest first; ``before`` one for the next page.

        Raises:
            LimitExceeded: ``limit_out_of_range``.
        """
        return await self._door.read(
            self._caller,
            Action.READ_SESSIONS,
            lambda op: sessions.listing(op, status=status, agent_id=agent_id, before=before, limit=limit),
        )

    async def close_overdue(self) -> int:
        """Close sessions of the project that are past their end (role system), in batches; gives how many."""
        closed = 0
        while True:
            ended = await self._door.write(self._caller, Action.CLOSE_SESSIONS, endings.close_expired)
            closed += ended.sessions
            if not ended.more:
                return closed
