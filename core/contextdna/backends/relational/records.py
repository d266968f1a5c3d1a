"""The table of records, its index and its links. Every query holds the access predicate; see the SQL fragments."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from contextdna.backends.relational.columns import (
    RECORD_COLUMNS,
    json_list,
    json_list_or_none,
    kind_of,
    level_of,
    micros,
    micros_or_none,
    moment,
    reader_params,
    record_of,
    record_params,
    ref_of,
    sealed_params,
)
from contextdna.backends.relational.match import phrase_text
from contextdna.backends.relational.statements import Executor, Row
from contextdna.values.ids import ProjectId, RecordId, SessionId
from contextdna.values.principal import Reader
from contextdna.values.project import Link
from contextdna.values.record import IndexedRecord, Kind, Record, RecordRef, VisibleRecord
from contextdna.values.search import (
    EVERYTHING,
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

_BEHIND_ALL = 2**63 - 1
_candidate_of = Candidate._make
_RECENT_OF_KIND: Final[Mapping[tuple[Kind, ...], str]] = {
    (Kind.ARTIFACT,): "records_recent_of_artifacts",
    (Kind.LOOP,): "records_recent_of_loops",
    (Kind.TASK,): "records_recent_of_tasks",
}


class Records:
    """Fulfils ``ports.records.RecordTable``."""

    def __init__(self, executor: Executor) -> None:
        self._rows = executor.rows
        self._run = executor.run
        self._run_many = executor.run_many
        self._match_params = executor.match_params

    async def insert(self, records: Sequence[IndexedRecord]) -> None:
        """Add records and index them."""
        if not records:
            return
        seqs = [row[0] for row in await self._rows("records_next_seqs", (len(records),))]
        placed_records = list(zip(seqs, records, strict=True))
        await self._run_many("record_insert", [_row(item, seq) for seq, item in placed_records])
        await self._run_many(
            "index_insert", [(item.record.project_id, seq, _index_text(item.tokens)) for seq, item in placed_records]
        )
        await self._run_many("totals_add", _totals(records))

    async def replace(self, record: IndexedRecord, *, expected_version: int, reindex: bool) -> bool:
        """Put a new version in place of ``expected_version``; False when another version stands there."""
        new = record.record
        params = (*record_params(new), expected_version)
        if not reindex:
            return bool(await self._run("record_replace", params))
        named = (new.project_id, new.id)
        await self._run("totals_recount", (*named, len(record.tokens), expected_version))
        if not await self._run("record_replace_indexed", (*params, len(record.tokens), sketch(record.tokens))):
            return False
        await self._run("index_replace", (*named, _index_text(record.tokens)))
        return True

    async def delete(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> int:
        """Remove records for good, with index entries, grants, links and statistics."""
        named = (project_id, json_list(record_ids))
        await self._run("totals_remove", named)
        await self._run("index_delete", named)
        await self._run("access_delete", named)
        await self._run("record_grants_delete", named)
        await self._run("record_links_delete", named)
        await self._run("record_backlinks_delete", named)
        return await self._run("record_delete", named)

    async def read(self, reader: Reader, record_ids: Sequence[RecordId], *, now: datetime) -> list[VisibleRecord]:
        """Fetch the kept, visible ones among ids, in the order of ids."""
        params = reader_params(reader, now)
        if len(record_ids) == 1:
            return [_visible_of(row) for row in await self._rows("record_read", (*params, record_ids[0]))]
        found = {row[0]: row for row in await self._rows("records_read", (*params, json_list(record_ids)))}
        return [_visible_of(found[name]) for name in dict.fromkeys(record_ids) if name in found]

    async def refs(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> list[RecordRef]:
        """Fetch access headers whether visible or not: to judge a change, and to tell denied from absent."""
        return [ref_of(row) for row in await self._named("records_refs", project_id, record_ids)]

    async def take(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> list[Record]:
        """Fetch whole records, deleted ones too, without a reader: for their owner's changes and for upkeep."""
        return [record_of(row) for row in await self._named("records_take", project_id, record_ids)]

    async def duplicates_of(self, record: Record, hashes: Sequence[bytes], *, now: datetime) -> dict[bytes, Record]:
        """Find living records of the same project, kind, owner, level, team and swarm as ``record``, by hash."""
        at = micros(now)
        circle = (record.kind.value, record.owner_id, int(record.level), record.team_id)
        if len(hashes) == 1:
            rows = await self._rows(
                "records_duplicates_of_one", (record.project_id, *circle, at, at, hashes[0], record.swarm_id)
            )
        else:
            wanted = json_list(content_hash.hex() for content_hash in hashes)
            rows = await self._rows("records_duplicates", (record.project_id, *circle, at, at, wanted, record.swarm_id))
        found: dict[bytes, Record] = {}
        for row in rows:
            one = record_of(row)
            found.setdefault(one.content_hash, one)
        return found

    async def list_recent(
        self, reader: Reader, where: RecordFilter, *, now: datetime, limit: int, offset: int = 0
    ) -> list[Candidate]:
        """List visible records, newest first."""
        name = _RECENT_OF_KIND.get(where.kinds, "records_recent")
        if where.session_id:
            name = "records_recent_of_session"
        elif where.subject:
            name = "records_recent_of_subject"
        rows = await self._rows(name, (*_filter_params(reader, where, now), limit, offset))
        return list(map(_candidate_of, rows))

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
        if not match:
            return []
        place = (limit, offset, within.newest, within.oldest)
        params = (*_filter_params(reader, where, now), *place, *self._match_params(match))
        return list(map(_candidate_of, await self._rows("records_search", params)))

    async def arrival(self, project_id: ProjectId, match: Match, *, place: int) -> int:
        """Give where in the order of arrival the last record that matches stands (place 1), the one before it, …

        Raises:
            ValueError: As for ``search``.
        """
        rows = await self._rows("records_arrival", (project_id, place - 1, *self._match_params(match))) if match else ()
        return int(rows[0][0]) if rows else 0

    async def moment(
        self, project_id: ProjectId, *, place: int, since: datetime | None = None, until: datetime | None = None
    ) -> datetime | None:
        """Give when the newest record of a time was created (place 1), the one before it, …; None for none."""
        params = (project_id, micros_or_none(since), micros_or_none(until), place - 1)
        rows = await self._rows("records_moment", params)
        return moment(rows[0][0]) if rows else None

    async def candidates(
        self, reader: Reader, where: RecordFilter, record_ids: Sequence[RecordId], *, now: datetime
    ) -> list[Candidate]:
        """Give the visible records among ids that pass the filter, in no promised order."""
        params = (*_filter_params(reader, where, now), json_list(record_ids))
        return list(map(_candidate_of, await self._rows("records_candidates", params)))

    async def neighbours(
        self, reader: Reader, where: RecordFilter, record_ids: Sequence[RecordId], *, now: datetime, within_s: float
    ) -> list[Neighbour]:
        """Give what stands beside records, as far as it is visible and passes the filter."""
        beside = (json_list(record_ids), int(within_s * 1_000_000))
        rows = await self._rows("records_neighbours", (*_filter_params(reader, where, now), *beside))
        return placed([(row[0], row[1], _candidate_of(row[2:])) for row in rows])

    async def owned(self, reader: Reader, where: RecordFilter, *, now: datetime, limit: int) -> list[RecordRef]:
        """List records owned by the reader's agent, most important first."""
        name = "records_owned_in_session" if where.session_id else "records_owned"
        return [ref_of(row) for row in await self._rows(name, (*_filter_params(reader, where, now), limit))]

    async def statistics(
        self, project_id: ProjectId, phrases: Sequence[Phrase], *, missing: Sequence[Phrase] = (), revision: int = 0
    ) -> IndexStatistics:
        """Count the records of a project, their words, and the records that hold each phrase.

        Phrases that were ``missing`` at a revision are counted only when the index is of another one now.

        Tokens are keyed by project, so the index needs no project.
        """
        texts = {phrase_text(phrase): phrase for phrase in (*phrases, *missing)}
        lists = (json_list(map(phrase_text, phrases)), json_list(map(phrase_text, missing)))
        first, *rows = await self._rows("index_statistics", (project_id, *lists, revision))
        return IndexStatistics(first[1], first[2], first[3], {texts[row[0]]: row[1] for row in rows}, first[4])

    async def next_change(self, reader: Reader, *, now: datetime) -> datetime | None:
        """Give when, after now, some record or grant of the reader's begins or ends by itself; None for never."""
        rows = await self._rows("records_next_change", (reader.project_id, reader.agent_id, micros(now)))
        return None if rows[0][0] is None else moment(rows[0][0])

    async def total(self, project_id: ProjectId) -> int:
        """Count the records of a project."""
        return int((await self._rows("records_total", (project_id,)))[0][0])

    async def count_visible(
        self, reader: Reader, *, now: datetime, since: datetime | None = None
    ) -> dict[tuple[Kind, str, str], int]:
        """Count living, visible records that were created since, by kind, level label and type."""
        params = (*reader_params(reader, now), micros(now), micros_or_none(since))
        rows = await self._rows("records_visible_counts", params)
        return {(kind_of(kind), level_of(level).label, type_): count for kind, level, type_, count in rows}

    async def count_visible_tasks(self, reader: Reader, *, now: datetime) -> dict[str, int]:
        """Count living, visible tasks by status."""
        return dict(await self._rows("tasks_visible_counts", (*reader_params(reader, now), micros(now))))

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
        params = (*reader_params(reader, now), session_id, after, before or _BEHIND_ALL, limit)
        name = "conversation_backwards" if newest_first else "conversation"
        return [_visible_of(row) for row in await self._rows(name, params)]

    async def conversations(
        self, reader: Reader, *, now: datetime, limit: int, offset: int
    ) -> list[ConversationSummary]:
        """List sessions that have visible turns, the latest first."""
        rows = await self._rows("conversations", (*reader_params(reader, now), limit, offset))
        return [ConversationSummary(row[0], row[1], row[2], moment(row[3]), moment(row[4])) for row in rows]

    async def last_position(self, project_id: ProjectId, kind: Kind, *, session_id: SessionId, subject: str) -> int:
        """Give the highest position used in a conversation (session_id) or under a subject; 0 when none."""
        if session_id:
            rows = await self._rows("last_position_in_session", (project_id, kind.value, session_id))
        else:
            rows = await self._rows("last_position_of_subject", (project_id, kind.value, subject))
        return int(rows[0][0])

    async def under_subject(self, project_id: ProjectId, kind: Kind, subject: str, position: int) -> list[Record]:
        """Fetch all kept records of a subject and position, oldest first, without a reader: for counting gates."""
        rows = await self._rows("records_under_subject", (project_id, kind.value, subject, position))
        return [record_of(row) for row in rows]

    async def subjects(self, reader: Reader, kind: Kind, *, now: datetime, limit: int) -> list[str]:
        """List the subjects of living, visible records of a kind, by name."""
        params = (*reader_params(reader, now), micros(now), kind.value, limit)
        return [row[0] for row in await self._rows("subjects", params)]

    async def mark_deleted(
        self, project_id: ProjectId, record_ids: Sequence[RecordId], *, deleted_at: datetime | None
    ) -> None:
        """Soft-delete records, or restore them with ``None``; what is deleted keeps its time."""
        await self._run("records_mark_deleted", (project_id, json_list(record_ids), micros_or_none(deleted_at)))

    async def touch(self, project_id: ProjectId, counts: Mapping[RecordId, int], *, at: datetime) -> None:
        """Add to access counts and set the time of last access."""
        accessed_at = micros(at)
        await self._run_many("record_touch", [(project_id, name, count, accessed_at) for name, count in counts.items()])

    async def due(
        self, project_id: ProjectId, *, now: datetime, deleted_before: datetime, idle_before: datetime, limit: int
    ) -> list[Record]:
        """List records whose retention date, restore window or (working, episodic) idle time is over."""
        params = (project_id, micros(now), micros(deleted_before), micros(idle_before), limit)
        return [record_of(row) for row in await self._rows("records_due", params)]

    async def sealed_with_other_key(
        self, project_id: ProjectId, key_id: str, *, limit: int, without: Sequence[RecordId] = ()
    ) -> list[Record]:
        """List encrypted records that another key than ``key_id`` sealed, ``without`` some."""
        rows = await self._rows("records_sealed_with_other_key", (project_id, key_id, limit, json_list(without)))
        return [record_of(row) for row in rows]

    async def reseal(self, records: Sequence[Record]) -> None:
        """Replace only the sealed body of records; one whose version moved on keeps its newer body."""
        await self._run_many(
            "record_reseal",
            [(record.project_id, record.id, record.version, *sealed_params(record.sealed)) for record in records],
        )

    async def blob_in_use(self, blob_key: str) -> bool:
        """Tell whether any record refers to a blob."""
        return bool(await self._rows("blob_use", (blob_key,)))

    async def add_links(self, links: Sequence[Link]) -> None:
        """Add relationships; one that stands already stays."""
        await self._run_many(
            "link_add",
            [
                (link.project_id, link.source_id, link.target_id, link.relation, micros(link.created_at))
                for link in links
            ],
        )

    async def remove_links(self, links: Sequence[Link]) -> int:
        """Remove relationships, whenever they were made; gives how many stood."""
        keys = [(link.project_id, link.source_id, link.target_id, link.relation) for link in links]
        return sum([await self._run("link_remove", key) for key in keys])

    async def links_of(self, project_id: ProjectId, record_ids: Sequence[RecordId]) -> list[Link]:
        """List relationships that start at records."""
        rows = await self._rows("links_of", (project_id, json_list(record_ids)))
        return [Link(row[0], row[1], row[2], row[3], moment(row[4])) for row in rows]

    async def _named(self, name: str, project_id: ProjectId, record_ids: Sequence[RecordId]) -> list[Row]:
        found = {row[0]: row for row in await self._rows(name, (project_id, json_list(record_ids)))}
        return [found[record_id] for record_id in dict.fromkeys(record_ids) if record_id in found]


