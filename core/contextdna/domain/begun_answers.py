"""Answers of which some pages were given: what is left of them stands, whatever is written between two pages."""

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

from contextdna.values.principal import Reader

A = TypeVar("A")

_TTL: Final = timedelta(minutes=15)
_NUMBER_MAX: Final = 1_000
_BYTES_MAX: Final = 8 * 1024 * 1024


@dataclass(slots=True)
class _Begun(Generic[A]):
    answer: A
    reader: Reader
    question: str
    size_bytes: int
    used_at: datetime


class BegunAnswers(Generic[A]):
    """One project's, bounded in number, memory and time; those not gone on with longest go first.

    It holds ids and numbers, no word of a record or question, and gives an answer to the one who asked for it alone.
    Used by several threads.

    Args:
        number_max: How many are held.
        bytes_max: How much memory they may take, about.
    """

    def __init__(self, number_max: int = _NUMBER_MAX, *, bytes_max: int = _BYTES_MAX) -> None:
        self._number_max = number_max
        self._bytes_max = bytes_max
        self._held: OrderedDict[str, _Begun[A]] = OrderedDict()
        self._lock = threading.Lock()
        self.size_bytes = 0
        """About how much memory they take."""

    def __len__(self) -> int:
        """Count the answers."""
        return len(self._held)

    def keep(self, answer: A, reader: Reader, question: str, *, now: datetime, size_bytes: int) -> str:
        """Hold an answer; gives the name to find it by, which tells nothing and cannot be guessed.

        Args:
            answer: The answer.
            reader: Who asked.
            question: A keyed hash of what was asked.
            now: The time of the call.
            size_bytes: About how much memory it takes.
        """
        name = secrets.token_urlsafe(9)
        with self._lock:
            self._held[name] = _Begun(answer, reader, question, size_bytes, now)
            self.size_bytes += size_bytes
            while self._held and self._is_over(now):
                self.size_bytes -= self._held.popitem(last=False)[1].size_bytes
        return name

    def find(self, name: str, reader: Reader, question: str, *, now: datetime) -> A | None:
        """Give an answer, while it is held.

        Args:
            name: What ``keep`` gave.
            reader: Who goes on.
            question: A keyed hash of what is asked.
            now: The time of the call.
        """
        with self._lock:
            begun = self._held.get(name)
            if begun is None or begun.used_at + _TTL <= now or (begun.reader, begun.question) != (reader, question):
                return None
            begun.used_at = max(begun.used_at, now)
            self._held.move_to_end(name)
            return begun.answer

    def _is_over(self, now: datetime) -> bool:
        oldest = next(iter(self._held.values()))
        too_many = len(self._held) > self._number_max or self.size_bytes > self._bytes_max
        return too_many or oldest.used_at + _TTL <= now
