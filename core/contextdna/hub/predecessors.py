"""What queued writes build upon, where that waits in a slot of another server: then they wait for it.

An agent that goes on at another server names the version that its last queued update was promised, or the memory that
it was promised. Whichever slot is looked at first, what leads to a version, or makes a memory, is stored before what
names it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import anyio.to_thread

from contextdna.backends.segmented_log import LogView, look_into_log
from contextdna.domain.queued_writes import QueuedWrite, StoreRequest, UpdateRequest, unpacked
from contextdna.errors import IntegrityFault, StorageUnavailable
from contextdna.hub.damaged_slots import is_read_up
from contextdna.hub.writes_aside import WritesAside
from contextdna.ports.database import Database, Transaction
from contextdna.ports.write_ahead_log import Sealer
from contextdna.values.ids import AgentId, RecordId
from contextdna.values.log_entry import LogEntry

EARLY: Final = "queued_early"


@dataclass(frozen=True, slots=True)
class _Step:
    """A write that waits, and leads from a version of a memory to the next."""

    log_id: str
    name: str
    agent_id: AgentId
    version: int
    """What it starts from; 0 for what makes the memory."""


class Predecessors:
    """What waits in all slots of a folder, as far as other writes build upon it.

    Args:
        folder: Of the slots.
        sealer: Opens what is in them.
        database: Tells the versions that there are.
        aside: What was refused leads to nothing any more.
        clock: Tells the time.
    """

    def __init__(
        self, folder: Path, sealer: Sealer, *, database: Database, aside: WritesAside, clock: Callable[[], datetime]
    ) -> None:
        self._folder = folder
        self._sealer = sealer
        self._database = database
        self._aside = aside
        self._clock = clock
        self._steps: dict[str, list[_Step]] = {}
        self._looked_at: datetime | None = None

    def look_again(self) -> None:
        """Forget what was seen: the slots have changed since."""
        self._looked_at = None

    async def require_none(self, entry: LogEntry, write: QueuedWrite, *, held: Collection[str]) -> None:
        """Refuse, for now, a write that names what waits in another log, or in its own for another log.

        Args:
            entry: Where it stands.
            write: What it is.
            held: Names of those before it in its log that were refused so.

        Raises:
            StorageUnavailable: ``queued_early``; or the database cannot tell now.
        """
        named = _named(write)
        if not named:
            return
        versions = await self._versions(write, named)
        short = [record_id for record_id, version in named.items() if versions.get(record_id, 0) < version]
        if not short:
            return
        await self._look(write.at)
        log_id = entry.id.partition(".")[0]
        for record_id in short:
            for step in self._steps.get(record_id, ()):
                is_between = versions.get(record_id, 0) <= step.version < named[record_id]
                is_its = step.version == 0 or step.agent_id == write.agent_id
                is_held = step.log_id != log_id or step.name in held
                if is_held and is_between and is_its and not await self._aside.holds(step.name):
                    raise _early()

    async def _versions(self, write: QueuedWrite, record_ids: Iterable[RecordId]) -> dict[RecordId, int]:
        wanted = list(record_ids)

        async def unit(tx: Transaction) -> dict[RecordId, int]:
            return {record.id: record.version for record in await tx.records.take(write.project_id, wanted)}

        return await self._database.read(unit)

    async def _look(self, taken_at: datetime) -> None:
        """Look into the slots, unless that was done after an update was taken: what it builds upon was there then."""
        if self._looked_at is not None and taken_at < self._looked_at:
            return
        self._looked_at = self._clock()
        self._steps = {}
        for view in await anyio.to_thread.run_sync(self._views):
            with suppress(StorageUnavailable, IntegrityFault):  # whoever replays it tells of it
                for number in range(len(view.segments)):
                    for entry in await anyio.to_thread.run_sync(view.page, number, self._sealer):
                        self._note(view.log_id.hex(), entry)

    def _views(self) -> list[LogView]:
        return list(_waiting(self._folder))

    def _note(self, log_id: str, entry: LogEntry) -> None:
        try:
            write = unpacked(entry.data)
        except IntegrityFault:
            return
        if isinstance(write.request, UpdateRequest | StoreRequest):
            version = write.request.expected_version if isinstance(write.request, UpdateRequest) else 0
            step = _Step(log_id, write.name, write.agent_id, version)
            for record_id in write.ids:
                self._steps.setdefault(record_id, []).append(step)


def _named(write: QueuedWrite) -> Mapping[RecordId, int]:
    """Give the memories that must be there for a write, each with the version that it must have at least."""
    request = write.request
    if isinstance(request, StoreRequest):
        return {RecordId(target): 1 for draft in request.drafts for target in draft.relates_to}
    if not isinstance(request, UpdateRequest):
        return {}
    newer = request.change.superseded_by
    return {**({RecordId(newer): 1} if newer else {}), request.record_id: request.expected_version}


def _early() -> StorageUnavailable:
    return StorageUnavailable(
        "a queued write waits for another, in the slot of another server",
        code="queued_early",
        hint="It is stored after that one.",
        retryable=True,
    )


def _waiting(folder: Path) -> Iterator[LogView]:
    for slot in sorted(path for path in folder.glob("*") if path.name.isdecimal()):
        with suppress(StorageUnavailable):
            view = look_into_log(slot)
            if view.entries and not (view.damage and is_read_up(slot, view)):
                yield view
