"""The audit trail: one keyed hash chain a project, written in the transaction of what it tells of.

Each entry's mac is HMAC-SHA256 over the mac before it and every field; a signed head pins the chain's end. Who lacks
the audit key cannot change, remove, reorder or insert an entry unseen.
"""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Sequence
from typing import Final

from contextdna.domain.encryption import ProjectKeys, Vault
from contextdna.errors import IntegrityFault
from contextdna.ports.database import Transaction
from contextdna.values.audit import AuditDraft, AuditEntry, AuditFault, AuditHead
from contextdna.values.ids import INSTALLATION, ProjectId

PROJECT_CREATED: Final = "project.create"
"""The action by which the installation's chain names every project that was ever made."""

_START: Final = b"\x00" * 32
_PAGE: Final = 1000
_BEFORE_ALL: Final = -(2**63)  # a forged entry may have any number


async def append(tx: Transaction, keys: ProjectKeys, drafts: Sequence[AuditDraft]) -> None:
    """Chain drafts of one project behind its head.

    Raises:
        IntegrityFault: ``audit_head_invalid``: the head was tampered with; nothing is built upon it.
    """
    head = await tx.audit.head(keys.project_id)
    if head is None:
        sound = not await tx.audit.entries(keys.project_id, after_seq=_BEFORE_ALL, limit=1)
    else:
        sound = hmac.compare_digest(head.signature, _sign(keys, head.seq, head.mac))
    if not sound:
        raise IntegrityFault(
            "the audit head has been changed", code="audit_head_invalid", hint="Run `contextdna audit verify`."
        )
    seq, mac = (head.seq, head.mac) if head else (0, _START)
    entries = []
    for draft in drafts:
        seq += 1
        mac = _mac(keys, seq, draft, mac)
        entries.append(AuditEntry(seq, draft, mac))
    await tx.audit.append(entries, AuditHead(keys.project_id, seq, mac, _sign(keys, seq, mac)))


async def verify_chain(tx: Transaction, keys: ProjectKeys) -> tuple[int, list[AuditFault]]:
    """Check a project's chain from its first entry to its head; gives (entries read, faults)."""
    project_id = keys.project_id
    faults: list[AuditFault] = []
    seq, mac = 0, _START
    async for entry in read_chain(tx, project_id):
        if entry.seq < 1:
            faults.append(AuditFault(project_id, entry.seq, "the entry was inserted"))
            continue
        if entry.seq != seq + 1:
            faults.append(AuditFault(project_id, seq + 1, f"entries {seq + 1} to {entry.seq - 1} are missing"))
        elif not hmac.compare_digest(entry.mac, _mac(keys, entry.seq, entry.draft, mac)):
            faults.append(AuditFault(project_id, entry.seq, "the entry was changed, moved or inserted"))
        seq, mac = entry.seq, entry.mac
    head = await tx.audit.head(project_id)
    if head is None or not hmac.compare_digest(head.signature, _sign(keys, head.seq, head.mac)):
        faults.append(AuditFault(project_id, seq, "the signed head is missing or was changed"))
    elif (head.seq, head.mac) != (seq, mac):
        faults.append(AuditFault(project_id, seq, f"the chain ends at {seq}, its signed head says {head.seq}"))
    return seq, faults


async def verify_all(tx: Transaction, vault: Vault) -> tuple[int, int, list[AuditFault]]:
    """Check every chain that is there or ought to be; gives (entries, chains, faults)."""
    expected = {INSTALLATION, *(project.id for project in await tx.projects.all())}
    async for entry in read_chain(tx, INSTALLATION):
        if entry.draft.action == PROJECT_CREATED:
            expected.update(map(ProjectId, entry.draft.record_ids))
    chains = sorted(expected | set(await tx.audit.chains()) | {head.project_id for head in await tx.audit.heads()})
    entries, faults = 0, []
    for project_id in chains:
        try:
            keys = await vault.keys(tx, project_id)
        except IntegrityFault as error:
            if error.code != "keys_missing":
                raise
            faults.append(AuditFault(project_id, 0, "the project's keys are missing"))
            continue
        count, found = await verify_chain(tx, keys)
        entries += count
        faults.extend(found)
    return entries, len(chains), faults


async def read_chain(tx: Transaction, project_id: ProjectId) -> AsyncIterator[AuditEntry]:
    """Read a chain in order, page by page."""
    after = _BEFORE_ALL
    while page := await tx.audit.entries(project_id, after_seq=after, limit=_PAGE):
        for entry in page:
            yield entry
        after = page[-1].seq


def _mac(keys: ProjectKeys, seq: int, draft: AuditDraft, previous: bytes) -> bytes:
    fields = (
        seq,
        draft.project_id,
        draft.at.isoformat(),
        draft.principal_id,
        draft.agent_id,
        draft.session_id,
        draft.action,
        draft.outcome,
        draft.risk,
        draft.record_ids,
        draft.details,
        draft.request_id,
        draft.trace_id,
    )
    return hmac.digest(keys.audit_key, previous + json.dumps(fields, separators=(",", ":")).encode(), hashlib.sha256)


def _sign(keys: ProjectKeys, seq: int, mac: bytes) -> bytes:
    return hmac.digest(keys.audit_key, f"head\x1f{keys.project_id}\x1f{seq}\x1f".encode() + mac, hashlib.sha256)
