"""The in-memory database is the model: random histories must get the same answers from every other backend."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contextdna.errors import ContextDnaError
from contextdna.ports.database import Database, Transaction
from contextdna.values.ids import AgentId, DelegationId, GrantId, ProjectId, RecordId, SessionId
from contextdna.values.level import Level
from contextdna.values.principal import Reader, Role
from contextdna.values.record import IndexedRecord, Kind, Record, Sealed, Tier
from contextdna.values.search import IndexStatistics, Match, RecordFilter
from tests.builders import OTHER_PROJECT, PROJECT, make_grant, make_link, make_record, minutes
from tests.contract.conftest import open_database
from tests.servers.postgres import EVERYWHERE

pytestmark = pytest.mark.anyio

MANY = 1000

# Small pools, so that ids, times and circles meet often; times fall on each other's boundaries.
PROJECTS = st.sampled_from([PROJECT, PROJECT, PROJECT, OTHER_PROJECT])
NUMBERS = st.integers(0, 7)
RECORD_IDS = NUMBERS.map(lambda number: RecordId(f"mem_{number}"))
RECORD_ID_LISTS = st.lists(RECORD_IDS, max_size=4)
AGENTS = st.sampled_from([AgentId(name) for name in ("alice", "bob", "carol")])
TEAMS = st.sampled_from(["", "core", "edge"])
SWARMS = st.sampled_from(["", "lift"])
SESSIONS = st.sampled_from([SessionId(name) for name in ("", "ses_1", "ses_2")])
SUBJECTS = st.sampled_from(["", "p1", "p2"])
TYPES = st.sampled_from(["fact", "decision"])
TIERS = st.sampled_from([*Tier, ""])
TAGS = st.lists(st.sampled_from(["t1", "t2"]), max_size=2, unique=True).map(tuple)
KINDS = st.sampled_from(list(Kind))
LEVELS = st.sampled_from(list(Level))
TIMES = st.integers(-3, 3).map(minutes)
MAYBE_TIMES = st.one_of(st.none(), st.none(), TIMES)
IMPORTANCES = st.sampled_from([0.0, 0.25, 0.5, 1.0])
LIMITS = st.sampled_from([1, 2, MANY])
WORDS = st.sampled_from("abcde")
TEXTS = st.lists(WORDS, max_size=5)
PHRASES = st.lists(st.lists(WORDS, min_size=1, max_size=2), max_size=2)
HASHES = st.sampled_from([b"h1", b"h2"])
SEALS = st.builds(Sealed, st.sampled_from([b"x", b"y"]), key_id=st.sampled_from(["", "key_1", "key_2"]))

READERS = st.builds(Reader, PROJECTS, AGENTS, TEAMS, SWARMS, st.sampled_from(list(Role)))
FILTERS = st.builds(
    RecordFilter,
    kinds=st.lists(KINDS, max_size=2).map(tuple),
    types=st.lists(TYPES, max_size=1).map(tuple),
    tiers=st.lists(TIERS, max_size=2).map(tuple),
    levels=st.lists(LEVELS, max_size=3).map(tuple),
    tag_tokens=TAGS,
    sealed_tag_tokens=TAGS,
    owner_id=st.one_of(st.just(AgentId("")), AGENTS),
    session_id=SESSIONS,
    subject=SUBJECTS,
    since=MAYBE_TIMES,
    until=MAYBE_TIMES,
    as_of=MAYBE_TIMES,
    min_importance=IMPORTANCES,
    deleted=st.booleans(),
)
LOOSE_FILTERS = st.one_of(st.just(RecordFilter()), st.builds(RecordFilter, deleted=st.booleans()), FILTERS)


@st.composite
def records(draw: st.DrawFn) -> Record:
    number = draw(NUMBERS)
    return make_record(
        f"mem_{number}",
        project_id=draw(PROJECTS),
        kind=draw(KINDS),
        level=draw(LEVELS),
        owner_id=draw(AGENTS),
        team_id=draw(TEAMS),
        swarm_id=draw(SWARMS),
        session_id=draw(SESSIONS),
        type=draw(TYPES),
        tier=draw(TIERS),
        importance=draw(IMPORTANCES),
        position=number,  # a turn has its place to itself
        subject=draw(SUBJECTS),
        version=draw(st.integers(1, 2)),
        created_at=draw(TIMES),
        updated_at=draw(TIMES),
        valid_from=draw(MAYBE_TIMES),
        valid_to=draw(MAYBE_TIMES),
        retention_until=draw(MAYBE_TIMES),
        deleted_at=draw(MAYBE_TIMES),
        content_hash=draw(HASHES),
        tag_tokens=draw(TAGS),
        blob_key=draw(st.sampled_from(["", "blob"])),
        sealed=draw(SEALS),
    )


def keyed(project_id: ProjectId, words: Sequence[str]) -> tuple[str, ...]:
    """Make tokens as the product does: no two projects share one."""
    return tuple(f"{project_id}{word}" for word in words)


@st.composite
def indexed(draw: st.DrawFn) -> IndexedRecord:
    record = draw(records())
    return IndexedRecord(record, keyed(record.project_id, draw(TEXTS)))


@dataclass(frozen=True)
class Call:
    """One call of a table, printed in full by a failing example."""

    name: str
    args: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    async def __call__(self, tx: Transaction) -> Any:
        table, _, method = self.name.partition(".")
        return await getattr(getattr(tx, table), method)(*self.args, **dict(self.options))


def calls(name: str, *args: st.SearchStrategy[Any], **options: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    """Draw the arguments of a call."""
    named = st.fixed_dictionaries(options).map(lambda drawn: tuple(drawn.items()))
    return st.builds(Call, st.just(name), st.tuples(*args), named)


GRANTS = st.builds(
    lambda number, record_id, grantee_id, project_id, granted_by, expires_at, delegation_id, assignment: make_grant(
        f"grt_{number}",
        record_id,
        grantee_id,
        project_id=project_id,
        granted_by=granted_by,
        expires_at=expires_at,
        delegation_id=delegation_id,
        assignment=assignment,
    ),
    NUMBERS,
    RECORD_IDS,
    AGENTS,
    PROJECTS,
    AGENTS,
    MAYBE_TIMES,
    st.sampled_from([DelegationId(""), DelegationId("del_1")]),
    st.booleans(),
)
LINKS = st.builds(
    lambda source, target, project_id, relation, at: make_link(
        source, target, project_id=project_id, relation=relation, created_at=at
    ),
    RECORD_IDS,
    RECORD_IDS,
    PROJECTS,
    st.sampled_from(["relates_to", "supersedes"]),
    TIMES,
)
COUNTS = st.dictionaries(RECORD_IDS, st.integers(1, 3), max_size=3)

INSERTS = calls("records.insert", st.lists(indexed(), min_size=1, max_size=3))
WRITES = st.one_of(
    INSERTS,
    INSERTS,
    calls("records.replace", indexed(), expected_version=st.integers(1, 2), reindex=st.booleans()),
    calls("records.delete", PROJECTS, RECORD_ID_LISTS),
    calls("records.mark_deleted", PROJECTS, RECORD_ID_LISTS, deleted_at=MAYBE_TIMES),
    calls("records.touch", PROJECTS, COUNTS, at=TIMES),
    calls("records.reseal", st.lists(records(), max_size=2)),
    calls("records.add_links", st.lists(LINKS, max_size=3)),
    calls("grants.add", st.lists(GRANTS, min_size=1, max_size=2, unique_by=lambda grant: grant.id)),
    calls("grants.revoke", PROJECTS, st.lists(NUMBERS.map(lambda n: GrantId(f"grt_{n}")), max_size=3), at=TIMES),
    calls("grants.revoke_delegation", PROJECTS, st.just(DelegationId("del_1")), at=TIMES),
)


def searches() -> st.SearchStrategy[Call]:
    """Draw searches whose tokens are those of the reader's project."""

    def for_reader(reader: Reader) -> st.SearchStrategy[Call]:
        phrases = PHRASES.map(lambda drawn: tuple(keyed(reader.project_id, phrase) for phrase in drawn))
        required = phrases.map(lambda drawn: tuple((phrase,) for phrase in drawn))
        groups = st.lists(required.filter(bool), max_size=2).map(tuple)
        matches = st.builds(Match, phrases, required, groups)
        return calls("records.search", st.just(reader), LOOSE_FILTERS, matches, now=TIMES, limit=LIMITS)

    return READERS.flatmap(for_reader)


