"""Units that have begun: they go as far as their first statement, which tells what they are about, and wait there."""

from collections.abc import Awaitable, Generator, Sequence
from typing import Any

from contextdna.backends.postgres.scopes import Catalogue, Scope
from contextdna.backends.postgres.units import KnownSessions, WritingExecutor, match_params, suspended, watch
from contextdna.backends.relational.statements import Params, Row
from contextdna.backends.relational.transaction import tables_over
from contextdna.ports.database import Unit


class _Arrival:
    """The first statement of a unit, which waits for the transaction that it is to run in."""

    def __init__(self, name: str, params: Params, scope: Scope) -> None:
        self.name = name
        self.params = params
        self.scope = scope

    def __await__(self) -> Generator["_Arrival", WritingExecutor, WritingExecutor]:
        return (yield self)


class _Entrance:
    """The executor of one unit: hands its statements on to that of the transaction, once there is one."""

    def __init__(self, catalogue: Catalogue, sessions: KnownSessions) -> None:
        self._catalogue = catalogue
        self._sessions = sessions
        self._executor: WritingExecutor | None = None
        self.match_params = match_params

    async def rows(self, name: str, params: Params = ()) -> list[Row]:
        return await (self._executor or await self._arrive(name, params)).rows(name, params)

    async def run(self, name: str, params: Params = ()) -> int:
        return await (self._executor or await self._arrive(name, params)).run(name, params)

    async def run_many(self, name: str, params: Sequence[Params]) -> None:
        if params:
            await (self._executor or await self._arrive(name, params[0])).run_many(name, params)

    async def _arrive(self, name: str, params: Params) -> WritingExecutor:
        self._executor = await _Arrival(name, params, self._sessions.scope_of(self._catalogue, name, params))
        return self._executor


class BegunUnit:
    """A unit that has come to its first statement, or to its end.

    Raises:
        RuntimeError: It waited for something else.
        Exception: Whatever it raised.
    """

    def __init__(self, unit: Unit[Any], catalogue: Catalogue, sessions: KnownSessions) -> None:
        self.scope: Scope | None = None
        """What its first statement is about; None where it has ended without one."""
        self.first: tuple[str, Params] = ("", ())
        """Its first statement, and the parameters of that."""
        self.result: Any = None
        self._steps: Any = unit(tables_over(_Entrance(catalogue, sessions))).__await__()
        try:
            met = next(self._steps)
        except StopIteration as end:
            self.result = end.value
            return
        if not isinstance(met, _Arrival):
            self._steps.close()
            raise suspended()
        self.scope, self.first = met.scope, (met.name, met.params)

    def go_on(self, executor: WritingExecutor) -> Awaitable[Any]:
        """Run the rest of it in a transaction.

        Raises:
            RuntimeError: It waited for something else than its connection.
            Exception: Whatever it raised.
        """
        return _GoingOn(self._steps, executor)

    def close(self) -> None:
        """Give it up where it waits."""
        self._steps.close()


class _GoingOn:
    """The rest of a unit that has begun."""

    def __init__(self, steps: Any, executor: WritingExecutor) -> None:
        self._steps = steps
        self._executor = executor

    def __await__(self) -> Generator[Any, Any, Any]:
        return watch(self._steps, self._executor, self._executor)
