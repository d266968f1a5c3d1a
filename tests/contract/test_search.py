"""Contract of ``RecordTable.search``: which records match, with which score, in which order."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextdna.ports.database import Database, Transaction
from contextdna.values.ids import RecordId
from contextdna.values.level import Level
from contextdna.values.principal import Role
from contextdna.values.search import Candidate, Match, RecordFilter
from tests.builders import BOB, NOW, OTHER_PROJECT, PROJECT, make_indexed, make_reader, minutes
from tests.contract.conftest import open_database

pytestmark = pytest.mark.anyio

SCORE_TOLERANCE = 1e-9

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


async def search(
    database: Database, match: Match, where: RecordFilter | None = None, *, limit: int = 99
) -> list[Candidate]:
    return await database.read(
        lambda tx: tx.records.search(make_reader(), where or RecordFilter(), match, now=NOW, limit=limit)
    )


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
    pytest.param(Match(phrases("a"), required("g|zz"), phrases("d")), {"d5"}, id="forms-any-and-others"),
    pytest.param(Match(phrases("zz")), set(), id="unknown"),
    pytest.param(Match(()), set(), id="nothing-asked"),
    pytest.param(Match(phrases("c"), also=phrases("a", "zz")), {"d1", "d3"}, id="any-and-others-that-score"),
    pytest.param(Match(phrases("c"), required("b"), phrases("a", "g")), {"d1", "d2", "d6"}, id="all-any-and-others"),
    pytest.param(Match((), also=phrases("a")), set(), id="only-what-scores"),
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
        pytest.param(Match((("a",),), also=((),)), id="empty-scoring-phrase"),
        pytest.param(Match((("a",),), also=(("a) OR (b",),)), id="brackets-in-a-scoring-phrase"),
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


async def test_scores_are_bm25(database: Database) -> None:
    await fill(database, TEXTS)
    mean = sum(len(text.split()) for text in TEXTS.values()) / len(TEXTS)

    def weight(holding: int, frequency: int, length: int) -> float:
        idf = max(math.log((len(TEXTS) - holding + 0.5) / (holding + 0.5)), 1e-6)
        return idf * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * length / mean))

    assert [hit.bm25 for hit in await search(database, Match(phrases("g")))] == pytest.approx([weight(1, 1, 4)])
    by_id = {hit.id: hit.bm25 for hit in await search(database, Match(phrases("a b", "c", "zz")))}
    assert by_id == pytest.approx(
        {
            "d1": weight(3, 1, 3) + weight(2, 1, 3),
            "d2": weight(3, 1, 3),
            "d3": weight(2, 1, 2),
            "d6": weight(3, 2, 5),
        }
    )


async def test_a_word_that_most_records_hold_weighs_next_to_nothing_but_counts(database: Database) -> None:
    await fill(database, TEXTS)
    hits = await search(database, Match(phrases("a")))
    assert all(0 < hit.bm25 < 1e-5 for hit in hits)
    assert len(hits) == 5


async def test_required_and_other_phrases_are_scored_once_each(database: Database) -> None:
    await fill(database, TEXTS)
    apart = {
        phrase: {hit.id: hit.bm25 for hit in await search(database, Match(phrases(phrase)))} for phrase in ("c", "b")
    }
    together = {hit.id: hit.bm25 for hit in await search(database, Match(phrases("c"), required("b")))}
    assert together == pytest.approx({name: apart["b"][name] + apart["c"].get(name, 0.0) for name in apart["b"]})


async def test_every_form_of_a_required_phrase_is_scored_as_a_phrase_of_its_own(database: Database) -> None:
    await fill(database, TEXTS)
    either = {hit.id: hit.bm25 for hit in await search(database, Match(phrases("c", "g")))}
    forms = {hit.id: hit.bm25 for hit in await search(database, Match((), required("c|g")))}
    assert forms == pytest.approx(either)


WEIGHED = [
    pytest.param(Match(phrases("c", "e")), id="deciding"),
    pytest.param(Match(phrases("c", "e"), also=phrases("d", "b", "zz")), id="deciding-and-scoring"),
    pytest.param(Match(phrases("d"), required("c|e")), id="forms-and-scoring"),
    pytest.param(Match((), required("b|d", "c|g")), id="two-required"),
    pytest.param(Match(phrases("a b", "c", "c"), also=phrases("b a")), id="phrases-and-one-asked-twice"),
]


@pytest.mark.parametrize("match", WEIGHED)
async def test_a_weight_multiplies_the_score_of_its_phrase_and_finds_the_same(database: Database, match: Match) -> None:
    await fill(database, TEXTS)
    weights = {phrase: 0.25 + number / 8 for number, phrase in enumerate(phrases("c", "d", "g", "a b", "b a", "b"))}
    expected = {hit.id: 0.0 for hit in await search(database, match)}
    for phrase in (*match.deciding, *match.scoring):
        for hit in await search(database, Match((phrase,))):
            if hit.id in expected:
                expected[hit.id] += weights.get(phrase, 1.0) * hit.bm25
    hits = await search(database, replace(match, weights=weights))
    assert {hit.id: hit.bm25 for hit in hits} == pytest.approx(expected, abs=SCORE_TOLERANCE)
    assert [hit.bm25 for hit in hits] == sorted((hit.bm25 for hit in hits), reverse=True)


async def test_the_number_of_indexed_records_is_the_one_that_scores_count_with(database: Database) -> None:
    assert await database.read(lambda tx: tx.records.indexed()) == 0
    await fill(database, {f"d{number}": "x y" for number in range(300)} | {"g": "g y"})
    await database.write(lambda tx: tx.records.delete(PROJECT, [RecordId("d1")]))
    assert await database.read(lambda tx: tx.records.indexed()) == 301
    [hit] = await search(database, Match(phrases("g")))
    assert hit.bm25 == pytest.approx(math.log((301 - 1 + 0.5) / 1.5))


async def test_phrases_that_only_score_add_to_what_matches(database: Database) -> None:
    await fill(database, TEXTS)
    apart = {
        phrase: {hit.id: hit.bm25 for hit in await search(database, Match(phrases(phrase)))}
        for phrase in ("c", "d", "e")
    }
    hits = await search(database, Match(phrases("c", "e"), also=phrases("d", "zz")))
    names = [*apart["c"], *apart["e"]]
    expected = {name: sum(scores.get(name, 0.0) for scores in apart.values()) for name in names}
    assert {hit.id: hit.bm25 for hit in hits} == pytest.approx(expected)
    assert [hit.bm25 for hit in hits] == sorted(expected.values(), reverse=True)


async def test_a_phrase_that_is_asked_twice_counts_twice(database: Database) -> None:
    await fill(database, TEXTS)
    [once], [twice] = await search(database, Match(phrases("g"))), await search(database, Match(phrases("g", "g")))
    assert twice.bm25 == pytest.approx(2 * once.bm25)
    [both] = await search(database, Match(phrases("g"), required("g")))
    assert both.bm25 == pytest.approx(2 * once.bm25)


async def test_the_best_come_first_and_ties_newest_first(database: Database) -> None:
    ages = [("t1", -5), ("t2", -1), ("t3", -9), ("t4", -1), ("t5", -5)]
    items = [make_indexed(name, tokens=("x", "y"), created_at=minutes(age)) for name, age in ages]
    best = make_indexed("best", tokens=("x", "x"), created_at=minutes(-99))
    rest = [make_indexed(f"r{n}", tokens=("z",)) for n in range(9)]
    await database.write(lambda tx: tx.records.insert([*items, best, *rest]))
    expected = ["best", "t4", "t2", "t5", "t1", "t3"]
    assert [hit.id for hit in await search(database, Match(phrases("x")))] == expected
    assert [hit.id for hit in await search(database, Match(phrases("x")), limit=3)] == expected[:3]
    assert [hit.id for hit in await search(database, Match((), required("x")), limit=3)] == expected[:3]
    assert [hit.id for hit in await search(database, Match(phrases("zz"), required("x")), limit=3)] == expected[:3]


async def test_hidden_records_do_not_use_up_the_limit(database: Database) -> None:
    hidden = [make_indexed(f"h{n}", tokens=("x", "x"), level=Level.PRIVATE, owner_id=BOB) for n in range(9)]
    await database.write(lambda tx: tx.records.insert([*hidden, make_indexed("mine", tokens=("x",))]))
    assert [hit.id for hit in await search(database, Match(phrases("x")), limit=1)] == ["mine"]


async def test_statistics_are_those_of_all_projects(database: Database) -> None:
    await fill(database, TEXTS)
    [before] = await search(database, Match(phrases("g")))
    others = [make_indexed(f"o{n}", project_id=OTHER_PROJECT, tokens=("p", "q")) for n in range(20)]
    await database.write(lambda tx: tx.records.insert(others))
    [after] = await search(database, Match(phrases("g")))
    assert after.bm25 > before.bm25


async def test_removed_records_still_count_in_the_number_of_records(database: Database) -> None:
    """FTS5 without contents never lowers its totals; whoever changes that changes both backends."""
    await fill(database, TEXTS)
    more = [make_indexed(f"o{n}", tokens=("g", "q")) for n in range(20)]
    await database.write(lambda tx: tx.records.insert(more))
    await database.write(lambda tx: tx.records.delete(PROJECT, [item.record.id for item in more]))
    [after] = await search(database, Match(phrases("g")))
    mean = (sum(len(text.split()) for text in TEXTS.values()) + 40) / 28
    idf = math.log((28 - 1 + 0.5) / 1.5)
    assert after.bm25 == pytest.approx(idf * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 4 / mean)))


async def test_a_rolled_back_unit_leaves_the_statistics(database: Database) -> None:
    await fill(database, TEXTS)
    before = await search(database, Match(phrases("g")))

    async def unit(tx: Transaction) -> None:
        await tx.records.insert([make_indexed(f"o{n}", tokens=("g", "q")) for n in range(20)])
        assert len(await tx.records.search(make_reader(), RecordFilter(), Match(phrases("g")), now=NOW, limit=99)) == 21
        raise KeyError

    with pytest.raises(KeyError):
        await database.write(unit)
    assert await search(database, Match(phrases("g"))) == before


# Both backends side by side

WORDS = st.sampled_from("abcdefgh")
TEXT = st.lists(WORDS, max_size=8)
PHRASES = st.lists(st.lists(WORDS, min_size=1, max_size=3), max_size=3)
REQUIRED = st.lists(st.lists(st.lists(WORDS, min_size=1, max_size=2), min_size=1, max_size=2), max_size=2)


def keyed(project: str, some: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Write phrases as the product does: no two projects share a token."""
    return tuple(tuple(f"{project}{token}" for token in phrase) for phrase in some)


