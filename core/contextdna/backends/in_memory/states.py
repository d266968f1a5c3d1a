"""The working state of sessions in plain dicts."""

from collections.abc import Callable, Sequence
from datetime import datetime

from contextdna.backends.in_memory.sheets import Sheets
from contextdna.values.ids import ProjectId, SessionId
from contextdna.values.session import StateRow


class InMemoryStates:
    """``StateTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets

    async def put(self, row: StateRow) -> None:
        """Store a key, over what stands under it."""
        self._sheets.states.change()[row.project_id, row.session_id, row.key] = row

    async def of(self, project_id: ProjectId, session_id: SessionId) -> list[StateRow]:
        """List a session's keys in order, those past their time too."""
        rows = self._sheets.states.rows.values()
        own = [row for row in rows if (row.project_id, row.session_id) == (project_id, session_id)]
        return sorted(own, key=lambda row: row.key)

    async def delete(self, project_id: ProjectId, session_id: SessionId, keys: Sequence[str]) -> int:
        """Remove keys of a session; gives how many were there."""
        return self._delete(project_id, lambda row: row.session_id == session_id and row.key in keys)

    async def delete_of(self, project_id: ProjectId, session_ids: Sequence[SessionId]) -> int:
        """Remove all keys of sessions; gives how many were there."""
        return self._delete(project_id, lambda row: row.session_id in session_ids)

    async def delete_expired(self, project_id: ProjectId, *, now: datetime, limit: int) -> int:
        """Remove keys past their time, of any session; gives how many."""
        return self._delete(project_id, lambda row: row.expires_at <= now, limit=limit)

    def _delete(self, project_id: ProjectId, chosen: Callable[[StateRow], bool], *, limit: int | None = None) -> int:
        rows = self._sheets.states.change()
        found = [row for row in rows.values() if row.project_id == project_id and chosen(row)]
        found.sort(key=lambda row: row.expires_at)
        for row in found[:limit]:
            del rows[row.project_id, row.session_id, row.key]
        return len(found[:limit])
