"""The segments of a log: what they hold, writing on, forgetting, reading. Everything here blocks, on one thread."""

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contextdna.backends.log_entries import EntrySeals, damaged, unknown_seq
from contextdna.backends.segmented_log import files
from contextdna.backends.segmented_log.ends import LogEnd, note_end, read_end
from contextdna.backends.segmented_log.frames import HEAD_BYTES, Codec, Frame, Kind, SegmentHead, read_head
from contextdna.errors import ContextDnaError, StorageUnavailable
from contextdna.ports.write_ahead_log import Sealer
from contextdna.values.log_entry import LogEntry, LogStatus

_LOG_ID_BYTES: Final = 16


@dataclass(slots=True)
class Segment:
    """One file; it holds entries when ``last_seq`` is not before ``first_seq``."""

    path: Path
    first_seq: int
    last_seq: int
    size: int

    @property
    def holds_entries(self) -> bool:
        """Whether any entry was ever written to it."""
        return self.last_seq >= self.first_seq


class Segments:
    """All files of a log that this process owns.

    Args:
        folder: Where they are.
        sealer: Seals each entry; without one the entries lie there as they are.
        segment_bytes: From this size on, a segment is followed by the next.
        size_bytes_max: Of all segments together; 0 sets no bound.
    """

    def __init__(self, folder: Path, *, sealer: Sealer | None, segment_bytes: int, size_bytes_max: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._size_max = size_bytes_max
        self._owner = files.own(folder)
        self._file = -1
        self._segments: list[Segment] = []
        self._is_marked = False
        self._is_broken = False
        self._end = LogEnd()
        self.log_id = b""
        self.last_seq = 0
        self.forgotten = 0
        try:
            with files.disk_errors():
                self._open()
        except BaseException:
            self._let_go()
            raise
        self._codec = Codec(self.log_id)
        self._seals = EntrySeals(self.log_id, sealer)

    # Opening

    def _open(self) -> None:
        files.drop_unfinished(self._folder)
        self._end = read_end(self._folder)
        found = files.segments_in(self._folder)
        for first_seq, path in found.items():
            self._load(first_seq, path, is_last=first_seq == max(found))
        self._end.require_reached(self.log_id, self.last_seq)
        if not found:
            self.log_id = secrets.token_bytes(_LOG_ID_BYTES)
            self._begin_segment()
            return
        if self._segments[0].first_seq > self.forgotten + 1:
            raise damaged("its oldest entries are missing")
        self._file = files.open_segment(self._tail.path, self._tail.size)
        self._remove_forgotten()

    def _load(self, first_seq: int, path: Path, *, is_last: bool) -> None:
        data = path.read_bytes()
        head = read_head(data)
        self.log_id = self.log_id or head.log_id
        is_next = head.first_seq == first_seq and first_seq == (self.last_seq + 1 if self._segments else first_seq)
        if not is_next or head.log_id != self.log_id:
            raise damaged(f"{path.name} does not follow the segment before it")
        codec = Codec(head.log_id)
        self.last_seq, self.forgotten, end = first_seq - 1, max(self.forgotten, head.forgotten), HEAD_BYTES
        for frame in codec.frames(data):
            self._take(frame)
            end = frame.end
        if end < len(data) and (not is_last or codec.was_flushed(data, end)):
            raise damaged(f"{path.name} is not what was written, from byte {end} on")
        self._segments.append(Segment(path, first_seq, self.last_seq, end))

    def _take(self, frame: Frame) -> None:
        self._is_marked = frame.kind == Kind.CLOSED
        if frame.kind in (Kind.UNIT, Kind.SEALED):
            if frame.seq != self.last_seq + 1:
                raise damaged(f"entry {self.last_seq + 1} is missing")
            self.last_seq += frame.count
        elif frame.kind == Kind.FORGOTTEN:
            self.forgotten = max(self.forgotten, frame.seq)

    # Writing

    def append(self, units: Sequence[Sequence[bytes]]) -> list[int | ContextDnaError]:
        """Write units with one flush; gives the number of each one's last entry, or why it was left out.

        Raises:
            StorageUnavailable: Nothing was kept, but with ``storage_outcome_unknown``.
        """
        self._check_usable()
        if self._tail.size >= self._segment_bytes and self._tail.holds_entries:
            self._begin_segment()
        seq, room = self.last_seq, self._size_max - self._size if self._size_max else None
        outcomes: list[int | ContextDnaError] = []
        written = bytearray()
        for entries in units:
            frame = self._unit(seq + 1, entries)
            if room is not None and len(written) + len(frame) > room:
                outcomes.append(_full())
                continue
            written += frame
            seq += len(entries)
            outcomes.append(seq)
        self._write(bytes(written))
        self.last_seq = self._tail.last_seq = seq
        return outcomes

    def forget(self, seq: int) -> None:
        """Drop all entries up to a number, durably.

        Raises:
            InvalidInput: ``log_seq_unknown``.
            StorageUnavailable: It cannot be written.
        """
        self._check_usable()
        if seq > self.last_seq:
            raise unknown_seq(seq)
        if seq <= self.forgotten:
            return
        if seq == self.last_seq and self._tail.holds_entries:
            self._begin_segment(forgotten=seq)  # so that the old one can go: nothing of what is done stays on the disk
        else:
            self._write(self._codec.encode(Kind.FORGOTTEN, seq, self._tail.size))
        self.forgotten = seq
        self._remove_forgotten()

    def close(self) -> None:
        """Mark the end, so that there is no tail to be torn, and let go of the files."""
        with suppress(StorageUnavailable, OSError):  # without the marks it opens as after a crash
            if not self._is_broken:
                self._mark_end()
        self._let_go()

    def _mark_end(self) -> None:
        if not self._is_marked:
            self._write(self._codec.encode(Kind.CLOSED, self.last_seq, self._tail.size))
        end = LogEnd(self.log_id, self.last_seq)
        if end != self._end:
            note_end(self._folder, end)
            self._end = end

    # Reading

    def page(self, after: int) -> list[LogEntry]:
        """Give the entries behind a number that the first segment with such holds; none where all are forgotten.

        Raises:
            IntegrityFault: ``log_damaged`` or ``wrong_key``.
            StorageUnavailable: It cannot be read.
        """
        after = max(after, self.forgotten)
        segment = next((segment for segment in self._segments if segment.last_seq > after), None)
        if segment is None:
            return []
        with files.disk_errors():
            data = segment.path.read_bytes()
        found, end = [], HEAD_BYTES
        for frame in self._codec.frames(data):
            end = frame.end
            if frame.kind in (Kind.UNIT, Kind.SEALED) and frame.seq + frame.count > after + 1:
                found += [entry for entry in self._entries(frame, data) if entry.seq > after]
        if end < segment.size:
            raise damaged(f"{segment.path.name} is not what was written, from byte {end} on")
        return found

    def status(self) -> LogStatus:
        """Report on the log."""
        problem = "a flush to disk failed; start the server again" if self._is_broken else ""
        return LogStatus(
            engine="files",
            log_id=self.log_id.hex(),
            entries=self.last_seq - self.forgotten,
            last_seq=self.last_seq,
            forgotten_seq=self.forgotten,
            size_bytes=self._size,
            sound=not self._is_broken,
            problem=problem,
        )

    def _entries(self, frame: Frame, data: bytes) -> list[LogEntry]:
        is_sealed = frame.kind == Kind.SEALED
        stored = enumerate(frame.entries(data), frame.seq)
        return [self._seals.open(seq, entry, is_sealed=is_sealed) for seq, entry in stored]

    def _unit(self, first_seq: int, entries: Sequence[bytes]) -> bytes:
        kind = Kind.SEALED if self._seals.is_sealing else Kind.UNIT
        sealed = [self._seals.seal(seq, entry) for seq, entry in enumerate(entries, first_seq)]
        return self._codec.encode(kind, first_seq, self._tail.size, sealed)

    def _write(self, data: bytes) -> None:
        if not data:
            return
        try:
            files.write_all(self._file, data)
        except OSError as error:
            self._take_back()
            raise files.disk_error(error) from error
        try:
            os.fsync(self._file)
        except OSError as error:
            # A second flush would succeed without having written. Source: https://lwn.net/Articles/752063/
            self._is_broken = True
            raise StorageUnavailable(
                "the write-ahead log could not be flushed to disk",
                code="storage_outcome_unknown",
                hint="Check the disk, then start the server again: it tells by what it recovers.",
            ) from error
        self._tail.size += len(data)
        self._is_marked = False

    def _take_back(self) -> None:
        """Cut off what a failed write has left."""
        try:
            os.ftruncate(self._file, self._tail.size)
            os.lseek(self._file, self._tail.size, os.SEEK_SET)
            os.fsync(self._file)
        except OSError:
            self._is_broken = True

    def _begin_segment(self, *, forgotten: int = 0) -> None:
        head = SegmentHead(self.log_id, self.last_seq + 1, max(self.forgotten, forgotten)).encode()
        try:
            path, opened = files.create_segment(self._folder, self.last_seq + 1, head)
        except OSError as error:
            self._is_broken = self.last_seq + 1 in files.segments_in(self._folder)  # not known to be durable
            raise files.disk_error(error) from error
        if self._file >= 0:
            os.close(self._file)
        self._file = opened
        self._segments.append(Segment(path, self.last_seq + 1, self.last_seq, HEAD_BYTES))
        self._is_marked = False

    def _remove_forgotten(self) -> None:
        done = [segment for segment in self._segments[:-1] if segment.last_seq <= self.forgotten]
        with suppress(OSError):  # they are known to be done; the next opening removes them
            files.remove([segment.path for segment in done], self._folder)
        self._segments = self._segments[len(done) :]

    def _check_usable(self) -> None:
        if self._is_broken or self._file < 0:
            raise StorageUnavailable(
                "the write-ahead log is closed, or a flush to disk failed",
                code="log_closed",
                hint="Check the disk, then start the server again.",
            )

    def _let_go(self) -> None:
        for descriptor in (self._file, self._owner):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._owner = -1

    @property
    def _tail(self) -> Segment:
        return self._segments[-1]

    @property
    def _size(self) -> int:
        return sum(segment.size for segment in self._segments)


def _full() -> StorageUnavailable:
    return StorageUnavailable(
        "the write-ahead log is as large as it may get",
        code="log_full",
        hint="Try again when what waits in it has been applied.",
        retryable=True,
    )
