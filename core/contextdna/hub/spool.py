"""Writes that wait in the data folder while the database is away, and are done, in order, when it is back."""

import logging
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar

import anyio

from contextdna.backends.guarded_database import AWAY, GuardedDatabase
from contextdna.backends.segmented_log import open_segmented_log
from contextdna.domain import sessions
from contextdna.domain.access import Action, Caller, own_actor, retired
from contextdna.domain.queued_writes import (
    QueuedWrite,
    Request,
    UpdateRequest,
    packed,
    promised_ids,
    require_may_queue,
    unpacked,
)
from contextdna.errors import ContextDnaError, IntegrityFault, StorageUnavailable
from contextdna.hub.damaged_slots import DamagedSlots
from contextdna.hub.done_ahead import DoneAhead
from contextdna.hub.door import Door
from contextdna.hub.known_actors import KnownActors
from contextdna.hub.own_writes import OwnWrites, name_of, place_of
from contextdna.hub.predecessors import Predecessors
from contextdna.hub.replay import Replay
from contextdna.hub.shown_versions import ShownVersions
from contextdna.hub.waiting_writes import Promise
from contextdna.hub.writes_aside import ASIDE_FOLDER, WritesAside
from contextdna.ports.write_ahead_log import Sealer, WriteAheadLog
from contextdna.values.ids import IdPrefix, ProjectId, new_id
from contextdna.values.principal import Actor, Role

logger = logging.getLogger(__name__)

R = TypeVar("R")

SPOOL_FOLDER: Final = "spool"
SLOTS_MAX: Final = 64
"""So many server processes on one data folder may queue at the same time."""

_LOOK_S: Final = 30.0
"""How often the spools of processes that are gone are looked for."""
_TURN_S: Final = 5.0
"""How long a write waits for those that were queued before it."""
_PAUSE_S: Final = 0.1
_PAUSE_MAX_S: Final = 5.0
_NO_ROOM: Final = "storage_busy"
_RECALLED_MAX: Final = 10_000  # a second or so of a start


