"""What every write-ahead log does with its entries: their names, their sealing, their checksums."""

import google_crc32c

from contextdna.errors import IntegrityFault, InvalidInput, StorageUnavailable
from contextdna.ports.write_ahead_log import Sealer
from contextdna.values.log_entry import LogEntry, entry_id


class EntrySeals:
    """Seals the entries of one log, each bound to its place; or leaves them as they are.

    Args:
        log_id: Of the log.
        sealer: None leaves them as they are.
    """

    def __init__(self, log_id: bytes, sealer: Sealer | None) -> None:
        self._log_id = log_id.hex()
        self._sealer = sealer

    @property
    def is_sealing(self) -> bool:
        """Whether entries are sealed."""
        return self._sealer is not None

    def seal(self, seq: int, data: bytes) -> bytes:
        """Give what is to lie at rest."""
        return data if self._sealer is None else self._sealer.seal(data, self._name(seq).encode())

    def open(self, seq: int, stored: bytes, *, is_sealed: bool) -> LogEntry:
        """Give an entry from what lies at rest.

        Raises:
            IntegrityFault: ``wrong_key``, or ``log_damaged`` where an entry lies open in a log that is sealed.
        """
        if self._sealer is None and is_sealed:
            raise IntegrityFault("the write-ahead log is sealed", code="wrong_key", hint="Open it with its sealer.")
        if self._sealer is not None and not is_sealed:
            raise damaged("an entry is not sealed")
        name = self._name(seq)
        return LogEntry(seq, name, stored if self._sealer is None else self._sealer.open(stored, name.encode()))

    def _name(self, seq: int) -> str:
        return entry_id(self._log_id, seq)


def crc32c(data: bytes, seed: int = 0) -> int:
    """Compute CRC32C, on from that of what comes before. Source: RFC 3720, appendix B.4."""
    crc: int = google_crc32c.extend(seed, data)
    return crc


def damaged(what: str) -> IntegrityFault:
    """Refuse a log that is not what was written."""
    return IntegrityFault(
        f"the write-ahead log is damaged: {what}",
        code="log_damaged",
        hint="Nothing was changed. Check the disk and restore the log from a backup.",
    )


def in_use() -> StorageUnavailable:
    """Refuse a second owner."""
    return StorageUnavailable(
        "another process has the write-ahead log open",
        code="log_in_use",
        hint="Stop the other server, or give this one a data folder of its own.",
    )


def unknown_seq(seq: int) -> InvalidInput:
    """Refuse to forget what is not there yet."""
    return InvalidInput(
        f"the write-ahead log has no entry {seq} yet",
        code="log_seq_unknown",
        hint="Forget what recovery or a commit has given a number.",
    )
