"""Port: a transactional database."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from contextdna.ports.access_tokens import AccessTokenTable
from contextdna.ports.agents import AgentTable
from contextdna.ports.embeddings import EmbeddingTable
from contextdna.ports.leases import LeaseTable
from contextdna.ports.ledger import AuditTable, EventTable, KeyTable, RequestTable
from contextdna.ports.loops import LoopTable
from contextdna.ports.records import RecordTable
from contextdna.ports.signals import SignalTable
from contextdna.ports.states import StateTable
from contextdna.ports.tasks import TaskTable
from contextdna.ports.work import GrantTable, ProjectTable, SessionTable

R = TypeVar("R")


class Transaction(Protocol):
    """The tables as one transaction sees them."""

    @property
    def records(self) -> RecordTable: ...
    @property
    def embeddings(self) -> EmbeddingTable: ...
    @property
    def loops(self) -> LoopTable: ...
    @property
    def tasks(self) -> TaskTable: ...
    @property
    def projects(self) -> ProjectTable: ...
    @property
    def agents(self) -> AgentTable: ...
    @property
    def sessions(self) -> SessionTable: ...
    @property
    def states(self) -> StateTable: ...
    @property
    def leases(self) -> LeaseTable: ...
    @property
    def grants(self) -> GrantTable: ...
    @property
    def signals(self) -> SignalTable: ...
    @property
    def audit(self) -> AuditTable: ...
    @property
    def events(self) -> EventTable: ...
    @property
    def keys(self) -> KeyTable: ...
    @property
    def access_tokens(self) -> AccessTokenTable: ...
    @property
    def requests(self) -> RequestTable: ...


Unit = Callable[[Transaction], Awaitable[R]]
"""A unit of work. It awaits nothing but the transaction's tables: an embedded engine runs it to its end in one
step on the engine's own thread, a networked one awaits each statement. It may be run again when the commit lost."""


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """How a copy of the database is that answers reads."""

    name: str
    """Which one, without a secret."""
    sound: bool
    latency_ms: float = 0.0
    lag_s: float = 0.0
    """How old the newest is that it is known to have; 0 where nothing is known to be missing."""
    answered: int = 0
    """Calls of this process that it answered."""
    passed_over: int = 0
    """Calls that it could not, as it was behind or away."""
    problem: str = ""
    """Code of the error, where it is not sound."""


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """What doctor and health tell of a database."""

    engine: str
    engine_version: str
    schema_version: int
    size_bytes: int
    sound: bool
    problem: str = ""
    replicas: tuple[ReplicaStatus, ...] = ()


class Database(Protocol):
    """Runs units of work. Opened and closed as an async context manager by the hub."""

    async def write(self, unit: Unit[R]) -> R:
        """Run a unit alone and answer once it is durable.

        Waiting units commit together; each fails alone. A unit that raises leaves nothing behind.

        Raises:
            StorageUnavailable: Busy past the deadline, full, or read-only. Nothing was written.
            Exception: Whatever the unit raised.
        """
        ...

    async def read(self, unit: Unit[R], *, enough: Callable[[R], bool] | None = None, search_by: str = "") -> R:
        """Run a unit on one consistent snapshot; writing in it is an error.

        Args:
            unit: The unit.
            enough: When given, the answer may come from a copy of the database that lags within its bounds, where this
                says that it is enough. A copy has what this process wrote before, and every change of rights that
                anyone did; what fails on one is asked of the database itself.
            search_by: Who searches with the unit, which computes for milliseconds where others do for a tenth of one;
                empty where it does not search. An engine that runs units in this process runs one such at a time, and
                those who ask take turns.

        Raises:
            StorageUnavailable: The engine cannot answer.
            Exception: Whatever the unit raised.
        """
        ...

    async def status(self, *, deep: bool = False) -> DatabaseStatus:
        """Report on the engine; ``deep`` also checks every page, which takes time on large files."""
        ...

    async def revision(self) -> int:
        """Give a number that is another one after other connections, of any process, have committed."""
        ...

    async def shred_remains(self) -> None:
        """Drop what purged rows left in logs and free pages."""
        ...
