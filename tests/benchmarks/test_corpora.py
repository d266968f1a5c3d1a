"""What the benchmarks measure with: corpora that a search has work with, and scores that mean what they say."""

from collections import Counter

import pytest

from benchmarks import zipf
from benchmarks.corpus import facts
from benchmarks.databases import sizes
from benchmarks.fts_floor import expression
from benchmarks.scores import by_category, score
from benchmarks.timing import Summary
from contextdna.domain.stop_words import STOP_WORDS
from contextdna.values.language import Language


def test_the_same_seed_gives_the_same_texts_and_the_largest_project_holds_most() -> None:
    placed = list(zipf.placed_texts(500))
    assert placed == list(zipf.placed_texts(500))
    assert 0.5 < Counter(project for project, _ in placed)[zipf.LARGEST] / 500 < 0.7


def test_words_of_texts_are_unevenly_common() -> None:
    counted = Counter(word for text in zipf.texts(300) for word in set(text.split()) - STOP_WORDS[Language.ENGLISH])
    assert counted.most_common(1)[0][1] > 15
    assert sum(1 for count in counted.values() if count == 1) > len(counted) / 2


@pytest.mark.parametrize(("make", "words", "own"), [(zipf.terse_questions, 3, 2), (zipf.natural_questions, 6, 3)])
def test_half_of_a_questions_words_are_of_its_text(make: type, words: int, own: int) -> None:
    for question in make(list(zipf.texts(20))):
        telling = set(question.text.rstrip("?").split()) - STOP_WORDS[Language.ENGLISH]
        assert len(telling) == words
        assert len(telling & set(question.about.split())) >= own


def test_a_fact_answers_its_own_question_only() -> None:
    stored = facts(50)
    assert len({fact.question for fact in stored}) == 50
    assert all(fact.statement in fact.content for fact in stored)


def test_the_floor_is_asked_for_the_words_that_tell_something() -> None:
    assert expression("Where do we have the violin, the violin case?") == '"violin" OR "case"'


def test_sizes_are_read() -> None:
    assert sizes("500,10k,1m") == [500, 10_000, 1_000_000]


def test_recall_and_reciprocal_rank_are_those_of_the_evidence() -> None:
    hits = [f"h{place}" for place in range(1, 21)]
    found = score("kind", hits, frozenset({"h2", "h7", "h15", "elsewhere"}), tokens=9)
    assert found.recall == (0.25, 0.5, 0.75)
    assert found.reciprocal_rank == 0.5
    assert score("kind", hits, frozenset({"elsewhere"}), tokens=9).reciprocal_rank == 0


def test_means_are_given_for_each_category_and_all() -> None:
    judged = [score(kind, ["a"], frozenset(wanted), tokens=10) for kind, wanted in (("x", "a"), ("x", "b"), ("y", "a"))]
    rows = {row["category"]: row for row in by_category(judged)}
    assert list(rows) == ["x", "y", "all"]
    assert (rows["x"]["recall@5"], rows["y"]["MRR"], rows["all"]["questions"]) == (0.5, 1, 3)


def test_percentiles_are_of_all_times_and_one_is_enough() -> None:
    assert Summary.of([0.002]) == Summary(1, p50_ms=2, p95_ms=2, p99_ms=2)
    many = Summary.of([number / 1000 for number in range(101)])
    assert (many.p50_ms, many.p95_ms, many.p99_ms) == (50, 95, 99)
