"""The leases of jobs."""

from contextdna.backends.relational.columns import micros, moment
from contextdna.backends.relational.statements import Executor
from contextdna.values.ids import ProjectId
from contextdna.values.lease import LeaseRow


class Leases:
    """Fulfils ``ports.leases.LeaseTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows
        self._run = executor.run

    async def put(self, row: LeaseRow) -> None:
        """Store a lease, over what stands under its name."""
        await self._run("lease_put", (row.project_id, row.name, row.holder, row.fencing, micros(row.expires_at)))

    async def get(self, project_id: ProjectId, name: str) -> LeaseRow | None:
        """Fetch the last lease of a name, that is in force or over."""
        rows = await self._rows("lease_get", (project_id, name))
        if not rows:
            return None
        of_project, of_name, holder, fencing, expires_at = rows[0]
        return LeaseRow(of_project, of_name, holder, fencing, moment(expires_at))
