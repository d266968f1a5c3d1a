"""Memories: store, get, update, forget, restore."""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from contextdna.domain import access
from contextdna.domain.operation import Operation
from contextdna.domain.packing import compact_json
from contextdna.domain.records import new_record, require_version
from contextdna.domain.validation import (
    check_change,
    check_count,
    check_memory,
    check_metadata,
    check_name,
    check_period,
    check_tags,
    each_named,
)
from contextdna.errors import AccessDenied, Conflict, IntegrityFault, InvalidInput
from contextdna.values.document import RELATES_TO
from contextdna.values.event import EventName
from contextdna.values.ids import IdPrefix, RecordId
from contextdna.values.level import ENCRYPTED_LEVELS, Level
from contextdna.values.memory import (
    Memory,
    MemoryChange,
    MemoryDraft,
    OnDuplicate,
    StoredMemory,
    StoreStatus,
)
from contextdna.values.project import IdempotentResult, Link
from contextdna.values.record import IndexedRecord, Kind, Record, Tier, VisibleRecord
from contextdna.values.settings import HubSettings

_LASTING = (Tier.WORKING, Tier.EPISODIC, Tier.SEMANTIC, Tier.SHARED)  # a merge keeps the longer-lived tier
_VERSION_MAX = 2**31


def check_drafts(drafts: Sequence[MemoryDraft], settings: HubSettings) -> None:
    """Refuse a batch that cannot be stored as a whole.

    Raises:
        InvalidInput: Code of the first thing wrong, its message naming the position in a batch.
    """
    check_count(len(drafts), name="memories", maximum=settings.limits.batch_max)
    each_named(drafts, "memories", lambda draft: check_memory(draft, settings))


async def store(
    op: Operation, drafts: Sequence[MemoryDraft], *, on_duplicate: OnDuplicate, idempotency_key: str
) -> tuple[StoredMemory, ...]:
    """Store all drafts or none.

    Raises:
        Conflict: ``duplicate`` (with ``on_duplicate=error``), ``idempotency_key_reused`` or ``idempotent_result_gone``.
        NotFound: A ``relates_to`` id is not there for the writer.
        InvalidInput: The level needs a team or swarm.
    """
    fingerprint = b""
    if idempotency_key:
        check_name(idempotency_key, name="idempotency_key")
        fingerprint = _fingerprint(op, drafts, on_duplicate)
        earlier = await op.tx.requests.answer(op.project_id, op.actor.agent_id, idempotency_key)
        if earlier is not None:
            answer = await _repeat(op, earlier, fingerprint)
            return await _store_rest(op, drafts) if op.promised else answer
        await _draw_what_is_taken(op)
    answer = await _store_new(op, drafts, on_duplicate)
    if idempotency_key:
        text = compact_json([[item.id, item.version, item.status] for item in answer])
        await op.tx.requests.keep_answer(
            IdempotentResult(op.project_id, op.actor.agent_id, idempotency_key, fingerprint, text, op.now)
        )
    return answer


async def _store_rest(op: Operation, drafts: Sequence[MemoryDraft]) -> tuple[StoredMemory, ...]:
    """Store of a queued request, which was answered before, what is not there under the ids that it was promised.

    They follow from the request, so what is there is of it; what was merged into others bears other ids.

    Raises:
        Conflict: ``idempotent_result_gone``: it was forgotten, and would come to nothing.
    """
    promised = [RecordId(record_id) for record_id in op.promised or ()]
    taken = await op.tx.records.take(op.project_id, promised)
    if not all(_kept(record, op.now) for record in taken):
        raise _result_gone()
    there = {record.id for record in taken}
    new = [(draft, record_id) for draft, record_id in zip(drafts, promised, strict=True) if record_id not in there]
    op.promised = deque(record_id for _, record_id in new)
    if new:
        await _store_new(op, [draft for draft, _ in new], OnDuplicate.NEW)
    return tuple(StoredMemory(record_id, 1, StoreStatus.STORED, op.actor.agent_id) for record_id in promised)