def counts_of_tokens() -> st.SearchStrategy[Call]:
    """Draw token counts of a project."""
    return st.builds(
        lambda project_id, words: Call(
            "records.statistics", (project_id, [(token,) for token in keyed(project_id, words)])
        ),
        PROJECTS,
        TEXTS,
    )


READS = st.one_of(
    calls("records.read", READERS, RECORD_ID_LISTS, now=TIMES),
    calls("records.refs", PROJECTS, RECORD_ID_LISTS),
    calls("records.take", PROJECTS, RECORD_ID_LISTS),
    calls("records.duplicates_of", records(), st.lists(HASHES, max_size=2), now=TIMES),
    calls("records.list_recent", READERS, LOOSE_FILTERS, now=TIMES, limit=LIMITS, offset=st.integers(0, 2)),
    searches(),
    calls("records.owned", READERS, LOOSE_FILTERS, now=TIMES, limit=LIMITS),
    counts_of_tokens(),
    calls("records.total", PROJECTS),
    calls("records.candidates", READERS, LOOSE_FILTERS, RECORD_ID_LISTS, now=TIMES),
    calls("records.neighbours", READERS, LOOSE_FILTERS, RECORD_ID_LISTS, now=TIMES, within_s=st.sampled_from([60, 90])),
    calls("records.count_visible", READERS, now=TIMES, since=st.none() | TIMES),
    calls("records.count_visible_tasks", READERS, now=TIMES),
    calls("records.moment", PROJECTS, place=st.integers(1, 3), since=st.none() | TIMES, until=st.none() | TIMES),
    calls(
        "records.conversation",
        READERS,
        SESSIONS,
        now=TIMES,
        after=st.integers(0, 3),
        before=st.sampled_from([0, 0, 2, 5]),
        newest_first=st.booleans(),
        limit=LIMITS,
    ),
    calls("records.conversations", READERS, now=TIMES, limit=LIMITS, offset=st.integers(0, 1)),
    calls("records.last_position", PROJECTS, KINDS, session_id=SESSIONS, subject=SUBJECTS),
    calls("records.under_subject", PROJECTS, KINDS, SUBJECTS, NUMBERS),
    calls("records.subjects", READERS, KINDS, now=TIMES, limit=LIMITS),
    calls("records.due", PROJECTS, now=TIMES, deleted_before=TIMES, idle_before=TIMES, limit=LIMITS),
    calls("records.sealed_with_other_key", PROJECTS, st.just("key_1"), limit=st.just(MANY)),
    calls("records.blob_in_use", st.sampled_from(["", "blob", "other"])),
    calls("records.links_of", PROJECTS, RECORD_ID_LISTS),
    calls(
        "loops.page",
        READERS,
        phase=SUBJECTS,
        types=st.lists(TYPES, max_size=1),
        now=TIMES,
        after=st.one_of(st.just(RecordId("")), RECORD_IDS),
        newest_first=st.booleans(),
        limit=LIMITS,
    ),
    calls("loops.latest_iteration", READERS, SUBJECTS, now=TIMES),
    calls("loops.standing", READERS, SUBJECTS, NUMBERS, now=TIMES, hidden=st.booleans()),
    calls("loops.superseding", READERS, RECORD_ID_LISTS, now=TIMES),
    calls("loops.references", READERS, RECORD_ID_LISTS, now=TIMES),
    calls("grants.active_for", PROJECTS, RECORD_ID_LISTS, AGENTS, now=TIMES),
    calls("grants.given", PROJECTS, granted_by=AGENTS, grantee_ids=st.lists(AGENTS, max_size=2), now=TIMES),
)


