"""How far a standby must have come before a call may be answered from it.

Places are positions in the primary's write-ahead log, as numbers of bytes. A call asks the primary for its place, and
calls that come meanwhile ask together; so what is decided here rests on what the primary knew after the call began.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from copy import copy
from time import monotonic
from typing import Final

import anyio

from contextdna.backends.relational.statements import Row
from contextdna.errors import StorageUnavailable
from contextdna.values.ids import ProjectId

PRIMARY_PLACE: Final = "primary_place"
STANDBY_PLACE: Final = "standby_place"
STATEMENTS: Final = {
    # What a statement sees was committed before the place that it reads: its snapshot comes first.
    PRIMARY_PLACE: """
        SELECT '', (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text
        UNION ALL
        SELECT project_id, changed_by::text FROM access_changes WHERE project_id = ANY($1::text[])
    """,
    STANDBY_PLACE: """
        SELECT CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint ELSE -1 END
    """,
}
"""Of PostgreSQL alone, and of no transaction of ours."""

_PROJECTS_MAX: Final = 10_000
_SAMPLES: Final = 8
"""So many places are remembered for the time that a standby may lag."""

Ask = Callable[[Iterable[ProjectId]], Awaitable[list[Row]]]


class _Batch:
    """Calls that ask together."""

    def __init__(self) -> None:
        self.projects: set[ProjectId] = set()
        self.place: int | None = None
        self.problem: StorageUnavailable | None = None


class Places:
    """What this process knows of the primary's places, and what it has written itself.

    Args:
        ask: Runs ``PRIMARY_PLACE`` on the primary.
        lag_max_s: How old what others wrote may be.
        clock: Tells the time, in seconds.
    """

    def __init__(self, ask: Ask, *, lag_max_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._ask = ask
        self._lag_max_s = lag_max_s
        self._clock = clock
        self._lock = anyio.Lock()
        self._next = _Batch()
        self._written: set[ProjectId] = set()
        self._marks: dict[ProjectId, str] = {}
        self._floors: dict[ProjectId, int] = {}
        self._floor = 0
        self._is_written_anywhere = False
        self._samples: deque[tuple[float, int]] = deque()
        self._newest = 0

    def note_write(self, projects: Iterable[ProjectId] | None) -> None:
        """Note that something of projects was written, or heard of: who asks next finds it; None means any project."""
        if projects is None:
            self._is_written_anywhere = True
        else:
            self._written.update(projects)

    async def least(self, project_id: ProjectId) -> int:
        """Give the place that a standby must have reached to answer a call about a project that has begun before.

        It has then what this process wrote there, the last change of rights, whoever made it, and all that is older
        than a standby may lag.

        Raises:
            StorageUnavailable: The primary is away: what it knows cannot be known.
        """
        batch = self._next
        batch.projects.add(project_id)
        async with self._lock:
            if batch is self._next:
                self._next = _Batch()
            if batch.problem is not None:
                raise copy(batch.problem)
            if batch.place is None:
                batch.place = await self._answer(batch)
        floor = max(self._floors.get(project_id, batch.place), self._floor)
        return max(floor, self._oldest_allowed(batch.place))

    async def _answer(self, batch: _Batch) -> int:
        try:
            return await self._learn(batch.projects)
        except StorageUnavailable as problem:
            batch.problem = problem
            raise

    async def _learn(self, projects: set[ProjectId]) -> int:
        began = self._clock()
        written, self._written = self._written, set()
        anywhere, self._is_written_anywhere = self._is_written_anywhere, False
        try:
            (_, place), *marks = await self._ask(sorted(projects))
        except BaseException:
            self._written |= written
            self._is_written_anywhere |= anywhere
            raise
        self._take(began, int(place))
        if anywhere:
            self._floor = int(place)
        stands: dict[ProjectId, str] = dict(marks)
        for project_id in projects | written:
            mark = stands.get(project_id, "") if project_id in projects else self._marks.get(project_id, "")
            if project_id in written or self._marks.get(project_id) != mark:
                self._floors[project_id] = int(place)
            self._marks[project_id] = mark
        return int(place)

    def _take(self, began: float, place: int) -> None:
        """Remember a place; what was known of a primary that was further is forgotten: another one has taken over."""
        is_another, self._newest = place < self._newest, place
        if is_another or len(self._marks) > _PROJECTS_MAX:
            self._samples.clear()
            self._marks.clear()
            self._floors.clear()
            self._floor = place
        if not self._samples or began - self._samples[-1][0] >= self._lag_max_s / _SAMPLES:
            self._samples.append((began, place))
        while self._samples and self._samples[0][0] < began - self._lag_max_s:
            self._samples.popleft()

    def _oldest_allowed(self, place: int) -> int:
        """Give the place that the primary had reached when what is now too old was new."""
        return min(self._samples[0][1], place) if self._samples else place

    async def refresh(self) -> None:
        """Ask the primary for its place.

        Raises:
            StorageUnavailable: It is away.
        """
        async with self._lock:
            await self._learn(set())

    def lag_s(self, place: int) -> float:
        """Tell how long ago the primary was at a standby's place, as far back as is remembered; 0 where it still is."""
        if place >= self._newest:
            return 0.0
        reached = [at for at, there in self._samples if there <= place]
        now = self._clock()
        return now - reached[-1] if reached else self._lag_max_s


class Written:
    """Tells of what this process wrote or heard of, where there are standbys that may lag behind it."""

    def __init__(self) -> None:
        self.places: Places | None = None

    def __call__(self, projects: Iterable[ProjectId] | None) -> None:
        """Tell which projects; None for any."""
        if self.places is not None:
            self.places.note_write(projects)
