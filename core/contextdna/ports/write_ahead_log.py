"""Port: a write-ahead log, which keeps what is to be done until it is done.

What holds of every log:

- **Acknowledged** is a unit whose ``commit`` has returned: its entries outlive the process and the machine's power,
  all of them or, of a unit that was never acknowledged, all or none.
- **Order**: units stand in the order in which ``commit`` was called, the entries of one unit together and in the order
  in which they were written. Numbers rise by one and are never given twice, not even after ``forget``.
- **Recovery** gives every entry that is committed and not forgotten, in order, and changes nothing: it may be run
  again, after a crash too, and gives the same.
- **Once**: an entry that was applied comes again when the process ends before ``forget`` has returned. So what applies
  entries either keeps the number of the last one in the same transaction as its effect, and recovers ``after`` that,
  or makes the entry's ``id`` a key of its effect.
- **Whole or refused**: what a crash left half-written at the end was never acknowledged and is dropped on opening. An
  entry that was changed, or is missing between others, is refused with ``log_damaged``: no wrong one is ever given.

A log has one owner at a time: opening it elsewhere meanwhile is refused with ``log_in_use``.
"""

from collections.abc import AsyncIterator, Iterable
from typing import Final, Protocol

from contextdna.values.log_entry import LogEntry, LogSnapshot, LogStatus, LogUnit

ENTRY_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of all entries of one unit together."""


class Sealer(Protocol):
    """Encrypts what a log holds: nothing else of it may be readable at rest."""

    def seal(self, data: bytes, associated: bytes) -> bytes:
        """Encrypt; it opens with the same associated data only."""
        ...

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Decrypt.

        Raises:
            IntegrityFault: ``wrong_key``: it was sealed under another key, belongs elsewhere, or was changed.
        """
        ...


class WriteAheadLog(Protocol):
    """Entries of bytes, in units. Opened and closed as an async context manager."""

    async def begin(self) -> LogUnit:
        """Begin a unit. Any number may be open at a time."""
        ...

    async def write_entry(self, unit: LogUnit, data: bytes) -> None:
        """Add an entry to a unit. It is not durable before the unit is.

        Raises:
            LimitExceeded: ``log_entry_too_large``: over ``ENTRY_BYTES_MAX`` with what the unit holds already.
            InvalidInput: ``log_unit_unknown``: not begun here, or over.
        """
        ...

    async def commit(self, unit: LogUnit) -> int:
        """Make a unit durable and give the number of its last entry; units that wait share the flush to disk.

        A unit without entries is over at once; it gives the number of the newest entry. A caller that is cancelled
        leaves the outcome open.

        Raises:
            StorageUnavailable: Nothing is kept (``log_full``, ``storage_full`` and the like), but with
                ``storage_outcome_unknown``, where recovery tells.
            InvalidInput: ``log_unit_unknown``.
        """
        ...

    async def rollback(self, unit: LogUnit) -> None:
        """Drop a unit: nothing of it is ever recovered. One that is over is left as it is."""
        ...

    def recover(self, *, after: int = 0) -> AsyncIterator[LogEntry]:
        """Give the committed entries that are not forgotten, behind a number, in order, up to the newest at the start.

        Units may be committed, and entries that were given may be forgotten, while it runs.

        Raises:
            IntegrityFault: ``log_damaged``, or ``wrong_key`` where it is sealed.
            StorageUnavailable: It cannot be read now.
        """
        ...

    async def forget(self, seq: int) -> None:
        """Drop all entries up to a number, durably: they are done, or held elsewhere as durably.

        Raises:
            StorageUnavailable: It cannot be written now; they may come again.
            InvalidInput: ``log_seq_unknown``: no such number was given yet.
        """
        ...

    async def status(self) -> LogStatus:
        """Report on the log."""
        ...


class Snapshots(Protocol):
    """Keeps what the entries of a log up to a number have led to, so that these can be forgotten."""

    async def save(self, log_id: str, seq: int, chunks: Iterable[bytes]) -> None:
        """Keep a snapshot, whole or not at all, in place of the one before it.

        Args:
            log_id: Whose entries they are.
            seq: Up to where they are applied in it.
            chunks: Its contents; asked for on another thread.

        Raises:
            StorageUnavailable: It cannot be written; the one before it is still there.
        """
        ...

    async def load(self) -> LogSnapshot | None:
        """Give the newest snapshot; None where there was never one.

        Raises:
            IntegrityFault: ``log_damaged``.
            StorageUnavailable: It cannot be read.
        """
        ...
