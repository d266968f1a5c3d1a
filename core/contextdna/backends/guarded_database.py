"""A database behind circuit breakers: while it is away, callers are told at once, and one asks whether it is back."""

import logging
from collections.abc import Callable
from typing import Final, TypeVar

import anyio

from contextdna.backends.breaker import Breaker
from contextdna.errors import StorageUnavailable
from contextdna.ports.database import Database, DatabaseStatus, Transaction, Unit
from contextdna.values.ids import INSTALLATION

logger = logging.getLogger(__name__)

R = TypeVar("R")

AWAY: Final = "storage_unreachable"
"""What a database that is away answers; nothing of the call was written then."""


class GuardedDatabase:
    """``Database`` that does not let every caller wait for a server that is away.

    Reads and writes have a breaker each, since the one may be back without the other. Where one fails, both are left
    alone until they were asked: a call that reads and then writes would wait for a server that hangs twice over.

    Args:
        inner: The database.
        pause_s: How long to leave it alone after a failure, at first.
        pause_s_max: And at last.
    """

    def __init__(self, inner: Database, *, pause_s: float = 0.1, pause_s_max: float = 5.0) -> None:
        self._inner = inner
        self._reads = Breaker(
            lambda: inner.read(_look), pause_s=pause_s, pause_s_max=pause_s_max, on_change=_teller("reads")
        )
        self._writes = Breaker(
            lambda: inner.write(_look), pause_s=pause_s, pause_s_max=pause_s_max, on_change=_teller("writes")
        )

    def away(self, problem: StorageUnavailable) -> None:
        """Note that it is known to be away."""
        for breaker in (self._reads, self._writes):
            breaker.trip(problem)

    @property
    def problem(self) -> str:
        """Code of what keeps it away, for writes or for reads; empty while it is there, as far as is known."""
        problem = self._writes.problem or self._reads.problem
        return problem.code if problem else ""

    @property
    def is_writable(self) -> bool:
        """Whether it takes writes, as far as is known."""
        return self._writes.problem is None

    def require_not_refused(self) -> None:
        """Refuse what would wait for a server that is there and refuses us: by itself that does not end.

        Raises:
            StorageUnavailable: It does, as far as is known.
        """
        problem = self._writes.problem
        if problem is not None and not problem.retryable:
            self._writes.check()

    async def until_writable(self) -> None:
        """Wait until it takes writes."""
        await self._writes.until_back()

    async def write(self, unit: Unit[R]) -> R:
        """Run a unit alone and answer once it is durable; refused at once while the server is away.

        Raises:
            StorageUnavailable: The engine cannot do it now.
            Exception: Whatever the unit raised.
        """
        self._writes.check()
        try:
            return await self._inner.write(unit)
        except StorageUnavailable as error:
            self._note(error)
            raise

    async def read(self, unit: Unit[R], *, enough: Callable[[R], bool] | None = None, search_by: str = "") -> R:
        """Run a unit on one consistent snapshot; refused at once while the server is away.

        Args:
            unit: The unit.
            enough: When given, a replica may answer, where there are some; not while the server is away: nobody could
                tell what was revoked.
            search_by: Who searches with the unit; empty where it does not search.

        Raises:
            StorageUnavailable: The engine cannot answer.
            Exception: Whatever the unit raised.
        """
        self._reads.check()
        try:
            return await self._inner.read(unit, enough=enough, search_by=search_by)
        except StorageUnavailable as error:
            self._note(error)
            raise

    async def revision(self) -> int:
        """Give a number that is another one after other connections, of any process, have committed.

        Raises:
            StorageUnavailable: The server is away.
        """
        self._reads.check()
        try:
            return await self._inner.revision()
        except StorageUnavailable as error:
            self._note(error)
            raise

    async def status(self, *, deep: bool = False) -> DatabaseStatus:
        """Report on the server, at once where it is known to be away."""
        known = self._writes.problem or self._reads.problem
        if known is not None:
            return DatabaseStatus("postgresql", "", 0, 0, sound=False, problem=known.message)
        return await self._inner.status(deep=deep)

    async def shred_remains(self) -> None:
        """Drop what purged rows left in logs and free pages.

        Raises:
            StorageUnavailable: The server is away.
        """
        self._writes.check()
        await self._inner.shred_remains()

    def _note(self, error: StorageUnavailable) -> None:
        if error.code == AWAY:
            self.away(error)

    async def run(self) -> None:
        """Find out when it is back, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._reads.run)
            tasks.start_soon(self._writes.run)


async def _look(tx: Transaction) -> None:
    await tx.projects.get(INSTALLATION)


def _teller(what: str) -> Callable[[StorageUnavailable | None], None]:
    def tell(problem: StorageUnavailable | None) -> None:
        if problem is None:
            logger.warning("PostgreSQL takes %s again", what)
        else:
            logger.warning("%s [%s]; until it is back %s get no farther", problem.message, problem.code, what)

    return tell
