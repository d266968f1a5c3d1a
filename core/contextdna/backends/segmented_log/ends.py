"""Up to where a log was when it was closed, in a file of its own: one that has become shorter since is damaged.

The bytes of a segment do not tell: cut off behind any good frame, it looks as if nothing more had ever been written.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contextdna.backends.folders import write_whole
from contextdna.backends.log_entries import crc32c, damaged

_FILE: Final = "end"
_END: Final = struct.Struct("<8s16sQ")  # magic, log id, number of the newest entry
_MAGIC: Final = b"ctxDNAwe"
_CRC: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class LogEnd:
    """What was flushed at least."""

    log_id: bytes = b""
    last_seq: int = 0

    def require_reached(self, log_id: bytes, last_seq: int) -> None:
        """Refuse a log that ends before it.

        Raises:
            IntegrityFault: ``log_damaged``.
        """
        if self.log_id and (self.log_id != log_id or last_seq < self.last_seq):
            raise damaged(f"its newest entries are missing: it was closed with {self.last_seq}")


def note_end(folder: Path, end: LogEnd) -> None:
    """Keep the end of a log durably.

    Raises:
        OSError: It cannot be written; then an earlier one stands, which asks for less.
    """
    note = _END.pack(_MAGIC, end.log_id, end.last_seq)
    write_whole(folder / _FILE, note + _CRC.pack(crc32c(note)))


def read_end(folder: Path) -> LogEnd:
    """Give the end that was kept; of a note that is not whole nothing is known.

    Raises:
        OSError: It cannot be read.
    """
    try:
        data = (folder / _FILE).read_bytes()
    except FileNotFoundError:
        return LogEnd()
    note = data[: _END.size]
    if len(data) != _END.size + _CRC.size or _CRC.unpack(data[_END.size :])[0] != crc32c(note):
        return LogEnd()
    _, log_id, last_seq = _END.unpack(note)
    return LogEnd(log_id, last_seq)
