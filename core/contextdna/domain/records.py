"""What holds for records of every kind: what a new one starts from, and that a change names the current version."""

from datetime import datetime

from contextdna.domain.operation import Operation
from contextdna.errors import Conflict
from contextdna.values.ids import RecordId
from contextdna.values.level import Level
from contextdna.values.record import Kind, Record, Sealed


def new_record(
    op: Operation,
    record_id: str,
    kind: Kind,
    *,
    level: Level,
    type: str,
    sealed: Sealed,
    tier: str = "",
    importance: float = 0.5,
    position: int = 0,
    subject: str = "",
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
    retention_until: datetime | None = None,
    content_hash: bytes = b"",
    tag_tokens: tuple[str, ...] = (),
    blob_key: str = "",
) -> Record:
    """Make version 1 of a record that belongs to the actor, now."""
    reader = op.actor.reader
    return Record(
        id=RecordId(record_id),
        project_id=op.project_id,
        kind=kind,
        level=level,
        owner_id=reader.agent_id,
        team_id=reader.team_id,
        swarm_id=reader.swarm_id,
        session_id=op.actor.session_id,
        type=type,
        tier=tier,
        importance=importance,
        position=position,
        subject=subject,
        version=1,
        created_at=op.now,
        updated_at=op.now,
        valid_from=valid_from,
        valid_to=valid_to,
        superseded_by="",
        retention_until=retention_until,
        deleted_at=None,
        content_hash=content_hash,
        tag_tokens=tag_tokens,
        blob_key=blob_key,
        sealed=sealed,
    )


def require_version(current: Record, expected_version: int, *, hint: str) -> None:
    """Refuse a change that was made without knowing the last one.

    Raises:
        Conflict: ``version_conflict``, with the current version.
    """
    if current.version != expected_version:
        raise Conflict(
            f"version {expected_version} is stale, the current version is {current.version}",
            code="version_conflict",
            hint=hint,
            record_ids=(current.id,),
            current_version=current.version,
            expected_version=expected_version,
        )
