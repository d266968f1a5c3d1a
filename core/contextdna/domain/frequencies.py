"""How common a project's words are: remembered while the project grows by little, because it only weighs words."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from contextdna.ports.database import Transaction
from contextdna.values.ids import ProjectId
from contextdna.values.language import Language
from contextdna.values.search import IndexStatistics, Phrase

_TTL_S: Final = 600.0
_GROWTH_MAX: Final = 0.05  # a count may be this share of the records behind
_GROWTH_MIN: Final = 20
_HELD_MAX: Final = 50_000


class Frequencies:
    """One project's document counts.

    That no record holds a phrase is remembered only as long as the index stays as it is: what was stored a moment ago,
    by this process or another one, is found. Used by several threads: what a call learns of an index that another one
    has seen change meanwhile is not remembered.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._held: dict[Phrase, int] = {}
        self._records = 0
        self._until_s = 0.0
        self._missing: set[Phrase] = set()
        self._revision = 0
        self._lock = threading.Lock()
        self.languages: tuple[Language, ...] = ()
        """The languages that records of the project were found to be in, see ``understanding``."""

    async def of(self, tx: Transaction, project_id: ProjectId, phrases: Sequence[Phrase]) -> IndexStatistics:
        """Give the statistics of phrases: the totals as they are now, the counts of common words as lately seen."""
        with self._lock:
            revision = self._revision
            known = {phrase: self._held[phrase] for phrase in phrases if phrase in self._held}
            missing = [phrase for phrase in phrases if phrase in self._missing]
            asked = [phrase for phrase in phrases if phrase not in known and phrase not in self._missing]
        fresh = await tx.records.statistics(project_id, asked, missing=missing, revision=revision)
        with self._lock:
            self._remember(fresh, began=revision)
        counts = {**known, **fresh.counts}
        return replace(fresh, counts={phrase: count for phrase, count in counts.items() if count})

    def _remember(self, fresh: IndexStatistics, *, began: int) -> None:
        """Keep counts; those of 0 only where the index is as it was, or this call is the first to see it changed."""
        if self._revision not in (began, fresh.revision):
            fresh = replace(fresh, counts={phrase: count for phrase, count in fresh.counts.items() if count})
        else:
            self._forget_what_is_missing(fresh)
        self._forget_what_is_old(fresh)
        self._held.update({phrase: count for phrase, count in fresh.counts.items() if count})
        self._missing.update(phrase for phrase, count in fresh.counts.items() if not count)

    def _forget_what_is_missing(self, fresh: IndexStatistics) -> None:
        if fresh.revision != self._revision or len(self._missing) > _HELD_MAX:
            self._revision = fresh.revision
            self._missing.clear()

    def _forget_what_is_old(self, fresh: IndexStatistics) -> None:
        now = self._monotonic()
        grown = abs(fresh.records - self._records) > max(_GROWTH_MIN, self._records * _GROWTH_MAX)
        if grown or now >= self._until_s or len(self._held) > _HELD_MAX:
            self._held.clear()
            self._records, self._until_s = fresh.records, now + _TTL_S


def rarity(records: int, holding: int) -> float:
    """Weigh a phrase by how few of the records hold it: the inverse document frequency of BM25.

    At least a millionth, so that a word of most records still tells records that hold it from those that do not.

    Source: S. Robertson, H. Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009), formula 3.1.
    """
    lacking = max(records - holding, 0)
    return max(math.log((lacking + 0.5) / (holding + 0.5)), 1e-6)