async def _draw_what_is_taken(op: Operation) -> None:
    """Leave out derived ids that are there: the key was used before, so long ago that its answer is forgotten."""
    if op.derived:
        taken = {ref.id for ref in await op.tx.records.refs(op.project_id, [RecordId(one) for one in op.derived])}
        op.derived = deque("" if record_id in taken else record_id for record_id in op.derived)


async def _store_new(
    op: Operation, drafts: Sequence[MemoryDraft], on_duplicate: OnDuplicate
) -> tuple[StoredMemory, ...]:
    each_named(drafts, "memories", lambda draft: access.require_level(op.actor, draft.level))
    await require_visible(op, [target for draft in drafts for target in draft.relates_to])
    if op.promised and on_duplicate is OnDuplicate.MERGE:
        on_duplicate = OnDuplicate.NEW  # the caller was told these ids: none of them may come to nothing
    fresh = [_new_record(op, draft) for draft in drafts]
    known = {} if on_duplicate is OnDuplicate.NEW else await _duplicates(op, drafts, fresh)
    inserts: list[IndexedRecord] = []
    merges: dict[RecordId, _Merge] = {}
    answer: list[StoredMemory] = []
    for draft, record in zip(drafts, fresh, strict=True):
        key = (record.level, record.content_hash)
        holder = known.get(key) or known.get((record.level, _working_hash(op, record, draft.content)))
        if holder is None:
            inserts.append(IndexedRecord(record, _index_tokens(op, draft.level, draft.content, draft.tags)))
            answer.append(StoredMemory(record.id, record.version, StoreStatus.STORED, op.actor.agent_id))
            if on_duplicate is not OnDuplicate.NEW:
                known[key] = record
        elif on_duplicate is OnDuplicate.ERROR:
            raise _duplicate(holder, in_batch=holder in fresh)
        else:
            merges.setdefault(holder.id, _Merge(holder)).add(draft)
            answer.append(StoredMemory(holder.id, holder.version, StoreStatus.MERGED, op.actor.agent_id))
    return await _write(op, drafts, inserts, merges, answer)


def _duplicate(holder: Record, *, in_batch: bool) -> Conflict:
    return Conflict(
        "the batch holds the same content twice" if in_batch else f"the same content is stored as {holder.id}",
        code="duplicate",
        hint="Use on_duplicate merge or new, or update_memory.",
        record_ids=() if in_batch else (holder.id,),
    )


async def _write(
    op: Operation,
    drafts: Sequence[MemoryDraft],
    inserts: list[IndexedRecord],
    merges: "dict[RecordId, _Merge]",
    answer: list[StoredMemory],
) -> tuple[StoredMemory, ...]:
    if inserts:
        await op.tx.records.insert(inserts)
        op.emit(EventName.MEMORY_STORED, [item.record.id for item in inserts])
    versions = {record_id: await merge.write(op) for record_id, merge in merges.items()}
    if versions:
        op.emit(EventName.MEMORY_MERGED, list(versions))
    links = [
        Link(op.project_id, item.id, target, RELATES_TO, op.now)
        for draft, item in zip(drafts, answer, strict=True)
        for target in draft.relates_to
    ]
    if links:
        await op.tx.records.add_links(links)
    op.note([item.id for item in answer], stored=len(inserts), merged=len(answer) - len(inserts))
    if not versions:
        return tuple(answer)
    return tuple(replace(item, version=versions.get(item.id, item.version)) for item in answer)


