"""Units that have begun: they go as far as their first statement, which tells what they are about, and wait there."""

from collections.abc import Awaitable, Generator, Sequence
from typing import Any, Final

from contextdna.backends.postgres.holding import Remembered
from contextdna.backends.postgres.matching import match_params
from contextdna.backends.postgres.scopes import Catalogue, Scope
from contextdna.backends.postgres.units import KnownSessions, WritingExecutor, suspended, watch
from contextdna.backends.relational.statements import Params, Row
from contextdna.backends.relational.transaction import tables_over
from contextdna.ports.database import Unit

_FREE_MAX: Final = 256


class _Arrival:
    """A statement of a unit, which waits for the transaction that it is to run in, or for rows that are known."""

    def __init__(self, name: str, params: Params, scope: Scope, *, is_query: bool) -> None:
        self.name = name
        self.params = params
        self.scope = scope
        self.is_query = is_query

    def __await__(self) -> Generator["_Arrival", Any, Any]:
        return (yield self)


class _Known:
    """Gives rows that are known already, to one query."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    async def rows(self, _name: str, _params: Params) -> list[Row]:
        return self._rows


class _Entrance:
    """The executor of one unit: hands its statements on to that of the transaction, once there is one."""

    def __init__(self, catalogue: Catalogue, sessions: KnownSessions) -> None:
        self.match_params = match_params
        self.tables = tables_over(self)
        self._catalogue = catalogue
        self._sessions = sessions
        self._executor: WritingExecutor | None = None

    async def rows(self, name: str, params: Params = ()) -> list[Row]:
        executor = self._executor or await self._arrive(name, params, is_query=True)
        rows: list[Row] = await executor.rows(name, params)
        return rows

    async def run(self, name: str, params: Params = ()) -> int:
        executor = self._executor or await self._arrive(name, params)
        changed: int = await executor.run(name, params)
        return changed

    async def run_many(self, name: str, params: Sequence[Params]) -> None:
        if params:
            await (self._executor or await self._arrive(name, params[0])).run_many(name, params)

    async def _arrive(self, name: str, params: Params, *, is_query: bool = False) -> Any:
        scope = self._sessions.scope_of(self._catalogue, name, params)
        executor = await _Arrival(name, params, scope, is_query=is_query)
        if isinstance(executor, WritingExecutor):
            self._executor = executor
        return executor

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
    """A unit that has come to its first statement, or to its end; further on as far as what it asks is known.

    Raises:
        RuntimeError: It waited for something else.
        Exception: Whatever it raised.
    """

    def __init__(self, unit: Unit[Any], entrances: Entrances) -> None:
        self.asks: _Arrival | None = None
        """The statement that it has come to; None where it has ended."""
        self.result: Any = None
        self._unit = unit
        self._entrances = entrances
        self._seen: list[tuple[_Arrival, list[Row]]] = []
        self._error: Exception | None = None
        self._entrance: _Entrance | None = entrances.take()
        self._steps: Any = unit(self._entrance.tables).__await__()
        self._step(None)
        if self._error is not None:
            raise self._error

    def advance(self, remembered: Remembered) -> None:
        """Go on as far as what it asks is known."""
        while (asks := self.asks) is not None and asks.is_query:
            rows = remembered.get(asks.name, asks.params)
            if rows is None:
                return
            self._seen.append((asks, rows))
            self._step(_Known(rows))

    def stands(self, remembered: Remembered) -> bool:
        """Tell whether all that it was told is so still."""
        return all(remembered.get(asked.name, asked.params) is rows for asked, rows in self._seen)

    def again(self) -> "BegunUnit":
        """Begin it anew.

        Raises:
            Exception: Whatever it raises.
        """
        self.close()
        return BegunUnit(self._unit, self._entrances)

    def go_on(self, executor: WritingExecutor) -> Awaitable[Any]:
        """Run the rest of it in a transaction.

        Raises:
            RuntimeError: It waited for something else than its connection.
            Exception: Whatever it raised.
        """
        return _GoingOn(self, executor)

    def watched(self, executor: WritingExecutor) -> Generator[Any, Any, Any]:
        """Give the steps of the rest of it."""
        if self._error is not None:
            raise self._error
        if self.asks is None:
            return self.result
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

    def _step(self, given: _Known | None) -> None:
        self.asks = None
        try:
            met = self._steps.send(given)
        except StopIteration as end:
            self.result = end.value
        except Exception as error:  # noqa: BLE001 - raised when it is its turn
            self._error = error
        else:
            if isinstance(met, _Arrival):
                self.asks = met
                return
            self._error = suspended()
        self.close()


class _GoingOn:
    """The rest of a unit that has begun."""

    def __init__(self, unit: BegunUnit, executor: WritingExecutor) -> None:
        self._unit = unit
        self._executor = executor

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._unit.watched(self._executor)
