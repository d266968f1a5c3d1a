"""Queued writes that were refused, as an operator may see them, have them done after all, or drop them."""

from contextdna.domain.access import Action, Caller
from contextdna.domain.operation import Operation
from contextdna.errors import NotFound
from contextdna.hub.door import Door
from contextdna.hub.spool import WriteSpool
from contextdna.values.aside_write import AsideWrite
from contextdna.values.ids import ProjectId


class Queue:
    """The part of a workspace about writes that were set aside (role system, scope admin), of the call's project."""

    def __init__(self, door: Door, spool: WriteSpool | None, caller: Caller) -> None:
        self._door = door
        self._spool = spool
        self._caller = caller

    async def aside(self) -> tuple[AsideWrite, ...]:
        """List what was refused, the oldest first, and what nobody can read."""
        project_id = await self._door.read(self._caller, Action.REVIEW_SPOOL, _project)
        found = await self._spool.aside.all() if self._spool else []
        return tuple(one for one in found if one.project_id in ("", project_id))

    async def retry(self, entry_id: str) -> tuple[str, ...]:
        """Do one after all, as who had asked for it; gives the ids of its records.

        Raises:
            NotFound: ``queued_unknown``.
            ContextDnaError: It was refused again, and stays.
        """
        return await (await self._checked(entry_id)).replay.retry(entry_id)

    async def drop(self, entry_id: str) -> None:
        """Remove one for good.

        Raises:
            NotFound: ``queued_unknown``.
        """
        spool = await self._checked(entry_id)

        async def run(op: Operation) -> None:
            op.note(dropped=entry_id)

        await self._door.write(self._caller, Action.REVIEW_SPOOL, run)
        await spool.aside.drop(entry_id, at=self._door.clock())

    async def _checked(self, entry_id: str) -> WriteSpool:
        known = {one.id for one in await self.aside()}  # asks first whether the caller may
        if self._spool is None or entry_id not in known:
            raise NotFound("no such write is set aside", code="queued_unknown", hint="List them: `contextdna spool`.")
        return self._spool


async def _project(op: Operation) -> ProjectId:
    return op.project_id