@dataclass(slots=True)
class _Merge:
    """A stored memory that drafts of the same content are folded into."""

    holder: Record
    drafts: "list[MemoryDraft] | None" = None

    def add(self, draft: MemoryDraft) -> None:
        self.drafts = [*(self.drafts or []), draft]

    async def write(self, op: Operation) -> int:
        """Write the merged memory when it differs; gives its version."""
        current = (await op.tx.records.take(op.project_id, [self.holder.id]))[0]
        body = op.open(current)
        merged = dict(body)
        importance, retention, tier = current.importance, current.retention_until, Tier(current.tier)
        for draft in self.drafts or []:
            tier = max(tier, draft.tier, key=_LASTING.index)
            merged["tags"] = list(dict.fromkeys([*merged.get("tags", []), *draft.tags]))
            merged["metadata"] = {**merged.get("metadata", {}), **draft.metadata}
            importance = max(importance, draft.importance)
            retention = _later_end(retention, _retention(op.now, draft.retention_days))
        await op.tx.records.touch(op.project_id, {current.id: 1}, at=op.now)
        if (merged, importance, retention, tier) == (body, current.importance, current.retention_until, current.tier):
            return current.version
        tags = tuple(merged["tags"])
        check_tags(tags, op.settings.limits)
        check_metadata(merged["metadata"], op.settings.limits)
        version = current.version + 1
        changed = replace(
            current,
            version=version,
            tier=tier,
            importance=importance,
            retention_until=retention,
            updated_at=op.now,
            tag_tokens=op.index(current.level).tags(tags),
            sealed=op.seal(merged, record_id=current.id, level=current.level, version=version, current=current),
        )
        changed = replace(changed, content_hash=_sameness(op, changed, merged["content"]))
        indexed = IndexedRecord(changed, _index_tokens(op, current.level, merged["content"], tags))
        await op.tx.records.replace(indexed, expected_version=current.version, reindex=merged["tags"] != body["tags"])
        return version


async def get(op: Operation, record_ids: Sequence[RecordId]) -> tuple[tuple[Memory, ...], tuple[RecordId, ...]]:
    """Open memories for the actor; gives (found, ids that are absent, not visible, or damaged beside readable ones).

    Raises:
        NotFound: Not one of them is there for this reader.
        LimitExceeded: More ids than a batch.
    """
    check_count(len(record_ids), name="ids", maximum=op.settings.limits.batch_max)
    wanted = tuple(dict.fromkeys(record_ids))
    read = await op.tx.records.read(op.actor.reader, wanted, now=op.now)
    seen = [item for item in read if item.record.kind is Kind.MEMORY]
    found_ids = {item.record.id for item in seen}
    missing = tuple(record_id for record_id in wanted if record_id not in found_ids)
    refs = await op.tx.records.refs(op.project_id, missing) if missing else []
    hidden = [ref.id for ref in refs if access.hides(op.actor, [ref])]
    if not seen:
        raise access.absent_error(missing, denied=bool(hidden))
    op.miss(missing, hidden=hidden)
    op.note([item.record.id for item in seen], found=len(seen))
    links = await op.tx.records.links_of(op.project_id, [item.record.id for item in seen])
    targets = await _visible_targets(op, links)
    shown = await without_hidden_successors(op, seen)
    opened = op.readable(shown, lambda item: open_memory(op, item, targets.get(item.record.id, ())))
    whole = {memory.record.id for memory in opened}
    return tuple(opened), missing + tuple(item.record.id for item in shown if item.record.id not in whole)


async def without_hidden_successors(op: Operation, items: Sequence[VisibleRecord]) -> list[VisibleRecord]:
    """Leave out of records the ids of newer memories that the reader may not see: whoever gives records out does."""
    newer = list(dict.fromkeys(RecordId(item.record.superseded_by) for item in items if item.record.superseded_by))
    read = await op.tx.records.read(op.actor.reader, newer, now=op.now) if newer else []
    shown = {"", *(item.record.id for item in read)}
    return [
        item if item.record.superseded_by in shown else replace(item, record=replace(item.record, superseded_by=""))
        for item in items
    ]


