"""Audits refusals of known callers, in the background, and never more than a few of the same kind."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import anyio

from contextdna import ContextDnaError, Principal
from contextdna_server.http.limits import Clock

NOTED_AFTER_S: Final = 10.0
"""Seconds in which one agent gets at most one entry of a code; the next one counts those that were left out."""

KINDS_MAX: Final = 10_000
"""Agents and codes that are remembered."""

WAITING_MAX: Final = 1000
"""Entries that wait for the database; further ones are counted, and told in the log."""

_END_S: Final = 2.0
"""How long the last entries may take when the server ends."""

logger = logging.getLogger(__name__)


class _Noting(Protocol):
    async def note_refusal(self, error: ContextDnaError, *, left_out: int = 0) -> None: ...


class Binds(Protocol):
    """What is needed of a ``Hub``."""

    def bind(self, principal: Principal, /) -> _Noting:
        """Give a caller its workspace."""
        ...


@dataclass(slots=True)
class _Kind:
    noted_at: float
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    principal: Principal
    error: ContextDnaError
    left_out: int


class RefusalNotes:
    """A ``NoteRefusal`` that neither fails nor waits; while ``running`` it writes what it was told.

    Args:
        hub: Where entries are written.
        clock: Seconds that only grow.
        kinds_max: How many agents and codes are remembered.
        waiting_max: How many entries wait.
    """

    def __init__(
        self, hub: Binds, *, clock: Clock = time.monotonic, kinds_max: int = KINDS_MAX, waiting_max: int = WAITING_MAX
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._kinds_max = kinds_max
        self._kinds: OrderedDict[tuple[str, str], _Kind] = OrderedDict()
        self._told, self._waiting = anyio.create_memory_object_stream[_Entry](waiting_max)

    def __len__(self) -> int:
        return len(self._kinds) + self._told.statistics().current_buffer_used

    async def __call__(self, principal: Principal, error: ContextDnaError) -> None:
        """Take a refusal to be audited."""
        key, now = (str(principal.agent_id), error.code), self._clock()
        kind = self._kinds.get(key)
        if kind is not None and now - kind.noted_at < NOTED_AFTER_S:
            kind.left_out += 1
            return
        left_out = kind.left_out if kind else 0
        try:
            self._told.send_nowait(_Entry(principal, error, left_out))
        except (anyio.WouldBlock, anyio.BrokenResourceError, anyio.ClosedResourceError):
            logger.warning("a refusal is not audited, too many wait: %s", error.code)
            left_out += 1  # counted in the next entry
        else:
            left_out = 0
        self._kinds[key] = _Kind(now, left_out)
        self._kinds.move_to_end(key)
        if len(self._kinds) > self._kinds_max:
            self._kinds.popitem(last=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write entries meanwhile; at the end what was told last is written, if that is soon done."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run)
            try:
                yield
            finally:
                self._told.close()
                tasks.cancel_scope.deadline = anyio.current_time() + _END_S

    async def _run(self) -> None:
        with self._waiting:
            async for entry in self._waiting:
                await self._write(entry)

    async def _write(self, entry: _Entry) -> None:
        try:
            await self._hub.bind(entry.principal).note_refusal(entry.error, left_out=entry.left_out)
        except ContextDnaError as error:
            logger.warning("a refusal is not audited: %s", error.code)
        except Exception as error:  # noqa: BLE001 - an owned background job: the next entries are written
            logger.error("a refusal is not audited: %s", type(error).__name__)
