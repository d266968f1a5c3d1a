"""Reading from standbys: which one may answer, and what is asked of the primary all the same.

A standby that has not come far enough, fails or refuses is passed over, and then the primary answers. So nothing is
refused, and no right is given, on the word of a standby that lags.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import anyio

from contextdna.backends.background import running
from contextdna.backends.breaker import Breaker
from contextdna.backends.postgres.driver import (
    DRIVER_ERRORS,
    Link,
    Server,
    connect,
    mapped_error,
    unavailable,
)
from contextdna.backends.postgres.links import Links
from contextdna.backends.postgres.places import STANDBY_PLACE, STATEMENTS, Places, Stand
from contextdna.backends.postgres.scopes import Catalogue, Scope
from contextdna.backends.postgres.units import KnownSessions, ReadingExecutor, Watched
from contextdna.backends.relational.statements import Params, Row
from contextdna.errors import ContextDnaError, StorageUnavailable
from contextdna.ports.database import ReplicaStatus, Unit
from contextdna.values.ids import INSTALLATION, ProjectId

logger = logging.getLogger(__name__)

R = TypeVar("R")

_CONNECT_S: Final = 2.0
_ANSWER_S: Final = 1.0
"""How long a standby may take to say how far it is."""
_STANDS_MAX: Final = 1_000
_READ_S: Final = 5.0
"""How long a call waits for a standby, before the primary is asked."""


_OF_THE_STANDBY: Final = frozenset(
    {
        "storage_unreachable",
        "storage_not_standby",
        "storage_other_history",
        "storage_login_refused",
        "storage_insecure",
        "storage_no_permission",
    }
)
"""What is so for the next call, too."""


class PassedOver(BaseException):
    """A standby cannot answer this; no ``Exception``, so that no unit catches it."""


def _no_standby() -> StorageUnavailable:
    return unavailable("storage_not_standby", "the server of a replica is no standby")


def _other_history() -> StorageUnavailable:
    return unavailable("storage_other_history", "a replica does not have what the primary began with")


async def _stand_of(link: Link, project_id: ProjectId) -> Stand:
    """Ask how far a standby is in a project; what it has shown once it has on this connection.

    Raises:
        StorageUnavailable: It is none.
    """
    with anyio.fail_after(_ANSWER_S):
        [row] = await link.rows(STANDBY_PLACE, (project_id,))
    stand = Stand(*row)
    if stand.place < 0:
        raise _no_standby()
    if len(link.stands) >= _STANDS_MAX:
        link.stands.clear()
    link.stands[project_id] = stand
    return stand


@dataclass(frozen=True, slots=True)
class Answer:
    """What a unit gave on a standby."""

    value: Any


class StandbyExecutor(ReadingExecutor):
    """Runs the queries of a unit on a standby that has come far enough for the one project that they are about."""

    def __init__(self, link: Link, catalogue: Catalogue, sessions: KnownSessions, need: "Need") -> None:
        super().__init__(link, catalogue, sessions)
        self._need = need

    async def _ask(self, name: str, params: Params) -> list[Row]:
        scope = self._scope_of(name, params)
        if not self.begun:
            await self._require(scope)
            with anyio.fail_after(_ANSWER_S):
                await self._begin(scope)
        elif scope != self._need.project_id:
            raise PassedOver
        return await super()._ask(name, params)

    async def _require(self, scope: Scope) -> None:
        """See that the standby is far enough, before the snapshot is taken."""
        if not isinstance(scope, str):
            raise PassedOver
        need = await self._need.of(scope)
        known = self._link.stands.get(scope)
        if known is not None and known.covers(need):
            return
        stand = await _stand_of(self._link, scope)
        if stand.history != need.history:
            raise _other_history()
        if not stand.covers(need):
            raise PassedOver


class Need:
    """How far a standby must be for one call: found out once, however many are tried."""

    def __init__(self, places: Places) -> None:
        self.project_id: ProjectId | None = None
        self._places = places
        self._least: Stand | None = None

    async def of(self, project_id: ProjectId) -> Stand:
        """Tell how far it must be in the call's project; nobody answers but the primary where that cannot be asked."""
        if self._least is None or self.project_id != project_id:
            try:
                self._least = await self._places.least(project_id)
            except ContextDnaError:
                raise PassedOver from None
            self.project_id = project_id
        return self._least


