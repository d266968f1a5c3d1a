"""Which projects have writes that wait, so that what comes after them waits behind, and nobody else does."""

from collections import Counter

import anyio

from contextdna.values.ids import ProjectId


class Turns:
    """Counts the writes that wait, by project.

    Of those that an earlier process left nobody knows whose they are before they are read: until then all wait.
    """

    def __init__(self) -> None:
        self._counts: Counter[ProjectId] = Counter()
        self._unread = 0
        self._fewer = anyio.Event()

    @property
    def total(self) -> int:
        """How many wait."""
        return self._unread + self._counts.total()

    def inherit(self, count: int) -> None:
        """Note writes of an earlier process."""
        self._unread += count

    def read(self, project_id: ProjectId) -> None:
        """Note whose one of an earlier process is."""
        self._unread = max(self._unread - 1, 0)
        self._counts[project_id] += 1
        self._tell()

    def join(self, project_id: ProjectId) -> None:
        """Note that one more waits."""
        self._counts[project_id] += 1

    def leave(self, project_id: ProjectId) -> None:
        """Note that one waits no longer."""
        self._counts[project_id] -= 1
        if self._counts[project_id] <= 0:
            del self._counts[project_id]
        self._tell()

    def is_behind(self, project_id: ProjectId | None) -> bool:
        """Tell whether what comes now for a project, or for nobody knows which, comes after one that waits."""
        return self.total > 0 if project_id is None else bool(self._unread or self._counts[project_id])

    async def come(self, project_id: ProjectId | None) -> None:
        """Wait until nothing waits that came before."""
        while self.is_behind(project_id):
            await self._fewer.wait()

    def _tell(self) -> None:
        self._fewer.set()
        self._fewer = anyio.Event()
