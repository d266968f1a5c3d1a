"""Sessions as a caller may know them: how far they have come, and the working state that lasts as long as they do."""

from collections.abc import Sequence
from typing import Any, Final

from contextdna.domain import endings, sessions, states
from contextdna.domain.access import Action, Caller
from contextdna.hub.door import Door
from contextdna.ports.storage import Cache
from contextdna.values.ids import AgentId, SessionId
from contextdna.values.session import SessionStatus, StateEntry

_HELD_S: Final = 300.0
_HELD_BYTES_MAX: Final = 64 * 1024  # of one session; a larger state is read from the database each time


class Sessions:
    """The session part of a workspace. Sessions are begun, resumed and ended by the workspace itself."""

    def __init__(self, door: Door, cache: Cache, caller: Caller) -> None:
        self._door = door
        self._cache = cache
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

    async def set_state(self, key: str, value: Any, *, ttl_s: float | None = None) -> StateEntry:
        """Keep a value under a key of the session: any JSON up to 64 KiB, always encrypted, gone with the session.

        Raises:
            LimitExceeded: ``value_too_large`` or ``state_keys_too_many``.
        """
        return await self._door.write(
            self._caller, Action.SET_STATE, lambda op: states.put(op, key, value, ttl_s=ttl_s)
        )

    async def get_state(self, keys: Sequence[str] = ()) -> tuple[StateEntry, ...]:
        """Read keys of the session, all without names; never an older value than was committed before the call."""
        name = f"state:{self._caller.handle.partition('.')[0]}"
        held = await self._cache.get(name)  # before the transaction, which judges whether it still counts
        entries, snapshot = await self._door.read(
            self._caller, Action.GET_STATE, lambda op: states.read(op, keys, held)
        )
        if snapshot is not held and snapshot.size_bytes <= _HELD_BYTES_MAX:
            await self._cache.set(name, snapshot, ttl_s=_HELD_S)
        return entries

    async def delete_state(self, keys: Sequence[str]) -> int:
        """Remove keys of the session; gives how many were there."""
        return await self._door.write(self._caller, Action.DELETE_STATE, lambda op: states.delete(op, keys))
