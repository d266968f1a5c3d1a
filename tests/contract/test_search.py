"""Contract of what a search asks of ``RecordTable``: what matches, what stands beside it, and how common words are."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextdna.backends.relational.columns import micros
from contextdna.ports.database import Database, Transaction
from contextdna.values.ids import AgentId, ProjectId, RecordId, SessionId
from contextdna.values.level import Level
from contextdna.values.principal import Role
from contextdna.values.record import Kind
from contextdna.values.search import Candidate, IndexStatistics, Match, RecordFilter, Stretch
from contextdna.values.sketch import sketch
from tests.builders import (
    ALICE,
    BOB,
    NOW,
    OTHER_PROJECT,
    PROJECT,
    make_event,
    make_grant,
    make_indexed,
    make_link,
    make_reader,
    minutes,
)
from tests.contract.conftest import open_database
from tests.servers.postgres import EVERYWHERE

pytestmark = pytest.mark.anyio

TEXTS = {
    "d1": "a b c",
    "d2": "a a b",
    "d3": "c d",
    "d4": "a",
    "d5": "d e f g",
    "d6": "a b a b a",
    "d7": "a a a",
    "d8": "",
}


def phrases(*texts: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(text.split()) for text in texts)


def required(*texts: str) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Write required phrases; forms of one are parted by a bar."""
    return tuple(phrases(*text.split("|")) for text in texts)


async def fill(database: Database, texts: dict[str, str]) -> None:
    items = [make_indexed(name, tokens=text.split()) for name, text in texts.items()]
    await database.write(lambda tx: tx.records.insert(items))


async def search(database: Database, match: Match, *, limit: int = 99, offset: int = 0) -> list[Candidate]:
    return await database.read(
        lambda tx: tx.records.search(make_reader(), RecordFilter(), match, now=NOW, limit=limit, offset=offset)
    )


def group(*texts: str) -> tuple[tuple[tuple[tuple[str, ...], ...], ...], ...]:
    """Write one group of words that must be there together."""
    return (required(*texts),)


MATCHES = [
    pytest.param(Match(phrases("g")), {"d5"}, id="a-token"),
    pytest.param(Match(phrases("c", "g")), {"d1", "d3", "d5"}, id="any-of-two"),
    pytest.param(Match(phrases("a b")), {"d1", "d2", "d6"}, id="a-phrase"),
    pytest.param(Match(phrases("b a")), {"d6"}, id="a-phrase-in-order"),
    pytest.param(Match(phrases("a c")), set(), id="a-phrase-without-gaps"),
    pytest.param(Match(phrases("a a")), {"d2", "d7"}, id="a-phrase-of-equals"),
    pytest.param(Match((), required("b", "c")), {"d1"}, id="all-of-two"),
    pytest.param(Match((), required("a", "a b")), {"d1", "d2", "d6"}, id="all-of-overlapping"),
    pytest.param(Match(phrases("c"), required("a")), {"d1", "d2", "d4", "d6", "d7"}, id="any-is-no-must-beside-all"),
    pytest.param(Match(phrases("zz"), required("a b")), {"d1", "d2", "d6"}, id="any-unknown-beside-all"),
    pytest.param(Match(phrases("a"), required("zz")), set(), id="all-unknown"),
    pytest.param(Match((), required("b|d e")), {"d1", "d2", "d5", "d6"}, id="all-in-one-of-two-forms"),
    pytest.param(Match((), required("zz|c")), {"d1", "d3"}, id="all-in-the-known-form"),
    pytest.param(Match((), required("b|d", "c|g")), {"d1", "d3", "d5"}, id="all-of-two-in-one-of-two-forms"),
    pytest.param(Match((), required("b|zz", "c")), {"d1"}, id="forms-bind-closer-than-all"),
    pytest.param(Match((), together=group("a", "c")), {"d1"}, id="a-group"),
    pytest.param(Match((), together=group("b|d", "c|g")), {"d1", "d3", "d5"}, id="a-group-in-forms"),
    pytest.param(Match(phrases("g"), together=group("a", "c")), {"d1", "d5"}, id="any-or-a-group"),
    pytest.param(Match((), together=(*group("a", "c"), *group("d", "e"))), {"d1", "d5"}, id="two-groups"),
    pytest.param(Match((), together=group("a", "zz")), set(), id="a-group-with-an-unknown"),
    pytest.param(Match((), required("c"), group("d", "e")), {"d1", "d3"}, id="a-group-is-no-must-beside-all"),
    pytest.param(Match(phrases("zz")), set(), id="unknown"),
    pytest.param(Match(()), set(), id="nothing-asked"),
    pytest.param(Match(phrases("and", "or", "not", "near")), set(), id="words-of-query-languages"),
]


