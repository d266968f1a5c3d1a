"""Artifacts: a reference in the database, the bytes in the blob store, encrypted where the level asks for it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from contextdna.domain import access
from contextdna.domain.cursors import bad_cursor, pack_cursor, unpack_cursor
from contextdna.domain.encryption import Binding, ProjectKeys
from contextdna.domain.media_types import guess_media_type
from contextdna.domain.names import meant_agent
from contextdna.domain.operation import Operation
from contextdna.domain.records import new_record
from contextdna.domain.validation import (
    check_agent_id,
    check_count,
    check_media_type,
    check_metadata,
    check_score,
    check_text,
)
from contextdna.errors import IntegrityFault, InvalidInput, LimitExceeded, NotFound
from contextdna.values.artifact import Artifact, ArtifactDraft, ArtifactPage
from contextdna.values.event import EventName
from contextdna.values.ids import AgentId, RecordId, SessionId
from contextdna.values.level import ENCRYPTED_LEVELS
from contextdna.values.record import IndexedRecord, Kind, Record, Sealed, VisibleRecord
from contextdna.values.search import RecordFilter
from contextdna.values.settings import Limits

_NAME_BYTES_MAX = 512
_EXCERPT_CHARS = 300
_INDEXED_CHARS = 50_000
_LISTED_MAX = 200
_VERSION_MAX = 2**31
_AMONG_MAX = 2**31
_LAST_MOMENT = datetime.max.replace(tzinfo=UTC)
_BATCHES_MAX = 10  # of a page: who asks for a prefix must not hold a snapshot over all artifacts
_TEXTUAL = ("application/json", "application/xml", "application/yaml", "application/toml")


def check_draft(draft: ArtifactDraft, limits: Limits) -> None:
    """Refuse an artifact that cannot be kept.

    Raises:
        InvalidInput: With the code of the first thing wrong.
        LimitExceeded: ``artifact_too_large``.
    """
    check_text(draft.name, name="name", bytes_max=_NAME_BYTES_MAX)
    if draft.media_type or not draft.source:
        check_media_type(draft.media_type)
    check_score(draft.importance, name="importance")
    check_metadata(draft.metadata, limits)
    if draft.source and draft.data:
        raise InvalidInput("bytes and a source of them", code="artifact_source", hint="Give one of the two.")
    if len(draft.data) > limits.artifact_bytes_max:
        raise LimitExceeded(
            f"the artifact has {len(draft.data)} bytes, the limit is {limits.artifact_bytes_max}",
            code="artifact_too_large",
            hint="Raise limits.artifact_bytes_max, or keep a part of it.",
        )


def typed(draft: ArtifactDraft) -> ArtifactDraft:
    """Give an artifact a media type where it has none."""
    return draft if draft.media_type else replace(draft, media_type=guess_media_type(draft.name, draft.data))


def is_textual(media_type: str) -> bool:
    """Tell whether an artifact of this media type reads as text."""
    return media_type.startswith("text/") or media_type in _TEXTUAL or media_type.endswith(("+json", "+xml"))


def cut_text(data: bytes, offset: int, size_bytes: int) -> tuple[str, int] | None:
    """Cut a part out of a text that ends between two characters; gives it, and where it ends.

    None where the whole is no UTF-8 text, or the part would begin within a character. A part holds one character at
    least, so that whoever goes on where it ends comes to the end.
    """
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    end = offset + size_bytes
    while offset < end < len(data) and _is_within(data, end):
        end -= 1
    if end <= offset:
        end = offset + 1
        while end < len(data) and _is_within(data, end):
            end += 1
    return None if offset < len(data) and _is_within(data, offset) else (data[offset:end].decode(), min(end, len(data)))


def _is_within(data: bytes, place: int) -> bool:
    """Tell whether a place lies within a character of UTF-8, not at its beginning."""
    return data[place] & 0b1100_0000 == 0b1000_0000


@dataclass(frozen=True, slots=True)
class PreparedArtifact:
    """Whatever of an artifact takes time in proportion to its bytes, done before its transaction."""

    record_id: str
    blob: bytes = field(repr=False)
    """What goes to the blob store: the content, encrypted where its level asks for it."""
    blob_key: str
    opener: Sealed
    """The key id and salt that open the blob."""
    sha256: str
    content_hash: bytes
    text: str = field(repr=False)


def prepare(draft: ArtifactDraft, record_id: str, keys: ProjectKeys) -> PreparedArtifact:
    """Hash an artifact's bytes, and encrypt them where the level asks for it."""
    blob, opener = draft.data, Sealed(b"")
    if draft.level in ENCRYPTED_LEVELS:
        blob, salt = keys.encrypt(draft.data, _blob_binding(keys, record_id))
        opener = Sealed(b"", key_id=keys.current_key_id, salt=salt)
    return PreparedArtifact(
        record_id,
        blob,
        hashlib.sha256(blob).hexdigest(),
        opener,
        hashlib.sha256(draft.data).hexdigest(),
        keys.content_hash(draft.data, encrypted=draft.level in ENCRYPTED_LEVELS),
        _text(draft),
    )