async def _visible_targets(op: Operation, links: Sequence[Link]) -> dict[RecordId, tuple[RecordId, ...]]:
    """Keep only links to records that the reader may see: a link must not tell of what is hidden."""
    if not links:
        return {}
    seen = await op.tx.records.read(op.actor.reader, list({link.target_id for link in links}), now=op.now)
    shown = {item.record.id for item in seen}
    targets: dict[RecordId, tuple[RecordId, ...]] = {}
    for link in links:
        if link.target_id in shown:
            targets[link.source_id] = (*targets.get(link.source_id, ()), link.target_id)
    return targets


def open_memory(op: Operation, item: VisibleRecord, relates_to: tuple[RecordId, ...] = ()) -> Memory:
    """Open one memory."""
    body = op.open(item.record)
    return Memory(
        record=item.record,
        content=body["content"],
        tags=tuple(body.get("tags", ())),
        metadata=body.get("metadata", {}),
        relates_to=relates_to,
        granted_by=item.granted_by,
        access_count=item.access_count,
    )


async def update(
    op: Operation, record_id: RecordId, change: MemoryChange, *, expected_version: int
) -> tuple[StoredMemory, bool]:
    """Change a memory; gives it, and whether it is encrypted now and was not before.

    Raises:
        NotFound: Absent, or not visible to the actor.
        AccessDenied: ``not_owner``.
        Conflict: ``version_conflict``, with the current version; ``duplicate`` never.
        InvalidInput: The change cannot be made.
    """
    check_change(change, op.settings)
    check_count(expected_version, name="expected_version", maximum=_VERSION_MAX)
    current = await _changeable(op, record_id)
    require_version(
        current, expected_version, hint="Read the memory again with get_memory, then update with its version."
    )
    if change.superseded_by == record_id:
        raise InvalidInput("a memory cannot supersede itself", code="superseded_by_itself", hint="Name the newer one.")
    if change.superseded_by is not None:
        await require_visible(op, [change.superseded_by])
    changed, tokens = _apply(op, current, change)
    await op.tx.records.replace(
        IndexedRecord(changed, tokens),
        expected_version=expected_version,
        reindex=change.content is not None or change.tags is not None or _moves(op, current.level, changed.level),
    )
    if changed.level is not current.level:
        await end_delegated(op, record_id)
    op.leaves_remains = changed.level in ENCRYPTED_LEVELS and current.level not in ENCRYPTED_LEVELS
    op.note([record_id], version=changed.version)
    op.emit(EventName.MEMORY_UPDATED, [record_id])
    return StoredMemory(record_id, changed.version, StoreStatus.STORED, op.actor.agent_id), op.leaves_remains


def _apply(op: Operation, current: Record, change: MemoryChange) -> tuple[Record, tuple[str, ...]]:
    body = op.open(current)
    for name in ("content", "metadata"):
        value = getattr(change, name)
        if value is not None:
            body[name] = value
    if change.tags is not None:
        body["tags"] = list(dict.fromkeys(change.tags))
    level = current.level if change.level is None else change.level
    if level is not current.level:
        _check_new_level(op, current, level)
        reader = op.actor.reader  # the owner: the new circle is the one that it belongs to now
        current = replace(current, team_id=reader.team_id, swarm_id=reader.swarm_id)
    check_period(current.valid_from or current.created_at, change.valid_to)
    superseded_at = max(op.now, current.valid_from or op.now) if change.superseded_by else None
    version = current.version + 1
    record = replace(
        current,
        version=version,
        updated_at=op.now,
        type=change.memory_type or current.type,
        tier=change.tier or current.tier,
        level=level,
        importance=current.importance if change.importance is None else change.importance,
        valid_to=change.valid_to or superseded_at or current.valid_to,
        superseded_by=change.superseded_by or current.superseded_by,
        retention_until=_retention(op.now, change.retention_days) or current.retention_until,
        tag_tokens=op.index(level).tags(body["tags"]),
        sealed=op.seal(body, record_id=current.id, level=level, version=version, current=current),
    )
    record = replace(record, content_hash=_sameness(op, record, body["content"]))
    return record, _index_tokens(op, level, body["content"], body["tags"])


