"""Audit entries and access counts of successful reads, written in batches behind the answers."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import anyio

from contextdna.domain import audit
from contextdna.domain.access import Action
from contextdna.domain.encryption import Vault
from contextdna.errors import ContextDnaError
from contextdna.ports.database import Database, Transaction
from contextdna.values.audit import AuditDraft
from contextdna.values.ids import ProjectId, RecordId
from contextdna.values.settings import ReadAudit

logger = logging.getLogger(__name__)

_LINGER_S = 0.2  # how long a read's entry may wait for company
_PENDING_MAX = 5_000
_OF_THE_LOG_ITSELF = frozenset({Action.QUERY_AUDIT, Action.VERIFY_AUDIT, Action.EXPORT_AUDIT})


@dataclass(frozen=True, slots=True)
class ReadTrace:
    """What one read leaves behind."""

    draft: AuditDraft
    touched: tuple[str, ...]


class ReadLedger:
    """Collects read traces; ``run`` writes them until cancelled, ``flush`` writes what waits now."""

    def __init__(self, database: Database, vault: Vault, mode: ReadAudit, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._vault = vault
        self._mode = mode
        self._clock = clock
        self._pending: dict[ProjectId, list[ReadTrace]] = {}
        self._arrived = anyio.Event()

    async def add(self, trace: ReadTrace) -> None:
        """Take a trace: kept for the background, or written at once, as the settings say.

        Where reads are not audited, what they touched is counted all the same: idle records are swept.
        """
        if self._mode is ReadAudit.OFF and not trace.touched:
            return
        project_id = trace.draft.project_id
        pending = self._pending.setdefault(project_id, [])
        pending.append(trace)
        if self._mode is not ReadAudit.WAIT and len(pending) < _PENDING_MAX:
            self._arrived.set()
            return
        try:
            await self._flush(project_id)
        except ContextDnaError as error:
            if trace.draft.action not in _OF_THE_LOG_ITSELF:
                self._pending[project_id] = [kept for kept in self._pending[project_id] if kept is not trace]
                raise
            logger.warning("reads of project %s cannot be recorded now: %s", project_id, error.code)

    async def run(self) -> None:
        """Write what arrives, after a short linger, until cancelled."""
        while True:
            await self._arrived.wait()
            await anyio.sleep(_LINGER_S)
            self._arrived = anyio.Event()
            try:
                await self.flush()
            except ContextDnaError:
                self._arrived.set()  # the traces still wait; try again after the next linger

    async def flush(self) -> None:
        """Write every waiting trace, one transaction a project; on failure a project's go on waiting.

        Raises:
            ContextDnaError: The first failure, once every project had its turn.
        """
        failure: ContextDnaError | None = None
        for project_id in list(self._pending):
            try:
                await self._flush(project_id)
            except ContextDnaError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    async def _flush(self, project_id: ProjectId) -> None:
        traces = self._pending.pop(project_id, [])
        if not traces:
            return
        try:
            with anyio.CancelScope(shield=True):  # a flush cut off half-way could be written twice
                await self._database.write(lambda tx: self._write(tx, project_id, traces))
        except ContextDnaError:
            self._pending[project_id] = traces + self._pending.get(project_id, [])
            raise

    async def settle(self) -> None:
        """Write what waits as far as that is possible: what cannot be written goes on waiting, and is logged.

        For the reading and the verifying of the audit log, and for closing: a broken chain must not hide itself.
        """
        try:
            await self.flush()
        except ContextDnaError as error:
            waiting = sum(map(len, self._pending.values()))
            logger.warning("%d reads cannot be recorded now: %s", waiting, error.code)

    async def _write(self, tx: Transaction, project_id: ProjectId, traces: list[ReadTrace]) -> None:
        if self._mode is not ReadAudit.OFF:
            await audit.append(tx, await self._vault.keys(tx, project_id), [trace.draft for trace in traces])
        counts = Counter(RecordId(record_id) for trace in traces for record_id in trace.touched)
        await tx.records.touch(project_id, counts, at=self._clock())
