"""Commits what waits together: units of one project, which come one by one anyway, share a transaction."""

import asyncio
from collections import deque
from contextvars import Context
from copy import copy
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

from contextdna.backends.postgres.begun import BegunUnit
from contextdna.backends.postgres.driver import DRIVER_ERRORS, Link, has_lost, has_run_out, is_cut_off, unavailable
from contextdna.backends.postgres.units import Again, Scopes, WritingExecutor
from contextdna.backends.relational.statements import Params
from contextdna.errors import ContextDnaError, StorageUnavailable
from contextdna.values.ids import ProjectId

GROUP_MAX: Final = 128
"""So many units share a transaction at most."""

_BREATH: Final = 16
"""After so many units, which need not have waited for anything, others on the event loop have a turn."""

_ROUNDS: Final = 6
"""How often units go on and ask together before the first one's turn."""


@dataclass(frozen=True, slots=True)
class Alone:
    """A unit is to be run again, in a transaction of its own: nothing of it was written."""

    scopes: Scopes = frozenset()
    """What it is known to be about."""
    failure: BaseException | None = None
    """What it failed with, where that may be its own doing."""


@dataclass(slots=True)
class _Waiting:
    """A unit that has begun, and the future of its caller."""

    unit: BegunUnit
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    is_ahead: bool = False
    """Whether it has gone ahead of its turn."""

    def answer(self) -> None:
        if self.future.done():
            return  # the caller was cancelled
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Writers(Protocol):
    """What lanes need of the database."""

    def writing_on(self, link: Link, scopes: Scopes) -> WritingExecutor:
        """Make what runs statements in a transaction."""
        ...

    def take(self) -> Any:
        """Give a connection for a while."""
        ...

    async def commit(self, link: Link, executor: WritingExecutor) -> None:
        """Commit."""
        ...

    async def roll_back(self, link: Link, executor: WritingExecutor) -> None:
        """Roll back, whatever it takes."""
        ...

    async def get_over(self, failure: BaseException, failures: int) -> None:
        """Pause before the next attempt, or raise what the failure means."""
        ...