@dataclass(frozen=True, slots=True)
class BlobOpener:
    """What turns an artifact's stored bytes back into its content."""

    keys: ProjectKeys
    record_id: str
    key_id: str
    salt: bytes
    sha256: str

    def open(self, data: bytes) -> bytes:
        """Decrypt where encrypted, and check the content's SHA-256.

        Raises:
            IntegrityFault: ``artifact_changed`` or ``body_unreadable``.
        """
        if self.key_id:
            data = self.keys.decrypt(data, _blob_binding(self.keys, self.record_id), key_id=self.key_id, salt=self.salt)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise IntegrityFault("the artifact's bytes are not what was stored", code="artifact_changed")
        return data


async def attach(op: Operation, draft: ArtifactDraft, prepared: PreparedArtifact) -> Artifact:
    """Write the reference to bytes that are in the blob store already; the same name gets the next version.

    Raises:
        InvalidInput: The level needs a team or swarm.
    """
    access.require_level(op.actor, draft.level)
    body = {
        "name": draft.name,
        "media_type": draft.media_type,
        "size_bytes": len(draft.data),
        "sha256": prepared.sha256,
        "metadata": dict(draft.metadata),
        "excerpt": prepared.text[:_EXCERPT_CHARS],
        "blob_key_id": prepared.opener.key_id,
        "blob_salt": prepared.opener.salt.hex(),
    }
    sealed = op.seal(body, record_id=prepared.record_id, level=draft.level, version=1)
    record = new_record(
        op,
        prepared.record_id,
        Kind.ARTIFACT,
        level=draft.level,
        type=draft.media_type,
        sealed=sealed,
        importance=draft.importance,
        subject=op.keys.name_hash(_own_name(op.actor.agent_id, draft.name), encrypted=draft.level in ENCRYPTED_LEVELS),
        position=await _latest_version(op, draft.name) + 1,
        content_hash=prepared.content_hash,
        blob_key=prepared.blob_key,
    )
    text = f"{draft.name}\n{prepared.text[:_INDEXED_CHARS]}"
    tokens = op.tokens(text, draft.level)
    await op.tx.records.insert([IndexedRecord(record, tokens)])
    op.note([prepared.record_id], bytes=len(draft.data))
    op.emit(EventName.ARTIFACT_ATTACHED, [prepared.record_id])
    return open_artifact(op, VisibleRecord(record))


def _own_name(owner_id: AgentId, name: str) -> str:
    """Number each owner's artifacts apart: a version must not tell of artifacts that one may not see."""
    return f"{owner_id}\x1f{name}"


def _subjects(op: Operation, owner_id: AgentId, name: str) -> list[str]:
    """Give what an owner's artifacts of a name are filed under, plain and encrypted ones."""
    return [op.keys.name_hash(_own_name(owner_id, name), encrypted=encrypted) for encrypted in (False, True)]


async def _latest_version(op: Operation, name: str) -> int:
    """Give the highest version of the owner's artifacts of a name, plain and encrypted ones together."""
    subjects = _subjects(op, op.actor.agent_id, name)
    nowhere = SessionId("")
    return max(
        [
            await op.tx.records.last_position(op.project_id, Kind.ARTIFACT, session_id=nowhere, subject=subject)
            for subject in subjects
        ]
    )


