"""Which degraded modes are in force: asked of those who know, at no cost."""

from collections.abc import Iterator

from contextdna.backends.guarded_database import GuardedDatabase
from contextdna.hub.blob_stores import Shelves
from contextdna.hub.commons import Commons
from contextdna.hub.refusals import Refusals
from contextdna.hub.spool import WriteSpool
from contextdna.values.degraded import DegradedMode, ModeName, Notices

NOT_KEPT = "nothing is kept: the database file cannot be used, all is in memory and gone when the server ends"


class Modes:
    """What the server does without at the moment.

    Args:
        shelves: Where artifacts lie.
        commons: Cache and channel.
        guarded: The database, where it is one that may be away.
        spool: Where writes wait for it.
        writing: What the database has refused.
        keeping: What the store of artifacts has refused.
        unusable: Code of what makes the database file unusable, where all is in memory in its place.
    """

    def __init__(
        self,
        *,
        shelves: Shelves,
        commons: Commons,
        guarded: GuardedDatabase | None = None,
        spool: WriteSpool | None = None,
        writing: Refusals,
        keeping: Refusals,
        unusable: str = "",
    ) -> None:
        self._writing = writing
        self._keeping = keeping
        self._shelves = shelves
        self._commons = commons
        self._guarded = guarded
        self._spool = spool
        self._unusable = unusable

    def current(self) -> tuple[DegradedMode, ...]:
        """Give the modes that are in force, none where all is well."""
        return tuple(self._found())

    def tell(self, notices: Notices) -> None:
        """Add what every answer is to say."""
        if self._unusable:
            notices.add(ModeName.MEMORY_ONLY, NOT_KEPT)

    def _found(self) -> Iterator[DegradedMode]:
        if self._unusable:
            yield DegradedMode(ModeName.MEMORY_ONLY, self._unusable)
        waiting = self._spool.waiting if self._spool else 0
        problem = self._guarded.problem if self._guarded else ""
        if problem:
            yield DegradedMode(ModeName.DATABASE_AWAY, problem, waiting)
        elif waiting:
            yield DegradedMode(ModeName.DATABASE_REPLAY, self._spool.replay.problem if self._spool else "", waiting)
        elif refused := self._writing.problem:
            yield DegradedMode(ModeName.WRITES_REFUSED, refused)
        if self._spool and self._spool.aside.count:
            yield DegradedMode(ModeName.WRITES_ASIDE, waiting=self._spool.aside.count)
        if self._spool and (damaged := self._spool.damaged).count:
            yield DegradedMode(ModeName.SPOOL_DAMAGED, damaged.problem, damaged.count)
        bytes_spool = self._shelves.spool
        if bytes_spool and (bytes_spool.problem or bytes_spool.waiting):
            yield DegradedMode(ModeName.ARTIFACTS_SPOOLED, bytes_spool.problem, bytes_spool.waiting)
        if self._shelves.guarded and (far_problem := self._shelves.guarded.problem):
            yield DegradedMode(ModeName.ARTIFACTS_AWAY, far_problem)
        if not_kept := self._keeping.problem:
            yield DegradedMode(ModeName.ARTIFACTS_REFUSED, not_kept)
        if cache_problem := self._commons.problem():
            yield DegradedMode(ModeName.CACHE_AWAY, cache_problem)
