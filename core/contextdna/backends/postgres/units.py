"""Runs units of work on a connection: reads on a snapshot, writes one by one within each project."""

from collections.abc import Awaitable, Generator, Iterable, Sequence
from typing import Any, Final

from contextdna.backends.postgres.driver import Link
from contextdna.backends.postgres.holding import HELD, Held, Remembered
from contextdna.backends.postgres.matching import match_params
from contextdna.backends.postgres.scopes import (
    ALL_PROJECTS,
    Catalogue,
    Scope,
    Wide,
    lock_key,
    scope_of,
)
from contextdna.backends.relational.statements import Params, Row
from contextdna.backends.relational.transaction import RelationalTransaction, tables_over
from contextdna.ports.database import Unit
from contextdna.values.ids import ProjectId
from contextdna.values.search import Match

_EVERYWHERE: Final = frozenset({Wide.ALL})
_PLACES: Final = "records_next_seqs"
_EVENTS_SINCE: Final = "events_since"
_SESSION_GET: Final = "session_get"
_SESSIONS_MAX: Final = 10_000
_SCOPES_MAX: Final = 8
"""So many projects a unit locks one after the other; with more it locks all."""

Scopes = frozenset[Scope]


class KnownSessions(dict[str, ProjectId]):
    """Which project a session is of, as far as it was seen lately: that never changes.

    A session is looked for by its id alone. Where its project is known beforehand, that is locked and seen at once.
    """

    def keep(self, session_id: str, project_id: ProjectId) -> None:
        """Note a session, and forget the one that was noted first when there are too many."""
        self[session_id] = project_id
        if len(self) > _SESSIONS_MAX:
            del self[next(iter(self))]

    def scope_of(self, catalogue: Catalogue, name: str, params: Params) -> Scope:
        """Tell what a call of a statement is about."""
        if name == _SESSION_GET and params[0] in self:
            return self[params[0]]
        return scope_of(catalogue.places[name], params)


class Again(BaseException):
    """A unit looked at something before the lock of what it turns out to be about: it is run again, under the lock.

    No ``Exception``: whatever the unit catches, it does not catch this.
    """

    def __init__(self, scopes: Scopes) -> None:
        self.scopes = scopes


class _Executor:
    """What reading and writing have in common."""

    def __init__(self, link: Link, catalogue: Catalogue, sessions: KnownSessions) -> None:
        self.busy = False
        """Whether the connection is what is waited for."""
        self.begun = False
        self._link = link
        self._catalogue = catalogue
        self._sessions = sessions
        self._sight = ""
        self.heard: set[ProjectId] = set()
        """Projects of which it read that something was written."""

    def _scope_of(self, name: str, params: Params) -> Scope:
        return self._sessions.scope_of(self._catalogue, name, params)

    async def _rows(self, name: str, params: Params) -> list[Row]:
        rows = await self._link.rows(name, params)
        if name == _SESSION_GET and rows:
            self._sessions.keep(params[0], rows[0][1])
        elif name == _EVENTS_SINCE:
            self.heard.update(row[1] for row in rows)
        return rows

    def _sight_for(self, scope: Scope) -> str:
        """Give what a transaction must say that it sees, for a statement about something."""
        if isinstance(scope, str):
            return f"={scope}"
        return self._sight if scope is Wide.NOTHING else "*"

    async def _see(self, scope: Scope) -> None:
        """Look at something else from here on."""
        if (sight := self._sight_for(scope)) != self._sight:
            self._sight = sight
            await self._link.script(f"SELECT {_seeing(sight)}")

    async def waiting_for(self, answer: Awaitable[Any]) -> Any:
        """Wait for the connection."""
        self.busy = True
        try:
            return await answer
        finally:
            self.busy = False

    def match_params(self, match: Match) -> Params:
        """Write a match as a ``tsquery`` of its words, and its groups where phrases are to be found in the text."""
        return match_params(match)


def _seeing(sight: str) -> str:
    """Give the call that names what row-level security lets through. In hex, no name can end the text that it is in."""
    return f"set_config('contextdna.project', convert_from('\\x{sight.encode().hex()}', 'UTF8'), true)"


