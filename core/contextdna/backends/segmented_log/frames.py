"""The bytes of a segment: a head, then frames, each with its length and its CRC32C.

A unit is one frame, so that a checksum tells whether all of it is there. Every frame says up to where its segment was
flushed before the frame was written: a bad frame before that place was acknowledged, and is damage; one behind it was
being written when the process or the machine ended, and is a torn tail. A log that was closed ends with a frame that
says so, and has no tail to be torn.

Source: CRC32C (Castagnoli), RFC 3720, appendix B.4; all numbers little-endian.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from contextdna.backends.log_entries import crc32c, damaged
from contextdna.errors import StorageUnavailable

_SEGMENT_MAGIC: Final = b"ctxDNAwl"
_FORMAT: Final = 1
_SEGMENT: Final = struct.Struct("<8sI16sQQ")  # magic, format, log id, number of the first entry, forgotten up to
_FRAME: Final = struct.Struct("<4sIIIQQ")  # magic, kind, entries, bytes of the body, number, flushed up to
_FRAME_MAGIC: Final = b"\xc5wl\x01"
_CRC: Final = struct.Struct("<I")
_LENGTH: Final = struct.Struct("<I")

HEAD_BYTES: Final = _SEGMENT.size + _CRC.size
_FRAME_BYTES: Final = _FRAME.size + _CRC.size


class Kind(IntEnum):
    """What a frame is."""

    UNIT = 1
    """Entries, from a number on."""
    SEALED = 2
    """The same, each of them sealed."""
    FORGOTTEN = 3
    """All entries up to a number are done."""
    CLOSED = 4
    """Nobody writes any more; the number is that of the newest entry."""


@dataclass(frozen=True, slots=True)
class SegmentHead:
    """How a segment begins."""

    log_id: bytes
    first_seq: int
    forgotten: int

    def encode(self) -> bytes:
        """Write it."""
        head = _SEGMENT.pack(_SEGMENT_MAGIC, _FORMAT, self.log_id, self.first_seq, self.forgotten)
        return head + _CRC.pack(crc32c(head))


def read_head(data: bytes) -> SegmentHead:
    """Read the beginning of a segment.

    Raises:
        IntegrityFault: ``log_damaged``. Heads are renamed into place, so they are never torn.
        StorageUnavailable: ``log_newer``.
    """
    whole = data[:HEAD_BYTES]
    if len(whole) < HEAD_BYTES or _CRC.unpack(whole[-_CRC.size :])[0] != crc32c(whole[: -_CRC.size]):
        raise damaged("a segment's head is not what was written")
    magic, version, log_id, first_seq, forgotten = _SEGMENT.unpack(whole[: -_CRC.size])
    if magic != _SEGMENT_MAGIC:
        raise damaged("a segment is not of a write-ahead log")
    if version > _FORMAT:
        raise StorageUnavailable(
            f"the write-ahead log is of format {version}, this version reads up to {_FORMAT}",
            code="log_newer",
            hint="Use the version of contextdna that wrote it, or a newer one.",
        )
    return SegmentHead(log_id, first_seq, forgotten)


@dataclass(frozen=True, slots=True)
class Frame:
    """A good frame of a segment."""

    kind: int
    count: int
    seq: int
    flushed: int
    start: int
    end: int

    def entries(self, data: bytes) -> Iterator[bytes]:
        """Give the entries of a unit."""
        at = self.start + _FRAME_BYTES
        for _ in range(self.count):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            yield data[at : at + length]
            at += length


class Codec:
    """Writes and reads the frames of one log. Its id is part of each checksum: no other log's frame passes for one."""

    def __init__(self, log_id: bytes) -> None:
        self._seed = crc32c(log_id)

    def encode(self, kind: Kind, seq: int, flushed: int, entries: Sequence[bytes] = ()) -> bytes:
        """Write a frame.

        Args:
            kind: What it is.
            seq: Its number.
            flushed: Up to where its segment was flushed before.
            entries: Of a unit.
        """
        parts = [part for entry in entries for part in (_LENGTH.pack(len(entry)), entry)]
        body = b"".join(parts)
        head = _FRAME.pack(_FRAME_MAGIC, kind, len(entries), len(body), seq, flushed)
        return b"".join((head, _CRC.pack(self._crc(head, body)), body))

    def read(self, data: bytes, start: int) -> Frame | None:
        """Read the frame at a place; None where there is no good one."""
        body_at = start + _FRAME_BYTES
        if body_at > len(data):
            return None
        magic, kind, count, length, seq, flushed = _FRAME.unpack_from(data, start)
        if magic != _FRAME_MAGIC or body_at + length > len(data):
            return None
        (crc,) = _CRC.unpack_from(data, start + _FRAME.size)
        if crc != self._crc(data[start : start + _FRAME.size], data[body_at : body_at + length]):
            return None
        return Frame(kind, count, seq, flushed, start, body_at + length)

    def frames(self, data: bytes) -> Iterator[Frame]:
        """Give the frames of a segment, up to the first bad one."""
        at = HEAD_BYTES
        while (frame := self.read(data, at)) is not None:
            yield frame
            at = frame.end

    def was_flushed(self, data: bytes, place: int) -> bool:
        """Tell whether a good frame behind a place says that the place had been flushed."""
        at = data.find(_FRAME_MAGIC, place + 1)
        while at >= 0:
            frame = self.read(data, at)
            if frame is not None and place < frame.flushed <= at:
                return True
            at = data.find(_FRAME_MAGIC, at + 1)
        return False

    def _crc(self, head: bytes, body: bytes) -> int:
        return crc32c(body, crc32c(head, self._seed))
