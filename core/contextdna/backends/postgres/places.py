"""How far a standby must have come before a call may be answered from it.

Places are positions in the primary's write-ahead log, as numbers of bytes. A call asks the primary for its place, and
calls that come meanwhile ask together; so what is decided here rests on what the primary knew after the call began.

A place says nothing where histories have parted: a standby that was left behind by a failover may be further than the
new primary and know nothing of it. So a standby also has to show two marks that were drawn at random: that of the
primary's present run, and that of the project's last change of rights.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from time import monotonic
from typing import Final, Protocol

import anyio

from contextdna.backends.relational.statements import Row
from contextdna.errors import StorageUnavailable
from contextdna.values.ids import ProjectId

PRIMARY_PLACE: Final = "primary_place"
STANDBY_PLACE: Final = "standby_place"
BEGIN_HISTORY: Final = "begin_history"
STATEMENTS: Final = {
    # What a statement sees was committed before the place that it reads: its snapshot comes first.
    PRIMARY_PLACE: """
        SELECT '', (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text,
          coalesce((SELECT mark::text FROM histories WHERE server_start = server_start()), '')
        UNION ALL
        SELECT project_id, mark::text, '' FROM access_changes WHERE project_id = ANY($1::text[])
    """,
    STANDBY_PLACE: """
        SELECT CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint ELSE -1 END,
          coalesce((SELECT mark::text FROM histories), ''),
          coalesce((SELECT mark::text FROM access_changes WHERE project_id = $1), '')
    """,
    # It need not wait for standbys: who does not have it answers nothing.
    BEGIN_HISTORY: """
        INSERT INTO histories (server_start, mark) VALUES (server_start(), gen_random_uuid())
        ON CONFLICT (single) DO UPDATE SET server_start = excluded.server_start, mark = excluded.mark
        RETURNING set_config('synchronous_commit', 'local', true)
    """,
}
"""Of PostgreSQL alone, and of no transaction of ours."""

_PROJECTS_MAX: Final = 10_000
_SAMPLES: Final = 8
"""So many places are remembered for the time that a standby may lag."""


class Ask(Protocol):
    """Runs ``PRIMARY_PLACE`` on the primary, which has noted its present run."""

    def __call__(self, projects: Iterable[ProjectId], *, anew: bool = False) -> Awaitable[list[Row]]:
        """Ask; ``anew`` lets another history begin first."""
        ...


@dataclass(frozen=True, slots=True)
class Stand:
    """How far a server is, or has to be, to answer about a project."""

    place: int
    history: str
    """The mark of the primary's run; empty where there is none."""
    access: str
    """The mark of the last change of rights in the project; empty where there was none."""

    def covers(self, need: "Stand") -> bool:
        """Tell whether a server that is so far has what is needed."""
        is_same_history = bool(need.history) and self.history == need.history
        return is_same_history and self.access == need.access and self.place >= need.place


class _Batch:
    """Calls that ask together."""

    def __init__(self) -> None:
        self.projects: set[ProjectId] = set()
        self.found: _Found | None = None
        self.problem: StorageUnavailable | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """What the primary said."""

    place: int
    history: str
    marks: Mapping[ProjectId, str]


class Places:
    """What this process knows of the primary's places, and what it has written itself.

    Args:
        ask: Asks the primary.
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
        self.history = ""
        """The mark of the primary's run, as far as is known."""

    def note_write(self, projects: Iterable[ProjectId] | None) -> None:
        """Note that something of projects was written, or heard of: who asks next finds it; None means any project."""
        if projects is None:
            self._is_written_anywhere = True
        else:
            self._written.update(projects)

    async def least(self, project_id: ProjectId) -> Stand:
        """Tell how far a standby must be to answer a call about a project that has begun before.

        It is then a standby of this very primary, and has what this process wrote there, the last change of rights,
        whoever made it, and all that is older than a standby may lag.

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
            found = batch.found = batch.found or await self._answer(batch)
        floor = max(self._floors.get(project_id, found.place), self._floor)
        place = max(floor, self._oldest_allowed(found.place))
        return Stand(place, found.history, found.marks.get(project_id, ""))

    async def _answer(self, batch: _Batch) -> _Found:
        try:
            return await self._learn(batch.projects)
        except StorageUnavailable as problem:
            batch.problem = problem
            raise

    async def _learn(self, projects: set[ProjectId]) -> _Found:
        began = self._clock()
        written, self._written = self._written, set()
        anywhere, self._is_written_anywhere = self._is_written_anywhere, False
        try:
            found = await self._found(projects)
        except BaseException:
            self._written |= written
            self._is_written_anywhere |= anywhere
            raise
        self._take(began, found)
        if anywhere:
            self._floor = found.place
        for project_id in projects | written:
            marks = found.marks if project_id in projects else self._marks
            mark = marks.get(project_id, "")
            if project_id in written or self._marks.get(project_id) != mark:
                self._floors[project_id] = found.place
            self._marks[project_id] = mark
        return found

    async def _found(self, projects: set[ProjectId]) -> _Found:
        """Ask; where the primary is not as far as it was, another history begins, whatever it took itself for."""
        rows = await self._ask(sorted(projects))
        if int(rows[0][1]) < self._newest:
            rows = await self._ask(sorted(projects), anew=True)
        (_, place, history), *marks = rows
        return _Found(int(place), history, {project_id: mark for project_id, mark, _ in marks})

    def _take(self, began: float, found: _Found) -> None:
        """Remember a place; what was known of another history is forgotten."""
        place = found.place
        is_another = place < self._newest or found.history != self.history
        self._newest, self.history = place, found.history
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
