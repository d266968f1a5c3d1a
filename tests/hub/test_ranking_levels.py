"""Encryption costs no ranking: whatever the levels of a corpus, it ranks for its owner as it does in the open."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from contextdna import ContextQuery, Level, MemoryDraft, open_hub
from contextdna.values.settings import SearchSettings
from tests.hub.rig import ALICE, Clock, settings_in

pytestmark = pytest.mark.anyio

WORDS = """
    the of to in is that for with timeout retry gateway billing ledger deploy rollback queue worker cache index shard
    replica token session budget invoice refund latency payload schema migration canary release cluster snapshot lock
    quota metric alert trace incident owner contract vendor region backup restore journal partition レポート 数据库
""".split()  # noqa: SIM905 - a word list reads best as words
TAGS = ("ops", "release notes", "finance")
TEXTS = 200
QUERIES = 80


@dataclass(frozen=True)
class Ranked:
    """A hit without the ids that differ from one installation to the next."""

    content: str
    score: float
    why: tuple[str, ...]


def some_words(chance: random.Random, least: int, most: int) -> str:
    """Draw words as prose has them: a few often, most of them rarely."""
    weights = [1 / rank for rank in range(1, len(WORDS) + 1)]
    return " ".join(chance.choices(WORDS, weights, k=chance.randint(least, most)))


def drafts(levels: Sequence[Level]) -> list[MemoryDraft]:
    """Draw the one corpus, with the levels dealt out in turn."""
    chance = random.Random(7)  # noqa: S311 - makes samples, no secrets
    return [
        MemoryDraft(
            f"{some_words(chance, 4, 40)} {number}",
            level=levels[number % len(levels)],
            tags=tuple(chance.sample(TAGS, chance.randint(0, 2))),
            importance=chance.choice([0.2, 0.5, 0.9]),
        )
        for number in range(TEXTS)
    ]


def queries() -> list[ContextQuery]:
    """Draw plain queries, queries with a quoted phrase, and queries with a tag."""
    chance = random.Random(11)  # noqa: S311 - makes samples, no secrets
    asked = []
    for number in range(QUERIES):
        quoted = f' "{some_words(chance, 1, 2)}"' if number % 4 == 1 else ""
        tags = (chance.choice(TAGS),) if number % 5 == 2 else ()
        text = some_words(chance, 1, 8) + quoted
        asked.append(ContextQuery(text=text, tags=tags, limit=40, max_tokens=20_000))
    return asked


async def rankings(folder: Path | None, *levels: Level, search: SearchSettings | None = None) -> list[list[Ranked]]:
    clock = Clock()
    async with open_hub(replace(settings_in(folder), search=search or SearchSettings()), clock=clock) as hub:
        alice = hub.bind(ALICE)
        for draft in drafts(levels):
            await alice.store_memories([draft])
            clock.advance(minutes=7)
        answers = [await alice.retrieve_context(query) for query in queries()]
    return [[Ranked(hit.content, hit.score, hit.why) for hit in answer.hits] for answer in answers]


@pytest.mark.parametrize("on_disk", [False, True], ids=["in_memory", "sqlite"])
async def test_a_private_corpus_ranks_like_a_plain_one(tmp_path: Path, *, on_disk: bool) -> None:
    plain = await rankings(tmp_path / "plain" if on_disk else None, Level.PROJECT)
    private = await rankings(tmp_path / "private" if on_disk else None, Level.PRIVATE)
    assert sum(len(answer) > 1 for answer in plain) > 60
    assert private == plain


@pytest.mark.parametrize("on_disk", [False, True], ids=["in_memory", "sqlite"])
@pytest.mark.parametrize("private", [1, 4], ids=["one-in-ten", "four-in-ten"])
async def test_a_mixed_corpus_ranks_like_a_plain_one(tmp_path: Path, *, on_disk: bool, private: int) -> None:
    """Apart from context: neighbours are of one level, so that nobody is told of a hidden one."""
    alone = SearchSettings(context_weight=0.0)
    levels = [*([Level.PRIVATE] * private), *([Level.PROJECT] * (10 - private))]
    plain = await rankings(tmp_path / "plain" if on_disk else None, Level.PROJECT, search=alone)
    mixed = await rankings(tmp_path / "mixed" if on_disk else None, *levels, search=alone)
    for expected, found in zip(plain, mixed, strict=True):
        assert [hit.content for hit in found] == [hit.content for hit in expected]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=2e-4)
