"""What a process remembers of its writes that wait: to know a repeated one, and one that contradicts another."""

from dataclasses import dataclass

from contextdna.domain.memories import idempotency_key_reused
from contextdna.domain.queued_writes import QueuedWrite, UpdateRequest
from contextdna.errors import Conflict
from contextdna.values.ids import AgentId, ProjectId, RecordId

_Key = tuple[str, AgentId]
_UnderKey = tuple[ProjectId, AgentId, str]


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
    name: str
    key: _UnderKey | None


class WaitingWrites:
    """Writes that wait, by their places in the log."""

    def __init__(self) -> None:
        self._waiting: dict[int, _Waiting] = {}
        self._promises: dict[bytes, Promise] = {}
        self._latest: dict[_Key, _Waiting] = {}
        self._under_key: dict[_UnderKey, _Waiting] = {}
        self._gone: set[int] = set()

    def promise_of(self, fingerprint: bytes) -> Promise | None:
        """Give what the same request was promised, if one waits."""
        return self._promises.get(fingerprint)

    def name_before(self, agent_id: AgentId, request: UpdateRequest) -> str:
        """Give the name of the update that an update builds upon; empty where none of its agent waits here.

        One that names a later version may build upon what waits at another server.

        Raises:
            Conflict: ``version_conflict``: one of the same agent that waits leads to a later version than it expects.
        """
        latest = self._latest.get((request.record_id, agent_id))
        if latest is None or latest.version < request.expected_version:
            return ""
        if latest.version > request.expected_version:
            raise Conflict(
                f"the memory has version {latest.version} in an update that waits, not {request.expected_version}",
                code="version_conflict",
                hint="Update with the version that the queued update answered.",
                record_ids=(RecordId(request.record_id),),
                current_version=latest.version,
                expected_version=request.expected_version,
            )
        return latest.name

    def require_same(self, write: QueuedWrite) -> None:
        """Refuse another request under the idempotency key of one that waits; the same one makes the same ids.

        Raises:
            Conflict: ``idempotency_key_reused``.
        """
        key = _key_of(write)
        earlier = self._under_key.get(key) if key else None
        if earlier is not None and earlier.promise.ids != write.ids:
            raise idempotency_key_reused()

    def add(self, seq: int, write: QueuedWrite, fingerprint: bytes) -> Promise:
        """Remember a write at a place; gives what its caller is promised."""
        promise = Promise(write.ids, write.agent_id)
        if seq in self._gone:
            self._gone.remove(seq)
            return promise  # it was done before its caller could be told
        version = write.request.expected_version + 1 if isinstance(write.request, UpdateRequest) else 0
        self._waiting[seq] = waiting = _Waiting(promise, fingerprint, version, write.name, _key_of(write))
        self._promises[fingerprint] = promise
        if version:
            self._latest[promise.ids[0], promise.agent_id] = waiting
        if waiting.key:
            self._under_key[waiting.key] = waiting
        return promise

    def remove(self, seq: int) -> None:
        """Forget a write of this process: it waits no longer."""
        waiting = self._waiting.pop(seq, None)
        if waiting is None:
            self._gone.add(seq)
            return
        key = (waiting.promise.ids[0], waiting.promise.agent_id)
        if self._promises.get(waiting.fingerprint) is waiting.promise:
            del self._promises[waiting.fingerprint]
        if self._latest.get(key) is waiting:
            del self._latest[key]
        if waiting.key and self._under_key.get(waiting.key) is waiting:
            del self._under_key[waiting.key]


def _key_of(write: QueuedWrite) -> _UnderKey | None:
    return (write.project_id, write.agent_id, write.idempotency_key) if write.idempotency_key else None
