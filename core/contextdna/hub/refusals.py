"""Whether a store that is there refuses what is to be written: what the health says of full and broken disks."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from contextdna.errors import StorageUnavailable

_REFUSING: Final = frozenset(
    {
        "storage_full",
        "storage_read_only",
        "storage_denied",
        "storage_no_permission",
        "storage_no_memory",
        "storage_io_error",
        "storage_cannot_open",
        "storage_stopped",
        "storage_login_refused",
        "storage_bucket_missing",
    }
)
"""What does not pass by itself in a moment. What is away, busy or late is known by its breaker, or goes on."""
_HOLDS: Final = timedelta(minutes=1)
"""How long a refusal is told of when nobody tries again: what was refused then may be taken now."""


class Refusals:
    """Remembers the last refusal until something was written, for a minute at most.

    Args:
        clock: Tells the time.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._code = ""
        self._until: datetime | None = None

    @property
    def problem(self) -> str:
        """Code of what keeps the store from writing; empty where nothing does, as far as is known."""
        return self._code if self._until is not None and self._clock() < self._until else ""

    def note(self, error: StorageUnavailable) -> None:
        """Note that something could not be written."""
        if error.code in _REFUSING:
            self._code, self._until = error.code, self._clock() + _HOLDS

    def clear(self) -> None:
        """Note that something was written."""
        self._until = None
