"""The leases of jobs in a plain dict."""

from contextdna.backends.in_memory.sheets import Sheets
from contextdna.values.ids import ProjectId
from contextdna.values.lease import LeaseRow


class InMemoryLeases:
    """``LeaseTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets

    async def put(self, row: LeaseRow) -> None:
        """Store a lease, over what stands under its name."""
        self._sheets.leases.change()[row.project_id, row.name] = row

    async def get(self, project_id: ProjectId, name: str) -> LeaseRow | None:
        """Fetch the last lease of a name, that is in force or over."""
        return self._sheets.leases.rows.get((project_id, name))