class Replica:
    """One standby, its connections, and whether it is there.

    Args:
        server: Where it is.
        catalogue: The statements.
        places: What is known of the primary.
        pool_max: Connections at most.
        number: Which one it is in the settings, from 1.
    """

    def __init__(self, server: Server, catalogue: Catalogue, *, places: Places, pool_max: int, number: int) -> None:
        self.name = f"{number} ({urlsplit(server.url).hostname or 'local socket'})"
        self.passed_over = 0
        """Calls that it could not answer as far as it was."""
        self.answered = 0
        self._is_told = False
        self._places = places
        texts = {**catalogue.texts, **STATEMENTS}

        async def open_link() -> Link:
            return Link(await connect(server), texts)

        self.links = Links(open_link, least=0, most=pool_max, acquire_timeout_s=_CONNECT_S)
        self.breaker = Breaker(self._probe, pause_s_max=15.0, on_change=self._note_change)
        self.breaker.trip(unavailable("storage_unreachable", "the replica was not asked yet"))

    async def place(self) -> int:
        """Ask how far it is.

        Raises:
            StorageUnavailable: It is away, hangs, is no standby, or follows another history than the primary's.
        """
        stand = await self._stand()
        if stand.history != self._places.history:  # what is known of it may be old
            with suppress(ContextDnaError):
                await self._places.refresh()
        if not stand.history or stand.history != self._places.history:
            raise _other_history()
        return stand.place

    async def _stand(self) -> Stand:
        failure: ContextDnaError
        async with self.links.take() as link:
            try:
                return await _stand_of(link, INSTALLATION)
            except DRIVER_ERRORS as error:
                link.cut()
                failure = mapped_error(error)
        raise failure

    async def _probe(self) -> None:
        try:
            await self.place()
        except ContextDnaError as error:
            if not self._is_told:
                logger.warning("replica %s is left out: %s", self.name, error.code)
                self._is_told = True
            raise unavailable(error.code, error.message) from None

    def _note_change(self, problem: StorageUnavailable | None) -> None:
        if problem is None:
            self._is_told = False
            logger.info("replica %s answers", self.name)
        else:
            self.links.forget_idle()


class Replicas:
    """The standbys of a database, asked in turn."""

    def __init__(
        self, replicas: Sequence[Replica], places: Places, catalogue: Catalogue, sessions: KnownSessions
    ) -> None:
        self.places = places
        self._replicas = replicas
        self._catalogue = catalogue
        self._sessions = sessions
        self._turn = 0

    async def read(self, unit: Unit[Any]) -> Answer | None:
        """Run a unit on a standby that may answer it; None where none may, or where it failed there."""
        need = Need(self.places)
        self._turn += 1
        for number in range(len(self._replicas)):
            replica = self._replicas[(self._turn + number) % len(self._replicas)]
            if replica.breaker.problem is not None:
                continue
            try:
                answer = await self._read_on(replica, unit, need)
            except PassedOver:
                replica.passed_over += 1
                if need.project_id is None:  # it is for none of them
                    return None
            except StorageUnavailable as problem:
                replica.passed_over += 1
                if problem.code in _OF_THE_STANDBY:
                    replica.breaker.trip(problem)
            except Exception as error:  # noqa: BLE001 - whatever a unit finds wrong there, the primary has the last word
                logger.debug("what a replica refused is asked of the primary: %s", type(error).__name__)
                return None
            else:
                replica.answered += 1
                return answer
        return None

    async def _read_on(self, replica: Replica, unit: Unit[Any], need: Need) -> Answer:
        failure: BaseException
        async with replica.links.take() as link:
            executor = StandbyExecutor(link, self._catalogue, self._sessions, need)
            try:
                with anyio.fail_after(_READ_S):
                    value = await Watched(unit, executor)
                    await executor.end()
                    return Answer(value)
            except DRIVER_ERRORS as error:
                link.cut()
                failure = error
            except BaseException:
                if executor.begun:
                    await link.roll_back(within_s=_ANSWER_S)
                raise
        raise mapped_error(failure)

    async def status(self) -> tuple[ReplicaStatus, ...]:
        """Tell how each is, asking those that are there."""
        with suppress(ContextDnaError):
            await self.places.refresh()
        return tuple([await self._status_of(replica) for replica in self._replicas])

    async def _status_of(self, replica: Replica) -> ReplicaStatus:
        known = ReplicaStatus(replica.name, sound=False, answered=replica.answered, passed_over=replica.passed_over)
        began = monotonic()
        try:
            replica.breaker.check()
            place = await replica.place()
        except StorageUnavailable as problem:
            return replace(known, problem=problem.code)
        latency_ms = (monotonic() - began) * 1000
        return replace(known, sound=True, latency_ms=latency_ms, lag_s=self.places.lag_s(place))

    async def close(self) -> None:
        """Close all connections."""
        for replica in self._replicas:
            await replica.links.close()


@asynccontextmanager
async def open_replicas(
    servers: Sequence[Server],
    places: Places,
    catalogue: Catalogue,
    *,
    sessions: KnownSessions,
    pool_max: int,
) -> AsyncIterator[Replicas]:
    """Open what reads from standbys; those that are away are looked for in the background."""
    found = [
        Replica(_hurried(server), catalogue, places=places, pool_max=pool_max, number=number)
        for number, server in enumerate(servers, start=1)
    ]
    replicas = Replicas(found, places, catalogue, sessions)
    async with running(*(replica.breaker.run for replica in found)) as tasks:
        try:
            yield replicas
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await replicas.close()


def _hurried(server: Server) -> Server:
    return Server(server.url, _CONNECT_S, min(server.statement_timeout_s, _READ_S))
