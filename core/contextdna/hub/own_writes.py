"""What a process knows of the writes in its own slot of the spool: whose they are, and what was promised of them.

It stands between the spool, which adds what it takes, and the replay, which takes away what it has done.
"""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from contextdna.domain.queued_writes import QueuedWrite, packed, unpacked
from contextdna.errors import IntegrityFault
from contextdna.hub.turns import Turns
from contextdna.hub.waiting_writes import Promise, WaitingWrites
from contextdna.values.ids import ProjectId
from contextdna.values.log_entry import LogEntry, LogStatus

_NO_TIME: Final = datetime.min.replace(tzinfo=UTC)


class OwnWrites:
    """The writes that wait in one log, those of an earlier process among them."""

    def __init__(self) -> None:
        self.turns = Turns()
        """Which projects have writes that wait."""
        self.waiting = WaitingWrites()
        """What was promised."""
        self._inherited_seq = 0
        self._read_seq = 0

    def clear(self) -> None:
        """Know of none any more: the log is opened anew, or was given up."""
        self.turns, self.waiting = Turns(), WaitingWrites()
        self._read_seq = 0

    def inherit(self, status: LogStatus, *, over: int) -> None:
        """Note how much an earlier process has left in the log, some of which is over."""
        self._inherited_seq = status.last_seq
        self.turns.inherit(status.entries - over)

    def promised(self, write: QueuedWrite) -> Promise | None:
        """Give what the same request was promised, if one waits."""
        return self.waiting.promise_of(_fingerprint(write))

    def note(self, seq: int, write: QueuedWrite) -> Promise:
        """Remember a write at a place of the log; gives what its caller is promised."""
        return self.waiting.add(seq, write, _fingerprint(write))

    def note_read(self, seq: int, project_id: ProjectId) -> None:
        """Note whose a write is, where an earlier process left it and it was not read before."""
        if self._read_seq < seq <= self._inherited_seq:
            self._read_seq = seq
            self.turns.read(project_id)

    def leave(self, entry: LogEntry) -> None:
        """Note that a write waits no longer."""
        self.waiting.remove(entry.seq)
        self.turns.leave(project_of(entry))


def project_of(entry: LogEntry) -> ProjectId:
    """Give whose order a write keeps; none can be told of what cannot be read, and is set aside."""
    try:
        return unpacked(entry.data).project_id
    except IntegrityFault:
        return ProjectId("")


def name_of(entry: LogEntry) -> str:
    """Give what names a write wherever it lies; of what cannot be read, its place and a digest."""
    try:
        return unpacked(entry.data).name
    except IntegrityFault:
        return place_of(entry)


def place_of(entry: LogEntry) -> str:
    """Give a place of a log with what is there: by that a write is known to versions that cannot read it, too."""
    return f"{entry.id}.{hashlib.blake2b(entry.data, digest_size=16).hexdigest()}"


def _fingerprint(write: QueuedWrite) -> bytes:
    caller = replace(write.caller, request_id="", trace_id="")
    data = packed(replace(write, at=_NO_TIME, caller=caller, ids=(), after="", name="", is_seen=False))
    return hashlib.blake2b(data, digest_size=16).digest()
