"""The replay of queued writes: done when the database is back, each project's in order, each as whoever asked for it.

What becomes of a write whose turn has come (it is stored, waits on, or is set aside) is the same wherever it was
queued: in the log of this process, in one that another has left, in what can be read of one that is damaged. So it
stands here, and the spool beside it tells when, and of which log.
"""

import logging
import traceback
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio

from contextdna.backends.guarded_database import AWAY, GuardedDatabase
from contextdna.domain import broken_promises
from contextdna.domain.operation import Operation
from contextdna.domain.queued_writes import QueuedWrite, UpdateRequest, unpacked
from contextdna.errors import Conflict, ContextDnaError, IntegrityFault, InvalidInput, StorageUnavailable
from contextdna.hub.damaged_slots import DamagedSlots
from contextdna.hub.done_ahead import DoneAhead
from contextdna.hub.door import Door
from contextdna.hub.own_writes import OwnWrites, name_of, place_of, project_of
from contextdna.hub.predecessors import EARLY, Predecessors
from contextdna.hub.writes_aside import WritesAside
from contextdna.ports.database import Transaction
from contextdna.ports.write_ahead_log import WriteAheadLog
from contextdna.values.ids import ProjectId
from contextdna.values.log_entry import LogEntry

logger = logging.getLogger(__name__)

_PASSING: Final = frozenset(
    {
        *("storage_outcome_unknown", "storage_closed"),
        *("storage_read_only", "storage_no_permission", "storage_login_refused"),  # of the server, not of the write
    }
)
_FORGOTTEN_AT_ONCE: Final = 32  # each time costs a flush to the disk
_FRAMES_MAX: Final = 6
_ATTEMPTS_MAX: Final = 5
"""After so many failures that no later attempt is likely to get over, a write is set aside."""