class Abandoned(Exception):
    """Raised in the end of a unit that must leave nothing."""


@dataclass(frozen=True)
class Unit:
    """Calls that are committed or abandoned together."""

    steps: tuple[Call, ...]
    writes: bool
    abandoned: bool = False

    async def __call__(self, tx: Transaction) -> list[Any]:
        answers = [settled(step.name, await step(tx)) for step in self.steps]
        if self.abandoned:
            raise Abandoned
        return answers

    async def run(self, database: Database) -> object:
        """Run on a database; errors of the tree are answers too."""
        try:
            return await (database.write(self) if self.writes else database.read(self))
        except Abandoned:
            return "abandoned"
        except ContextDnaError as error:
            return type(error), error.code


def settled(name: str, answer: Any) -> Any:
    """Bring an answer into a form that compares: no order where none is promised, scores to nine digits."""
    if name == "records.sealed_with_other_key":
        return sorted(answer, key=lambda record: record.id)
    if name in ("records.candidates", "records.neighbours"):
        return sorted(answer)
    if isinstance(answer, IndexStatistics):
        return replace(answer, revision=0)
    return answer


WRITE_UNITS = st.builds(
    Unit,
    st.lists(st.one_of(WRITES, WRITES, READS), min_size=1, max_size=4).map(tuple),
    st.just(True),
    st.sampled_from([False, False, False, True]),
)
READ_UNITS = st.builds(Unit, st.lists(READS, min_size=1, max_size=6).map(tuple), st.just(False))


HISTORIES = st.lists(st.one_of(WRITE_UNITS, READ_UNITS), min_size=1, max_size=20)


async def check_answers(name: str, history: list[Unit]) -> None:
    with TemporaryDirectory() as folder:
        async with (
            open_database("in_memory", Path(folder)) as model,
            open_database(name, Path(folder)) as other,
        ):
            for unit in history:
                assert await unit.run(other) == await unit.run(model), unit


@given(history=HISTORIES)
@settings(
    max_examples=150 if EVERYWHERE else 50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
async def test_random_histories_get_the_same_answers(history: list[Unit]) -> None:
    await check_answers("sqlite", history)


@given(history=HISTORIES)
@settings(
    max_examples=40 if EVERYWHERE else 20, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
async def test_random_histories_get_the_same_answers_from_a_server(history: list[Unit]) -> None:
    await check_answers("postgres", history)
