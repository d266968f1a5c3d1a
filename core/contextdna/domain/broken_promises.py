"""Versions that an agent was promised by queued updates that were refused: another's update may lead to them as well.

So the agent must read the memory before it goes on. Whichever server it comes to tells it so, once: the note is in the
database, and goes with the refusal that it brings about.
"""

import json
from datetime import datetime
from typing import Final

from contextdna.domain.operation import Operation
from contextdna.domain.packing import compact_json
from contextdna.errors import Conflict
from contextdna.ports.database import Transaction
from contextdna.values.ids import AgentId, ProjectId, RecordId
from contextdna.values.project import IdempotentResult

_VERSIONS_MAX: Final = 1000


async def note(
    tx: Transaction, project_id: ProjectId, *, agent_id: AgentId, record_id: RecordId, version: int, now: datetime
) -> None:
    """Note that an update was refused, and so does not lead to the version that its agent was promised.

    Args:
        tx: The unit of work.
        project_id: Where the memory is.
        agent_id: To whom it was promised.
        record_id: The memory.
        version: What was promised.
        now: When it was refused.
    """
    versions = await _versions(tx, project_id, agent_id, record_id)
    if version in versions:
        return
    key, answer = _key(record_id), compact_json([*versions, version][-_VERSIONS_MAX:])
    await tx.requests.forget_answer(project_id, agent_id, key)
    await tx.requests.keep_answer(IdempotentResult(project_id, agent_id, key, b"", answer, now))


async def forget(op: Operation, record_id: RecordId, version: int) -> None:
    """Forget what was noted of a version that an update of the caller has led to now, and of those before it."""
    versions = await _versions(op.tx, op.project_id, op.actor.agent_id, record_id)
    later = [one for one in versions if one > version]
    if later == versions:
        return
    key, agent_id = _key(record_id), op.actor.agent_id
    await op.tx.requests.forget_answer(op.project_id, agent_id, key)
    if later:
        await op.tx.requests.keep_answer(
            IdempotentResult(op.project_id, agent_id, key, b"", compact_json(later), op.now)
        )


async def is_broken(op: Operation, record_id: RecordId, version: int) -> bool:
    """Tell whether the caller was promised a version by an update that was refused, and has not been told."""
    return version in await _versions(op.tx, op.project_id, op.actor.agent_id, record_id)


async def require_kept(op: Operation, record_id: RecordId, version: int) -> None:
    """Tell an agent, once, that a version that it was promised is not its own.

    Raises:
        Conflict: ``version_conflict``.
    """
    # The first version is the record's own: nobody was promised it.
    if version == 1 or not await is_broken(op, record_id, version):
        return
    raise Conflict(
        f"version {version} of the memory was promised to a queued update that was refused",
        code="version_conflict",
        hint="Read the memory again with get_memory, then update with its version.",
        record_ids=(record_id,),
        current_version=version,
        expected_version=version,
        told_key=_key(record_id),
    )


async def _versions(tx: Transaction, project_id: ProjectId, agent_id: AgentId, record_id: RecordId) -> list[int]:
    kept = await tx.requests.answer(project_id, agent_id, _key(record_id))
    return json.loads(kept.answer) if kept else []


def _key(record_id: RecordId) -> str:
    return f"spool/{record_id}.refused"  # no idempotency key of a caller holds a slash