@pytest.mark.parametrize(("match", "expected"), MATCHES)
async def test_records_match_by_phrases(database: Database, match: Match, expected: set[str]) -> None:
    await fill(database, TEXTS)
    assert {hit.id for hit in await search(database, match)} == expected


@pytest.mark.parametrize(
    "match",
    [
        pytest.param(Match(((),)), id="empty-phrase"),
        pytest.param(Match((), (((),),)), id="empty-required-phrase"),
        pytest.param(Match((), ((),)), id="required-without-a-form"),
        pytest.param(Match(phrases("a"), (phrases("a"), ())), id="one-of-two-required-without-a-form"),
        pytest.param(Match((), ((("a",), ("b) OR (a",)),)), id="brackets-in-a-form"),
        pytest.param(Match((), together=(((),),)), id="a-group-without-a-form"),
        pytest.param(Match((), together=((),)), id="a-group-of-nothing"),
        pytest.param(Match((), together=(((("a) OR (b",),),),)), id="brackets-in-a-group"),
        pytest.param(Match((("",),)), id="empty-token"),
        pytest.param(Match((('a" OR "b',),)), id="quotes"),
        pytest.param(Match((("a*",),)), id="prefix"),
        pytest.param(Match((("A",),)), id="upper-case"),
        pytest.param(Match((("a",),), ((("a b",),),)), id="blank"),
    ],
)
async def test_a_match_that_is_no_list_of_tokens_is_refused(database: Database, match: Match) -> None:
    await fill(database, TEXTS)
    with pytest.raises(ValueError, match="phrase"):
        await search(database, match)


async def test_the_last_arrived_come_first_a_limit_at_a_time(database: Database) -> None:
    await fill(database, TEXTS)
    assert [hit.id for hit in await search(database, Match(phrases("a")))] == ["d7", "d6", "d4", "d2", "d1"]
    assert [hit.id for hit in await search(database, Match(phrases("a")), limit=2, offset=1)] == ["d6", "d4"]
    assert [hit.id for hit in await search(database, Match((), required("a")), limit=1)] == ["d7"]


async def test_a_candidate_carries_what_ranks_it(database: Database) -> None:
    item = make_indexed("m", tokens=("x", "y", "x"), level=Level.PRIVATE, importance=0.25, created_at=minutes(-5))
    await database.write(lambda tx: tx.records.insert([item]))
    [hit] = await search(database, Match(phrases("x")))
    of = item.record
    assert hit == Candidate(
        of.id, of.level, of.owner_id, 0.25, micros(minutes(-5)), 3, sketch(("x", "y", "x")), granted=0
    )


async def test_a_new_version_has_a_new_sketch(database: Database) -> None:
    await database.write(lambda tx: tx.records.insert([make_indexed("m", tokens=("x",))]))
    new = make_indexed("m", version=2, tokens=("y", "z"))
    await database.write(lambda tx: tx.records.replace(new, expected_version=1, reindex=True))
    [hit] = await search(database, Match(phrases("y")))
    assert (hit.words, hit.sketch) == (2, sketch(("y", "z")))


async def test_what_only_a_grant_shows_says_so(database: Database) -> None:
    items = [
        make_indexed("hers", tokens=("x",), level=Level.PRIVATE, owner_id=BOB),
        make_indexed("mine", tokens=("x",)),
    ]
    await database.write(lambda tx: tx.records.insert(items))
    await database.write(lambda tx: tx.grants.add([make_grant("g", "hers", ALICE)]))
    assert {hit.id: hit.granted for hit in await search(database, Match(phrases("x")))} == {"hers": True, "mine": False}


async def test_hidden_records_do_not_use_up_the_limit(database: Database) -> None:
    hidden = [make_indexed(f"h{n}", tokens=("x", "x"), level=Level.PRIVATE, owner_id=BOB) for n in range(9)]
    await database.write(lambda tx: tx.records.insert([make_indexed("mine", tokens=("x",)), *hidden]))
    assert [hit.id for hit in await search(database, Match(phrases("x")), limit=1)] == ["mine"]


