"""The units of a write-ahead log that are begun and not yet over, in memory: what is dropped was never written."""

from itertools import count

from contextdna.errors import InvalidInput, LimitExceeded
from contextdna.ports.write_ahead_log import ENTRY_BYTES_MAX
from contextdna.values.log_entry import LogUnit


class OpenUnits:
    """Entries by unit."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._entries: dict[LogUnit, list[bytes]] = {}

    def begin(self) -> LogUnit:
        """Begin a unit."""
        unit = LogUnit(next(self._numbers))
        self._entries[unit] = []
        return unit

    def add(self, unit: LogUnit, data: bytes) -> None:
        """Add an entry to a unit.

        Raises:
            LimitExceeded: ``log_entry_too_large``.
            InvalidInput: ``log_unit_unknown``.
        """
        entries = self._of(unit)
        if sum(map(len, entries)) + len(data) > ENTRY_BYTES_MAX:
            raise too_large()
        entries.append(bytes(data))

    def take(self, unit: LogUnit) -> list[bytes]:
        """End a unit and give its entries.

        Raises:
            InvalidInput: ``log_unit_unknown``.
        """
        entries = self._of(unit)
        del self._entries[unit]
        return entries

    def drop(self, unit: LogUnit) -> None:
        """End a unit, unless it is over."""
        self._entries.pop(unit, None)

    def _of(self, unit: LogUnit) -> list[bytes]:
        entries = self._entries.get(unit)
        if entries is None:
            raise InvalidInput(
                "the write-ahead log has no such unit open",
                code="log_unit_unknown",
                hint="Begin a unit; one that was committed or rolled back is over.",
            )
        return entries


def too_large() -> LimitExceeded:
    """Refuse what is too large for a log."""
    return LimitExceeded(
        f"a unit of the write-ahead log holds at most {ENTRY_BYTES_MAX // 1024**2} MiB",
        code="log_entry_too_large",
        hint="Change less at once.",
    )
