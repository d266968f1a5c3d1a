"""Writes that wait in the data folder while the database is away, and are done, in order, when it is back."""

import hashlib
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import anyio

from contextdna.backends.guarded_database import AWAY, GuardedDatabase
from contextdna.backends.segmented_log import open_segmented_log
from contextdna.domain import sessions
from contextdna.domain.access import Caller, own_actor
from contextdna.domain.queued_writes import QueuedWrite, Request, UpdateRequest, packed, require_may_queue, unpacked
from contextdna.errors import Conflict, ContextDnaError, IntegrityFault, InvalidInput, StorageUnavailable
from contextdna.hub.door import Door
from contextdna.hub.known_actors import KnownActors
from contextdna.hub.waiting_writes import Promise, WaitingWrites
from contextdna.hub.writes_aside import ASIDE_FOLDER, WritesAside
from contextdna.ports.write_ahead_log import Sealer, WriteAheadLog
from contextdna.values.log_entry import LogEntry, entry_id
from contextdna.values.principal import Actor

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
_PAUSE_MAX_S: Final = 30.0
_NO_ROOM: Final = "storage_busy"
_PASSING: Final = frozenset({"storage_outcome_unknown", "storage_closed"})
_FORGOTTEN_AT_ONCE: Final = 32  # each time costs a flush to the disk
_NO_TIME: Final = datetime.min.replace(tzinfo=UTC)
_ATTEMPTS_MAX: Final = 5
"""After so many failures that no later attempt is likely to get over, a write is set aside."""