async def test_candidates_are_the_visible_ones_among_ids_that_pass_the_filter(database: Database) -> None:
    items = [
        make_indexed("mine"),
        make_indexed("other_type", type="decision"),
        make_indexed("hidden", level=Level.PRIVATE, owner_id=BOB),
        make_indexed("unasked"),
    ]
    await database.write(lambda tx: tx.records.insert(items))
    asked, where = (
        [RecordId(name) for name in ("mine", "other_type", "hidden", "absent")],
        RecordFilter(types=("fact",)),
    )
    hits = await database.read(lambda tx: tx.records.candidates(make_reader(), where, asked, now=NOW))
    assert [hit.id for hit in hits] == ["mine"]


# What stands beside a record


async def beside(
    database: Database, *names: str, where: RecordFilter | None = None, within_s: float = 3600
) -> dict[tuple[str, str], int]:
    found = await database.read(
        lambda tx: tx.records.neighbours(
            make_reader(), where or RecordFilter(), [RecordId(name) for name in names], now=NOW, within_s=within_s
        )
    )
    assert len(found) == len({(one.of, one.candidate.id) for one in found})
    return {(one.of, one.candidate.id): one.distance for one in found}


async def test_memories_stand_beside_those_that_their_owner_stored_before_and_after(database: Database) -> None:
    items = [make_indexed(f"m{n}") for n in range(9)]
    strangers = [make_indexed(f"s{n}", owner_id=BOB) for n in range(9)]
    mixed = [item for pair in zip(items, strangers, strict=True) for item in pair]
    await database.write(lambda tx: tx.records.insert(mixed))
    assert await beside(database, "m4", "m0") == {
        ("m4", "m2"): -2,
        ("m4", "m3"): -1,
        ("m4", "m5"): 1,
        ("m4", "m6"): 2,
        ("m0", "m1"): 1,
        ("m0", "m2"): 2,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"session_id": SessionId("other")},
        {"level": Level.SWARM},
        {"kind": Kind.ARTIFACT},
        {"created_at": minutes(-121)},
        {"deleted_at": NOW},
        {"type": "decision"},
        {"project_id": OTHER_PROJECT},
    ],
    ids=str,
)
async def test_what_is_of_another_sort_or_time_or_hidden_does_not_stand_beside(
    database: Database, changes: dict[str, Any]
) -> None:
    await database.write(lambda tx: tx.records.insert([make_indexed("m"), make_indexed("n", **changes)]))
    assert await beside(database, "m", where=RecordFilter(types=("fact",))) == {}


async def test_places_count_only_what_is_given(database: Database) -> None:
    items = [make_indexed("m"), make_indexed("gone", deleted_at=NOW), make_indexed("next")]
    await database.write(lambda tx: tx.records.insert(items))
    assert await beside(database, "m") == {("m", "next"): 1}


async def test_turns_stand_beside_those_of_their_conversation_whoever_said_them(database: Database) -> None:
    said: dict[str, Any] = {"kind": Kind.TURN, "session_id": SessionId("s1")}
    turns = [make_indexed(f"t{n}", position=n, owner_id=BOB if n % 2 else ALICE, **said) for n in range(1, 8)]
    others = [
        make_indexed("u3", kind=Kind.TURN, session_id=SessionId("s2"), position=3),
        make_indexed("m3", session_id=SessionId("s1"), position=3),
        make_indexed("t8", position=8, **(said | {"level": Level.PRIVATE, "owner_id": BOB})),
    ]
    await database.write(lambda tx: tx.records.insert([*turns, *others]))
    assert await beside(database, "t2", "t7") == {
        ("t2", "t1"): -1,
        ("t2", "t3"): 1,
        ("t2", "t4"): 2,
        ("t7", "t6"): -1,
        ("t7", "t5"): -2,
    }


async def test_linked_records_stand_beside_each_other_in_both_directions(database: Database) -> None:
    items = [make_indexed(name, owner_id=AgentId(name)) for name in "abc"]
    items.append(make_indexed("d", level=Level.PRIVATE, owner_id=BOB))
    links = [make_link("a", "b"), make_link("c", "a"), make_link("a", "d")]
    await database.write(lambda tx: tx.records.insert(items))
    await database.write(lambda tx: tx.records.add_links(links))
    assert await beside(database, "a") == {("a", "b"): 0, ("a", "c"): 0}


