"""Locks between processes: kept by the database, or by Redis and, while that is away, by the database."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Final

import anyio

from contextdna.domain import leases
from contextdna.errors import ContextDnaError, StorageUnavailable
from contextdna.ports.database import Database
from contextdna.ports.storage import Locks
from contextdna.values.ids import ProjectId
from contextdna.values.lease import Lease

JOB_S: Final = 60.0
"""How long a job is kept from the others without being renewed: so long it rests when its process was killed."""

_HELD_MAX: Final = 1000
_AHEAD_MAX: Final = timedelta(minutes=5)
"""How far ahead of our clock a number may be that was not made here: clocks differ, by minutes at most."""


class DatabaseLocks:
    """``Locks`` in a table of the database."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def acquire(self, project_id: ProjectId, name: str, *, ttl_s: float) -> Lease | None:
        """Take a lock; None while another one has it.

        Raises:
            StorageUnavailable: The database is away. So do all the others.
        """
        return await self._database.write(
            lambda tx: leases.acquire(tx, project_id, name, now=self._clock(), ttl_s=ttl_s)
        )

    async def renew(self, lease: Lease, *, ttl_s: float) -> bool:
        """Keep a lock for longer; False when it is over."""
        return await self._database.write(lambda tx: leases.renew(tx, lease, now=self._clock(), ttl_s=ttl_s))

    async def release(self, lease: Lease) -> bool:
        """Give a lock back; False when it was over, or another one's."""
        return await self._database.write(lambda tx: leases.release(tx, lease, now=self._clock()))

    async def would_outdo(self, lease: Lease) -> bool:
        """Tell whether a lease of elsewhere has a number that is above all known here, and made by a clock like ours.

        Raises:
            StorageUnavailable: The database is away.
        """
        if lease.fencing > leases.micros_of(self._clock() + _AHEAD_MAX):
            return False
        return await self._database.read(lambda tx: leases.is_newer(tx, lease))


class SharedLocks:
    """``Locks`` in Redis; while that is away, in the database.

    When it goes away or comes back, two may hold one lock for a while. The fencing numbers of both grow with time, so
    the earlier of the two is refused where it writes. A number of Redis's that the database would refuse, or that would
    have it refuse all that come later, is not used: the database gives a lease in its place.
    """

    def __init__(self, far: Locks, database: DatabaseLocks) -> None:
        self._far = far
        self._database = database
        self._in_database: dict[str, None] = {}

    async def acquire(self, project_id: ProjectId, name: str, *, ttl_s: float) -> Lease | None:
        """Take a lock; None while another one has it.

        Raises:
            StorageUnavailable: Redis and the database are away. So do all the others.
        """
        try:
            given = await self._far.acquire(project_id, name, ttl_s=ttl_s)
            if given is None or await self._database.would_outdo(given):
                return given
            await self._far.release(given)
        except StorageUnavailable:
            pass
        lease = await self._database.acquire(project_id, name, ttl_s=ttl_s)
        if lease is not None:
            self._in_database[lease.holder] = None
            if len(self._in_database) > _HELD_MAX:  # of holders that never gave theirs back
                self._in_database.pop(next(iter(self._in_database)))
        return lease

    async def renew(self, lease: Lease, *, ttl_s: float) -> bool:
        """Keep a lock for longer; False when it is over."""
        return await self._of(lease).renew(lease, ttl_s=ttl_s)

    async def release(self, lease: Lease) -> bool:
        """Give a lock back; False when it was over, or another one's."""
        locks = self._of(lease)
        self._in_database.pop(lease.holder, None)
        return await locks.release(lease)

    def _of(self, lease: Lease) -> Locks:
        return self._database if lease.holder in self._in_database else self._far


class Job:
    """A job that this process does for all, as long as it has the lease."""

    def __init__(self, locks: Locks, lease: Lease, clock: Callable[[], float]) -> None:
        self.lease = lease
        self._locks = locks
        self._clock = clock
        self._renewed_at = clock()

    async def go_on(self) -> None:
        """Say that the job goes on, between its steps; each step that writes is to ``fence`` the lease beside.

        Raises:
            StorageUnavailable: ``lease_lost``, or nobody can tell now.
        """
        if self._clock() - self._renewed_at < JOB_S / 3:
            return
        if not await self._locks.renew(self.lease, ttl_s=JOB_S):
            raise leases.lost(self.lease)
        self._renewed_at = self._clock()


@asynccontextmanager
async def one_job(locks: Locks, project_id: ProjectId, name: str) -> AsyncIterator[Job | None]:
    """Begin a job that one process does for all; gives None while another one does it.

    Raises:
        StorageUnavailable: Nobody can tell now.
    """
    lease = await locks.acquire(project_id, name, ttl_s=JOB_S)
    if lease is None:
        yield None
        return
    try:
        yield Job(locks, lease, anyio.current_time)
    finally:
        with anyio.CancelScope(shield=True), suppress(ContextDnaError):  # it ends by itself
            await locks.release(lease)
