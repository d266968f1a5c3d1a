"""Values for tests: each builder gives a plain, valid value, and takes what a test wants to be different."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from contextdna.values.access_token import TOKEN_SCOPES, AccessToken, KeptToken
from contextdna.values.agent import Agent
from contextdna.values.audit import AuditDraft, AuditEntry, AuditHead, Outcome, Risk
from contextdna.values.event import Event, EventName
from contextdna.values.grant import Grant
from contextdna.values.ids import AgentId, DelegationId, EventId, GrantId, ProjectId, RecordId, SessionId, TokenId
from contextdna.values.key import KeyPurpose, WrappedKey
from contextdna.values.level import Level
from contextdna.values.principal import Reader, Role
from contextdna.values.project import Conflict, IdempotentResult, Link
from contextdna.values.record import IndexedRecord, Kind, Record, Sealed, Tier
from contextdna.values.session import Delegation, DelegationStatus, Session, SessionStatus

NOW: Final = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
PROJECT: Final = ProjectId("apollo")
OTHER_PROJECT: Final = ProjectId("gemini")
ALICE: Final = AgentId("alice")
BOB: Final = AgentId("bob")

_READER: Final = Reader(PROJECT, ALICE, "core", "lift", Role.AGENT)
_RECORD: Final = Record(
    id=RecordId("mem_1"),
    project_id=PROJECT,
    kind=Kind.MEMORY,
    level=Level.PROJECT,
    owner_id=ALICE,
    team_id="core",
    swarm_id="lift",
    session_id=SessionId(""),
    type="fact",
    tier=Tier.SEMANTIC,
    importance=0.5,
    position=0,
    subject="",
    version=1,
    created_at=NOW - timedelta(hours=1),
    updated_at=NOW - timedelta(hours=1),
    valid_from=None,
    valid_to=None,
    superseded_by="",
    retention_until=None,
    deleted_at=None,
    content_hash=b"\x00hash",
    tag_tokens=(),
    blob_key="",
    sealed=Sealed(b'{"content":"text"}'),
)
_SESSION: Final = Session(
    id=SessionId("ses_1"),
    project_id=PROJECT,
    secret_digest=b"\x01digest",
    agent_id=ALICE,
    team_id="core",
    swarm_id="lift",
    role=Role.AGENT,
    principal_id=ALICE,
    lineage=(ALICE,),
    parent_id=SessionId(""),
    delegation_id=DelegationId(""),
    status=SessionStatus.ACTIVE,
    created_at=NOW,
    updated_at=NOW,
    expires_at=NOW + timedelta(hours=8),
    ended_at=None,
    sealed=Sealed(b"{}"),
)


def minutes(number: float) -> datetime:
    """Give the time so many minutes after ``NOW``; negative ones before it."""
    return NOW + timedelta(minutes=number)


def make_reader(agent_id: str = ALICE, **changes: Any) -> Reader:
    """Make an agent's point of view: alice of team core, swarm lift, project apollo."""
    return replace(_READER, agent_id=AgentId(agent_id), **changes)


def make_record(record_id: str = "mem_1", **changes: Any) -> Record:
    """Make a record: alice's memory at level project, an hour old."""
    return replace(_RECORD, id=RecordId(record_id), **changes)


def make_indexed(record_id: str = "mem_1", *, tokens: Sequence[str] = (), **changes: Any) -> IndexedRecord:
    """Make a record with the tokens that it is found by."""
    return IndexedRecord(make_record(record_id, **changes), tuple(tokens))


def make_grant(grant_id: str = "grt_1", record_id: str = "mem_1", grantee_id: str = BOB, **changes: Any) -> Grant:
    """Make a grant of alice's to bob, without an end."""
    grant = Grant(GrantId(grant_id), PROJECT, RecordId(record_id), AgentId(grantee_id), ALICE, NOW)
    return replace(grant, **changes)


def make_link(source_id: str, target_id: str, **changes: Any) -> Link:
    """Make a ``relates_to`` link."""
    return replace(Link(PROJECT, RecordId(source_id), RecordId(target_id), "relates_to", NOW), **changes)


def make_agent(agent_id: str = ALICE, **changes: Any) -> Agent:
    """Make an agent seen first and last now."""
    return replace(Agent(AgentId(agent_id), PROJECT, "core", "lift", Role.AGENT, NOW, NOW), **changes)


def make_session(session_id: str = "ses_1", **changes: Any) -> Session:
    """Make an active session of alice's."""
    return replace(_SESSION, id=SessionId(session_id), **changes)


def make_delegation(delegation_id: str = "del_1", **changes: Any) -> Delegation:
    """Make an active delegation from alice's session to bob's."""
    delegation = Delegation(
        DelegationId(delegation_id),
        PROJECT,
        SessionId("ses_1"),
        SessionId("ses_2"),
        ALICE,
        BOB,
        1,
        DelegationStatus.PENDING,
        NOW,
        NOW + timedelta(hours=1),
    )
    return replace(delegation, **changes)


def make_entry(seq: int, **changes: Any) -> AuditEntry:
    """Make an audit entry; its mac is not a real one."""
    draft = AuditDraft(
        project_id=PROJECT,
        at=NOW,
        principal_id=ALICE,
        agent_id=ALICE,
        session_id=SessionId(""),
        action="memory.store",
        outcome=Outcome.ALLOWED,
        risk=Risk.LOW,
        record_ids=(),
        details="{}",
        request_id="",
        trace_id="",
    )
    return AuditEntry(seq, replace(draft, **changes), b"mac" + bytes([seq % 256]))


def make_head(seq: int, project_id: ProjectId = PROJECT) -> AuditHead:
    """Make the head that goes with ``make_entry(seq)``."""
    return AuditHead(project_id, seq, b"mac" + bytes([seq % 256]), b"signature")


def make_event(event_id: str = "evt_1", **changes: Any) -> Event:
    """Make an event."""
    return replace(Event(EventId(event_id), PROJECT, EventName.MEMORY_STORED, ALICE, ("mem_1",), NOW), **changes)


def make_key(key_id: str = "key_1", **changes: Any) -> WrappedKey:
    """Make a wrapped data key; it opens nothing."""
    return replace(WrappedKey(key_id, PROJECT, KeyPurpose.DATA, 1, "mk_1", b"wrapped", NOW), **changes)


def make_answer(key: str = "once", **changes: Any) -> IdempotentResult:
    """Make the answer kept for an idempotency key."""
    return replace(IdempotentResult(PROJECT, ALICE, key, b"fingerprint", "[]", NOW), **changes)


def make_conflict(conflict_id: str = "cfl_1", **changes: Any) -> Conflict:
    """Make a lost write."""
    return replace(Conflict(conflict_id, PROJECT, RecordId("mem_1"), BOB, 1, 2, NOW), **changes)


def make_token(token_id: TokenId, **changes: Any) -> KeptToken:
    """Make an access token of alice's as the database keeps it."""
    plain = AccessToken(token_id, ALICE, (PROJECT,), "", "", Role.AGENT, TOKEN_SCOPES, "", NOW, BOB, None)
    return KeptToken(replace(plain, **changes), b"\x00digest", b"\x01seal")