def _check_new_level(op: Operation, current: Record, level: Level) -> None:
    """Refuse a level that the record has no circle for, or that would show another's record to more readers.

    Raises:
        AccessDenied: ``not_owner``, or ``role_required``.
        InvalidInput: ``level_needs_team`` or ``level_needs_swarm``.
    """
    access.require_level(op.actor, level)
    if current.owner_id != op.actor.agent_id:
        raise AccessDenied(
            "only the owner changes who may read",
            code="not_owner",
            hint="Ask the owner, or store a memory of your own.",
            record_ids=(current.id,),
        )


async def end_delegated(op: Operation, record_id: RecordId) -> None:
    """End what delegations let agents read of a record: its owner has said anew who may."""
    standing = await op.tx.grants.on_records(op.project_id, [record_id], now=op.now)
    lent = [grant.id for grant in standing if grant.delegation_id]
    op.note(grants_ended=await op.tx.grants.revoke(op.project_id, lent, at=op.now))


def _moves(op: Operation, before: Level, after: Level) -> bool:
    """Tell whether a change of level moves a memory to the other token space."""
    return op.index(before) is not op.index(after)


async def _changeable(op: Operation, record_id: RecordId) -> Record:
    taken = await op.tx.records.take(op.project_id, [record_id])
    alive = [record for record in taken if record.kind is Kind.MEMORY and _kept(record, op.now)]
    await access.require_changeable(op.tx, op.actor, (record_id,), [record.ref for record in alive], now=op.now)
    return alive[0]


def _kept(record: Record, now: datetime) -> bool:
    return record.deleted_at is None and (record.retention_until is None or record.retention_until > now)


async def require_visible(op: Operation, record_ids: Sequence[RecordId]) -> None:
    """Refuse ids that the actor may not see.

    Raises:
        NotFound: Naming them.
    """
    wanted = tuple(dict.fromkeys(record_ids))
    if not wanted:
        return
    seen = {item.record.id for item in await op.tx.records.read(op.actor.reader, wanted, now=op.now)}
    hidden = tuple(i for i in wanted if i not in seen)
    if hidden:
        refs = await op.tx.records.refs(op.project_id, hidden)
        raise access.absent_error(hidden, denied=access.hides(op.actor, refs))


async def _duplicates(
    op: Operation, drafts: Sequence[MemoryDraft], fresh: Sequence[Record]
) -> dict[tuple[Level, bytes], Record]:
    known: dict[tuple[Level, bytes], Record] = {}
    for level in {record.level for record in fresh}:
        sample = next(record for record in fresh if record.level is level)
        hashes: dict[bytes, None] = {}
        for draft, record in zip(drafts, fresh, strict=True):
            if record.level is level:
                hashes |= {record.content_hash: None, _working_hash(op, record, draft.content): None}
        found = await op.tx.records.duplicates_of(sample, list(hashes), now=op.now)
        known.update({(level, content_hash): one for content_hash, one in found.items() if _opens(op, one)})
    return known


def _opens(op: Operation, record: Record) -> bool:
    """Tell whether a record can be merged into; a damaged one stands for nothing."""
    try:
        op.open(record)
    except IntegrityFault:
        return False
    return True


