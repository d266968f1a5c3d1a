"""Key rotation: re-wrap, add a data key, re-encrypt in batches."""

from dataclasses import dataclass, replace

from contextdna.domain.encryption import Vault
from contextdna.domain.operation import Operation
from contextdna.values.ids import ProjectId

BATCH = 500


@dataclass(frozen=True, slots=True)
class RotationReport:
    """What a rotation did to a project."""

    project_id: ProjectId
    rewrapped: int
    key_id: str
    resealed: int = 0


async def start(op: Operation, vault: Vault, *, rewrap: bool) -> RotationReport:
    """Wrap old keys anew and add the project's next data key."""
    rewrapped = await vault.rewrap(op.tx) if rewrap else 0
    key_id = await vault.add_data_key(op.tx, op.project_id, now=op.now)
    op.note(rewrapped=rewrapped, key_id=key_id)
    return RotationReport(op.project_id, rewrapped, key_id)


async def reseal(op: Operation) -> int:
    """Re-encrypt one batch of bodies that an older key sealed; gives how many, less than BATCH at the end."""
    stale = await op.tx.records.sealed_with_other_key(op.project_id, op.keys.current_key_id, limit=BATCH)
    fresh = [
        replace(
            record,
            sealed=op.seal(
                op.open(record), record_id=record.id, level=record.level, version=record.version, current=record
            ),
        )
        for record in stale
    ]
    await op.tx.records.reseal(fresh)
    op.note(resealed=len(fresh))
    return len(fresh)