def _row(item: IndexedRecord, seq: int) -> tuple[Any, ...]:
    return (*record_params(item.record), seq, len(item.tokens), sketch(item.tokens))


def _totals(records: Sequence[IndexedRecord]) -> list[tuple[ProjectId, int, int]]:
    """Sum up what each project gets: (project, records, words)."""
    found: dict[ProjectId, list[int]] = {}
    for item in records:
        found.setdefault(item.record.project_id, []).append(len(item.tokens))
    return [(project_id, len(words), sum(words)) for project_id, words in found.items()]


def _index_text(tokens: Sequence[str]) -> str:
    return " ".join(tokens)


def _visible_of(row: Row) -> VisibleRecord:
    return VisibleRecord(record_of(row), row[RECORD_COLUMNS], row[RECORD_COLUMNS + 1])


def _tags_param(where: RecordFilter) -> str | None:
    if not where.tag_tokens and not where.sealed_tag_tokens:
        return None
    return f"[{json_list(where.tag_tokens)},{json_list(where.sealed_tag_tokens)}]"


def _filter_params(reader: Reader, where: RecordFilter, now: datetime) -> tuple[Any, ...]:
    """Give parameters 1 to 19 of a statement with a reader and a filter."""
    return (
        *reader_params(reader, now),
        micros(where.as_of or now),
        json_list_or_none([kind.value for kind in where.kinds]),
        json_list_or_none(where.types),
        json_list_or_none(where.tiers),
        f"[{','.join(str(int(level)) for level in where.levels)}]" if where.levels else None,
        _tags_param(where),
        where.owner_id,
        where.session_id,
        where.subject,
        micros_or_none(where.since),
        micros_or_none(where.until),
        where.min_importance,
        1 if where.deleted else 2 if where.ever else 0,
    )
