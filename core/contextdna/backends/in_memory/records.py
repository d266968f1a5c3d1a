"""The table of records in plain dicts."""

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from contextdna.backends.in_memory.match import check, matches, occurrences
from contextdna.backends.in_memory.sheets import Sheets, StoredRecord, in_force
from contextdna.values.ids import AgentId, ProjectId, RecordId, SessionId
from contextdna.values.level import ENCRYPTED_LEVELS
from contextdna.values.principal import Reader
from contextdna.values.project import Link
from contextdna.values.record import IndexedRecord, Kind, Record, RecordRef, Tier, VisibleRecord
from contextdna.values.search import (
    EVERYTHING,
    NEIGHBOURS_MAX,
    Candidate,
    IndexStatistics,
    Match,
    Neighbour,
    Phrase,
    RecordFilter,
    Stretch,
    placed,
)
from contextdna.values.sketch import sketch
from contextdna.values.turn import ConversationSummary
from contextdna.values.visibility import visible

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MEMORIES_LOOKED_AT = 50
_TURNS_LOOKED_AT = 25
_LINKS_LOOKED_AT = 50
AGING_TIERS = frozenset({Tier.WORKING, Tier.EPISODIC})


class InMemoryRecords:
    """``RecordTable`` on the sheets of one unit."""

    def __init__(self, sheets: Sheets) -> None:
        self._sheets = sheets

    async def insert(self, records: Sequence[IndexedRecord]) -> None:
        """Add records and index them.

        Raises:
            Conflict: ``already_exists``.
        """
        for item in records:
            last = next(reversed(self._sheets.records.rows.values()), None)
            serial = last.serial + 1 if last is not None else 1
            self._sheets.records.add(
                (item.record.project_id, item.record.id), StoredRecord(item.record, item.tokens, serial)
            )
        for project_id in {item.record.project_id for item in records}:
            self._changed_index(project_id)

    async def replace(self, record: IndexedRecord, *, expected_version: int, reindex: bool) -> bool:
        """Put a new version in place of ``expected_version``; False when another version, or none, stands there."""
        rows = self._sheets.records.change()
        key = (record.record.project_id, record.record.id)
        held = rows.get(key)
        if held is None or held.record.version != expected_version:
            return False
        rows[key] = replace(held, record=record.record, tokens=record.tokens if reindex else held.tokens)
        if reindex:
            self._changed_index(record.record.project_id)
        return True

    async def delete(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> int:
        """Remove records for good, with index entries, grants, links and statistics."""
        rows, grants, links = self._sheets.records.change(), self._sheets.grants.change(), self._sheets.links.change()
        gone = {(project_id, record_id) for record_id in record_ids}
        removed = [rows.pop(key) for key in gone if key in rows]
        if project_id in self._sheets.index_revisions.rows:
            self._changed_index(project_id)
        for grant_key, grant in list(grants.items()):
            if (grant.project_id, grant.record_id) in gone:
                del grants[grant_key]
        for link_key, link in list(links.items()):
            if (link.project_id, link.source_id) in gone or (link.project_id, link.target_id) in gone:
                del links[link_key]
        return len(removed)

    async def read(self, reader: Reader, record_ids: Sequence[RecordId], *, now: datetime) -> list[VisibleRecord]:
        """Fetch the kept, visible ones among ids, in the order of ids."""
        seen = {row.record.id: item for row, item in self._visible(reader, now) if _kept(row.record, now)}
        return [seen[record_id] for record_id in dict.fromkeys(record_ids) if record_id in seen]

    async def refs(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> list[RecordRef]:
        """Fetch access headers whether visible or not, in the order of ids."""
        return [_ref(record) for record in await self.take(project_id, record_ids)]

    async def take(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> list[Record]:
        """Fetch whole records, deleted ones too, in the order of ids."""
        rows = self._sheets.records.rows
        keys = [(project_id, record_id) for record_id in dict.fromkeys(record_ids)]
        return [rows[key].record for key in keys if key in rows]

    async def duplicates_of(self, record: Record, hashes: Sequence[bytes], *, now: datetime) -> dict[bytes, Record]:
        """Find the oldest kept records, valid now or later, in the circle of ``record``, by hash."""
        found: dict[bytes, Record] = {}
        for row in self._of(record.project_id):
            other = row.record
            if other.content_hash in hashes and _circle(other) == _circle(record) and _lasting(other, now):
                found.setdefault(other.content_hash, other)
        return found

    async def list_recent(
        self, reader: Reader, where: RecordFilter, *, now: datetime, limit: int, offset: int = 0
    ) -> list[Candidate]:
        """List visible records, newest first."""
        rows = sorted(self._filtered(reader, where, now), key=_recency, reverse=True)
        return self._candidates(reader, rows[offset : offset + limit], now)

    async def search(
        self,
        reader: Reader,
        where: RecordFilter,
        match: Match,
        *,
        now: datetime,
        limit: int,
        offset: int = 0,
        within: Stretch = EVERYTHING,
    ) -> list[Candidate]:
        """List visible records of a stretch that match, in the order of their arrival, the last first.

        Raises:
            ValueError: A phrase is empty, a required one has no form, or a token is not of ``a-z0-9``.
        """
        check(match)
        rows = [row for row in self._filtered(reader, where, now) if within.oldest < row.serial <= within.newest]
        rows = [row for row in rows if matches(row.tokens, match)]
        rows.sort(key=lambda row: row.serial, reverse=True)
        return self._candidates(reader, rows[offset : offset + limit], now)

    async def arrival(self, project_id: ProjectId, match: Match, *, place: int) -> int:
        """Give where in the order of arrival the last record that matches stands (place 1), the one before it, …

        Raises:
            ValueError: As for ``search``.
        """
        check(match)
        serials = sorted((row.serial for row in self._of(project_id) if matches(row.tokens, match)), reverse=True)
        return next(iter(serials[place - 1 :]), 0)

    async def moment(
        self, project_id: ProjectId, *, place: int, since: datetime | None = None, until: datetime | None = None
    ) -> datetime | None:
        """Give when the newest record of a time was created (place 1), the one before it, …; None for none."""
        times = [row.record.created_at for row in self._of(project_id)]
        within = (at for at in times if (since is None or at >= since) and (until is None or at < until))
        return next(iter(sorted(within, reverse=True)[place - 1 :]), None)

    async def candidates(
        self, reader: Reader, where: RecordFilter, record_ids: Sequence[RecordId], *, now: datetime
    ) -> list[Candidate]:
        """Give the visible records among ids that pass the filter, in no promised order."""
        rows = [row for row in self._filtered(reader, where, now) if row.record.id in record_ids]
        return self._candidates(reader, rows, now)

    async def neighbours(
        self, reader: Reader, where: RecordFilter, record_ids: Sequence[RecordId], *, now: datetime, within_s: float
    ) -> list[Neighbour]:
        """Give what stands beside records, as far as it is visible and passes the filter."""
        seen = {row.record.id: row for row in self._filtered(reader, where, now)}
        sources = [row for row in self._of(reader.project_id) if row.record.id in record_ids]
        found = [(source, *near) for source in sources for near in self._beside(source, seen, within_s)]
        shown = self._candidates(reader, [row for _, _, row in found], now)
        return placed([(found[n][0].record.id, found[n][1], candidate) for n, candidate in enumerate(shown)])

    def _beside(
        self, source: StoredRecord, seen: Mapping[RecordId, StoredRecord], within_s: float
    ) -> Iterator[tuple[int, StoredRecord]]:
        """Give what stands beside a record, among what is seen, with the places to it."""
        of, rows = source.record, [row for row in self._of(source.record.project_id) if row is not source]
        before: list[StoredRecord] = []
        after: list[StoredRecord] = []
        if of.kind is Kind.TURN and of.session_id:
            said = [row for row in rows if row.record.kind is Kind.TURN and row.record.session_id == of.session_id]
            said.sort(key=lambda row: (row.record.position, row.serial))
            steps = [(row.record.position - of.position, row) for row in said]
            before = [row for step, row in reversed(steps) if -_TURNS_LOOKED_AT <= step < 0]
            after = [row for step, row in steps if 0 < step <= _TURNS_LOOKED_AT]
        elif of.kind is Kind.MEMORY:
            stream = [row for row in rows if _stream(row.record) == _stream(of)]
            before = [row for row in reversed(stream) if row.serial < source.serial][:_MEMORIES_LOOKED_AT]
            after = [row for row in stream if row.serial > source.serial][:_MEMORIES_LOOKED_AT]
        for sign, side in ((-1, before), (1, after)):
            visible_ones = [row for row in side if row.record.id in seen][:NEIGHBOURS_MAX]
            for place, row in enumerate(visible_ones, 1):
                near = abs((row.record.created_at - of.created_at).total_seconds()) <= within_s
                if of.kind is Kind.TURN or near:
                    yield sign * place, row
        for other in self._linked(of):
            if other in seen:
                yield 0, seen[other]

    def _linked(self, of: Record) -> Iterator[RecordId]:
        """Give the other ends of a record's newest links, of those that it has and of those to it."""
        links = [link for link in self._sheets.links.rows.values() if link.project_id == of.project_id]
        away = sorted((link.created_at, link.target_id, link.relation) for link in links if link.source_id == of.id)
        here = sorted((link.created_at, link.source_id, link.relation) for link in links if link.target_id == of.id)
        for side in (away, here):
            yield from (other for _, other, _ in side[: -_LINKS_LOOKED_AT - 1 : -1])

    def _candidates(self, reader: Reader, rows: Iterable[StoredRecord], now: datetime) -> list[Candidate]:
        granted = self._granted(reader, now)
        return [_candidate(row, shared=_only_granted(reader, row.record, granted)) for row in rows]

    async def owned(self, reader: Reader, where: RecordFilter, *, now: datetime, limit: int) -> list[RecordRef]:
        """List records owned by the reader's agent, most important first, then newest first."""
        rows = [row for row in self._filtered(reader, where, now) if row.record.owner_id == reader.agent_id]
        rows.sort(key=lambda row: (row.record.importance, *_recency(row)), reverse=True)
        return [_ref(row.record) for row in rows[:limit]]

    async def statistics(
        self, project_id: ProjectId, phrases: Sequence[Phrase], *, missing: Sequence[Phrase] = (), revision: int = 0
    ) -> IndexStatistics:
        """Count the records of a project, their words, and the records that hold each phrase, deleted ones too.

        Phrases that were ``missing`` at a revision are counted only when the index is of another one now.
        """
        held = [row.tokens for row in self._of(project_id)]
        now = self._sheets.index_revisions.rows.get(project_id, 0)
        asked = (*phrases, *(() if now and now == revision else missing))
        counts = {phrase: sum(occurrences(tokens, phrase) > 0 for tokens in held) for phrase in asked}
        event = next((e.seq for (of, _), e in reversed(self._sheets.events.rows.items()) if of == project_id), 0)
        return IndexStatistics(len(held), sum(map(len, held)), now, counts, event)

    async def next_change(self, reader: Reader, *, now: datetime) -> datetime | None:
        """Give when, after now, some record or grant of the reader's begins or ends by itself; None for never."""
        records = [row.record for row in self._of(reader.project_id)]
        times = [at for of in records for at in (of.created_at, of.valid_from, of.valid_to, of.retention_until)]
        grants = self._sheets.grants.rows.values()
        mine = (reader.project_id, reader.agent_id)
        times += [grant.expires_at for grant in grants if (grant.project_id, grant.grantee_id) == mine]
        return min((at for at in times if at is not None and at > now), default=None)

    def _changed_index(self, project_id: ProjectId) -> None:
        self._sheets.index_revisions.change()[project_id] = secrets.randbits(62)

    async def total(self, project_id: ProjectId) -> int:
        """Count the records of a project, deleted ones too."""
        return sum(1 for _ in self._of(project_id))

    async def count_visible(
        self, reader: Reader, *, now: datetime, since: datetime | None = None
    ) -> dict[tuple[Kind, str, str], int]:
        """Count living, visible records that were created since, by kind, level label and type."""
        records = [row.record for row, _ in self._visible(reader, now) if _living(row.record, now, at=now)]
        records = [record for record in records if since is None or record.created_at >= since]
        return dict(Counter((record.kind, record.level.label, record.type) for record in records))

    async def count_visible_tasks(self, reader: Reader, *, now: datetime) -> dict[str, int]:
        """Count living, visible tasks by status."""
        counts: Counter[str] = Counter()
        for (kind, _, status), records in (await self.count_visible(reader, now=now)).items():
            counts[status] += records if kind is Kind.TASK else 0
        return dict(+counts)

    async def conversation(
        self,
        reader: Reader,
        session_id: SessionId,
        *,
        now: datetime,
        after: int,
        limit: int,
        before: int = 0,
        newest_first: bool = False,
    ) -> list[VisibleRecord]:
        """Read visible turns of a session behind a position and, unless it is 0, ``before`` one, from either end."""
        turns = [item for row, item in self._turns(reader, now) if row.record.session_id == session_id]
        turns = [item for item in turns if item.record.position > after and not 0 < before <= item.record.position]
        return sorted(turns, key=lambda item: item.record.position, reverse=newest_first)[:limit]

    async def conversations(
        self, reader: Reader, *, now: datetime, limit: int, offset: int
    ) -> list[ConversationSummary]:
        """List sessions that have visible turns, the latest first; the agent is the owner of the first visible turn."""
        by_session: dict[SessionId, list[Record]] = {}
        for row, _ in self._turns(reader, now):
            by_session.setdefault(row.record.session_id, []).append(row.record)
        summaries = [_summary(session_id, turns) for session_id, turns in by_session.items()]
        summaries.sort(key=lambda summary: (summary.last_at, summary.session_id), reverse=True)
        return summaries[offset : offset + limit]

    def _turns(self, reader: Reader, now: datetime) -> Iterator[tuple[StoredRecord, VisibleRecord]]:
        for row, item in self._visible(reader, now):
            if row.record.kind is Kind.TURN and row.record.session_id and _kept(row.record, now):
                yield row, item

    async def last_position(self, project_id: ProjectId, kind: Kind, *, session_id: SessionId, subject: str) -> int:
        """Give the highest position used in a conversation, or else under a subject; 0 when none."""
        records = [row.record for row in self._of(project_id) if row.record.kind is kind]
        if session_id:
            positions = [record.position for record in records if record.session_id == session_id]
        else:
            positions = [record.position for record in records if subject and record.subject == subject]
        return max(positions, default=0)

    async def under_subject(self, project_id: ProjectId, kind: Kind, subject: str, position: int) -> list[Record]:
        """Fetch all records of a subject and position that are not deleted, oldest first, without a reader."""
        rows = [row for row in self._of(project_id) if row.record.kind is kind and row.record.deleted_at is None]
        rows = [row for row in rows if row.record.subject == subject != "" and row.record.position == position]
        return [row.record for row in sorted(rows, key=_recency)]

    async def subjects(self, reader: Reader, kind: Kind, *, now: datetime, limit: int) -> list[str]:
        """List the subjects of living, visible records of a kind, by name."""
        records = [row.record for row, _ in self._visible(reader, now) if _living(row.record, now, at=now)]
        return sorted({record.subject for record in records if record.kind is kind and record.subject})[:limit]

    async def mark_deleted(
        self, project_id: ProjectId, record_ids: Sequence[RecordId], *, deleted_at: datetime | None
    ) -> None:
        """Soft-delete records, or restore them with ``None``; what is deleted keeps its time."""
        rows = self._sheets.records.change()
        for record in await self.take(project_id, record_ids):
            key = (project_id, record.id)
            at = (record.deleted_at or deleted_at) if deleted_at else None
            rows[key] = replace(rows[key], record=replace(record, deleted_at=at))

    async def touch(self, project_id: ProjectId, counts: Mapping[RecordId, int], *, at: datetime) -> None:
        """Add to access counts and move the time of last access forward."""
        rows = self._sheets.records.change()
        for record_id, count in counts.items():
            row = rows.get((project_id, record_id))
            if row is not None:
                latest = max(row.accessed_at or at, at)
                rows[project_id, record_id] = replace(row, access_count=row.access_count + count, accessed_at=latest)

    async def due(
        self, project_id: ProjectId, *, now: datetime, deleted_before: datetime, idle_before: datetime, limit: int
    ) -> list[Record]:
        """List records whose retention date, restore window or (working, episodic) idle time is over, oldest first."""

        def is_due(row: StoredRecord) -> bool:
            record = row.record
            if record.deleted_at is not None:
                return record.deleted_at < deleted_before
            expired = record.retention_until is not None and record.retention_until <= now
            return expired or (record.tier in AGING_TIERS and _last_used(row) < idle_before)

        return [row.record for row in self._of(project_id) if is_due(row)][:limit]

    async def sealed_with_other_key(
        self, project_id: ProjectId, key_id: str, *, limit: int, without: Sequence[RecordId] = ()
    ) -> list[Record]:
        """List encrypted records that another key than ``key_id`` sealed, in no promised order, ``without`` some."""
        records = [row.record for row in self._of(project_id) if row.record.id not in without]
        return [record for record in records if record.sealed.key_id not in ("", key_id)][:limit]

    async def reseal(self, records: Sequence[Record]) -> None:
        """Replace only the sealed body of records that still have the version they were taken at."""
        rows = self._sheets.records.change()
        for record in records:
            row = rows.get((record.project_id, record.id))
            if row is not None and row.record.version == record.version:
                resealed = replace(row.record, sealed=record.sealed)
                rows[record.project_id, record.id] = replace(row, record=resealed)

    async def blob_in_use(self, blob_key: str) -> bool:
        """Tell whether any record of any project refers to a blob."""
        return blob_key != "" and any(row.record.blob_key == blob_key for row in self._sheets.records.rows.values())

    async def add_links(self, links: Sequence[Link]) -> None:
        """Add relationships; one that stands already stays."""
        rows = self._sheets.links.change()
        for link in links:
            rows.setdefault((link.project_id, link.source_id, link.target_id, link.relation), link)

    async def remove_links(self, links: Sequence[Link]) -> int:
        """Remove relationships, whenever they were made; gives how many stood."""
        rows = self._sheets.links.change()
        keys = {(link.project_id, link.source_id, link.target_id, link.relation) for link in links} & rows.keys()
        for key in keys:
            del rows[key]
        return len(keys)

    async def links_of(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> list[Link]:
        """List relationships that start at records, by source, then oldest first."""
        links = [link for link in self._sheets.links.rows.values() if link.project_id == project_id]
        links = [link for link in links if link.source_id in record_ids]
        return sorted(links, key=lambda link: (link.source_id, link.created_at, link.target_id, link.relation))

    def _of(self, project_id: ProjectId) -> Iterator[StoredRecord]:
        return (row for row in self._sheets.records.rows.values() if row.record.project_id == project_id)

    def _visible(self, reader: Reader, now: datetime) -> Iterator[tuple[StoredRecord, VisibleRecord]]:
        granted = self._granted(reader, now)
        for row in self._of(reader.project_id):
            granted_by = granted.get(row.record.id, AgentId(""))
            if visible(reader, row.record, granted=False):
                yield row, VisibleRecord(row.record, "", row.access_count)
            elif row.record.id in granted and visible(reader, row.record, granted=True):
                yield row, VisibleRecord(row.record, granted_by, row.access_count)

    def _granted(self, reader: Reader, now: datetime) -> dict[RecordId, AgentId]:
        """Give who granted what to the reader; of several grants, the one with the least id names the giver."""
        mine = [
            grant
            for grant in self._sheets.grants.rows.values()
            if (grant.project_id, grant.grantee_id) == (reader.project_id, reader.agent_id) and in_force(grant, now)
        ]
        return {grant.record_id: grant.granted_by for grant in sorted(mine, key=lambda grant: grant.id, reverse=True)}

    def _filtered(self, reader: Reader, where: RecordFilter, now: datetime) -> Iterable[StoredRecord]:
        return (row for row, _ in self._visible(reader, now) if _passes(row.record, where, now))


def _kept(record: Record, now: datetime) -> bool:
    return record.deleted_at is None and (record.retention_until is None or record.retention_until > now)


def _living(record: Record, now: datetime, *, at: datetime) -> bool:
    begun = (record.valid_from or record.created_at) <= at
    return _kept(record, now) and begun and (record.valid_to is None or record.valid_to > at)


def _lasting(record: Record, now: datetime) -> bool:
    return _kept(record, now) and (record.valid_to is None or record.valid_to > now)


def _stands(record: Record, where: RecordFilter, now: datetime) -> bool:
    if where.deleted:
        return record.deleted_at is not None
    return _kept(record, now) if where.ever else _living(record, now, at=where.as_of or now)


def _passes(record: Record, where: RecordFilter, now: datetime) -> bool:
    return (
        _stands(record, where, now)
        and (not where.kinds or record.kind in where.kinds)
        and (not where.types or record.type in where.types)
        and (not where.tiers or record.tier in where.tiers)
        and (not where.levels or record.level in where.levels)
        and set(_wanted_tags(record, where)) <= set(record.tag_tokens)
        and where.owner_id in ("", record.owner_id)
        and where.session_id in ("", record.session_id)
        and where.subject in ("", record.subject)
        and (where.since is None or record.created_at >= where.since)
        and (where.until is None or record.created_at < where.until)
        and record.importance >= where.min_importance
    )


def _wanted_tags(record: Record, where: RecordFilter) -> tuple[str, ...]:
    return where.sealed_tag_tokens if record.level in ENCRYPTED_LEVELS else where.tag_tokens


def _circle(record: Record) -> tuple[object, ...]:
    return (record.project_id, record.kind, record.owner_id, record.level, record.team_id, record.swarm_id)


def _recency(row: StoredRecord) -> tuple[datetime, int]:
    return (row.record.created_at, row.serial)


def _last_used(row: StoredRecord) -> datetime:
    return max(row.accessed_at or row.record.updated_at, row.record.updated_at)


def _stream(record: Record) -> tuple[object, ...]:
    return (record.kind, record.owner_id, record.session_id, record.level)


def _only_granted(reader: Reader, record: Record, granted: Mapping[RecordId, AgentId]) -> bool:
    return record.id in granted and not visible(reader, record, granted=False)


def _candidate(row: StoredRecord, *, shared: bool) -> Candidate:
    of = row.record
    return Candidate(
        of.id,
        of.level,
        of.owner_id,
        of.importance,
        (of.created_at - _EPOCH) // timedelta(microseconds=1),
        len(row.tokens),
        sketch(row.tokens),
        int(shared),
    )


def _ref(record: Record) -> RecordRef:
    return RecordRef(
        record.id,
        record.project_id,
        record.kind,
        record.level,
        record.owner_id,
        record.team_id,
        record.swarm_id,
    )


def _summary(session_id: SessionId, turns: Sequence[Record]) -> ConversationSummary:
    first = min(turns, key=lambda turn: turn.position)
    times = [turn.created_at for turn in turns]
    return ConversationSummary(session_id, first.owner_id, len(turns), min(times), max(times))