class Lanes:
    """The projects that are being written in."""

    def __init__(self, writers: Writers) -> None:
        self._writers = writers
        self._lanes: dict[ProjectId, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def write(self, project_id: ProjectId, unit: BegunUnit) -> Any:
        """Queue a unit and wait until it is durable; gives its result, or ``Alone``.

        Raises:
            StorageUnavailable: Nothing was written, but with ``storage_outcome_unknown``.
            Exception: Whatever the unit raised.
        """
        waiting = _Waiting(unit, asyncio.get_running_loop().create_future())
        lane = self._lanes.get(project_id)
        if lane is None:
            lane = self._lanes[project_id] = _Lane(self._writers, project_id)
            task = asyncio.create_task(self._run(project_id, lane), context=Context())  # of no caller
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        lane.queue.append(waiting)
        return await waiting.future

    async def close(self) -> None:
        """Wait for what is under way; the connections are cut already."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, project_id: ProjectId, lane: "_Lane") -> None:
        try:
            await lane.run()
        finally:
            del self._lanes[project_id]


class _Lane:
    """The units that wait to write in one project.

    A task of its own runs them, so that a caller that is cancelled takes no other with it: its unit is left out, or
    taken back, unless the commit has begun.
    """

    def __init__(self, writers: Writers, project_id: ProjectId) -> None:
        self.queue: deque[_Waiting] = deque()
        self._writers = writers
        self._scopes: Scopes = frozenset({project_id})
        self._group: list[_Waiting] = []
        self._is_hung = False

    async def run(self) -> None:
        """Commit groups until nobody waits."""
        failures = 0
        while self.queue:
            self._group = []
            try:
                failure = await self._commit_next()
                if failure is not None:
                    failures += 1
                    await self._writers.get_over(failure, failures)
                    continue
            except ContextDnaError as error:
                self._give_up(error)
            except BaseException:
                self._give_up(unavailable("storage_closed", "the database is closed"))
                raise
            failures = 0
            for waiting in self._group:
                waiting.answer()
            if self._is_hung:  # those behind have waited for it, too, and would again
                self._group = []
                self._give_up(unavailable("storage_unreachable", "PostgreSQL does not answer"))

    def _give_up(self, error: ContextDnaError) -> None:
        """Tell all who wait why there is no transaction for them."""
        self._group.extend(self.queue)
        self.queue.clear()
        for waiting in self._group:
            waiting.unit.close()
            waiting.error = _copy(error)
            waiting.answer()

    async def _commit_next(self) -> BaseException | None:
        """Commit the next group; gives what has failed before any unit has run.

        Raises:
            ContextDnaError: No connection is to be had.
        """
        async with self._writers.take() as link:
            try:
                return await self._commit_on(link)
            finally:
                self._is_hung = link.is_hung

    async def _commit_on(self, link: Link) -> BaseException | None:
        executor = self._writers.writing_on(link, self._scopes)
        try:
            await executor.enter()
            if await self._run_units(executor):
                await executor.before_commit()
                await self._commit(link, executor)
                return None
        except DRIVER_ERRORS as error:
            link.note(error)
            await self._writers.roll_back(link, executor)
            if not self._group:
                return error
            self._scatter(error)
            return None
        except BaseException:
            await self._writers.roll_back(link, executor)
            raise
        await self._writers.roll_back(link, executor)
        return None

    async def _run_units(self, executor: WritingExecutor) -> bool:
        """Run what waits, and what comes meanwhile; gives whether there is something to commit."""
        while self.queue and len(self._group) < GROUP_MAX:
            waiting = self.queue.popleft()
            if waiting.future.cancelled():
                waiting.unit.close()
                continue
            is_guarded = bool(self._group or self.queue)
            self._group.append(waiting)
            if len(self._group) % _BREATH == 0:
                await asyncio.sleep(0)
            executor.more = min(len(self.queue), GROUP_MAX - len(self._group))
            executor.begin_unit(guarded=is_guarded)
            if not waiting.is_ahead:
                await self._look_ahead(waiting, executor)
            if await self._run_unit(waiting, executor):
                continue
            if executor.has_written and not is_guarded:
                return False
            await executor.take_back()
        return bool(self._group)

    async def _look_ahead(self, first: _Waiting, executor: WritingExecutor) -> None:
        """Let units go on as far as what they ask is known, and ask at once what several of them ask then."""
        coming = [first, *islice(self.queue, executor.more)]
        for waiting in coming:
            waiting.is_ahead = True
        for _ in range(_ROUNDS):
            asked: dict[str, list[Params]] = {}
            for number, waiting in enumerate(coming, start=1):
                if number % _BREATH == 0:
                    await asyncio.sleep(0)
                waiting.unit.advance(executor.remembered)
                if (asks := waiting.unit.asks) is not None and asks.is_query:
                    asked.setdefault(asks.name, []).append(asks.params)
            several = [(name, params) for name, params in asked.items() if len(params) > 1]
            if not any([await executor.foresee(name, params) for name, params in several]):
                return

    async def _run_unit(self, waiting: _Waiting, executor: WritingExecutor) -> bool:
        """Run a unit; gives whether what it did is to be committed."""
        try:
            if not waiting.unit.stands(executor.remembered):
                waiting.unit = waiting.unit.again()
            waiting.result = await waiting.unit.go_on(executor)
        except DRIVER_ERRORS as error:
            waiting.result = Alone(failure=error)
            raise
        except Again as again:
            waiting.result = Alone(again.scopes)
            return False
        except Exception as error:  # noqa: BLE001 - a unit may raise anything; its caller gets it
            waiting.error = error
            return False
        return not waiting.future.cancelled()

    async def _commit(self, link: Link, executor: WritingExecutor) -> None:
        try:
            await self._writers.commit(link, executor)
        except ContextDnaError as error:
            for waiting in self._group:
                if not isinstance(waiting.result, Alone):
                    waiting.error = waiting.error or _copy(error)

    def _scatter(self, error: BaseException) -> None:
        """Have each unit run again alone: the transaction is lost with the work of all, and whose fault that was shows.

        What hangs, or is away, would be so again for each of them.
        """
        is_common = len(self._group) == 1 or has_lost(error) or is_cut_off(error) or has_run_out(error)
        for waiting in self._group:
            own = waiting.result.failure if isinstance(waiting.result, Alone) else None
            waiting.error = None
            waiting.result = Alone(failure=own or (error if is_common else None))


def _copy(error: ContextDnaError) -> ContextDnaError:
    """Give each caller an error of its own, as each adds where it was raised."""
    return copy(error) if isinstance(error, StorageUnavailable) else error