def assert_same_hits(one: Sequence[Candidate], other: Sequence[Candidate]) -> None:
    """Compare answers of two backends: same records in the same order, equal scores."""
    assert [replace(hit, bm25=0.0) for hit in one] == [replace(hit, bm25=0.0) for hit in other]
    assert [hit.bm25 for hit in one] == pytest.approx([hit.bm25 for hit in other], rel=0, abs=SCORE_TOLERANCE)


def assert_same_scores(one: Sequence[Candidate], other: Sequence[Candidate]) -> None:
    """Compare whole answers of two backends where sums differ in the last digits, and with them the order of ties."""
    scores = {hit.id: hit.bm25 for hit in other}
    assert {hit.id: hit.bm25 for hit in one} == pytest.approx(scores, rel=0, abs=SCORE_TOLERANCE)
    best_first = sorted(scores.values(), reverse=True)
    assert [scores[hit.id] for hit in one] == pytest.approx(best_first, rel=0, abs=SCORE_TOLERANCE)


@given(
    texts=st.lists(st.tuples(TEXT, st.integers(-3, 0), st.booleans()), max_size=12),
    changed=st.lists(st.tuples(st.integers(0, 11), TEXT), max_size=3),
    removed=st.sets(st.integers(0, 11), max_size=3),
    queries=st.lists(st.tuples(PHRASES, REQUIRED, PHRASES), min_size=1, max_size=5),
    weights=st.dictionaries(WORDS, st.sampled_from([0.125, 0.7, 1.0]), max_size=4),
)
@settings(max_examples=80)
async def test_both_backends_give_the_same_scores(
    texts: list[tuple[list[str], int, bool]],
    changed: list[tuple[int, list[str]]],
    removed: set[int],
    queries: list[tuple[list[list[str]], list[list[list[str]]], list[list[str]]]],
    weights: dict[str, float],
) -> None:
    async def build(tx: Transaction) -> None:
        for number, (tokens, age, elsewhere) in enumerate(texts):
            project = OTHER_PROJECT if elsewhere else PROJECT
            keyed = tuple(f"{project}{token}" for token in tokens)
            await tx.records.insert(
                [make_indexed(f"mem_{number}", tokens=keyed, project_id=project, created_at=minutes(age))]
            )
        for number, tokens in changed:
            keyed = tuple(f"{PROJECT}{token}" for token in tokens)
            new = make_indexed(f"mem_{number}", tokens=keyed, version=2)
            await tx.records.replace(new, expected_version=1, reindex=True)
        await tx.records.delete(PROJECT, [RecordId(f"mem_{number}") for number in removed])

    async def ask(tx: Transaction, *, weighed: bool) -> list[list[Candidate]]:
        return [
            await tx.records.search(
                make_reader(project_id=project, role=Role.SYSTEM),
                RecordFilter(),
                Match(
                    keyed(project, any_of),
                    tuple(keyed(project, forms if weighed else forms[:1]) for forms in all_of),
                    keyed(project, also),
                    {(f"{project}{token}",): weight for token, weight in weights.items()} if weighed else {},
                ),
                now=NOW,
                limit=99 if weighed else 9,
            )
            for any_of, all_of, also in queries
            for project in (PROJECT, OTHER_PROJECT)
        ]

    with TemporaryDirectory() as folder:
        async with (
            open_database("in_memory", Path(folder)) as model,
            open_database("sqlite", Path(folder)) as sqlite,
        ):
            await model.write(build)
            await sqlite.write(build)
            for weighed, compare in ((False, assert_same_hits), (True, assert_same_scores)):
                asked = partial(ask, weighed=weighed)
                for expected, found in zip(await model.read(asked), await sqlite.read(asked), strict=True):
                    compare(found, expected)
