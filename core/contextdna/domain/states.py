"""Working state: what an agent keeps under keys while a session lasts, durable, always encrypted, gone at its end."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from contextdna.domain import sessions, state_snapshots
from contextdna.domain.encryption import Binding
from contextdna.domain.operation import Operation
from contextdna.domain.state_snapshots import HeldState
from contextdna.domain.validation import check_count, check_json, check_name, check_seconds
from contextdna.errors import InvalidInput, LimitExceeded
from contextdna.values.ids import SessionId
from contextdna.values.level import Level
from contextdna.values.pattern import key_pattern
from contextdna.values.session import Session, StateEntry, StateRow

KEYS_MAX: Final = 256
VALUE_BYTES_MAX: Final = 64 * 1024
_PATTERN_CHARS_MAX: Final = 128


async def put(
    op: Operation, values: Mapping[str, Any], held: bytes | None, *, ttl_s: float | None
) -> tuple[tuple[StateEntry, ...], HeldState]:
    """Keep values under keys of the session, over what stands there: all, or none.

    Args:
        op: The operation.
        values: What to keep.
        held: What a cache holds of the session.
        ttl_s: For how long, None for as long as the settings say.

    Returns:
        The entries, and what the cache is to hold; nothing, where it did not hold what stood before.

    Raises:
        SessionInvalid: ``session_required``.
        InvalidInput: ``key_invalid``, ``value_invalid`` or ``ttl_out_of_range``.
        LimitExceeded: ``value_too_large``, ``keys_out_of_range`` or ``state_keys_too_many``.
    """
    check_count(len(values), name="keys", maximum=KEYS_MAX)
    for key, value in values.items():
        check_name(key, name="key")
        check_json(value, name="value", bytes_max=VALUE_BYTES_MAX)
    session = await sessions.current(op)
    stood = state_snapshots.unseal(op, session, held)
    rows = await op.tx.states.of(op.project_id, session.id) if stood is None else stood
    return await _put(op, session, rows, values, stood, ttl_s=ttl_s)


async def append(
    op: Operation, key: str, values: Sequence[Any], held: bytes | None, *, ttl_s: float | None
) -> tuple[int, HeldState]:
    """Add values to the end of the list under a key, which is made where there is none; gives how many it holds.

    Raises:
        SessionInvalid: ``session_required``.
        InvalidInput: ``key_invalid``, ``value_invalid``, ``ttl_out_of_range``, or ``value_not_list``: something else is
            under the key.
        LimitExceeded: ``value_too_large``, ``values_out_of_range`` or ``state_keys_too_many``.
    """
    check_name(key, name="key")
    check_count(len(values), name="values", maximum=VALUE_BYTES_MAX)
    session = await sessions.current(op)
    rows = await op.tx.states.of(op.project_id, session.id)
    longer = [*_list_under(op, key, [_open(op, row) for row in rows if row.key == key]), *values]
    check_json(longer, name="value", bytes_max=VALUE_BYTES_MAX)
    stood = state_snapshots.unseal(op, session, held)
    _, fresh = await _put(op, session, rows, {key: longer}, stood, ttl_s=ttl_s)
    return len(longer), fresh


async def read(
    op: Operation, keys: Sequence[str], held: bytes | None
) -> tuple[tuple[StateEntry, ...], HeldState | None]:
    """Read keys of the session, all without names; those past their time are gone.

    Args:
        op: The operation.
        keys: Which.
        held: What a cache holds; it counts only where the session's state has not moved on.

    Returns:
        The entries in order of their keys, and what the cache should hold, where that is something else.

    Raises:
        SessionInvalid: ``session_required``.
        InvalidInput: ``key_invalid``.
        LimitExceeded: ``keys_out_of_range``.
    """
    _check_keys(keys)
    standing, fresh = await _standing(op, held)
    entries = tuple(entry for entry in standing if not keys or entry.key in keys)
    op.note(keys=len(entries))
    return entries, fresh


async def read_range(
    op: Operation, key: str, held: bytes | None, *, start: int, end: int
) -> tuple[tuple[Any, ...], HeldState | None]:
    """Read a part of the list under a key: both ends are in it, and negative ones count from its end, -1 the last.

    Raises:
        SessionInvalid: ``session_required``.
        InvalidInput: ``key_invalid`` or ``value_not_list``.
    """
    values, fresh = await _read_list(op, key, held)
    first = max(0, start + len(values) if start < 0 else start)
    last = end + len(values) if end < 0 else end
    part = values[first : last + 1] if last >= first else []
    op.note(values=len(part))
    return tuple(part), fresh


async def length(op: Operation, key: str, held: bytes | None) -> tuple[int, HeldState | None]:
    """Tell how many values the list under a key holds, 0 where there is none.

    Raises:
        SessionInvalid: ``session_required``.
        InvalidInput: ``key_invalid`` or ``value_not_list``.
    """
    values, fresh = await _read_list(op, key, held)
    return len(values), fresh


async def names(op: Operation, pattern: str, held: bytes | None) -> tuple[tuple[str, ...], HeldState | None]:
    """List keys of the session in order; in the pattern ``*`` is any text and ``?`` one character.

    Raises:
        SessionInvalid: ``session_required``.
        LimitExceeded: ``pattern_out_of_range``.
    """
    check_count(len(pattern), name="pattern", minimum=0, maximum=_PATTERN_CHARS_MAX)
    standing, fresh = await _standing(op, held)
    matches = key_pattern(pattern).fullmatch
    found = tuple(entry.key for entry in standing if matches(entry.key))
    op.note(keys=len(found))
    return found, fresh


async def delete(op: Operation, keys: Sequence[str], held: bytes | None) -> tuple[int, HeldState]:
    """Remove keys of the session; gives how many were there. Those past their time were not.

    Raises:
        SessionInvalid: ``session_required``.
        LimitExceeded: ``keys_out_of_range``: no key, or too many.
    """
    check_count(len(keys), name="keys", maximum=KEYS_MAX)
    _check_keys(keys)
    return await _delete(op, keys, held)


async def clear(op: Operation, held: bytes | None) -> tuple[int, HeldState]:
    """Remove all keys of the session; gives how many were there.

    Raises:
        SessionInvalid: ``session_required``.
    """
    return await _delete(op, None, held)


async def _put(
    op: Operation,
    session: Session,
    rows: Sequence[StateRow | StateEntry],
    values: Mapping[str, Any],
    stood: Sequence[StateEntry] | None,
    *,
    ttl_s: float | None,
) -> tuple[tuple[StateEntry, ...], HeldState]:
    work = op.settings.work
    seconds = check_seconds(work.state_ttl_s if ttl_s is None else ttl_s, name="ttl", maximum=work.session_ttl_max_s)
    gone = [row.key for row in rows if row.expires_at <= op.now]
    if gone:
        await op.tx.states.delete(op.project_id, session.id, gone)
    if len({row.key for row in rows if row.expires_at > op.now} | set(values)) > KEYS_MAX:
        raise LimitExceeded(
            f"the session would hold more than {KEYS_MAX} keys",
            code="state_keys_too_many",
            hint="Delete keys, or keep several values under one.",
        )
    session = await _next(op, session)
    expires_at = min(session.expires_at, op.now + timedelta(seconds=seconds))
    entries = tuple(StateEntry(key, value, session.state_version, op.now, expires_at) for key, value in values.items())
    for entry in entries:
        sealed = op.keys.seal(
            {"value": entry.value}, _binding(op, session.id, entry.key, entry.version), encrypted=True
        )
        await op.tx.states.put(
            StateRow(op.project_id, session.id, entry.key, entry.version, op.now, expires_at, sealed)
        )
    op.note(session=session.id, state_version=session.state_version)
    return entries, _held(op, session, stood, values, entries)


async def _delete(op: Operation, keys: Sequence[str] | None, held: bytes | None) -> tuple[int, HeldState]:
    session = await sessions.current(op)
    rows = await op.tx.states.of(op.project_id, session.id)
    chosen = {row.key for row in rows if keys is None or row.key in keys}
    removed = sum(row.key in chosen for row in rows if row.expires_at > op.now)
    stood = state_snapshots.unseal(op, session, held)
    if chosen:
        await op.tx.states.delete(op.project_id, session.id, sorted(chosen))
        session = await _next(op, session)
    op.note(session=session.id, removed=removed)
    return removed, _held(op, session, stood, chosen, ())


async def _next(op: Operation, session: Session) -> Session:
    """Give the session's state its next version."""
    session = replace(session, state_version=session.state_version + 1, updated_at=op.now)
    await op.tx.sessions.replace(session)
    return session


