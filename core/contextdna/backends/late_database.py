"""A database that was away when it was to be opened: it is opened when somebody asks for it and it is there."""

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeVar

import anyio

from contextdna.errors import ContextDnaError, StorageUnavailable
from contextdna.ports.database import Database, DatabaseStatus, Unit

logger = logging.getLogger(__name__)

R = TypeVar("R")

_PAUSE_S: Final = 0.1


class LateDatabase:
    """``Database`` that refuses everything until it could be opened.

    Args:
        open_database: Opens it.
        problem: What kept it from being opened.
    """

    def __init__(
        self, open_database: Callable[[], AbstractAsyncContextManager[Database]], problem: StorageUnavailable
    ) -> None:
        self._open_database = open_database
        self.problem = problem
        """What kept it from being opened at first."""
        self._problem: ContextDnaError = problem
        self._database: Database | None = None
        self._asked = anyio.Event()

    async def write(self, unit: Unit[R]) -> R:
        """Run a unit alone and answer once it is durable.

        Raises:
            StorageUnavailable: It could not be opened yet: ``storage_unreachable``, or what refuses it for good. So do
                all the others.
        """
        return await self._opened().write(unit)

    async def read(self, unit: Unit[R], *, enough: Callable[[R], bool] | None = None, search_by: str = "") -> R:
        """Run a unit on one consistent snapshot."""
        return await self._opened().read(unit, enough=enough, search_by=search_by)

    async def revision(self) -> int:
        """Give a number that is another one after other connections have committed."""
        return await self._opened().revision()

    async def status(self, *, deep: bool = False) -> DatabaseStatus:
        """Report on the engine."""
        if self._database is None:
            return DatabaseStatus("postgresql", "", 0, 0, sound=False, problem=self._problem.message)
        return await self._database.status(deep=deep)

    async def shred_remains(self) -> None:
        """Drop what purged rows left in logs and free pages."""
        await self._opened().shred_remains()

    @asynccontextmanager
    async def opening(self, prepare: Callable[[Database], Awaitable[None]]) -> AsyncIterator[None]:
        """Open it whenever somebody has asked, until it is open; close it at the end.

        Args:
            prepare: What is done before anybody else uses it.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._open, prepare)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()

    async def _open(self, prepare: Callable[[Database], Awaitable[None]]) -> None:
        while True:
            await self._asked.wait()
            self._asked = anyio.Event()
            try:
                async with self._open_database() as database:
                    await prepare(database)
                    self._database = database
                    await anyio.sleep_forever()
            except ContextDnaError as error:
                if error.code != self._problem.code:
                    logger.error("the database cannot be opened: %s [%s]", error.message, error.code)
                self._problem = error
            await anyio.sleep(_PAUSE_S * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret

    def _opened(self) -> Database:
        if self._database is not None:
            return self._database
        self._asked.set()
        known = self._problem
        code = "storage_unreachable" if known.retryable else known.code
        raise StorageUnavailable(known.message, code=code, hint=known.hint, retryable=known.retryable)
