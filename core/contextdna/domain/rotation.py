"""Key rotation: re-wrap, add a data key, re-encrypt in batches."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from contextdna.domain.encryption import Vault
from contextdna.domain.operation import Operation
from contextdna.errors import IntegrityFault
from contextdna.values.ids import ProjectId, RecordId

BATCH = 500


@dataclass(frozen=True, slots=True)
class RotationReport:
    """What a rotation did to a project."""

    project_id: ProjectId
    rewrapped: int
    key_id: str
    resealed: int = 0
    unreadable: int = 0
    """Records that do not open: changed, or their key is missing. They stay as they are."""


@dataclass(frozen=True, slots=True)
class Resealed:
    """What one batch of a rotation did."""

    count: int
    unreadable: frozenset[RecordId]

    @property
    def finished(self) -> bool:
        """True when no older key seals anything more that opens."""
        return self.count + len(self.unreadable) < BATCH


async def start(op: Operation, vault: Vault, *, rewrap: bool) -> RotationReport:
    """Wrap old keys anew and add the project's next data key."""
    rewrapped = await vault.rewrap(op.tx) if rewrap else 0
    key_id = await vault.add_data_key(op.tx, op.project_id, now=op.now)
    op.note(rewrapped=rewrapped, key_id=key_id)
    return RotationReport(op.project_id, rewrapped, key_id)


async def reseal(op: Operation, unreadable: Collection[RecordId] = ()) -> Resealed:
    """Re-encrypt one batch of bodies that an older key sealed.

    Args:
        op: The operation.
        unreadable: Records that did not open in batches before, left out of this one.
    """
    stale = await op.tx.records.sealed_with_other_key(
        op.project_id, op.keys.current_key_id, limit=BATCH, without=sorted(unreadable)
    )
    fresh, closed = [], []
    for record in stale:
        try:
            body = op.open(record)
        except IntegrityFault as fault:
            if fault.code != "body_unreadable":
                raise
            closed.append(record.id)
            continue
        sealed = op.seal(body, record_id=record.id, level=record.level, version=record.version, current=record)
        fresh.append(replace(record, sealed=sealed))
    await op.tx.records.reseal(fresh)
    op.note(closed, resealed=len(fresh), unreadable=len(closed))
    return Resealed(len(fresh), frozenset(closed))
