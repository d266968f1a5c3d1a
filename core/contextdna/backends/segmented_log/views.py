"""Looking at a log without owning or changing it: what waits in it, and up to where a damaged one can be read."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from contextdna.backends.log_entries import EntrySeals, damaged
from contextdna.backends.segmented_log import files
from contextdna.backends.segmented_log.ends import read_end
from contextdna.backends.segmented_log.frames import HEAD_BYTES, Codec, Frame, Kind, SegmentHead, read_head
from contextdna.errors import IntegrityFault
from contextdna.ports.write_ahead_log import Sealer
from contextdna.values.log_entry import LogEntry

_LOOKS_MAX: Final = 3  # an owner at work may remove a segment between its being found and being read
_UNITS: Final = (Kind.UNIT, Kind.SEALED)


@dataclass(slots=True)
class LogView:
    """What a log held at one look: up to the first damage, where there is one."""

    log_id: bytes = b""
    last_seq: int = 0
    forgotten: int = 0
    damage: IntegrityFault | None = None
    segments: list[Path] = field(default_factory=list)
    """Those whose entries count, in order."""

    @property
    def entries(self) -> int:
        """How many entries wait that can be read."""
        return max(self.last_seq - self.forgotten, 0)

    def page(self, number: int, sealer: Sealer) -> list[LogEntry]:
        """Give the entries of a segment that wait.

        Raises:
            IntegrityFault: ``wrong_key``.
            StorageUnavailable: It cannot be read.
        """
        with files.disk_errors():
            data = self.segments[number].read_bytes()
        seals, found = EntrySeals(self.log_id, sealer), []
        for frame in Codec(self.log_id).frames(data):
            if frame.kind in _UNITS and frame.seq <= self.last_seq:
                stored = enumerate(frame.entries(data), frame.seq)
                found += [seals.open(seq, one, is_sealed=frame.kind == Kind.SEALED) for seq, one in stored]
        return [entry for entry in found if self.forgotten < entry.seq <= self.last_seq]


def look_into_log(folder: Path) -> LogView:
    """Read what a log holds, whoever owns it; nothing is changed.

    Raises:
        StorageUnavailable: It cannot be read, or ``log_newer``.
    """
    with files.disk_errors():
        for _ in range(_LOOKS_MAX - 1):
            with suppress(FileNotFoundError):
                return _look(folder)
        return _look(folder)


def _look(folder: Path) -> LogView:
    view, end = LogView(), read_end(folder)  # first: an owner at work may go on meanwhile
    try:
        found = files.segments_in(folder)
    except IntegrityFault as fault:
        return LogView(damage=fault)
    for first_seq, path in found.items():
        try:
            _add(view, first_seq, path, is_last=path == list(found.values())[-1])
        except IntegrityFault as fault:
            view.damage = view.damage or fault
    first_seq = min(found, default=1)
    if view.segments and first_seq > view.forgotten + 1:
        view.damage = view.damage or damaged("its oldest entries are missing")
        view.forgotten = first_seq - 1
    try:
        end.require_reached(view.log_id, view.last_seq)
    except IntegrityFault as fault:
        view.damage = view.damage or fault
    return view


def _add(view: LogView, first_seq: int, path: Path, *, is_last: bool) -> None:
    data = path.read_bytes()
    head = read_head(data)
    view.log_id = view.log_id or head.log_id
    if head.log_id == view.log_id:
        view.forgotten = max(view.forgotten, head.forgotten)
    if view.damage is not None:
        return  # what lies behind is for who mends it; but what is known to be done is done
    _require_next(view, head, first_seq, path)
    view.segments.append(path)
    view.last_seq, end, codec = first_seq - 1, HEAD_BYTES, Codec(head.log_id)
    for frame in codec.frames(data):
        _take(view, frame)
        end = frame.end
    if end < len(data) and (not is_last or codec.was_flushed(data, end)):
        raise damaged(f"{path.name} is not what was written, from byte {end} on")


def _require_next(view: LogView, head: SegmentHead, first_seq: int, path: Path) -> None:
    expected = view.last_seq + 1 if view.segments else first_seq
    if head.log_id != view.log_id or head.first_seq != first_seq or first_seq != expected:
        raise damaged(f"{path.name} does not follow the segment before it")


def _take(view: LogView, frame: Frame) -> None:
    if frame.kind in _UNITS:
        if frame.seq != view.last_seq + 1:
            raise damaged(f"entry {view.last_seq + 1} is missing")
        view.last_seq += frame.count
    elif frame.kind == Kind.FORGOTTEN:
        view.forgotten = max(view.forgotten, frame.seq)
