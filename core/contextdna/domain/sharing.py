"""Sharing: grants on one's own memories, never copies, never passed on.

The grant by which an assignee reads its task is the task's: no share replaces it, and no revocation ends it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from contextdna.domain import access, events
from contextdna.domain.forgetting import owned_filter
from contextdna.domain.names import meant_agents
from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_agent_id, check_count, check_memory_type, check_score, check_seconds
from contextdna.errors import AccessDenied, InvalidInput
from contextdna.values.event import EventName
from contextdna.values.grant import Grant
from contextdna.values.ids import AgentId, DelegationId, GrantId, IdPrefix, RecordId, is_below, new_id
from contextdna.values.memory import MemorySelection

_SHARE_SECONDS_MAX = 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class ShareReport:
    """What each target may now read, or no longer may."""

    memory_ids: tuple[RecordId, ...]
    targets: tuple[AgentId, ...]
    unknown_targets: tuple[AgentId, ...]
    """Targets that the project has not seen yet; the grant waits for them."""
    changed: int
    """Grants added, or with revoke ended."""
    expires_at: datetime | None


async def share(
    op: Operation,
    targets: Sequence[AgentId],
    record_ids: Sequence[RecordId],
    selection: MemorySelection,
    *,
    limit: int,
    expires_in_s: float | None,
) -> ShareReport:
    """Grant agents read access to own memories, by ids or by selection (most important first).

    Raises:
        NotFound: An id is absent or not visible; nothing was shared.
        AccessDenied: ``not_owner``: a shared memory is not yours to share again.
        InvalidInput: No target, yourself as target, or neither ids nor selection.
    """
    _check_targets(op, targets)
    targets = await meant_agents(op, targets)
    wanted = await _memories(op, record_ids, selection, limit=limit)
    expires_at = (
        None
        if expires_in_s is None
        else op.now + timedelta(seconds=check_seconds(expires_in_s, name="expires_in_s", maximum=_SHARE_SECONDS_MAX))
    )
    standing = await op.tx.grants.given(op.project_id, granted_by=op.actor.agent_id, grantee_ids=targets, now=op.now)
    replaced = [grant.id for grant in standing if grant.record_id in set(wanted) and _is_share(grant)]
    await op.tx.grants.revoke(op.project_id, replaced, at=op.now)
    grants = [new_grant(op, record_id, target, expires_at) for target in targets for record_id in wanted]
    await op.tx.grants.add(grants)
    op.note(wanted, targets=list(targets), grants=len(grants))
    await events.emit_of(op, EventName.MEMORY_SHARED, wanted)
    return ShareReport(wanted, targets, await _unknown(op, targets), len(grants), expires_at)


async def revoke(op: Operation, targets: Sequence[AgentId], record_ids: Sequence[RecordId]) -> ShareReport:
    """End what lets agents read: grants that the actor gave; on records that it names and owns, any other too.

    What a target handed on to agents below it ends with it; who is assigned a task goes on reading it. A bare name
    reaches the own delegate of that name and whoever else bears it: the grant may be older than the delegation.

    Raises:
        InvalidInput: No target.
    """
    _check_targets(op, targets)
    meant = await meant_agents(op, targets)
    targets = tuple(dict.fromkeys([*targets, *meant]))
    given = await op.tx.grants.given(op.project_id, granted_by=op.actor.agent_id, grantee_ids=targets, now=op.now)
    given = [grant for grant in given if not grant.assignment]
    chosen = {grant.record_id for grant in given if not record_ids or grant.record_id in record_ids}
    refs = await op.tx.records.refs(op.project_id, [*chosen, *record_ids])
    own = [ref.id for ref in refs if ref.owner_id == op.actor.agent_id]
    named = set(record_ids) - chosen
    hidden = [ref.id for ref in refs if ref.id in named and access.hides(op.actor, [ref])]
    op.miss(named - {ref.id for ref in refs} | set(hidden), hidden=hidden)
    standing = await op.tx.grants.on_records(op.project_id, own, now=op.now)
    ended = {grant.id: grant.record_id for grant in given if grant.record_id in chosen}
    ended |= {grant.id: grant.record_id for grant in standing if _reaches(grant, targets)}
    changed = await op.tx.grants.revoke(op.project_id, list(ended), at=op.now)
    memory_ids = tuple(dict.fromkeys(ended.values()))
    op.note(memory_ids, targets=list(targets), ended=changed)
    await events.emit_of(op, EventName.MEMORY_UNSHARED, memory_ids, audience=targets)
    return ShareReport(memory_ids, targets, await _unknown(op, meant), changed, None)


def _reaches(grant: Grant, targets: Sequence[AgentId]) -> bool:
    """Tell whether the end of what targets read ends a grant: it is theirs, or of an agent below one."""
    below = any(grant.grantee_id == target or is_below(grant.grantee_id, target) for target in targets)
    return below and not grant.assignment


def _is_share(grant: Grant) -> bool:
    return not grant.delegation_id and not grant.assignment


def new_grant(
    op: Operation,
    record_id: RecordId,
    grantee_id: AgentId,
    expires_at: datetime | None,
    delegation_id: DelegationId = DelegationId(""),
) -> Grant:
    """Make a grant by the actor."""
    return Grant(
        id=GrantId(new_id(IdPrefix.GRANT, op.now)),
        project_id=op.project_id,
        record_id=record_id,
        grantee_id=grantee_id,
        granted_by=op.actor.agent_id,
        created_at=op.now,
        expires_at=expires_at,
        delegation_id=delegation_id,
    )


async def _memories(
    op: Operation, record_ids: Sequence[RecordId], selection: MemorySelection, *, limit: int
) -> tuple[RecordId, ...]:
    if record_ids:
        check_count(len(record_ids), name="memory_ids", maximum=op.settings.limits.batch_max)
        wanted = tuple(dict.fromkeys(record_ids))
        refs = await op.tx.records.refs(op.project_id, wanted)
        await access.require_changeable(op.tx, op.actor, wanted, refs, now=op.now)
        others = tuple(ref.id for ref in refs if ref.owner_id != op.actor.agent_id)
        if others:  # the role system may change a record, but who else reads it is its owner's to say
            raise AccessDenied(
                "only the owner shares", code="not_owner", hint="Ask the owner to share it.", record_ids=others
            )
        kept = {item.record.id for item in await op.tx.records.read(op.actor.reader, wanted, now=op.now)}
        gone = tuple(i for i in wanted if i not in kept)
        if gone:
            raise access.absent_error(gone, denied=False)
        return wanted
    check_count(limit, name="limit", maximum=op.settings.limits.batch_max)
    check_score(selection.min_importance, name="min_importance")
    for memory_type in selection.memory_types:
        check_memory_type(memory_type, op.settings)
    if not selection.memory_types:
        raise InvalidInput("neither memory_ids nor memory_types", code="selection_empty", hint="Name one of the two.")
    refs = await op.tx.records.owned(op.actor.reader, owned_filter(op, selection), now=op.now, limit=limit)
    return tuple(ref.id for ref in refs)


def _check_targets(op: Operation, targets: Sequence[AgentId]) -> None:
    check_count(len(targets), name="target_agent_ids", maximum=op.settings.limits.batch_max)
    for target in targets:
        check_agent_id(target, name="target_agent_id")
    if op.actor.agent_id in targets:
        raise InvalidInput("you are among the targets", code="target_is_self", hint="Name other agents.")


async def _unknown(op: Operation, targets: Sequence[AgentId]) -> tuple[AgentId, ...]:
    seen = {agent.id for agent in await op.tx.projects.agents(op.project_id, targets)}
    return tuple(target for target in targets if target not in seen)