def _new_record(op: Operation, draft: MemoryDraft) -> Record:
    record_id = op.new_id(IdPrefix.MEMORY)
    body: dict[str, Any] = {
        "content": draft.content,
        "tags": list(dict.fromkeys(draft.tags)),
        "metadata": draft.metadata,
    }
    sealed = op.seal(body, record_id=record_id, level=draft.level, version=1)
    check_period(draft.valid_from or op.now, draft.valid_to)
    working_in = op.actor.session_id if draft.tier == Tier.WORKING else ""
    return new_record(
        op,
        record_id,
        Kind.MEMORY,
        level=draft.level,
        type=draft.memory_type,
        sealed=sealed,
        tier=draft.tier,
        importance=draft.importance,
        valid_from=draft.valid_from,
        valid_to=draft.valid_to,
        retention_until=_retention(op.now, draft.retention_days),
        content_hash=_hash(
            op, (draft.level, draft.memory_type, draft.valid_from), draft.content, working_in=working_in
        ),
        tag_tokens=op.index(draft.level).tags(draft.tags),
    )


def _index_tokens(op: Operation, level: Level, content: str, tags: Iterable[str]) -> tuple[str, ...]:
    text = "\n".join((content, *tags)) if tags else content
    return op.tokens(text, level)


def _sameness(op: Operation, record: Record, content: str, *, tier: str = "") -> bytes:
    """Hash what makes two memories the same: the content, said as the same type, of the same time.

    A working memory is the same as another of its session only: it ends with it.

    Args:
        op: The call at work.
        record: The memory.
        content: What it says.
        tier: Another tier than it has.
    """
    working_in = record.session_id if (tier or record.tier) == Tier.WORKING else ""
    return _hash(op, (record.level, record.type, record.valid_from), content, working_in=working_in)


def _hash(op: Operation, said_as: tuple[Level, str, datetime | None], content: str, *, working_in: str) -> bytes:
    """Hash content with its (level, type, time of validity) and, of a working memory, its session."""
    level, type_, valid_from = said_as
    text = f"{type_}\x1f{valid_from.isoformat() if valid_from else ''}\x1f{content}"
    if working_in:
        text = f"\x1f{working_in}\x1f{text}"  # no type is empty: no lasting memory hashes like this
    return op.content_hash(text, level)


def _working_hash(op: Operation, record: Record, content: str) -> bytes:
    """Hash a memory as if it were a working one of its session, which a lasting one of the same content takes up."""
    return _sameness(op, record, content, tier=Tier.WORKING) if record.session_id else record.content_hash


def _retention(now: datetime, days: float | None) -> datetime | None:
    return None if days is None else now + timedelta(days=days)


def _later_end(one: datetime | None, other: datetime | None) -> datetime | None:
    """Give the later of two ends; without an end is latest."""
    return max(one, other) if one and other else None


def _fingerprint(op: Operation, drafts: Sequence[MemoryDraft], on_duplicate: OnDuplicate) -> bytes:
    reader = op.actor.reader
    request = [reader.team_id, reader.swarm_id, on_duplicate, *(asdict(draft) for draft in drafts)]
    text = json.dumps(request, default=str, sort_keys=True)
    return hashlib.blake2b(text.encode(), key=op.keys.hash_key, digest_size=16).digest()


def idempotency_key_reused() -> Conflict:
    """Make the refusal of another request under a key that was used."""
    return Conflict(
        "this idempotency_key was used for another request",
        code="idempotency_key_reused",
        hint="Use a new key for a new request.",
    )


def _result_gone() -> Conflict:
    return Conflict(
        "what the first request with this idempotency_key stored was forgotten or purged since",
        code="idempotent_result_gone",
        hint="Use a new key to store it again, or bring it back with forget_memory restore.",
    )


async def _repeat(op: Operation, earlier: IdempotentResult, fingerprint: bytes) -> tuple[StoredMemory, ...]:
    if earlier.fingerprint != fingerprint:
        raise idempotency_key_reused()
    answer = tuple(
        StoredMemory(RecordId(item[0]), item[1], StoreStatus(item[2]), op.actor.agent_id)
        for item in json.loads(earlier.answer)
    )
    named = [item.id for item in answer]
    there = [record for record in await op.tx.records.take(op.project_id, named) if _kept(record, op.now)]
    if len(there) < len(set(named)):
        raise _result_gone()
    op.note(named, repeated=True)
    return answer