class WriteSpool:
    """Takes writes that can be promised, and has them replayed.

    A process owns one slot of the folder, a log; what a process that is gone has left in another slot is replayed by
    whichever looks first. While anything of a project waits in this process, what comes for it waits behind.

    Args:
        folder: Of the slots and of what is set aside.
        sealer: Encrypts all of it.
        door: What replays go through: one without this spool.
        database: Tells when it is back.
        actors: Who acts with which session handle.
        bytes_max: What a slot may hold.
        confirmed: Set when the database is known to be the one that the folder is of; nothing is queued before.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sealer: Sealer,
        door: Door,
        database: GuardedDatabase,
        actors: KnownActors,
        bytes_max: int,
        confirmed: anyio.Event,
    ) -> None:
        self._folder = folder
        self._sealer = sealer
        self._door = door
        self._database = database
        self._actors = actors
        self._bytes_max = bytes_max
        self._confirmed = confirmed
        self._log: WriteAheadLog | None = None
        self._stack = AsyncExitStack()
        self._reopening = anyio.Lock()
        self._slot = -1
        self._is_given_up = False
        self._left: dict[int, int] = {}
        self._own = OwnWrites()
        self.shown = ShownVersions()
        self._arrived = anyio.Event()
        self.aside = WritesAside(folder / ASIDE_FOLDER, sealer)
        self.damaged = DamagedSlots(folder, sealer)
        self._predecessors = Predecessors(folder, sealer, database=database, aside=self.aside, clock=door.clock)
        self.replay = Replay(
            door,
            database=database,
            own=self._own,
            aside=self.aside,
            damaged=self.damaged,
            predecessors=self._predecessors,
        )

    @property
    def waiting(self) -> int:
        """How many writes wait: of this process, of the one before it in its slot, and of others that are gone."""
        return self._own.turns.total + sum(self._left.values())

    async def open(self, stack: AsyncExitStack) -> None:
        """Take a slot that no other process has, with what was left in it, until the stack is left.

        Raises:
            StorageUnavailable: ``spool_slots_taken``, or the folder cannot be used.
        """
        await stack.enter_async_context(self._stack)
        await self.aside.open()
        await self._take_slot()

    async def _take_slot(self) -> None:
        for slot in range(SLOTS_MAX):
            folder = self._folder / str(slot)
            is_there = await anyio.to_thread.run_sync(os.path.lexists, folder)
            try:
                self._log = await self._stack.enter_async_context(self._open_slot(folder))
            except StorageUnavailable as error:
                if not is_there and error.code != "log_in_use":  # no other can be made either
                    raise
                self._note_closed(slot, error)
            except IntegrityFault as error:
                self.damaged.note(slot, error)
            else:
                self._slot = slot
                self.damaged.clear(slot)
                self._left.pop(slot, None)
                status = await self._log.status()
                ahead = await self.replay.ahead(folder, self._log)
                self._own.inherit(status, over=len(ahead))
                if status.entries > len(ahead):
                    logger.warning("%d queued writes of an earlier process wait to be stored", self.waiting)
                    await self._recall(self._log, ahead, after=max(0, status.last_seq - _RECALLED_MAX))
                return
        raise StorageUnavailable(
            "all slots of the spool are taken",
            code="spool_slots_taken",
            hint=f"Let fewer than {SLOTS_MAX} server processes share a data folder, or set storage.spool to false.",
        )

    @asynccontextmanager
    async def _open_slot(self, folder: Path) -> AsyncIterator[WriteAheadLog]:
        """Open a slot to queue in; not one that holds what this process cannot read: it would never get past that.

        Raises:
            StorageUnavailable: It cannot be opened, or is another's.
            IntegrityFault: It is damaged, or under another key.
        """
        async with open_segmented_log(folder, sealer=self._sealer, size_bytes_max=self._bytes_max) as log:
            async for _ in log.recover():
                break
            yield log

    async def _recall(self, log: WriteAheadLog, ahead: DoneAhead, *, after: int) -> None:
        """Know again what an earlier process has promised: it holds for repeats, and for what builds upon it."""
        try:
            refused = await self.aside.names()
            async for entry in log.recover(after=after):
                if entry in ahead or refused & {name_of(entry), place_of(entry)}:
                    continue
                with suppress(IntegrityFault):  # it is set aside when its turn comes
                    self._own.note(entry.seq, unpacked(entry.data))
        except ContextDnaError as error:
            logger.warning("what was promised before is not known to the end [%s]", error.code)

    async def take(self, caller: Caller, request: Request, do: Callable[[], Awaitable[R]]) -> R | Promise:
        """Do a write, or queue it where the database is away or others wait already.

        Args:
            caller: Who asks.
            request: What for, as it can be queued.
            do: Does it now.

        Raises:
            ContextDnaError: What refused it; or the database is away, and it cannot be queued.
        """
        if not request.may_wait:
            return await do()
        project_id = self._project(caller, request.action)
        if (
            self._own.turns.is_behind(project_id)
            and self._database.is_writable
            and not self.replay.holds_up(project_id)
        ):
            # Else what keeps arriving, quicker than it is replayed, would never be done.
            await self._turn_comes(project_id)
        if self._own.turns.is_behind(project_id):
            self._database.require_not_refused()
            away = StorageUnavailable("writes wait", code=AWAY, hint="Try again later.", retryable=True)
        else:
            try:
                return await do()
            except StorageUnavailable as error:
                if error.code != AWAY and (error.code != _NO_ROOM or self._database.is_writable):
                    raise
                away = error  # or it waited for a connection, and has outwaited the server
        return await self._queue(caller, request, away)

    async def in_turn(self, caller: Caller, action: Action) -> None:
        """Let what cannot be queued wait, for a while, for what was queued for its project before it.

        Raises:
            StorageUnavailable: ``storage_busy``.
        """
        project_id = self._project(caller, action)
        if not self._own.turns.is_behind(project_id) or not self._database.is_writable:
            return
        if await self._turn_comes(project_id):
            return
        raise StorageUnavailable(
            "writes that were queued while the database was away are stored first",
            code="storage_busy",
            hint="Try again in a moment.",
            retryable=True,
        )

    async def _turn_comes(self, project_id: ProjectId | None) -> bool:
        """Wait, for a while, until nothing waits any more."""
        with anyio.move_on_after(_TURN_S):
            await self._own.turns.come(project_id)
            return True
        return False

    async def run(self) -> None:
        """Replay whenever the database is there, until cancelled."""
        pause_s = _PAUSE_S
        while True:
            await self._database.until_writable()
            self._arrived = anyio.Event()
            self._predecessors.look_again()
            held = ""
            try:
                await self._look_aside()
                held = await self._drain()
                held = await self._adopt() or held
            except ContextDnaError as error:
                held = error.code
            self.replay.problem = held
            if held:
                logger.info("queued writes wait on: %s", held)
                await anyio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)
                continue
            pause_s = _PAUSE_S
            with anyio.move_on_after(_LOOK_S * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter, not a secret
                await self._arrived.wait()

    async def _look_aside(self) -> None:
        """Count what is set aside: another process may have dropped some. And forget what can come no more.

        Raises:
            StorageUnavailable: The folder cannot be used.
        """
        kept = timedelta(days=self._door.settings.retention.idempotency_days)  # nothing older is done without asking
        await self.aside.forget_dropped(before=self._door.clock() - kept)
        await self.aside.open()

    async def _queue(self, caller: Caller, request: Request, away: StorageUnavailable) -> Promise:
        if not self._confirmed.is_set():
            raise _unconfirmed(away) from away
        actor = self._actor(caller, request, away)
        require_may_queue(actor, caller, request, self._door.settings)
        now = self._door.clock()
        write = QueuedWrite(now, caller, request, (), actor.project_id, actor.agent_id)
        if request.repeats and (earlier := self._own.promised(write)) is not None:
            return earlier
        after = self._own.waiting.name_before(actor.agent_id, request) if isinstance(request, UpdateRequest) else ""
        ids = promised_ids(request, actor, self._door.vault, now=now)
        is_seen = isinstance(request, UpdateRequest) and self.shown.has(
            caller, request.record_id, request.expected_version
        )
        write = replace(write, ids=ids, after=after, name=new_id(IdPrefix.WRITE, now), is_seen=is_seen)
        self._own.waiting.require_same(write)
        with anyio.CancelScope(shield=True):  # else nobody would know whether it stands
            seq = await self._append(packed(write), actor.project_id)
        self._arrived.set()
        return self._own.note(seq, write)

    def _project(self, caller: Caller, action: Action) -> ProjectId | None:
        """Give the project that a call is about; None where this process cannot tell."""
        if caller.handle:
            actor = self._actors.of(caller)
            return actor.project_id if actor else None
        with suppress(ContextDnaError):  # the door says so
            return own_actor(caller, action).project_id
        return None

    def _actor(self, caller: Caller, request: Request, away: StorageUnavailable) -> Actor:
        """Give whom a call acts as, as far as this process knows.

        Raises:
            StorageUnavailable: Nobody has told it whom the session handle stands for.
            AccessDenied: ``agent_retired``.
        """
        actor, principal = self._known_actor(caller, request, away), caller.principal
        if principal.role is not Role.SYSTEM and self._actors.is_retired(actor.project_id, principal.agent_id):
            raise retired(principal.agent_id)
        return actor

    def _known_actor(self, caller: Caller, request: Request, away: StorageUnavailable) -> Actor:
        if not caller.handle:
            if request.needs_session:
                raise sessions.no_session()
            return own_actor(caller, request.action)
        actor = self._actors.of(caller)
        if actor is None:
            raise StorageUnavailable(
                f"whom this session_id stands for is not known here now: {away.message}",
                code=AWAY,
                hint="Check that it is whole and its session not over, and try again later: the database knows it.",
                retryable=True,
            ) from away
        return actor

    async def _append(self, data: bytes, project_id: ProjectId) -> int:
        """Write an entry; where the log has closed itself after a fault of the disk, once more with it opened anew."""
        is_reopened = False
        while True:
            log, turns = self._log, self._own.turns
            turns.join(project_id)
            try:
                return await self._written(log, data)
            except BaseException as error:
                turns.leave(project_id)
                if log is None or is_reopened or not _has_closed(error):
                    raise
            await self._reopen(log)
            is_reopened = True

    async def _written(self, log: WriteAheadLog | None, data: bytes) -> int:
        if log is None or self._is_given_up:
            raise StorageUnavailable(
                "the spool is closed", code="log_closed", hint="Start the server again; `contextdna doctor` tells why."
            )
        unit = await log.begin()
        try:
            await log.write_entry(unit, data)
            return await log.commit(unit)
        except BaseException:
            with suppress(ContextDnaError):
                await log.rollback(unit)
            raise

    async def _reopen(self, closed: WriteAheadLog) -> None:
        """Open the log anew, with what it holds; whoever comes first does it.

        Raises:
            StorageUnavailable: The folder cannot be used.
        """
        async with self._reopening:
            if self._log is not closed or self._is_given_up:
                return
            await self._stack.aclose()
            self._log, self._slot = None, -1
            self._own.clear()
            await self._take_slot()
            logger.warning("the spool's log was opened anew after a fault of its disk")

    async def _drain(self) -> str:
        """Replay what waits in the own slot; gives the code of what holds some of it up.

        Raises:
            ContextDnaError: The database is away again; the rest waits.
        """
        if self._log is None or not self._own.turns.total:
            return ""
        log = self._log
        try:
            return await self.replay.go_through(self._folder / str(self._slot), log, is_own=True)
        except StorageUnavailable as error:
            if self._is_away(error):
                raise
            if _has_closed(error):
                await self._reopen(log)
            return error.code
        except IntegrityFault as error:
            return await self._give_up_slot(error) if error.code == "log_damaged" else error.code

    async def _give_up_slot(self, fault: IntegrityFault) -> str:
        """Store what can be read of the own slot, found damaged, and queue no more: nothing may be promised behind it.

        Raises:
            ContextDnaError: The database is away again.
        """
        self._is_given_up = True
        self.damaged.note(self._slot, fault)
        held = await self.replay.go_through_damaged(self._slot, self._folder / str(self._slot))
        if not held:
            self._log = None  # the slot stays this process's until it ends
            self._own.clear()
        return held

    async def _adopt(self) -> str:
        """Replay what processes that are gone have left; gives the code of what holds some of it up.

        Raises:
            ContextDnaError: The database is away again; the rest waits.
        """
        held = ""
        for slot in range(SLOTS_MAX):
            folder = self._folder / str(slot)
            if slot == self._slot:
                continue
            if not await anyio.to_thread.run_sync(os.path.isdir, folder):
                self.damaged.clear(slot)
                self._left.pop(slot, None)
                continue
            try:
                held = await self._adopt_slot(slot) or held
            except StorageUnavailable as error:
                if self._is_away(error):
                    raise
                self._note_closed(slot, error)
        return held

    async def _adopt_slot(self, slot: int) -> str:
        """Replay what is left in a slot; gives the code of what holds some of it up.

        Raises:
            StorageUnavailable: It is another's, or cannot be read; or the database is away again.
        """
        folder = self._folder / str(slot)
        try:
            async with open_segmented_log(folder, sealer=self._sealer) as log:
                self._left[slot] = await self._waiting_in(folder, log)
                held = await self.replay.go_through(folder, log)
                self._left[slot] = await self._waiting_in(folder, log)
        except IntegrityFault as error:
            self._left.pop(slot, None)
            self.damaged.note(slot, error)
            return await self.replay.go_through_damaged(slot, folder)
        self.damaged.clear(slot)
        return held

    async def _waiting_in(self, folder: Path, log: WriteAheadLog) -> int:
        return (await log.status()).entries - len(await self.replay.ahead(folder, log))

    def _note_closed(self, slot: int, error: StorageUnavailable) -> None:
        """Note a slot that could not be opened: it is another process's, or it cannot be read now."""
        self._left.pop(slot, None)
        if error.code == "log_in_use":
            self.damaged.clear(slot)
        else:
            self.damaged.note(slot, error)

    def _is_away(self, error: StorageUnavailable) -> bool:
        return error.code == AWAY or not self._database.is_writable


def _unconfirmed(away: StorageUnavailable) -> StorageUnavailable:
    return StorageUnavailable(
        f"nothing is queued before PostgreSQL is reached where storage.database names it now: {away.message}",
        code=AWAY,
        hint="The data folder was last served from another place. If the new one is right, try again later.",
        retryable=True,
    )


def _has_closed(error: BaseException) -> bool:
    """Tell whether a log has closed itself: after a flush that failed nobody knows what is on the disk."""
    return isinstance(error, StorageUnavailable) and error.code == "log_closed"
