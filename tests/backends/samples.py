"""Values to put into a database under test."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from contextdna.values.audit import AuditDraft, AuditEntry, AuditHead, Outcome, Risk
from contextdna.values.ids import AgentId, ProjectId, RecordId, SessionId
from contextdna.values.level import Level
from contextdna.values.principal import Reader
from contextdna.values.record import IndexedRecord, Kind, Record, Sealed, Tier

PROJECT: Final = ProjectId("p")
T0: Final = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)
NOW: Final = T0 + timedelta(days=1)
ANNA: Final = Reader(PROJECT, AgentId("anna"), "red", "north")

_PLAIN: Final = Record(
    id=RecordId("mem_0"),
    project_id=PROJECT,
    kind=Kind.MEMORY,
    level=Level.PROJECT,
    owner_id=AgentId("anna"),
    team_id="red",
    swarm_id="north",
    session_id=SessionId(""),
    type="fact",
    tier=Tier.SEMANTIC,
    importance=0.5,
    position=0,
    subject="",
    version=1,
    created_at=T0,
    updated_at=T0,
    valid_from=None,
    valid_to=None,
    superseded_by="",
    retention_until=None,
    deleted_at=None,
    content_hash=b"hash",
    tag_tokens=(),
    blob_key="",
    sealed=Sealed(b"{}"),
)


def record(name: str, **changes: Any) -> Record:
    """Make a record of project level by anna, with changes."""
    return replace(_PLAIN, id=RecordId(name), **changes)


def indexed(name: str, *tokens: str, **changes: Any) -> IndexedRecord:
    """Make a record with the tokens that find it."""
    return IndexedRecord(record(name, **changes), tokens or ("token",))


def audit_entry(seq: int, record_id: str = "mem_0") -> AuditEntry:
    """Make an entry of the project's chain."""
    draft = AuditDraft(
        project_id=PROJECT,
        at=T0,
        principal_id=AgentId("anna"),
        agent_id=AgentId("anna"),
        session_id=SessionId(""),
        action="memory.store",
        outcome=Outcome.ALLOWED,
        risk=Risk.LOW,
        record_ids=(record_id,),
        details="{}",
        request_id="req_1",
        trace_id="",
    )
    return AuditEntry(seq, draft, b"mac")


def audit_head(seq: int) -> AuditHead:
    """Make the head of the project's chain."""
    return AuditHead(PROJECT, seq, b"mac", b"signature")