async def test_a_search_may_look_within_a_stretch_of_what_matches(database: Database) -> None:
    await fill(database, {f"d{number}": "a" for number in range(6)} | {"other": "b"})
    match = Match(phrases("a"))

    async def arrival(place: int) -> int:
        return await database.read(lambda tx: tx.records.arrival(PROJECT, match, place=place))

    async def found(within: Stretch) -> list[str]:
        reader, where = make_reader(), RecordFilter()
        candidates = await database.read(
            lambda tx: tx.records.search(reader, where, match, now=NOW, limit=9, within=within)
        )
        return [candidate.id for candidate in candidates]

    newest, oldest = await arrival(2), await arrival(4)
    assert newest > oldest > await arrival(6) > 0
    assert await arrival(7) == 0
    assert await found(Stretch(newest, oldest)) == ["d4", "d3"]
    assert await found(Stretch(oldest=oldest)) == ["d5", "d4", "d3"]
    assert await found(Stretch(oldest)) == ["d2", "d1", "d0"]


async def test_of_many_links_the_newest_count_in_each_direction(database: Database) -> None:
    names = [f"n{number:02}" for number in range(55)]
    items = [make_indexed(name, owner_id=AgentId(name)) for name in ("hub", *names)]
    to_hub = [make_link(name, "hub", created_at=minutes(number)) for number, name in enumerate(names)]
    from_hub = [make_link("hub", name, created_at=minutes(-number)) for number, name in enumerate(names)]
    await database.write(lambda tx: tx.records.insert(items))
    await database.write(lambda tx: tx.records.add_links(to_hub))
    assert await beside(database, "hub") == {("hub", name): 0 for name in names[5:]}
    await database.write(lambda tx: tx.records.remove_links(to_hub))
    await database.write(lambda tx: tx.records.add_links(from_hub))
    assert await beside(database, "hub") == {("hub", name): 0 for name in names[:50]}


# How common words are


async def test_statistics_count_records_words_and_phrases_of_one_project(database: Database) -> None:
    await fill(database, TEXTS)
    await database.write(lambda tx: tx.records.insert([make_indexed("o", project_id=OTHER_PROJECT, tokens=("p",))]))
    found = await database.read(lambda tx: tx.records.statistics(PROJECT, phrases("a", "a b", "zz")))
    assert (found.records, found.words) == (8, sum(len(text.split()) for text in TEXTS.values()))
    assert found.counts == {("a",): 5, ("a", "b"): 3, ("zz",): 0}
    nothing = await database.read(lambda tx: tx.records.statistics(ProjectId("empty"), ()))
    assert (nothing.records, nothing.words, nothing.counts) == (0, 0, {})


async def test_totals_follow_new_versions_and_removal(database: Database) -> None:
    await fill(database, {"d1": "a b", "d2": "a"})
    new = make_indexed("d1", version=2, tokens=("c", "c", "c"))
    assert not await database.write(lambda tx: tx.records.replace(new, expected_version=7, reindex=True))
    assert await database.write(lambda tx: tx.records.replace(new, expected_version=1, reindex=True))
    found = await database.read(lambda tx: tx.records.statistics(PROJECT, phrases("a")))
    assert (found.records, found.words, found.counts) == (2, 4, {("a",): 1})
    await database.write(lambda tx: tx.records.delete(PROJECT, [RecordId("d1"), RecordId("absent")]))
    found = await database.read(lambda tx: tx.records.statistics(PROJECT, phrases("c")))
    assert (found.records, found.words, found.counts) == (1, 1, {("c",): 0})


async def test_what_was_missing_is_counted_again_only_after_the_index_changed(database: Database) -> None:
    await fill(database, TEXTS)
    before = await database.read(lambda tx: tx.records.statistics(PROJECT, phrases("new")))
    asked = partial(_missing, revision=before.revision)
    assert (await database.read(asked)).counts == {}
    await fill(database, {"n": "new"})
    assert (await database.read(asked)).counts == {("new",): 1}


async def _missing(tx: Transaction, *, revision: int) -> IndexStatistics:
    return await tx.records.statistics(PROJECT, (), missing=phrases("new"), revision=revision)


async def test_a_rolled_back_unit_leaves_the_statistics(database: Database) -> None:
    await fill(database, TEXTS)
    before = await database.read(lambda tx: tx.records.statistics(PROJECT, phrases("g")))

    async def unit(tx: Transaction) -> None:
        await tx.records.insert([make_indexed(f"o{n}", tokens=("g", "q")) for n in range(20)])
        inside = await tx.records.statistics(PROJECT, phrases("g"))
        assert inside.counts == {("g",): 21}
        assert inside.revision != before.revision
        raise KeyError

    with pytest.raises(KeyError):
        await database.write(unit)
    assert await database.read(lambda tx: tx.records.statistics(PROJECT, phrases("g"))) == before


