"""How many records hold a token: remembered for a while, because it only decides which query words are common."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from contextdna.ports.database import Transaction
from contextdna.values.ids import ProjectId

_TTL_S: Final = 60.0
_HELD_MAX: Final = 50_000


class Frequencies:
    """One project's document counts. A count of zero is never remembered: a word stored a moment ago is found."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._held: dict[str, tuple[int, float]] = {}

    async def counts(self, tx: Transaction, project_id: ProjectId, tokens: Sequence[str]) -> dict[str, int]:
        """Give the counts of tokens; tokens without records are left out."""
        now = self._monotonic()
        known = {token: held[0] for token in tokens if (held := self._held.get(token)) and held[1] > now}
        asked = [token for token in tokens if token not in known]
        if asked:
            fresh = await tx.records.document_counts(project_id, asked)
            if len(self._held) + len(fresh) > _HELD_MAX:
                self._held.clear()
            self._held.update({token: (count, now + _TTL_S) for token, count in fresh.items() if count})
            known.update({token: count for token, count in fresh.items() if count})
        return known