async def reference(op: Operation, record_id: RecordId) -> tuple[Artifact, BlobOpener]:
    """Give an artifact's reference and what opens its bytes.

    Raises:
        NotFound: Absent, or not visible.
    """
    seen = await op.tx.records.read(op.actor.reader, [record_id], now=op.now)
    if not seen or seen[0].record.kind is not Kind.ARTIFACT:
        denied = not seen and access.hides(op.actor, await op.tx.records.refs(op.project_id, [record_id]))
        raise access.absent_error((record_id,), denied=denied)
    op.note([record_id])
    return _with_opener(op, seen[0])


def _with_opener(op: Operation, item: VisibleRecord) -> tuple[Artifact, BlobOpener]:
    body = op.open(item.record)
    opener = BlobOpener(op.keys, item.record.id, body["blob_key_id"], bytes.fromhex(body["blob_salt"]), body["sha256"])
    return open_artifact(op, item), opener


async def versions(op: Operation, name: str, *, owner_id: AgentId) -> tuple[Artifact, ...]:
    """List the visible versions of an owner's artifact, the latest first, at most 200; the owner is the actor if none.

    Raises:
        InvalidInput: The name or the owner cannot be one.
    """
    found = await _visible_versions(op, name, await meant_agent(op, owner_id) or op.actor.agent_id)
    op.note([item.record.id for item in found], versions=len(found))
    return tuple(op.readable(found, lambda item: open_artifact(op, item)))


async def version(op: Operation, name: str, number: int, *, owner_id: AgentId) -> tuple[Artifact, BlobOpener]:
    """Give one version of an owner's artifact and what opens its bytes; number 0 is the latest visible one.

    Raises:
        NotFound: Absent, or not visible.
        InvalidInput: The name, the owner or the number cannot be one.
    """
    owner = await meant_agent(op, owner_id) or op.actor.agent_id
    check_count(number, name="version", maximum=_VERSION_MAX, minimum=0)
    hidden: Sequence[RecordId] = ()
    if number == 0:
        seen = await _visible_versions(op, name, owner)
    else:
        hidden = await _numbered(op, name, owner, number)
        seen = await op.tx.records.read(op.actor.reader, hidden, now=op.now)
    if not seen:
        raise NotFound(
            "not found: no such version of an artifact of that name and owner",
            hint="List the artifacts, or name their owner.",
            record_ids=tuple(hidden),
            denied=bool(hidden),
        )
    op.note([seen[0].record.id])
    return _with_opener(op, seen[0])


async def _visible_versions(op: Operation, name: str, owner_id: AgentId) -> list[VisibleRecord]:
    _check_named(name, owner_id)
    ids: list[RecordId] = []
    for subject in _subjects(op, owner_id, name):
        where = RecordFilter(kinds=(Kind.ARTIFACT,), subject=subject)
        found = await op.tx.records.list_recent(op.actor.reader, where, now=op.now, limit=_LISTED_MAX)
        ids += [candidate.id for candidate in found]
    seen = await op.tx.records.read(op.actor.reader, ids, now=op.now)
    return sorted(seen, key=lambda item: item.record.position, reverse=True)[:_LISTED_MAX]


async def _numbered(op: Operation, name: str, owner_id: AgentId, number: int) -> Sequence[RecordId]:
    _check_named(name, owner_id)
    ids: list[RecordId] = []
    for subject in _subjects(op, owner_id, name):
        ids += [
            record.id for record in await op.tx.records.under_subject(op.project_id, Kind.ARTIFACT, subject, number)
        ]
    return ids


