"""Leases: the right to do a job for all processes, and the numbers that refuse who has lost it."""

import secrets
from dataclasses import replace
from datetime import datetime, timedelta

from contextdna.errors import StorageUnavailable
from contextdna.ports.database import Transaction
from contextdna.values.ids import ProjectId
from contextdna.values.lease import Lease, LeaseRow


async def acquire(tx: Transaction, project_id: ProjectId, name: str, *, now: datetime, ttl_s: float) -> Lease | None:
    """Take a lease; None while another one has it."""
    last = await tx.leases.get(project_id, name)
    if last is not None and last.holder and last.expires_at > now:
        return None
    # Never less than the clock: of leases from elsewhere, too, the later one has the greater number.
    fencing = max(last.fencing + 1 if last else 1, micros_of(now))
    holder = secrets.token_hex(16)
    await tx.leases.put(LeaseRow(project_id, name, holder, fencing, now + timedelta(seconds=ttl_s)))
    return Lease(project_id, name, holder, fencing)


async def renew(tx: Transaction, lease: Lease, *, now: datetime, ttl_s: float) -> bool:
    """Keep a lease for longer; False when it is over."""
    row = await _held(tx, lease)
    if row is None or row.expires_at <= now:
        return False
    await tx.leases.put(replace(row, expires_at=now + timedelta(seconds=ttl_s)))
    return True


async def release(tx: Transaction, lease: Lease, *, now: datetime) -> bool:
    """Give a lease back; its number stays. False when it was over, or another one's."""
    row = await _held(tx, lease)
    if row is None:
        return False
    await tx.leases.put(replace(row, holder="", expires_at=now))
    return row.expires_at > now


async def fence(tx: Transaction, lease: Lease, *, now: datetime) -> None:
    """Refuse what is done under a lease after a later one was taken, in the transaction that would do it.

    Raises:
        StorageUnavailable: ``lease_lost``.
    """
    row = await tx.leases.get(lease.project_id, lease.name)
    if row is not None and row.fencing > lease.fencing:
        raise lost(lease)
    if row is None or row.fencing < lease.fencing:  # it was given elsewhere, and is known here from now on
        await tx.leases.put(LeaseRow(lease.project_id, lease.name, "", lease.fencing, now))


async def is_newer(tx: Transaction, lease: Lease) -> bool:
    """Tell whether a lease of elsewhere has a greater number than all that are known here."""
    row = await tx.leases.get(lease.project_id, lease.name)
    return row is None or row.fencing < lease.fencing


def micros_of(at: datetime) -> int:
    """Give the least number of a lease of a time."""
    return round(at.timestamp() * 1_000_000)


def lost(lease: Lease) -> StorageUnavailable:
    """Make the refusal of who has a lease no more."""
    return StorageUnavailable(
        f"another process has taken over the job {lease.name}",
        code="lease_lost",
        hint="Nothing is left to do here: the other process goes on with it.",
    )


async def _held(tx: Transaction, lease: Lease) -> LeaseRow | None:
    row = await tx.leases.get(lease.project_id, lease.name)
    return row if row is not None and row.holder == lease.holder and row.fencing == lease.fencing else None