def _held(
    op: Operation,
    session: Session,
    stood: Sequence[StateEntry] | None,
    gone: Collection[str],
    come: Sequence[StateEntry],
) -> HeldState:
    """Give what a cache is to hold after a change; nothing, where nobody has opened what stood before."""
    if stood is None:
        return HeldState(session.id)
    entries = [*(entry for entry in stood if entry.key not in gone), *come]
    return state_snapshots.seal(op, session, sorted(entries, key=lambda entry: entry.key))


async def _standing(op: Operation, held: bytes | None) -> tuple[Sequence[StateEntry], HeldState | None]:
    """Give the entries of the session that are not past their time, of a cache where it holds these."""
    session = await sessions.current(op)
    op.note(session=session.id)
    fresh: HeldState | None = None
    entries = state_snapshots.unseal(op, session, held)
    if entries is None:
        entries = tuple(_open(op, row) for row in await op.tx.states.of(op.project_id, session.id))
        fresh = state_snapshots.seal(op, session, entries)
    return [entry for entry in entries if entry.expires_at > op.now], fresh


async def _read_list(op: Operation, key: str, held: bytes | None) -> tuple[list[Any], HeldState | None]:
    check_name(key, name="key")
    standing, fresh = await _standing(op, held)
    return _list_under(op, key, standing), fresh


def _list_under(op: Operation, key: str, entries: Sequence[StateEntry]) -> list[Any]:
    value: Any = next((entry.value for entry in entries if entry.key == key and entry.expires_at > op.now), [])
    if not isinstance(value, list):
        raise InvalidInput(
            "what stands under the key is no list",
            code="value_not_list",
            hint="Read it as a value, or choose another key for the list.",
        )
    return value


def _check_keys(keys: Sequence[str]) -> None:
    check_count(len(keys), name="keys", maximum=KEYS_MAX, minimum=0)
    for key in keys:
        check_name(key, name="key")


def _open(op: Operation, row: StateRow) -> StateEntry:
    body = op.keys.open(row.sealed, _binding(op, row.session_id, row.key, row.version), encrypted=True)
    return StateEntry(row.key, body["value"], row.version, row.updated_at, row.expires_at)


def _binding(op: Operation, session_id: SessionId, key: str, version: int) -> Binding:
    return Binding("session_states", op.project_id, f"{session_id}/{key}", Level.PRIVATE, version)
