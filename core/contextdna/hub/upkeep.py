"""The job that keeps an installation tidy while a server runs: overdue sessions, the sweep, remains, orphaned blobs."""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

import anyio

from contextdna.domain.access import Action
from contextdna.errors import ContextDnaError
from contextdna.hub.blobs import BlobRoom
from contextdna.hub.door import Door
from contextdna.hub.locks import one_job
from contextdna.hub.remains import Remains
from contextdna.hub.workspace import Workspace
from contextdna.ports.database import Transaction
from contextdna.ports.storage import Locks
from contextdna.values.audit import AuditEntry
from contextdna.values.ids import ProjectId

logger = logging.getLogger(__name__)

ORPHAN_AGE: Final = timedelta(days=1)
"""Bytes that are younger may wait for their reference, in another process."""

_CLOSE_EVERY_S: Final = 30.0
_FIRST_AFTER_S: Final = 30.0  # leaves the start, and short commands, alone
_AFTER_THE_NEWEST: Final = 2**63 - 1


class Upkeep:
    """Closes overdue sessions every half minute; sweeps once every ``sweep_interval_s``, unless another process does.

    The first sweep is soon after the start, where the last one is too long ago.
    """

    def __init__(
        self,
        door: Door,
        blobs: BlobRoom,
        remains: Remains,
        workspace_of: Callable[[ProjectId], Workspace],
        locks: Locks,
    ) -> None:
        self._door = door
        self._blobs = blobs
        self._remains = remains
        self._locks = locks
        self._workspace_of = workspace_of
        self._interval_s = door.settings.retention.sweep_interval_s

    async def run(self) -> None:
        """Keep tidy until cancelled; what fails is tried again at the next turn."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._sweep_again_and_again)
            while True:
                await anyio.sleep(_CLOSE_EVERY_S)
                await self.close_overdue()

    async def close_overdue(self) -> None:
        """Close the sessions that are past their end, so that those above learn of it and nothing lent is left."""
        for project_id in self._door.settings.projects:
            try:
                if await self._has_overdue(project_id):
                    await self._workspace_of(project_id).sessions.close_overdue()
            except ContextDnaError as error:
                logger.warning("overdue sessions of project %s cannot be closed now: %s", project_id, error.code)

    async def _sweep_again_and_again(self) -> None:
        await anyio.sleep(min(_FIRST_AFTER_S, self._interval_s))
        project_ids = await self.due()
        while True:
            if project_ids:
                await self.turn(project_ids)
            await anyio.sleep(self._interval_s)
            project_ids = self._door.settings.projects

    async def due(self) -> tuple[ProjectId, ...]:
        """List the projects that no process has swept for an interval, as their audit logs tell."""
        try:
            return tuple([project for project in self._door.settings.projects if await self._is_due(project)])
        except ContextDnaError as error:
            logger.warning("upkeep cannot tell when the last sweep was: %s", error.code)
            return ()

    async def turn(self, project_ids: Sequence[ProjectId]) -> None:
        """Sweep projects, then remove what purges and failed writes have left behind."""
        for project_id in project_ids:
            try:
                async with one_job(self._locks, project_id, "sweep") as job:
                    if job is not None:
                        await self._workspace_of(project_id).sweep(job=job)
            except ContextDnaError as error:
                logger.warning("project %s cannot be swept now: %s", project_id, error.code)
        await self._remains.retry()
        try:
            await self._blobs.sweep_orphans(older_than=self._door.clock() - ORPHAN_AGE)
        except ContextDnaError as error:
            logger.warning("orphaned blobs cannot be swept now: %s", error.code)

    async def _has_overdue(self, project_id: ProjectId) -> bool:
        """Look without the door, so that the audit log does not grow with looks that found nothing."""

        async def unit(tx: Transaction) -> bool:
            return bool(await tx.sessions.overdue(project_id, now=self._door.clock(), limit=1))

        return await self._door.database.read(unit)

    async def _is_due(self, project_id: ProjectId) -> bool:
        async def unit(tx: Transaction) -> list[AuditEntry]:
            return await tx.audit.latest(
                project_id, before_seq=_AFTER_THE_NEWEST, limit=1, action=Action.SWEEP, agent_id="", record_id=""
            )

        last = await self._door.database.read(unit)
        return not last or self._door.clock() - last[0].draft.at >= timedelta(seconds=self._interval_s)
