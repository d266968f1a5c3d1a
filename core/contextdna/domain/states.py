"""Working state: what an agent keeps under keys while a session lasts, durable, always encrypted, gone at its end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from contextdna.domain import sessions
from contextdna.domain.encryption import Binding
from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_count, check_json, check_name, check_seconds
from contextdna.errors import LimitExceeded
from contextdna.values.ids import SessionId
from contextdna.values.level import Level
from contextdna.values.session import StateEntry, StateRow

KEYS_MAX: Final = 256
VALUE_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """A session's rows, sealed as they are stored, at one state version: what a cache may hold."""

    session_id: SessionId
    version: int
    rows: tuple[StateRow, ...]

    @property
    def size_bytes(self) -> int:
        """How much the sealed values hold."""
        return sum(len(row.sealed.data) for row in self.rows)


async def put(op: Operation, key: str, value: Any, *, ttl_s: float | None) -> StateEntry:
    """Keep a value under a key of the session, over what stands there.

    Raises:
        SessionInvalid: ``session_required``.
        InvalidInput: ``key_invalid``, ``value_invalid`` or ``ttl_out_of_range``.
        LimitExceeded: ``value_too_large`` or ``state_keys_too_many``.
    """
    check_name(key, name="key")
    check_json(value, name="value", bytes_max=VALUE_BYTES_MAX)
    work = op.settings.work
    seconds = check_seconds(work.state_ttl_s if ttl_s is None else ttl_s, name="ttl", maximum=work.session_ttl_max_s)
    session = await sessions.current(op)
    rows = await op.tx.states.of(op.project_id, session.id)
    standing = {row.key for row in rows if row.expires_at > op.now}
    await op.tx.states.delete(op.project_id, session.id, [row.key for row in rows if row.key not in standing])
    if key not in standing and len(standing) >= KEYS_MAX:
        raise LimitExceeded(
            f"the session holds {KEYS_MAX} keys already",
            code="state_keys_too_many",
            hint="Delete keys, or keep several values under one.",
        )
    version = session.state_version + 1
    row = StateRow(
        project_id=op.project_id,
        session_id=session.id,
        key=key,
        version=version,
        updated_at=op.now,
        expires_at=min(session.expires_at, op.now + timedelta(seconds=seconds)),
        sealed=op.keys.seal({"value": value}, _binding(op, session.id, key, version), encrypted=True),
    )
    await op.tx.states.put(row)
    await op.tx.sessions.replace(replace(session, state_version=version, updated_at=op.now))
    op.note(session=session.id, state_version=version)
    return _open(op, row)


async def read(
    op: Operation, keys: Sequence[str], held: StateSnapshot | None
) -> tuple[tuple[StateEntry, ...], StateSnapshot]:
    """Read keys of the session, all without names; those past their time are gone.

    Args:
        op: The operation.
        keys: Which.
        held: What a cache holds; it counts only where the session's state has not moved on.

    Returns:
        The entries in order of their keys, and the snapshot that they are of.

    Raises:
        SessionInvalid: ``session_required``.
        InvalidInput: ``key_invalid``.
        LimitExceeded: ``keys_out_of_range``.
    """
    _check_keys(keys)
    session = await sessions.current(op)
    if held is None or (held.session_id, held.version) != (session.id, session.state_version):
        rows = await op.tx.states.of(op.project_id, session.id) if session.state_version else ()
        held = StateSnapshot(session.id, session.state_version, tuple(rows))
    entries = tuple(_open(op, row) for row in held.rows if row.expires_at > op.now and (not keys or row.key in keys))
    op.note(session=session.id, keys=len(entries))
    return entries, held


async def delete(op: Operation, keys: Sequence[str]) -> int:
    """Remove keys of the session; gives how many were there. Those past their time were not.

    Raises:
        SessionInvalid: ``session_required``.
        LimitExceeded: ``keys_out_of_range``: no key, or too many.
    """
    check_count(len(keys), name="keys", maximum=KEYS_MAX)
    _check_keys(keys)
    session = await sessions.current(op)
    standing = {row.key for row in await op.tx.states.of(op.project_id, session.id) if row.expires_at > op.now}
    removed = len(standing.intersection(keys))
    if await op.tx.states.delete(op.project_id, session.id, keys):
        version = session.state_version + 1
        await op.tx.sessions.replace(replace(session, state_version=version, updated_at=op.now))
    op.note(session=session.id, removed=removed)
    return removed


def _check_keys(keys: Sequence[str]) -> None:
    check_count(len(keys), name="keys", maximum=KEYS_MAX, minimum=0)
    for key in keys:
        check_name(key, name="key")


def _open(op: Operation, row: StateRow) -> StateEntry:
    body = op.keys.open(row.sealed, _binding(op, row.session_id, row.key, row.version), encrypted=True)
    return StateEntry(row.key, body["value"], row.version, row.updated_at, row.expires_at)


def _binding(op: Operation, session_id: SessionId, key: str, version: int) -> Binding:
    return Binding("session_states", op.project_id, f"{session_id}/{key}", Level.PRIVATE, version)
