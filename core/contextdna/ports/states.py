"""Port: the working state of sessions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from contextdna.values.ids import ProjectId, SessionId
from contextdna.values.session import StateRow


class StateTable(Protocol):
    """Keys and sealed values of sessions at work."""

    async def put(self, row: StateRow) -> None:
        """Store a key, over what stands under it."""
        ...

    async def of(self, project_id: ProjectId, session_id: SessionId) -> list[StateRow]:
        """List a session's keys in order, those past their time too."""
        ...

    async def delete(self, project_id: ProjectId, session_id: SessionId, keys: Sequence[str]) -> int:
        """Remove keys of a session; gives how many were there."""
        ...

    async def delete_of(self, project_id: ProjectId, session_ids: Sequence[SessionId]) -> int:
        """Remove all keys of sessions; gives how many were there."""
        ...

    async def delete_expired(self, project_id: ProjectId, *, now: datetime, limit: int) -> int:
        """Remove keys past their time, of any session; gives how many."""
        ...
