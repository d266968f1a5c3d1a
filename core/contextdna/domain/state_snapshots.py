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
from contextdna.values.session import Session, StateRow

HELD_BYTES_MAX: Final = 64 * 1024
"""A larger state is read from the database each time."""

_HEAD_BYTES: Final = 4
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class HeldState:
    """What a cache is to hold of a session, and for how long; no longer at all where that is 0."""

    session_id: SessionId
    data: bytes
    ttl_s: float


def seal(op: Operation, session: Session, rows: Sequence[StateRow]) -> HeldState:
    """Seal the rows that stand at the session's state version."""
    standing = [row for row in rows if row.expires_at > op.now]
    if not standing or sum(len(row.sealed.data) for row in standing) > HELD_BYTES_MAX:
        return HeldState(session.id, b"", 0)
    data, salt = op.keys.encrypt(_packed(standing), _binding(op, session))
    head = json.dumps([op.keys.current_key_id, salt.hex()]).encode()
    ttl_s = (max(row.expires_at for row in standing) - op.now).total_seconds()
    return HeldState(session.id, len(head).to_bytes(_HEAD_BYTES) + head + data, ttl_s)


def unseal(op: Operation, session: Session, held: bytes | None) -> tuple[StateRow, ...] | None:
    """Give the rows that a cache holds; None where they are of another version or session, or not as we sealed them."""
    if held is None:
        return None
    size = int.from_bytes(held[:_HEAD_BYTES])
    try:
        key_id, salt = json.loads(held[_HEAD_BYTES : _HEAD_BYTES + size])
        data = held[_HEAD_BYTES + size :]
        plain = op.keys.decrypt(data, _binding(op, session), key_id=key_id, salt=bytes.fromhex(salt))
    except (IntegrityFault, ValueError, TypeError):
        return None
    return _unpacked(plain, session)


def _binding(op: Operation, session: Session) -> Binding:
    return Binding("held_states", op.project_id, session.id, Level.PRIVATE, session.state_version)


def _packed(rows: Sequence[StateRow]) -> bytes:
    """Lay rows out: a list of what each is, then their salts and bodies as they are."""
    heads = [
        [
            row.key,
            row.version,
            _micros(row.updated_at),
            _micros(row.expires_at),
            row.sealed.codec,
            row.sealed.key_id,
            len(row.sealed.salt),
            len(row.sealed.data),
        ]
        for row in rows
    ]
    head = json.dumps(heads, separators=(",", ":")).encode()
    return b"".join((len(head).to_bytes(_HEAD_BYTES), head, *(row.sealed.salt + row.sealed.data for row in rows)))


def _unpacked(data: bytes, session: Session) -> tuple[StateRow, ...]:
    size = int.from_bytes(data[:_HEAD_BYTES])
    place = _HEAD_BYTES + size
    rows = []
    for key, version, updated, expires, codec, key_id, salt_size, data_size in json.loads(data[_HEAD_BYTES:place]):
        salt = data[place : place + salt_size]
        body = data[place + salt_size : place + salt_size + data_size]
        place += salt_size + data_size
        sealed = Sealed(data=body, codec=Codec(codec), key_id=key_id, salt=salt)
        rows.append(StateRow(session.project_id, session.id, key, version, _moment(updated), _moment(expires), sealed))
    return tuple(rows)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(micros: int) -> datetime:
    return _EPOCH + micros * _MICROSECOND
