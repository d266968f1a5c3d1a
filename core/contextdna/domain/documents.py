"""Records of any kind as documents, and the links that their owners draw between them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from contextdna.domain import access
from contextdna.domain.memories import require_visible, without_hidden_successors
from contextdna.domain.operation import Operation
from contextdna.domain.readable import one_line, readable
from contextdna.domain.validation import check_count
from contextdna.errors import InvalidInput, LimitExceeded
from contextdna.values.document import RELATIONS, Document, Relation
from contextdna.values.event import EventName
from contextdna.values.ids import RecordId
from contextdna.values.project import Link
from contextdna.values.record import Kind, Record

_TITLE_CHARS_MAX: Final = 80
_LINKS_MAX: Final = 500
"""Links that start at one record."""


async def open_document(op: Operation, record_id: RecordId) -> Document:
    """Open a record of any kind.

    Raises:
        NotFound: Absent, or not visible to the actor.
        IntegrityFault: Its stored body was changed.
    """
    read = await op.tx.records.read(op.actor.reader, [record_id], now=op.now)
    if not read:
        refs = await op.tx.records.refs(op.project_id, [record_id])
        raise access.absent_error((record_id,), denied=access.hides(op.actor, refs))
    [item] = await without_hidden_successors(op, read)
    record = item.record
    body = op.open(record)
    op.note([record_id])
    text = readable(record.kind, body)
    return Document(record, _title(record, body), text, await relations_of(op, record_id), item.granted_by)


async def relations_of(op: Operation, record_id: RecordId) -> tuple[Relation, ...]:
    """List the links of a record to what the actor may see."""
    links = await op.tx.records.links_of(op.project_id, [record_id])
    ends = list(dict.fromkeys(link.target_id for link in links))
    shown = {item.record.id for item in await op.tx.records.read(op.actor.reader, ends, now=op.now)} if ends else set()
    return tuple(Relation(link.relation, link.target_id) for link in links if link.target_id in shown)


async def link(
    op: Operation, source: RecordId, targets: Sequence[RecordId], *, relation: str, remove: bool
) -> tuple[Relation, ...]:
    """Link a memory that the actor may change to records that it sees, or take links away; gives what it has then.

    Raises:
        NotFound: The source or a target is absent or not visible; nothing was changed.
        AccessDenied: ``not_owner``.
        InvalidInput: ``relation_unknown``, or ``link_to_itself``.
        LimitExceeded: ``links_too_many``.
    """
    check_count(len(targets), name="target_ids", maximum=op.settings.limits.batch_max)
    _check_ends(source, targets, relation)
    await _require_memory(op, source)
    links = [Link(op.project_id, source, target, relation, op.now) for target in dict.fromkeys(targets)]
    if remove:
        op.note([source], removed=await op.tx.records.remove_links(links))
    else:
        await require_visible(op, targets)
        standing = {link.target_id for link in await op.tx.records.links_of(op.project_id, [source])}
        if len(standing.union(targets)) > _LINKS_MAX:
            raise LimitExceeded("too many links", code="links_too_many", hint=f"At most {_LINKS_MAX} from one record.")
        await op.tx.records.add_links(links)
        op.note([source, *targets], linked=len(links))
    op.emit(EventName.MEMORY_LINKED, [source])
    return await relations_of(op, source)


def _check_ends(source: RecordId, targets: Sequence[RecordId], relation: str) -> None:
    if relation not in RELATIONS:
        raise InvalidInput("unknown relation", code="relation_unknown", hint=f"Use one of: {', '.join(RELATIONS)}.")
    if source in targets:
        raise InvalidInput("a memory is not linked to itself", code="link_to_itself", hint="Name other records.")


async def _require_memory(op: Operation, record_id: RecordId) -> None:
    taken = await op.tx.records.take(op.project_id, [record_id])
    kept = [one.id for one in taken if one.kind is Kind.MEMORY and one.deleted_at is None]
    refs = await op.tx.records.refs(op.project_id, kept)
    await access.require_changeable(op.tx, op.actor, (record_id,), refs, now=op.now)


def _title(record: Record, body: Mapping[str, Any]) -> str:
    match record.kind:
        case Kind.TASK:
            return str(body["title"])
        case Kind.ARTIFACT:
            return str(body["name"])
        case Kind.LOOP:
            return f"{record.type} of {record.subject}, iteration {record.position}"
        case Kind.TURN:
            return f"{record.type}: {headline(str(body['content']))}"
        case Kind.MEMORY:
            return headline(str(body["content"]))


def headline(text: str) -> str:
    """Make a title of a text: its beginning, in one line."""
    line = one_line(text[: _TITLE_CHARS_MAX * 4])
    return line if len(line) <= _TITLE_CHARS_MAX else line[: _TITLE_CHARS_MAX - 1].rstrip() + "…"
