"""Runs units of work on a connection: reads on a snapshot, writes one by one within each project."""

import json
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, Final

from contextdna.backends.postgres.driver import Link
from contextdna.backends.postgres.scopes import (
    ALL_PROJECTS,
    Catalogue,
    Scope,
    Wide,
    lock_key,
    scope_of,
)
from contextdna.backends.relational.match import match_groups
from contextdna.backends.relational.statements import Params, Row
from contextdna.backends.relational.transaction import RelationalTransaction, tables_over
from contextdna.ports.database import Unit
from contextdna.values.ids import ProjectId
from contextdna.values.search import Match

_EVERYWHERE: Final = frozenset({Wide.ALL})
_EVENTS: Final = "event_append"
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

    def _scope_of(self, name: str, params: Params) -> Scope:
        if name == _SESSION_GET and params[0] in self._sessions:
            return self._sessions[params[0]]
        return scope_of(self._catalogue.places[name], params)

    async def _rows(self, name: str, params: Params) -> list[Row]:
        rows = await self._link.rows(name, params)
        if name == _SESSION_GET and rows:
            self._sessions.keep(params[0], rows[0][1])
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
        groups = match_groups(match)
        words = " | ".join(f"({' & '.join(map(_any_form, needs))})" for needs in groups)
        has_phrase = any(len(phrase) > 1 for needs in groups for forms in needs for phrase in forms)
        texts = [[[" ".join(phrase) for phrase in forms] for forms in needs] for needs in groups]
        return (words, json.dumps(texts) if has_phrase else None)


def _any_form(forms: Sequence[Sequence[str]]) -> str:
    return f"({' | '.join(' & '.join(phrase) for phrase in forms)})"


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
            self.begun = True
            self._sight = self._sight_for(scope)
            await self._link.script(f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT {_seeing(self._sight)}")
        return await self._rows(name, params)

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
    """

    def __init__(self, link: Link, catalogue: Catalogue, sessions: KnownSessions, scopes: Scopes) -> None:
        super().__init__(link, catalogue, sessions)
        self._scopes = scopes
        self._has_looked = False
        self._events: list[Params] = []
        self.tables: RelationalTransaction = tables_over(self)

    async def rows(self, name: str, params: Params = ()) -> list[Row]:
        """Run a query and fetch all its rows."""
        return await self.waiting_for(self._run(self._rows, name, params))  # type: ignore[no-any-return]

    async def run(self, name: str, params: Params = ()) -> int:
        """Run a statement and give how many rows it changed."""
        return await self.waiting_for(self._run(self._link.run, name, params))  # type: ignore[no-any-return]

    async def run_many(self, name: str, params: Sequence[Params]) -> None:
        """Run a statement once for each set of parameters."""
        if name == _EVENTS:
            self._events.extend(params)  # to the end of the unit: see _write_events
        elif params:
            await self.waiting_for(self._run_many(name, params))

    async def _run(self, how: Callable[[str, Params], Awaitable[Any]], name: str, params: Params) -> Any:
        await self._enter(name, params)
        return await how(name, params)

    async def _run_many(self, name: str, params: Sequence[Params]) -> None:
        for one in params:
            await self._enter(name, one)
        if len({self._scope_of(name, one) for one in params}) > 1:
            await self._see(Wide.ALL)
        await self._link.run_many(name, params)

    async def _enter(self, name: str, params: Params) -> None:
        """Lock what a statement is about, and see it.

        Raises:
            Again: Something was read before.
        """
        wanted = self._scope_of(name, params)
        if self._events and name in self._catalogue.of_events:
            await self._write_events()
        if wanted is Wide.BY_ID:
            self._has_looked = True
        elif wanted is not Wide.NOTHING and wanted not in self._scopes and Wide.ALL not in self._scopes:
            if self._scopes or self._has_looked:
                many = wanted is Wide.ALL or len(self._scopes) >= _SCOPES_MAX
                raise Again(_EVERYWHERE if many else self._scopes | {wanted})
            self._scopes = frozenset({wanted})
            await self._lock(wanted)
            return
        if self.begun:
            await self._see(wanted)
        else:
            await self._lock(wanted)

    async def _lock(self, wanted: Scope) -> None:
        """Take the locks, in one exchange with the beginning of the transaction where it has not begun."""
        self._sight = self._sight_for(wanted)
        texts = [] if self.begun else ["BEGIN"]
        texts.append(f"SELECT {', '.join([*_locks(self._scopes), _seeing(self._sight)])}")
        self.begun = True
        await self._link.script("; ".join(texts))

    async def _write_events(self) -> None:
        """Write the events that are held back.

        The first one keeps all others from writing events until the commit, so this comes as late as may be.
        """
        events, self._events = self._events, []
        await self._run_many(_EVENTS, events)

    async def before_commit(self) -> None:
        """Write what is held back."""
        if self._events:
            await self.waiting_for(self._write_events())


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
        steps: Any = self._unit(self._executor.tables).__await__()
        resume, given = steps.send, None
        while True:
            try:
                pending = resume(given)
            except StopIteration as end:
                return end.value
            if not self._executor.busy:
                steps.close()
                raise RuntimeError("a unit of work may await nothing but the tables of its transaction: it suspended")
            try:
                given, resume = (yield pending), steps.send
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:  # noqa: BLE001 - a cancellation, say: the unit is told as if it waited itself
                given, resume = error, steps.throw
