"""The working state of sessions."""

from collections.abc import Sequence
from datetime import datetime

from contextdna.backends.relational.columns import json_list, micros, moment, sealed_of, sealed_params
from contextdna.backends.relational.statements import Executor
from contextdna.values.ids import ProjectId, SessionId
from contextdna.values.session import StateRow


class States:
    """Fulfils ``ports.states.StateTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows
        self._run = executor.run

    async def put(self, row: StateRow) -> None:
        """Store a key, over what stands under it."""
        where = (row.project_id, row.session_id, row.key, row.version)
        await self._run(
            "state_put", (*where, micros(row.updated_at), micros(row.expires_at), *sealed_params(row.sealed))
        )

    async def of(self, project_id: ProjectId, session_id: SessionId) -> list[StateRow]:
        """List a session's keys in order, those past their time too."""
        return [
            StateRow(
                row[0],
                row[1],
                row[2],
                row[3],
                moment(row[4]),
                moment(row[5]),
                sealed_of(row[6], row[7], row[8], row[9]),
            )
            for row in await self._rows("states_of", (project_id, session_id))
        ]

    async def delete(self, project_id: ProjectId, session_id: SessionId, keys: Sequence[str]) -> int:
        """Remove keys of a session; gives how many were there."""
        return await self._run("states_delete", (project_id, session_id, json_list(keys)))

    async def delete_of(self, project_id: ProjectId, session_ids: Sequence[SessionId]) -> int:
        """Remove all keys of sessions; gives how many were there."""
        return await self._run("states_delete_of", (project_id, json_list(session_ids)))

    async def delete_expired(self, project_id: ProjectId, *, now: datetime, limit: int) -> int:
        """Remove keys past their time, of any session; gives how many."""
        return await self._run("states_delete_expired", (project_id, micros(now), limit))
