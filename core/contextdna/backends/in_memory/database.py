"""Units of work on the in-memory tables."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, cast

import anyio
import anyio.lowlevel

from contextdna.backends.in_memory.access_tokens import InMemoryAccessTokens
from contextdna.backends.in_memory.agents import InMemoryAgents
from contextdna.backends.in_memory.embeddings import InMemoryEmbeddings
from contextdna.backends.in_memory.leases import InMemoryLeases
from contextdna.backends.in_memory.ledger import InMemoryAudit, InMemoryEvents, InMemoryKeys, InMemoryRequests
from contextdna.backends.in_memory.loops import InMemoryLoops
from contextdna.backends.in_memory.records import InMemoryRecords
from contextdna.backends.in_memory.sheets import Sheets
from contextdna.backends.in_memory.signals import InMemorySignals
from contextdna.backends.in_memory.states import InMemoryStates
from contextdna.backends.in_memory.tasks import InMemoryTasks
from contextdna.backends.in_memory.work import InMemoryGrants, InMemoryProjects, InMemorySessions
from contextdna.ports.database import DatabaseStatus, Transaction, Unit

R = TypeVar("R")


class InMemoryTransaction:
    """The tables as one unit sees them."""

    def __init__(self, sheets: Sheets) -> None:
        self.records = InMemoryRecords(sheets)
        self.embeddings = InMemoryEmbeddings(sheets)
        self.loops = InMemoryLoops(sheets)
        self.tasks = InMemoryTasks(sheets)
        self.projects = InMemoryProjects(sheets)
        self.agents = InMemoryAgents(sheets)
        self.sessions = InMemorySessions(sheets)
        self.states = InMemoryStates(sheets)
        self.leases = InMemoryLeases(sheets)
        self.grants = InMemoryGrants(sheets)
        self.signals = InMemorySignals(sheets)
        self.audit = InMemoryAudit(sheets)
        self.events = InMemoryEvents(sheets)
        self.keys = InMemoryKeys(sheets)
        self.access_tokens = InMemoryAccessTokens(sheets)
        self.requests = InMemoryRequests(sheets)


class InMemoryDatabase:
    """``Database`` in plain dicts. Nothing outlives the process."""

    def __init__(self, committed: Sheets | None = None) -> None:
        self._committed = committed or Sheets()
        self._writing = anyio.Lock()

    async def write(self, unit: Unit[R]) -> R:
        """Run a unit alone; when it raises, its changes are forgotten.

        Raises:
            RuntimeError: The unit awaited something else than the transaction's tables.
            Exception: Whatever the unit raised.
        """
        async with self._writing:
            sheets = self._committed.fork(writable=True)
            answer = run_unit(unit, InMemoryTransaction(sheets))
            self._committed = sheets
        return answer

    async def read(
        self,
        unit: Unit[R],
        *,
        enough: Callable[[R], bool] | None = None,  # noqa: ARG002 - no copies
        search_by: str = "",  # noqa: ARG002 - all are as short
    ) -> R:
        """Run a unit on the committed state; what is committed later does not change what it sees.

        Raises:
            RuntimeError: The unit tried to write, or awaited something else than the transaction's tables.
            Exception: Whatever the unit raised.
        """
        await anyio.lowlevel.checkpoint()
        return run_unit(unit, InMemoryTransaction(self._committed.fork(writable=False)))

    async def status(self, *, deep: bool = False) -> DatabaseStatus:  # noqa: ARG002  # there are no pages to check
        """Report on the engine."""
        return DatabaseStatus(engine="in_memory", engine_version="", schema_version=0, size_bytes=0, sound=True)

    async def revision(self) -> int:
        """Give the place of the newest event: nobody else writes here."""
        return self._committed.event_seq.rows.get(None, 0)

    async def shred_remains(self) -> None:
        """Do nothing: dropped rows leave no logs and no free pages."""


def run_unit(unit: Unit[R], tx: Transaction) -> R:
    """Run a unit to its end in one step, as the port allows every embedded engine to do.

    Raises:
        RuntimeError: It awaited something else than the transaction's tables.
        Exception: Whatever it raised.
    """
    steps = unit(tx).__await__()
    try:
        next(steps)
    except StopIteration as end:
        return cast("R", end.value)
    steps.close()
    raise RuntimeError("a unit of work awaits nothing but the transaction's tables")


@asynccontextmanager
async def open_in_memory() -> AsyncIterator[InMemoryDatabase]:
    """Open an empty database that is forgotten when it is closed."""
    yield InMemoryDatabase()
