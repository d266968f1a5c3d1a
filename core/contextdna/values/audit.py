"""Audit entries: what was done or tried, by whom, and with what risk."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from contextdna.values.ids import AgentId, ProjectId, SessionId


class Outcome(StrEnum):
    """How an audited attempt ended."""

    ALLOWED = "allowed"
    DENIED = "denied"
    ABSENT = "absent"
    CONFLICT = "conflict"
    UNREADABLE = "unreadable"
    """Stored data was found changed; also how an entry reads that was changed into what no entry can say."""


class Risk(StrEnum):
    """How much an entry deserves a look."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class AuditDraft:
    """An audit entry before it is chained. Never holds record text, keys or tokens."""

    project_id: ProjectId
    at: datetime
    principal_id: AgentId
    agent_id: AgentId
    session_id: SessionId
    action: str
    outcome: Outcome
    risk: Risk
    record_ids: tuple[str, ...]
    details: str
    """Compact JSON object of counts and names."""
    request_id: str
    trace_id: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A chained audit entry: ``mac`` = HMAC-SHA256 over the previous mac and every field of the draft."""

    seq: int
    draft: AuditDraft
    mac: bytes


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The signed end of a project's chain: without it a cut tail would go unseen."""

    project_id: ProjectId
    seq: int
    mac: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class AuditFault:
    """One thing wrong with a chain."""

    project_id: ProjectId
    seq: int
    problem: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of a verification."""

    entries: int
    chains: int
    faults: tuple[AuditFault, ...]

    @property
    def intact(self) -> bool:
        """True when nothing was changed, removed, reordered or inserted."""
        return not self.faults
