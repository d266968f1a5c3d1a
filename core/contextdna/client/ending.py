"""What the end of a run writes, and what it writes instead where one text of it is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from contextdna.client import requests
from contextdna.client.report import Waiting
from contextdna.client.requests import MemoryItem
from contextdna.client.texts import size_of

LEARNINGS_MAX: Final = 20
"""How many learnings the end of a session takes. Source: end_session."""

BATCH_MAX: Final = 100
"""How many memories a batch may have. Source: store_memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What a run came to."""

    success: bool
    result: str
    learnings: Sequence[str]
    failure: str
    level: str

    def writes(self) -> Iterator[Waiting]:
        """Give what the end of the session does not take, then the end.

        The end of a failed session would make failure patterns of the learnings: it takes none.
        """
        taken = LEARNINGS_MAX if self.success else 0
        for start in range(taken, len(self.learnings), BATCH_MAX):
            yield self._batch("success_pattern", self.learnings[start : start + BATCH_MAX])
        patterns = self.learnings[:taken] if self.success else [self.failure] if self.failure else []
        yield self._end(patterns)

    def _end(self, patterns: Sequence[str]) -> Waiting:
        request = requests.end(success=self.success, output=self.result, learnings=patterns, level=self.level)
        size = size_of(self.result) + sum(map(size_of, patterns))
        end = Waiting(self._named(patterns), request, size)
        if not patterns:
            return end
        kind = "success_pattern" if self.success else "failure_pattern"
        return replace(end, parts=(*self._one_by_one(kind, patterns), self._end([])))

    def _batch(self, kind: str, texts: Sequence[str]) -> Waiting:
        items = [MemoryItem(content=text, memory_type=kind, importance=0.7, level=self.level) for text in texts]
        request = requests.store_all(items, on_duplicate="merge", idempotency_key="")
        parts = self._one_by_one(kind, texts) if len(texts) > 1 else ()
        return Waiting(_counted(kind, len(texts)), request, sum(map(size_of, texts)), parts=parts, learned=True)

    def _one_by_one(self, kind: str, texts: Sequence[str]) -> tuple[Waiting, ...]:
        return tuple(self._batch(kind, [text]) for text in texts)

    def _named(self, patterns: Sequence[str]) -> str:
        kind = "success_pattern" if self.success else "failure_pattern"
        counted = [_counted(kind, len(patterns))] if patterns else []
        return ", ".join(["end of session", *(["result"] if self.result else []), *counted])


def _counted(kind: str, count: int) -> str:
    if kind == "failure_pattern":
        return "failure pattern"
    return "1 learning" if count == 1 else f"{count} learnings"
