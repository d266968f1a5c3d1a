"""How many records hold a phrase: remembered for a while, because it only tells how common query words are."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Final

from contextdna.ports.database import Transaction
from contextdna.values.ids import ProjectId
from contextdna.values.search import Phrase

_TTL_S: Final = 60.0
_HELD_MAX: Final = 50_000


class Frequencies:
    """One project's document counts. A count of zero is never remembered: a word stored a moment ago is found."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._held: dict[Phrase, tuple[int, float]] = {}

    async def counts(self, tx: Transaction, project_id: ProjectId, phrases: Sequence[Phrase]) -> dict[Phrase, int]:
        """Give the counts of phrases; phrases without records are left out."""
        now = self._monotonic()
        known = {phrase: held[0] for phrase in phrases if (held := self._held.get(phrase)) and held[1] > now}
        asked = [phrase for phrase in phrases if phrase not in known]
        if asked:
            fresh = await tx.records.document_counts(project_id, asked)
            if len(self._held) + len(fresh) > _HELD_MAX:
                self._held.clear()
            self._held.update({phrase: (count, now + _TTL_S) for phrase, count in fresh.items() if count})
            known.update({phrase: count for phrase, count in fresh.items() if count})
        return known


def rarity(indexed: int, holding: int) -> float:
    """Weigh a phrase by how few of the indexed records hold it: the inverse document frequency of BM25.

    Source: ext/fts5/fts5_aux.c of SQLite, fts5Bm25GetData.
    """
    lacking = max(indexed - holding, 0)
    return max(math.log((lacking + 0.5) / (holding + 0.5)), 1e-6)
