"""What a process remembers of its writes that wait: to know a repeated one, and one that contradicts another."""

from dataclasses import dataclass

from contextdna.domain.queued_writes import UpdateRequest
from contextdna.errors import Conflict
from contextdna.values.ids import AgentId, RecordId
from contextdna.values.principal import Actor


@dataclass(frozen=True, slots=True)
class Promise:
    """What a caller whose write waits is told."""

    ids: tuple[str, ...]
    agent_id: AgentId


@dataclass(frozen=True, slots=True)
class _Waiting:
    promise: Promise
    fingerprint: bytes
    version: int


class WaitingWrites:
    """Writes that wait, by their places in the log."""

    def __init__(self) -> None:
        self._waiting: dict[int, _Waiting] = {}
        self._promises: dict[bytes, Promise] = {}
        self._versions: dict[tuple[str, AgentId], int] = {}
        self._gone = 0

    def promise_of(self, fingerprint: bytes) -> Promise | None:
        """Give what the same request was promised, if one waits."""
        return self._promises.get(fingerprint)

    def version_after(self, actor: Actor, request: UpdateRequest) -> int:
        """Give the version that an update leads to.

        Raises:
            Conflict: ``version_conflict``: one of the same agent that waits leads to another version than it expects.
        """
        known = self._versions.get((request.record_id, actor.agent_id), 0)
        if known and known != request.expected_version:
            raise Conflict(
                f"the memory has version {known} in an update that waits, not {request.expected_version}",
                code="version_conflict",
                hint="Update with the version that the queued update answered.",
                record_ids=(RecordId(request.record_id),),
                current_version=known,
                expected_version=request.expected_version,
            )
        return request.expected_version + 1

    def add(self, seq: int, promise: Promise, fingerprint: bytes, *, version: int) -> None:
        """Remember a write at a place; ``version`` is what an update leads to, 0 for what is none."""
        if seq <= self._gone:
            return  # it was done before its caller could be told
        self._waiting[seq] = _Waiting(promise, fingerprint, version)
        self._promises[fingerprint] = promise
        if version:
            self._versions[promise.ids[0], promise.agent_id] = version

    def remove(self, seq: int) -> None:
        """Forget a write: it waits no longer, nor does any before it."""
        self._gone = max(self._gone, seq)
        waiting = self._waiting.pop(seq, None)
        if waiting is None:
            return
        promise, record = waiting.promise, (waiting.promise.ids[0], waiting.promise.agent_id)
        if self._promises.get(waiting.fingerprint) is promise:
            del self._promises[waiting.fingerprint]
        if waiting.version and self._versions.get(record) == waiting.version:
            del self._versions[record]
