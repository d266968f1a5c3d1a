"""Units that have begun: they go as far as their first statement, which tells what they are about, and wait there."""

from collections.abc import Awaitable, Generator, Sequence
from typing import Any, Final

from contextdna.backends.postgres.scopes import Catalogue, Scope
from contextdna.backends.postgres.units import KnownSessions, WritingExecutor, match_params, suspended, watch
from contextdna.backends.relational.statements import Params, Row
from contextdna.backends.relational.transaction import tables_over
from contextdna.ports.database import Unit

_FREE_MAX: Final = 256


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
        self.match_params = match_params
        self.tables = tables_over(self)
        self._catalogue = catalogue
        self._sessions = sessions
        self._executor: WritingExecutor | None = None

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

    def leave(self) -> None:
        """Let another unit come in: this one has ended."""
        self._executor = None


class Entrances:
    """Where units come in, each used by one at a time: to make the tables of one takes as long as a small call."""

    def __init__(self, catalogue: Catalogue, sessions: KnownSessions) -> None:
        self._catalogue = catalogue
        self._sessions = sessions
        self._free: list[_Entrance] = []

    def take(self) -> _Entrance:
        """Give one that is free."""
        return self._free.pop() if self._free else _Entrance(self._catalogue, self._sessions)

    def give_back(self, entrance: _Entrance) -> None:
        """Take back one whose unit has ended."""
        entrance.leave()
        if len(self._free) < _FREE_MAX:
            self._free.append(entrance)


class BegunUnit:
    """A unit that has come to its first statement, or to its end.

    Raises:
        RuntimeError: It waited for something else.
        Exception: Whatever it raised.
    """

    def __init__(self, unit: Unit[Any], entrances: Entrances) -> None:
        self.scope: Scope | None = None
        """What its first statement is about; None where it has ended without one."""
        self.first: tuple[str, Params] = ("", ())
        """Its first statement, and the parameters of that."""
        self.result: Any = None
        self._entrances = entrances
        self._entrance: _Entrance | None = entrances.take()
        self._steps: Any = unit(self._entrance.tables).__await__()
        try:
            met = next(self._steps)
        except StopIteration as end:
            self.result = end.value
            self.close()
            return
        if not isinstance(met, _Arrival):
            self.close()
            raise suspended()
        self.scope, self.first = met.scope, (met.name, met.params)

    def go_on(self, executor: WritingExecutor) -> Awaitable[Any]:
        """Run the rest of it in a transaction.

        Raises:
            RuntimeError: It waited for something else than its connection.
            Exception: Whatever it raised.
        """
        return _GoingOn(self, executor)

    def watched(self, executor: WritingExecutor) -> Generator[Any, Any, Any]:
        """Give the steps of the rest of it."""
        try:
            return (yield from watch(self._steps, executor, executor))
        finally:
            self.close()

    def close(self) -> None:
        """Give it up where it waits; without an effect where it has ended."""
        self._steps.close()
        if self._entrance is not None:
            self._entrances.give_back(self._entrance)
            self._entrance = None


class _GoingOn:
    """The rest of a unit that has begun."""

    def __init__(self, unit: BegunUnit, executor: WritingExecutor) -> None:
        self._unit = unit
        self._executor = executor

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._unit.watched(self._executor)
