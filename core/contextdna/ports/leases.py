"""Port: the table of leases."""

from typing import Protocol

from contextdna.values.ids import ProjectId
from contextdna.values.lease import LeaseRow


class LeaseTable(Protocol):
    """Who has which job, and the number of its lease."""

    async def put(self, row: LeaseRow) -> None:
        """Store a lease, over what stands under its name."""
        ...

    async def get(self, project_id: ProjectId, name: str) -> LeaseRow | None:
        """Fetch the last lease of a name, that is in force or over."""
        ...
