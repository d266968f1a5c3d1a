"""The rows of the in-memory database, copied on the first change of a unit."""

from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Generic, Self, TypeVar

from contextdna.errors import Conflict
from contextdna.values.access_token import KeptToken
from contextdna.values.agent import Agent, AgentEntry
from contextdna.values.audit import AuditEntry, AuditHead
from contextdna.values.embedding import Embedding
from contextdna.values.event import Event
from contextdna.values.grant import Grant
from contextdna.values.ids import (
    AgentEntryId,
    AgentId,
    DelegationId,
    EventId,
    GrantId,
    ProjectId,
    RecordId,
    SessionId,
    SignalId,
    TokenId,
)
from contextdna.values.key import WrappedKey
from contextdna.values.lease import LeaseRow
from contextdna.values.project import Conflict as LostWrite
from contextdna.values.project import IdempotentResult, Link, Project
from contextdna.values.record import Record
from contextdna.values.session import Delegation, Session, StateRow
from contextdna.values.signal import Acknowledgement, Signal

K = TypeVar("K")
V = TypeVar("V")


class Sheet(Generic[K, V]):
    """One table as one unit sees it.

    ``rows`` is shared with the committed state until the first change, and never changed in place: that makes a
    snapshot free and a rollback a matter of forgetting the sheet.
    """

    __slots__ = ("_own", "_writable", "rows")

    def __init__(self, rows: dict[K, V] | None = None, *, writable: bool = False) -> None:
        self.rows: dict[K, V] = {} if rows is None else rows
        self._writable = writable
        self._own = False

    def fork(self, *, writable: bool) -> Self:
        """Give a sheet over the same rows whose changes this one does not see."""
        return type(self)(self.rows, writable=writable)

    def change(self) -> dict[K, V]:
        """Give rows that may be changed.

        Raises:
            RuntimeError: In a read unit.
        """
        if not self._writable:
            raise RuntimeError("a read unit cannot write")
        if not self._own:
            self.rows = dict(self.rows)
            self._own = True
        return self.rows

    def add(self, key: K, row: V) -> None:
        """Add a row under a key that is free.

        Raises:
            Conflict: ``already_exists``.
        """
        rows = self.change()
        if key in rows:
            raise Conflict("a row with this key is there already", code="already_exists")
        rows[key] = row


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record with what the index and the statistics keep of it."""

    record: Record
    tokens: tuple[str, ...]
    serial: int
    """Order of insertion; a new version keeps it."""
    access_count: int = 0
    accessed_at: datetime | None = None


@dataclass(slots=True)
class Sheets:
    """All tables. Rows are kept in the order in which they were added."""

    records: Sheet[tuple[ProjectId, RecordId], StoredRecord] = field(default_factory=Sheet)
    embeddings: Sheet[tuple[ProjectId, RecordId], tuple[int, Embedding]] = field(default_factory=Sheet)
    embedding_serial: Sheet[ProjectId | None, int] = field(default_factory=Sheet)
    """How many were ever put, of each project and (None) of all."""
    embedding_spaces: Sheet[ProjectId, tuple[str, int, int]] = field(default_factory=Sheet)
    """Model, dimension and number."""
    index_revisions: Sheet[ProjectId, int] = field(default_factory=Sheet)
    links: Sheet[tuple[ProjectId, RecordId, RecordId, str], Link] = field(default_factory=Sheet)
    projects: Sheet[ProjectId, Project] = field(default_factory=Sheet)
    agents: Sheet[tuple[ProjectId, AgentId], Agent] = field(default_factory=Sheet)
    agent_history: Sheet[tuple[ProjectId, AgentEntryId], AgentEntry] = field(default_factory=Sheet)
    sessions: Sheet[SessionId, Session] = field(default_factory=Sheet)
    states: Sheet[tuple[ProjectId, SessionId, str], StateRow] = field(default_factory=Sheet)
    leases: Sheet[tuple[ProjectId, str], LeaseRow] = field(default_factory=Sheet)
    delegations: Sheet[DelegationId, Delegation] = field(default_factory=Sheet)
    grants: Sheet[tuple[ProjectId, GrantId], Grant] = field(default_factory=Sheet)
    signals: Sheet[tuple[ProjectId, SignalId], Signal] = field(default_factory=Sheet)
    acknowledgements: Sheet[tuple[ProjectId, SignalId, AgentId], Acknowledgement] = field(default_factory=Sheet)
    audit: Sheet[tuple[ProjectId, int], AuditEntry] = field(default_factory=Sheet)
    heads: Sheet[ProjectId, AuditHead] = field(default_factory=Sheet)
    events: Sheet[tuple[ProjectId, EventId], Event] = field(default_factory=Sheet)
    event_seq: Sheet[None, int] = field(default_factory=Sheet)
    keys: Sheet[tuple[ProjectId, str], WrappedKey] = field(default_factory=Sheet)
    access_tokens: Sheet[TokenId, KeptToken] = field(default_factory=Sheet)
    answers: Sheet[tuple[ProjectId, AgentId, str], IdempotentResult] = field(default_factory=Sheet)
    conflicts: Sheet[tuple[ProjectId, str], LostWrite] = field(default_factory=Sheet)

    def fork(self, *, writable: bool) -> "Sheets":
        """Give the tables as a new unit sees them."""
        return replace(self, **{f.name: getattr(self, f.name).fork(writable=writable) for f in fields(self)})


def in_force(grant: Grant, now: datetime) -> bool:
    """Tell whether a grant is neither revoked nor expired."""
    return grant.revoked_at is None and (grant.expires_at is None or grant.expires_at > now)
