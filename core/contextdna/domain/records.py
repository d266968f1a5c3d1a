"""What every new record starts from, whatever its kind."""

from contextdna.domain.operation import Operation
from contextdna.values.ids import RecordId
from contextdna.values.level import Level
from contextdna.values.record import Kind, Record, Sealed


def blank(op: Operation, record_id: str, kind: Kind, *, level: Level, type: str, sealed: Sealed) -> Record:
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
        tier="",
        importance=0.5,
        position=0,
        subject="",
        version=1,
        created_at=op.now,
        updated_at=op.now,
        valid_from=None,
        valid_to=None,
        superseded_by="",
        retention_until=None,
        deleted_at=None,
        content_hash=b"",
        tag_tokens=(),
        blob_key="",
        sealed=sealed,
    )