class WriteSpool:
    """Takes writes that can be promised, and replays them.

    A process owns one slot of the folder, a log; what a process that is gone has left in another slot is replayed by
    whichever looks first. While anything of this process waits, what comes after it waits behind.

    Args:
        folder: Of the slots and of what is set aside.
        sealer: Encrypts all of it.
        door: What replays go through: one without this spool.
        database: Tells when it is back.
        actors: Who acts with which session handle.
        bytes_max: What a slot may hold.
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
    ) -> None:
        self._folder = folder
        self._sealer = sealer
        self._door = door
        self._database = database
        self._actors = actors
        self._bytes_max = bytes_max
        self._log: WriteAheadLog | None = None
        self._log_id = ""
        self._slot = -1
        self._waiting = WaitingWrites()
        self._pending = 0
        self._arrived = anyio.Event()
        self._drained = anyio.Event()
        self._drained.set()
        self._failures: dict[str, int] = {}
        self.aside = WritesAside(folder / ASIDE_FOLDER, sealer)

    @property
    def waiting(self) -> int:
        """How many writes of this process, and of the one before it in its slot, wait."""
        return self._pending

    async def open(self, stack: AsyncExitStack) -> None:
        """Take a slot that no other process has, with what was left in it.

        Raises:
            StorageUnavailable: ``spool_slots_taken``, or the folder cannot be used.
        """
        await self.aside.open()
        for slot in range(SLOTS_MAX):
            try:
                log = open_segmented_log(self._folder / str(slot), sealer=self._sealer, size_bytes_max=self._bytes_max)
                self._log = await stack.enter_async_context(log)
            except StorageUnavailable as error:
                if error.code != "log_in_use":
                    raise
            except IntegrityFault as error:
                logger.error("slot %d of the spool is damaged, and left as it is [%s]", slot, error.code)
            else:
                self._slot = slot
                status = await self._log.status()
                self._log_id, self._pending = status.log_id, status.entries
                if self._pending:
                    self._drained = anyio.Event()
                    logger.warning("%d queued writes of an earlier process wait to be stored", self._pending)
                return
        raise StorageUnavailable(
            "all slots of the spool are taken",
            code="spool_slots_taken",
            hint=f"Let fewer than {SLOTS_MAX} server processes share a data folder, or set storage.spool to false.",
        )

    async def take(self, caller: Caller, request: Request, do: Callable[[], Awaitable[R]]) -> R | Promise:
        """Do a write, or queue it where the database is away or others wait already.

        Args:
            caller: Who asks.
            request: What for, as it can be queued.
            do: Does it now.

        Raises:
            ContextDnaError: What refused it; or the database is away, and it cannot be queued.
        """
        if isinstance(request, UpdateRequest):
            self._require_kept(caller, request)
        if self._pending and self._database.is_writable:
            await self._turn_comes()  # else what keeps arriving, quicker than it is replayed, would never be done
        if self._pending:
            away = StorageUnavailable("writes wait", code=AWAY, hint="Try again later.", retryable=True)
        else:
            try:
                return await do()
            except StorageUnavailable as error:
                if error.code != AWAY and (error.code != _NO_ROOM or self._database.is_writable):
                    raise
                away = error  # or it waited for a connection, and has outwaited the server
        return await self._queue(caller, request, away)

    async def in_turn(self) -> None:
        """Let what cannot be queued wait, for a while, for what was queued before it.

        Raises:
            StorageUnavailable: ``storage_busy``.
        """
        if not self._pending or not self._database.is_writable or await self._turn_comes():
            return
        raise StorageUnavailable(
            "writes that were queued while the database was away are stored first",
            code="storage_busy",
            hint="Try again in a moment.",
            retryable=True,
        )

    async def _turn_comes(self) -> bool:
        """Wait, for a while, until nothing waits any more."""
        with anyio.move_on_after(_TURN_S):
            await self._drained.wait()
            return True
        return False

    async def run(self) -> None:
        """Replay whenever the database is there, until cancelled."""
        pause_s = _PAUSE_S
        while True:
            await self._database.until_writable()
            self._arrived = anyio.Event()
            try:
                await self._drain()
                await self._adopt()
            except ContextDnaError as error:
                logger.info("queued writes wait on: %s", error.code)
                await anyio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)
                continue
            pause_s = _PAUSE_S
            with anyio.move_on_after(_LOOK_S * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter, not a secret
                await self._arrived.wait()

    async def _queue(self, caller: Caller, request: Request, away: StorageUnavailable) -> Promise:
        actor = self._actor(caller, request, away)
        require_may_queue(actor, caller, request, self._door.settings)
        now = self._door.clock()
        fingerprint = _fingerprint(actor, caller, request)
        if request.repeats and (earlier := self._waiting.promise_of(fingerprint)) is not None:
            return earlier
        after, version = "", 0
        if isinstance(request, UpdateRequest):
            after, version = self._waiting.entry_before(actor.agent_id, request), request.expected_version + 1
        promise = Promise(request.new_ids(now), actor.agent_id)
        self._pending += 1
        if self._drained.is_set():
            self._drained = anyio.Event()
        try:
            with anyio.CancelScope(shield=True):  # else nobody would know whether it stands
                write = QueuedWrite(now, caller, request, promise.ids, actor.project_id, actor.agent_id, after)
                seq = await self._append(packed(write))
        except BaseException:
            self._done()
            raise
        self._waiting.add(seq, promise, fingerprint, version=version, entry_id=entry_id(self._log_id, seq))
        self._arrived.set()
        return promise

    def _require_kept(self, caller: Caller, request: UpdateRequest) -> None:
        actor = self._actors.of(caller) if caller.handle else None
        self._waiting.require_kept(actor.agent_id if actor else caller.principal.agent_id, request)

    def _actor(self, caller: Caller, request: Request, away: StorageUnavailable) -> Actor:
        """Give whom a call acts as, as far as this process knows.

        Raises:
            StorageUnavailable: Nobody has told it whom the session handle stands for.
        """
        if not caller.handle:
            if request.needs_session:
                raise sessions.no_session()
            return own_actor(caller, request.action)
        actor = self._actors.of(caller)
        if actor is None:
            raise away
        return actor

    async def _append(self, data: bytes) -> int:
        if self._log is None:
            raise StorageUnavailable("the spool is closed", code="log_closed", hint="Open it again.")
        unit = await self._log.begin()
        try:
            await self._log.write_entry(unit, data)
            return await self._log.commit(unit)
        except BaseException:
            with suppress(ContextDnaError):
                await self._log.rollback(unit)
            raise

    def _done(self) -> None:
        self._pending -= 1
        if self._pending <= 0:
            self._drained.set()

    async def _drain(self) -> None:
        """Replay what waits in the own slot, in order.

        Raises:
            ContextDnaError: The database is away again; the rest waits.
        """
        if self._log is None or not self._pending:
            return
        count = 0
        done: list[int] = []
        try:
            async for entry in self._log.recover():
                await self._replay(entry)
                done.append(entry.seq)
                count += 1
                if len(done) == _FORGOTTEN_AT_ONCE:
                    await self._forget(self._log, done)
        finally:
            with anyio.CancelScope(shield=True):
                await self._forget(self._log, done)
        if count:
            logger.warning("%d queued writes were replayed; %d writes are set aside", count, self.aside.count)

    async def _forget(self, log: WriteAheadLog, done: list[int]) -> None:
        """Drop what was done; should that fail, it is done again, which changes nothing."""
        if not done:
            return
        await log.forget(done[-1])
        for seq in done:
            self._waiting.remove(seq)
            self._done()
        done.clear()

    async def _adopt(self) -> None:
        """Replay what processes that are gone have left.

        Raises:
            ContextDnaError: The database is away again; the rest waits.
        """
        folders = [anyio.Path(self._folder / str(slot)) for slot in range(SLOTS_MAX) if slot != self._slot]
        for folder in folders:
            if not await folder.is_dir():
                continue
            try:
                async with open_segmented_log(Path(folder), sealer=self._sealer) as log:
                    async for entry in log.recover():
                        await self._replay(entry)
                        await log.forget(entry.seq)
            except StorageUnavailable as error:
                if error.code != "log_in_use":
                    raise
            except IntegrityFault as error:
                logger.error("slot %s of the spool is damaged, and left as it is [%s]", folder.name, error.code)

    async def _replay(self, entry: LogEntry) -> None:
        """Do a queued write, or set it aside where it is refused.

        Raises:
            StorageUnavailable: The database cannot do it now.
        """
        try:
            write = unpacked(entry.data)
        except IntegrityFault as error:
            await self.aside.put(entry, error, at=self._door.clock())
            return
        try:
            ids = await self._door.write(
                write.caller, write.action, lambda op: write.replay(op, self._door.vault, entry.id)
            )
        except ContextDnaError as error:
            await self._refused(entry, write, error)
        except Exception as error:  # noqa: BLE001 - one that cannot be done must not stop the others for ever
            logger.error("a queued write failed: %s", type(error).__name__)
            unforeseen = StorageUnavailable("the server failed", code="internal_error", hint="Report this as a bug.")
            await self._refused(entry, write, unforeseen)
        else:
            if ids != write.ids:  # its idempotency key was answered by a call that came through before
                await self.aside.put(entry, _stored_before(ids), at=self._door.clock())
        self._failures.pop(entry.id, None)

    async def retry(self, entry_id: str) -> tuple[str, ...]:
        """Do a write that was set aside, as the same principal; gives the ids of its records.

        Raises:
            NotFound: ``queued_unknown``.
            ContextDnaError: It was refused again, and stays aside.
        """
        write = unpacked(await self.aside.get(entry_id))
        ids = await self._door.write(
            write.caller, write.action, lambda op: write.replay(op, self._door.vault, entry_id)
        )
        await self.aside.drop(entry_id)
        return ids

    async def _refused(self, entry: LogEntry, write: QueuedWrite, error: ContextDnaError) -> None:
        if isinstance(error, StorageUnavailable):
            is_lasting = not error.retryable and error.code not in _PASSING
            self._failures[entry.id] = failures = self._failures.get(entry.id, 0) + is_lasting
            if failures < _ATTEMPTS_MAX:
                raise error
        if error.code == "already_exists":
            return  # its records are there: it was done, and what said so has aged out
        if isinstance(error, InvalidInput):  # the door has audited all others
            await self._door.note_refusal(write.caller, write.action, error)
        logger.warning("a queued write was refused when it was replayed, and is set aside [%s]", error.code)
        await self.aside.put(entry, error, at=self._door.clock())
        if isinstance(write.request, UpdateRequest):
            self._waiting.refuse(write.agent_id, write.request)


def _fingerprint(actor: Actor, caller: Caller, request: Request) -> bytes:
    plain = replace(caller, request_id="", trace_id="")
    data = packed(QueuedWrite(_NO_TIME, plain, request, ()))
    return hashlib.blake2b(f"{actor.project_id}\x1f{actor.agent_id}\x1f".encode() + data, digest_size=16).digest()


def _stored_before(ids: tuple[str, ...]) -> Conflict:
    return Conflict(
        "a call with the same idempotency key had been stored before",
        code="stored_before",
        hint="The records of that call stand; nothing is missing.",
        record_ids=ids,
    )