class Replay:
    """Goes through logs of queued writes, and knows what holds them up.

    Args:
        door: What the writes go through: one without the spool.
        database: Tells whether it is away for all.
        own: The writes of this process, which wait no longer once they are done.
        aside: Takes those that are refused.
        damaged: The slots of which not all can be read.
        predecessors: What updates wait for in other slots.
    """

    def __init__(
        self,
        door: Door,
        *,
        database: GuardedDatabase,
        own: OwnWrites,
        aside: WritesAside,
        damaged: DamagedSlots,
        predecessors: Predecessors,
    ) -> None:
        self._door = door
        self._database = database
        self._own = own
        self._aside = aside
        self._damaged = damaged
        self._predecessors = predecessors
        self._ahead: dict[Path, DoneAhead] = {}
        self._not_put: dict[str, ContextDnaError] = {}
        self._held_up: set[ProjectId] = set()
        self._failures: dict[str, int] = {}
        self.problem = ""
        """Code of what holds up writes that wait, as of the last attempt."""

    def holds_up(self, project_id: ProjectId | None) -> bool:
        """Tell whether a write that waits could not be done, and its project's others wait for it."""
        return project_id in self._held_up

    async def ahead(self, folder: Path, log: WriteAheadLog) -> DoneAhead:
        """Give what is over in a log though something before it waits.

        Args:
            folder: Of the slot.
            log: Which is in it, and this process's.

        Raises:
            StorageUnavailable: The folder cannot be read.
        """
        status, ahead = await log.status(), self._ahead.setdefault(folder, DoneAhead(folder))
        await ahead.load(status.log_id, after=status.forgotten_seq, last=status.last_seq)
        return ahead

    async def go_through(self, folder: Path, log: WriteAheadLog, *, is_own: bool = False) -> str:
        """Replay a log in the order of each project; one whose write cannot be done now is passed over, with the rest.

        A log forgets from its beginning on only. What is done behind a write that waits is noted beside it until then;
        what a process that ends could not note is done again, which changes nothing.

        Args:
            folder: Of the slot.
            log: Whose entries are done.
            is_own: Whether it is the one that this process queues in.

        Returns:
            The code of what holds some of it up; empty where nothing does.

        Raises:
            ContextDnaError: The database is away again; the rest waits.
        """
        held: dict[ProjectId, str] = {}
        done: list[LogEntry] = []
        count, ahead = 0, await self.ahead(folder, log)
        try:
            async for entry in log.recover():
                is_over, project_id = entry in ahead, project_of(entry)
                if not is_over:
                    if is_own:
                        self._own.note_read(entry.seq, project_id)
                    if project_id in held or not await self._is_done(entry, project_id, held):
                        continue
                    count += 1
                if not held:
                    done.append(entry)
                elif not is_over:
                    if is_own:
                        self._own.leave(entry)
                    with suppress(StorageUnavailable):  # then it is done again, which changes nothing
                        await ahead.add(entry)
                if len(done) == _FORGOTTEN_AT_ONCE:
                    await self._forget(log, done, ahead, is_own=is_own)
        finally:
            with anyio.CancelScope(shield=True):
                await self._forget(log, done, ahead, is_own=is_own)
                with suppress(StorageUnavailable):
                    await ahead.keep()
        if count:
            logger.warning("%d queued writes were replayed; %d writes are set aside", count, self._aside.count)
        return next(iter(held.values()), "")

    async def go_through_damaged(self, slot: int, folder: Path) -> str:
        """Replay what stands before the damage of a slot; gives the code of what holds some of it up.

        Args:
            slot: Its number.
            folder: Where it is.

        Raises:
            ContextDnaError: The database is away again; the rest waits.
        """
        held: dict[ProjectId, str] = {}
        try:
            view = await self._damaged.look(slot)
            if view is None:
                return ""
            ahead = self._ahead.setdefault(folder, DoneAhead(folder))
            await ahead.load(view.log_id.hex(), after=view.forgotten, last=view.last_seq)
            async for entry in self._damaged.readable(view):
                project_id = project_of(entry)
                if project_id in held or entry in ahead:
                    continue
                if await self._is_done(entry, project_id, held):
                    with suppress(StorageUnavailable):
                        await ahead.add(entry)
            if not held:
                await self._damaged.all_stored(slot, view)
            else:
                with suppress(StorageUnavailable):
                    await ahead.keep()
        except IntegrityFault as error:
            self._damaged.note(slot, error)
        return next(iter(held.values()), "")

    async def retry(self, name: str) -> tuple[str, ...]:
        """Do a write that was set aside, as the same principal; gives the ids of its records.

        Raises:
            NotFound: ``queued_unknown``.
            Conflict: ``stored_before``: what is known as done is not what was promised.
            ContextDnaError: It was refused again, and stays aside.
        """
        write = unpacked(await self._aside.get(name))
        await self._do(write, is_review=True)
        await self._aside.drop(name, at=self._door.clock())
        return write.ids

    async def _is_done(self, entry: LogEntry, project_id: ProjectId, held: dict[ProjectId, str]) -> bool:
        """Replay a write; False where it holds up its project.

        Raises:
            ContextDnaError: The database is away again, for all.
        """
        try:
            await self._replay(entry, held)
        except StorageUnavailable as error:
            if error.code == AWAY or not self._database.is_writable:
                raise
            self.problem = error.code
            if error.code == EARLY:  # it alone waits, as what it waits for may stand behind its project's others
                held[ProjectId(name_of(entry))] = error.code
                return False
            held[project_id] = error.code
            self._held_up.add(project_id)
            return False
        self._held_up.discard(project_id)
        return True

    async def _forget(self, log: WriteAheadLog, done: list[LogEntry], ahead: DoneAhead, *, is_own: bool) -> None:
        """Drop what was done; should that fail, it is done again, which changes nothing."""
        if not done:
            return
        await log.forget(done[-1].seq)
        for entry in done:
            if entry in ahead:
                ahead.discard(entry)
            elif is_own:
                self._own.leave(entry)
        done.clear()

    async def _replay(self, entry: LogEntry, held: Collection[str]) -> None:
        """Do a queued write, or set it aside where it is refused; not one that was: that is the operator's since.

        Raises:
            StorageUnavailable: The database cannot do it now, or it is early; or it cannot be set aside.
        """
        name = name_of(entry)
        if await self._aside.holds(name, place_of(entry)):
            return
        if (refusal := self._not_put.get(name)) is not None:  # it was audited
            await self._put_aside(entry, refusal)
            return
        try:
            write = unpacked(entry.data)
        except IntegrityFault as error:
            await self._put_aside(entry, error)
            return
        await self._predecessors.require_none(entry, write, held=held)
        try:
            await self._do(write)
        except ContextDnaError as error:
            await self._refused(entry, write, error)
        except Exception as error:  # noqa: BLE001 - one that cannot be done must not stop the others for ever
            logger.error("a queued write failed: %s at %s", type(error).__name__, _place(error))
            unforeseen = StorageUnavailable("the server failed", code="internal_error", hint="Report this as a bug.")
            await self._refused(entry, write, unforeseen)
        self._failures.pop(write.name, None)

    async def _put_aside(self, entry: LogEntry, error: ContextDnaError) -> None:
        name = name_of(entry)
        self._not_put[name] = error
        await self._aside.put(name, entry.data, error=error, at=self._door.clock())
        del self._not_put[name]
        self._failures.pop(name, None)

    async def _do(self, write: QueuedWrite, *, is_review: bool = False) -> None:
        async def run(op: Operation) -> tuple[str, ...]:
            return await write.replay(op, self._door.vault, is_review=is_review)

        try:
            ids = await self._door.write(write.caller, write.action, run)
        except Conflict as error:
            if error.code != "already_exists":
                raise
            # Another process was at the same: it is known now.
            ids = await self._door.write(write.caller, write.action, run)
        if ids != write.ids:  # else what was promised would come to nothing without a word
            raise _stored_before(ids)

    async def _refused(self, entry: LogEntry, write: QueuedWrite, error: ContextDnaError) -> None:
        if isinstance(error, StorageUnavailable):
            is_lasting = not error.retryable and error.code not in _PASSING
            self._failures[write.name] = failures = self._failures.get(write.name, 0) + is_lasting
            if failures < _ATTEMPTS_MAX:
                raise error
        if error.code == "already_exists":
            # Its records are there: it was done, and what said so has aged out.
            if write.idempotency_key:  # or this was, under its key, long before
                await self._put_aside(entry, _stored_before(write.ids))
            return
        if isinstance(error, InvalidInput):  # the door has audited all others
            await self._door.note_refusal(write.caller, write.action, error)
        logger.warning("a queued write was refused when it was replayed, and is set aside [%s]", error.code)
        if isinstance(write.request, UpdateRequest):
            await self._note_broken(write, write.request)
        await self._put_aside(entry, error)

    async def _note_broken(self, write: QueuedWrite, request: UpdateRequest) -> None:
        async def unit(tx: Transaction) -> None:
            await broken_promises.note(
                tx,
                write.project_id,
                agent_id=write.agent_id,
                record_id=request.record_id,
                version=request.expected_version + 1,
                now=self._door.clock(),
            )

        await self._door.database.write(unit)


def _place(error: BaseException) -> str:
    """Say where an error was raised, innermost first; not what it says: that may be somebody's text."""
    frames = reversed(traceback.extract_tb(error.__traceback__)[-_FRAMES_MAX:])
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} ({frame.name})" for frame in frames)


def _stored_before(ids: tuple[str, ...]) -> Conflict:
    return Conflict(
        "the records of a queued write are those of an earlier call",
        code="stored_before",
        hint="Look at them: where they are not what was meant, its author stores it under another idempotency key.",
        record_ids=ids,
    )