class ReadingExecutor(_Executor):
    """Runs queries in one read-only transaction, which begins with the first of them."""

    def __init__(self, link: Link, catalogue: Catalogue, sessions: KnownSessions) -> None:
        super().__init__(link, catalogue, sessions)
        self.tables: RelationalTransaction = tables_over(self)

    async def rows(self, name: str, params: Params = ()) -> list[Row]:
        """Run a query and fetch all its rows."""
        return await self.waiting_for(self._ask(name, params))  # type: ignore[no-any-return]

    async def _ask(self, name: str, params: Params) -> list[Row]:
        scope = self._scope_of(name, params)
        if self.begun:
            await self._see(scope)
        else:
            await self._begin(scope)
        return await self._rows(name, params)

    async def _begin(self, scope: Scope) -> None:
        self.begun = True
        self._sight = self._sight_for(scope)
        await self._link.script(f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT {_seeing(self._sight)}")

    async def run(self, name: str, params: Params = ()) -> int:  # noqa: ARG002 - the protocol's names
        """Refuse."""
        raise RuntimeError(f"a read unit may not write ({name})")

    async def run_many(self, name: str, params: Sequence[Params]) -> None:  # noqa: ARG002 - the protocol's names
        """Refuse."""
        raise RuntimeError(f"a read unit may not write ({name})")

    async def end(self) -> None:
        """Let go of the snapshot."""
        if self.begun:
            await self._link.script("COMMIT")


class WritingExecutor(_Executor):
    """Runs statements in one transaction, which holds the lock of every project that they are about.

    The lock of a project is taken before anything of it is read, so units of work of one project come one by one, and
    each statement sees all that was committed before. Which project it is shows at the first statement that names one.
    Several units may share a transaction, one after the other: see ``lanes``.
    """

    def __init__(self, link: Link, catalogue: Catalogue, sessions: KnownSessions, scopes: Scopes) -> None:
        super().__init__(link, catalogue, sessions)
        self.more = 0
        """How many units will come after the one at work, as far as is known."""
        self.has_written = False
        """Whether the unit at work has told the server something that it does not take back alone."""
        self._scopes = scopes
        self._has_looked = False
        self._held = Held(catalogue)
        self.remembered = Remembered()
        """What was asked in this transaction, and stands."""
        self._changed: set[str] = set()
        self._places: list[Row] = []
        self._is_guarded = False
        self._savepoints = 0
        self._has_savepoint = False
        self.tables: RelationalTransaction = tables_over(self)

    @property
    def projects(self) -> set[ProjectId] | None:
        """The projects that it is about; None for any."""
        return None if Wide.ALL in self._scopes else {ProjectId(one) for one in self._scopes if isinstance(one, str)}

    async def rows(self, name: str, params: Params = ()) -> list[Row]:
        """Run a query and fetch all its rows."""
        known = self.remembered.get(name, params)
        if known is not None:
            return known
        if name == _PLACES:
            return await self._draw(params[0])
        return await self.waiting_for(self._ask(name, params))  # type: ignore[no-any-return]

    async def run(self, name: str, params: Params = ()) -> int:
        """Run a statement and give how many rows it changed, or 1 where it is held back."""
        if name in HELD:
            await self.waiting_for(self._hold(name, [params]))
            return 1
        return await self.waiting_for(self._change(name, params))  # type: ignore[no-any-return]

    async def run_many(self, name: str, params: Sequence[Params]) -> None:
        """Run a statement once for each set of parameters."""
        if params:
            await self.waiting_for((self._hold if name in HELD else self._change_many)(name, params))

    def begin_unit(self, *, guarded: bool) -> None:
        """Begin another unit in the transaction; one that is guarded can be taken back alone, whatever it does."""
        self._held.begin_unit()
        self._changed.clear()
        self._is_guarded = guarded
        self._has_savepoint = self.has_written = False

    async def take_back(self) -> None:
        """Undo what the unit at work did: nothing was sent, or it is guarded."""
        for name, rows in self._held.take_back().items():
            self.remembered.forget(name, rows)
        for name in self._changed:
            self.remembered.change(name)
        if self._has_savepoint:
            await self.waiting_for(self._link.script("ROLLBACK TO SAVEPOINT unit"))

    async def enter(self) -> None:
        """Begin the transaction and take its locks before any unit runs in it."""
        [scope] = self._scopes
        await self._lock(scope)

    async def foresee(self, name: str, asked: Iterable[Params]) -> bool:
        """Ask at once what several units will ask; gives whether there was something to ask."""
        unknown = self.remembered.unknown(name, asked)
        wanted = [params for params in unknown if not self._held.before(name, params)]
        if wanted:
            await self._see(self._scope_of(name, wanted[0]))
            rows = await self.waiting_for(self._link.rows_of_many(name, wanted))
            self.remembered.keep_many(name, wanted, rows)
        return bool(wanted)

    async def before_commit(self) -> None:
        """Write what is held back; who fails now fails with all."""
        self._is_guarded = False
        for name in self._held.all():
            await self.waiting_for(self._write(name))

    async def _ask(self, name: str, params: Params) -> list[Row]:
        await self._enter(name, params)
        rows = await self._rows(name, params)
        if self._scope_of(name, params) in self._scopes:
            self.remembered.keep(name, params, rows)
        return rows

    async def _change(self, name: str, params: Params) -> int:
        await self._enter(name, params)
        await self._save()
        self._note_change(name)
        return await self._link.run(name, params)

    async def _change_many(self, name: str, params: Sequence[Params]) -> None:
        for one in params:
            await self._enter(name, one)
        await self._save()
        self._note_change(name)
        await self._send(name, params)

    def _note_change(self, name: str) -> None:
        self._changed.add(name)
        self.remembered.change(name)

    async def _hold(self, name: str, params: Sequence[Params]) -> None:
        for one in params:
            await self._lock_for(self._scope_of(name, one))
        for held in self._held.before_holding(name):
            await self._write(held)
        self.remembered.hold(name, params)
        self._held.add(name, params)

    async def _draw(self, number: int) -> list[Row]:
        """Draw places of records, some for the units to come, too: what they leave is never used."""
        if len(self._places) < number:
            self._places += await self.waiting_for(self._ask(_PLACES, (number + self.more,)))
        drawn, self._places = self._places[:number], self._places[number:]
        return drawn

    async def _enter(self, name: str, params: Params) -> None:
        """Lock what a statement is about, see it, and write what it depends on.

        Raises:
            Again: Something was read before.
        """
        for held in self._held.before(name, params):
            await self._write(held)
        wanted = self._scope_of(name, params)
        if not await self._lock_for(wanted):
            await self._see(wanted)

    async def _lock_for(self, wanted: Scope) -> bool:
        """Take the locks where that was not done; gives whether it was now, in which case that scope is seen.

        Raises:
            Again: Something was read before.
        """
        if wanted is Wide.BY_ID:
            self._has_looked = True
        elif wanted is not Wide.NOTHING and wanted not in self._scopes and Wide.ALL not in self._scopes:
            if self._scopes or self._has_looked:
                many = wanted is Wide.ALL or len(self._scopes) >= _SCOPES_MAX
                raise Again(_EVERYWHERE if many else self._scopes | {wanted})
            self._scopes = frozenset({wanted})
            await self._lock(wanted)
            return True
        if self.begun:
            return False
        await self._lock(wanted)
        return True

    async def _lock(self, wanted: Scope) -> None:
        """Take the locks, in one exchange with the beginning of the transaction where it has not begun."""
        self._sight = self._sight_for(wanted)
        texts = [] if self.begun else ["BEGIN"]
        texts.append(f"SELECT {', '.join([*_locks(self._scopes), _seeing(self._sight)])}")
        self.begun = True
        await self._link.script("; ".join(texts))

    async def _write(self, name: str) -> None:
        """Write rows that are held back, those of units before this one ahead of its savepoint."""
        if self._is_guarded and not self._has_savepoint and self._held.has_own(name):
            await self._send(name, self._held.take(name, own=False))
        if self._held.has_own(name):
            await self._save()
        await self._send(name, self._held.take(name, own=True))

    async def _send(self, name: str, params: Sequence[Params]) -> None:
        if not params:
            return
        scopes = {self._scope_of(name, one) for one in params}
        await self._see(scopes.pop() if len(scopes) == 1 else Wide.ALL)
        await self._link.run_many(name, params)

    async def _save(self) -> None:
        """Set a savepoint before the unit's first change, where it is guarded."""
        self.has_written = True
        if self._is_guarded and not self._has_savepoint:
            await self._link.script(f"{'RELEASE SAVEPOINT unit; ' if self._savepoints else ''}SAVEPOINT unit")
            self._savepoints += 1
            self._has_savepoint = True
            self._held.note_savepoint()


def _locks(scopes: Scopes) -> list[str]:
    """Give the calls that lock scopes; all who lock several do so in the same order."""
    if Wide.ALL in scopes:
        return [f"pg_advisory_xact_lock({ALL_PROJECTS})"]
    keys = sorted({lock_key(ProjectId(scope)) for scope in scopes if isinstance(scope, str)})
    shared = [f"pg_advisory_xact_lock_shared({ALL_PROJECTS})"] if keys else []
    return [*shared, *(f"pg_advisory_xact_lock({key})" for key in keys)]


class Watched:
    """Runs a unit and holds it to waiting for nothing but its connection."""

    def __init__(self, unit: Unit[Any], executor: ReadingExecutor | WritingExecutor) -> None:
        self._unit = unit
        self._executor = executor

    def __await__(self) -> Generator[Any, Any, Any]:
        """Run the unit to its end.

        Raises:
            RuntimeError: It waited for something else.
            Exception: Whatever it raised.
        """
        return watch(self._unit(self._executor.tables).__await__(), self._executor, None)


def watch(steps: Any, executor: ReadingExecutor | WritingExecutor, given: Any) -> Generator[Any, Any, Any]:
    """Run the steps of a unit to its end, the first one with what it waits for.

    Raises:
        RuntimeError: It waited for something else than its connection.
        Exception: Whatever it raised.
    """
    resume = steps.send
    while True:
        try:
            pending = resume(given)
        except StopIteration as end:
            return end.value
        if not executor.busy:
            steps.close()
            raise suspended()
        try:
            given, resume = (yield pending), steps.send
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:  # noqa: BLE001 - a cancellation, say: the unit is told as if it waited itself
            given, resume = error, steps.throw


def suspended() -> RuntimeError:
    """Make the error of a unit that waits for something else than its connection."""
    return RuntimeError("a unit of work may await nothing but the tables of its transaction: it suspended")