def _check_named(name: str, owner_id: AgentId) -> None:
    check_text(name, name="name", bytes_max=_NAME_BYTES_MAX)
    check_agent_id(owner_id, name="owner")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a listing goes on: behind a record, which may be gone by then."""

    at: datetime
    record_id: RecordId
    among: int
    """So many of that moment were listed up to it."""


async def page(op: Operation, *, prefix: str, limit: int, cursor: str) -> ArtifactPage:
    """List visible artifacts, newest first: those whose names begin with a prefix.

    A page may be short, or empty, and still have a next one: a call looks through a bounded part. What is forgotten
    meanwhile moves nothing: none is left out for it.

    Raises:
        LimitExceeded: ``limit_out_of_range``.
        InvalidInput: ``cursor_invalid``.
    """
    check_count(limit, name="limit", maximum=_LISTED_MAX)
    place = _place_of(cursor, prefix)
    batch_size = _LISTED_MAX if prefix else min(limit + 1, _LISTED_MAX)
    found: list[Artifact] = []
    damaged = 0
    for _ in range(_BATCHES_MAX):
        batch = await _newest(op, place, limit=batch_size)
        for item in batch:
            if len(found) == limit:
                return _page(op, found, _cursor(prefix, place))
            place = _behind(item.record, place)
            try:
                artifact = open_artifact(op, item)
            except IntegrityFault:
                damaged += 1
                op.note(unreadable=damaged)
                if damaged == len(batch) < batch_size and not cursor:
                    raise  # there is nothing else
                continue
            if artifact.name.startswith(prefix):
                found.append(artifact)
        if len(batch) < batch_size:
            return _page(op, found, "")
    return _page(op, found, _cursor(prefix, place))


def _page(op: Operation, found: list[Artifact], following: str) -> ArtifactPage:
    op.note([artifact.record.id for artifact in found], artifacts=len(found))
    return ArtifactPage(tuple(found), following)


def _behind(record: Record, place: _Place | None) -> _Place:
    among = place.among + 1 if place and place.at == record.created_at else 1
    return _Place(record.created_at, record.id, among)


def _cursor(prefix: str, place: _Place | None) -> str:
    if place is None:
        return ""
    return pack_cursor(_bound(prefix), place.at.isoformat(), place.record_id, place.among)


def _bound(prefix: str) -> str:
    """Give what a cursor holds of a prefix: a cursor is short."""
    return hashlib.blake2b(prefix.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest() if prefix else ""


def _place_of(cursor: str, prefix: str) -> _Place | None:
    if not cursor:
        return None
    try:
        named, at, record_id, among = unpack_cursor(cursor)
        if named != _bound(prefix) or not isinstance(among, int) or not 0 < among <= _AMONG_MAX:
            raise ValueError("of another listing")
        moment = datetime.fromisoformat(str(at))
        if moment.tzinfo is None:
            raise ValueError("no moment")
        return _Place(moment.astimezone(UTC), RecordId(str(record_id)), among)
    except (ValueError, OverflowError) as error:
        raise bad_cursor() from error


async def _newest(op: Operation, place: _Place | None, *, limit: int) -> list[VisibleRecord]:
    where = _until(place)
    offset = await _offset_behind(op, where, place) if place else 0
    found = await op.tx.records.list_recent(op.actor.reader, where, now=op.now, limit=limit, offset=offset)
    return await op.tx.records.read(op.actor.reader, [candidate.id for candidate in found], now=op.now)


def _until(place: _Place | None) -> RecordFilter:
    """Mean the artifacts up to the moment of a place."""
    until = place.at + timedelta(microseconds=1) if place and place.at < _LAST_MOMENT else None
    return RecordFilter(kinds=(Kind.ARTIFACT,), until=until)


async def _offset_behind(op: Operation, where: RecordFilter, place: _Place) -> int:
    """Count what of the moment of a place lies up to it; where it is gone itself, none: better twice than never."""
    reader = op.actor.reader
    there = await op.tx.records.list_recent(reader, where, now=op.now, limit=1, offset=place.among - 1)
    if [candidate.id for candidate in there] == [place.record_id]:
        return place.among
    found = await op.tx.records.list_recent(reader, where, now=op.now, limit=_LISTED_MAX)
    ids = [candidate.id for candidate in found]
    return ids.index(place.record_id) + 1 if place.record_id in ids else 0


def open_artifact(op: Operation, item: VisibleRecord) -> Artifact:
    """Open one reference."""
    body = op.open(item.record)
    return Artifact(
        record=item.record,
        name=body["name"],
        media_type=body["media_type"],
        size_bytes=body["size_bytes"],
        sha256=body["sha256"],
        metadata=body["metadata"],
        granted_by=item.granted_by,
    )


def _text(draft: ArtifactDraft) -> str:
    return draft.data[: 4 * _INDEXED_CHARS].decode("utf-8", "ignore") if is_textual(draft.media_type) else ""


def _blob_binding(keys: ProjectKeys, record_id: str) -> Binding:
    return Binding("blobs", keys.project_id, record_id, 0, 1)
