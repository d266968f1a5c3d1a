"""Counts of words that several threads ask for at once, each on a snapshot of its own."""

from collections.abc import Callable, Mapping, Sequence
from threading import Thread
from typing import Any, Final, cast

import anyio
import pytest

from contextdna.domain.frequencies import Frequencies
from contextdna.ports.database import Transaction
from contextdna.values.ids import ProjectId
from contextdna.values.search import IndexStatistics, Phrase

pytestmark = pytest.mark.anyio

PROJECT: Final = ProjectId("default")
WORD: Final = ("word",)
THIRD: Final = ("third",)


class Snapshot:
    """A transaction at a revision of the index; ``meanwhile`` runs when it has counted, before it tells."""

    def __init__(
        self,
        revision: int,
        held: Mapping[Phrase, int],
        meanwhile: Callable[[], Any] | None = None,
        *,
        counts: type[dict[Phrase, int]] = dict,
    ) -> None:
        self.records = self
        self.revision = revision
        self.held = held
        self.meanwhile = meanwhile
        self.counts = counts

    async def statistics(
        self, project_id: ProjectId, phrases: Sequence[Phrase], *, missing: Sequence[Phrase], revision: int
    ) -> IndexStatistics:
        assert project_id == PROJECT
        asked = [*phrases, *(() if revision == self.revision else missing)]
        if self.meanwhile:
            await self.meanwhile()
        counts = self.counts((phrase, self.held.get(phrase, 0)) for phrase in asked)
        return IndexStatistics(1_000, 1_000, self.revision, counts)


async def count(frequencies: Frequencies, snapshot: Snapshot, word: Phrase = WORD) -> int:
    found = await frequencies.of(cast("Transaction", snapshot), PROJECT, [word])
    return found.counts.get(word, 0)


@pytest.mark.parametrize("begun", [0, 1, 2], ids=["anew", "at the old revision", "at the new revision"])
async def test_what_an_older_snapshot_lacks_is_not_held_against_a_newer_one(begun: int) -> None:
    frequencies = Frequencies()
    if begun:
        await count(frequencies, Snapshot(begun, {}), ("other",))

    async def newer() -> None:
        await count(frequencies, Snapshot(2, {THIRD: 1}), THIRD)

    assert await count(frequencies, Snapshot(1, {}, newer)) == 0
    assert await count(frequencies, Snapshot(2, {WORD: 1})) == 1


async def test_a_thread_with_a_newer_snapshot_may_come_between_at_any_step() -> None:
    frequencies = Frequencies()
    threads: list[Thread] = []

    class Interrupted(dict[Phrase, int]):
        """Whenever its counts are gone through, another thread asks."""

        def items(self) -> Any:
            threads.append(Thread(target=lambda: anyio.run(count, frequencies, Snapshot(2, {THIRD: 1}), THIRD)))
            threads[-1].start()
            threads[-1].join(timeout=0.1)  # it may have to wait for us
            return super().items()

    older = Snapshot(1, {}, counts=Interrupted)
    assert await count(frequencies, older) == 0
    for thread in threads:
        thread.join()
    assert threads
    assert await count(frequencies, Snapshot(2, {WORD: 1})) == 1


async def test_a_word_that_is_missing_is_counted_again_only_when_the_index_has_changed() -> None:
    frequencies = Frequencies()
    assert await count(frequencies, Snapshot(1, {})) == 0
    assert await count(frequencies, Snapshot(1, {WORD: 1})) == 0  # not asked for: the revision says it cannot be
    assert await count(frequencies, Snapshot(2, {WORD: 1})) == 1