# Both backends side by side

WORDS = st.sampled_from("abcdefgh")
TEXT = st.lists(WORDS, max_size=8)
PHRASES = st.lists(st.lists(WORDS, min_size=1, max_size=3), max_size=3)
REQUIRED = st.lists(st.lists(st.lists(WORDS, min_size=1, max_size=2), min_size=1, max_size=2), max_size=2)
GROUPS = st.lists(st.lists(st.lists(WORDS.map(list), min_size=1, max_size=2), min_size=1, max_size=3), max_size=2)


def keyed(project: str, some: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Write phrases as the product does: no two projects share a token."""
    return tuple(tuple(f"{project}{token}" for token in phrase) for phrase in some)


@dataclass(frozen=True)
class Corpus:
    """What is indexed, changed and removed, and what is then asked."""

    texts: list[tuple[list[str], int, bool]]
    changed: list[tuple[int, list[str]]]
    removed: set[int]
    queries: list[tuple[list[list[str]], list[list[list[str]]], list[list[list[list[str]]]]]]

    async def build(self, tx: Transaction) -> None:
        for number, (tokens, age, elsewhere) in enumerate(self.texts):
            project = OTHER_PROJECT if elsewhere else PROJECT
            [words] = keyed(project, [tokens])
            await tx.records.insert(
                [make_indexed(f"mem_{number}", tokens=words, project_id=project, created_at=minutes(age))]
            )
        for number, tokens in self.changed:
            [words] = keyed(PROJECT, [tokens])
            new = make_indexed(f"mem_{number}", tokens=words, version=2)
            await tx.records.replace(new, expected_version=1, reindex=True)
        await tx.records.delete(PROJECT, [RecordId(f"mem_{number}") for number in self.removed])

    async def ask(self, tx: Transaction) -> list[object]:
        answers: list[object] = []
        for any_of, all_of, groups in self.queries:
            for project in (PROJECT, OTHER_PROJECT):
                reader = make_reader(project_id=project, role=Role.SYSTEM)
                together = tuple(tuple(keyed(project, forms) for forms in group) for group in groups)
                match = Match(keyed(project, any_of), tuple(keyed(project, forms) for forms in all_of), together)
                found = await tx.records.search(reader, RecordFilter(), match, now=NOW, limit=9)
                ids = [hit.id for hit in found]
                near = await tx.records.neighbours(reader, RecordFilter(), ids[:3], now=NOW, within_s=90)
                counted = await tx.records.statistics(project, keyed(project, any_of))
                answers += [found, sorted(near), counted.records, counted.words, counted.counts]
        return answers


CORPORA = st.builds(
    Corpus,
    texts=st.lists(st.tuples(TEXT, st.integers(-3, 0), st.booleans()), max_size=12),
    changed=st.lists(st.tuples(st.integers(0, 11), TEXT), max_size=3),
    removed=st.sets(st.integers(0, 11), max_size=3),
    queries=st.lists(st.tuples(PHRASES, REQUIRED, GROUPS), min_size=1, max_size=5),
)


async def check_found(name: str, corpus: Corpus) -> None:
    with TemporaryDirectory() as folder:
        async with (
            open_database("in_memory", Path(folder)) as model,
            open_database(name, Path(folder)) as other,
        ):
            await model.write(corpus.build)
            await other.write(corpus.build)
            assert await other.read(corpus.ask) == await model.read(corpus.ask)


@given(corpus=CORPORA)
@settings(max_examples=80 if EVERYWHERE else 40)
async def test_both_backends_find_the_same(corpus: Corpus) -> None:
    await check_found("sqlite", corpus)


@given(corpus=CORPORA)
@settings(max_examples=30 if EVERYWHERE else 15)
async def test_a_server_finds_the_same(corpus: Corpus) -> None:
    await check_found("postgres", corpus)


async def test_statistics_tell_the_newest_event_of_the_project(database: Database) -> None:
    async def event() -> int:
        return (await database.read(lambda tx: tx.records.statistics(PROJECT, ()))).event

    assert await event() == 0
    await database.write(lambda tx: tx.events.append([make_event("evt_1"), make_event("evt_2")]))
    before = await event()
    assert before > 0
    await database.write(lambda tx: tx.events.append([make_event("evt_3", project_id=OTHER_PROJECT)]))
    assert await event() == before
    await database.write(lambda tx: tx.events.append([make_event("evt_4")]))
    assert await event() > before
