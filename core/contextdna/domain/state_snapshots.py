"""A session's working state as a cache holds it: sealed as one piece that opens for its session and version alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from contextdna.domain.encryption import Binding
from contextdna.domain.operation import Operation
from contextdna.errors import IntegrityFault
from contextdna.values.ids import SessionId
from contextdna.values.level import Level
from contextdna.values.record import Codec, Sealed
from contextdna.values.session import Session, StateEntry

HELD_BYTES_MAX: Final = 64 * 1024
"""A larger state is read from the database each time."""

_HEAD_BYTES: Final = 2
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class HeldState:
    """What a cache is to hold of a session, and for how long; no longer at all where that is 0."""

    session_id: SessionId
    data: bytes = b""
    ttl_s: float = 0


def seal(op: Operation, session: Session, entries: Sequence[StateEntry]) -> HeldState:
    """Seal the entries that stand at the session's state version."""
    standing = [entry for entry in entries if entry.expires_at > op.now]
    if not standing:
        return HeldState(session.id)
    body = {"entries": [[e.key, e.value, e.version, _micros(e.updated_at), _micros(e.expires_at)] for e in standing]}
    sealed = op.keys.seal(body, _binding(op, session), encrypted=True)
    head = json.dumps([sealed.key_id, sealed.salt.hex(), sealed.codec]).encode()
    data = len(head).to_bytes(_HEAD_BYTES) + head + sealed.data
    if len(data) > HELD_BYTES_MAX:
        return HeldState(session.id)
    ttl_s = (max(entry.expires_at for entry in standing) - op.now).total_seconds()
    return HeldState(session.id, data, ttl_s)


def unseal(op: Operation, session: Session, held: bytes | None) -> tuple[StateEntry, ...] | None:
    """Give the entries that a cache holds; None where they are of another version or session, or not sealed by us."""
    if not session.state_version:
        return ()
    if held is None:
        return None
    start = _HEAD_BYTES + int.from_bytes(held[:_HEAD_BYTES])
    try:
        key_id, salt, codec = json.loads(held[_HEAD_BYTES:start])
        sealed = Sealed(data=held[start:], codec=Codec(codec), key_id=key_id, salt=bytes.fromhex(salt))
        body = op.keys.open(sealed, _binding(op, session), encrypted=True)
    except (IntegrityFault, ValueError, TypeError):
        return None
    return tuple(
        StateEntry(key, value, version, _moment(updated), _moment(expires))
        for key, value, version, updated, expires in body["entries"]
    )


def _binding(op: Operation, session: Session) -> Binding:
    return Binding("held_states", op.project_id, session.id, Level.PRIVATE, session.state_version)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(micros: int) -> datetime:
    return _EPOCH + micros * _MICROSECOND
