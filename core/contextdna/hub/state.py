"""The working state of the call's session: values and lists under keys, as long as the session lasts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from contextdna.domain import states
from contextdna.domain.access import Action, Caller
from contextdna.domain.operation import Operation
from contextdna.domain.state_snapshots import HeldState
from contextdna.hub.door import Door
from contextdna.ports.storage import Cache
from contextdna.values.session import StateEntry

R = TypeVar("R")


class State:
    """The state part of a workspace. Always encrypted, of the session's agent alone, and gone with the session.

    A value is any JSON of up to 64 KiB. What is read is never older than what was committed before the call.
    """

    def __init__(self, door: Door, cache: Cache, caller: Caller) -> None:
        self._door = door
        self._cache = cache
        self._caller = caller

    async def get(self, key: str) -> StateEntry | None:
        """Read a key; None where it is not there."""
        entries = await self.mget([key])
        return entries[0] if entries else None

    async def set(self, key: str, value: Any, *, ttl_s: float | None = None) -> StateEntry:
        """Keep a value under a key.

        Args:
            key: The key.
            value: The value.
            ttl_s: For how long, ``work.state_ttl_s`` when None; no longer than the session.

        Raises:
            LimitExceeded: ``value_too_large`` or ``state_keys_too_many``.
        """
        return (await self.mset({key: value}, ttl_s=ttl_s))[0]

    async def delete(self, keys: Sequence[str]) -> int:
        """Remove keys; gives how many were there."""
        return await self._write(Action.DELETE_STATE, lambda op, held: states.delete(op, keys, held))

    async def append(self, key: str, values: Sequence[Any], *, ttl_s: float | None = None) -> int:
        """Add values to the end of the list under a key, which is made where there is none; gives how many it holds.

        Raises:
            InvalidInput: ``value_not_list``: something else stands under the key.
            LimitExceeded: ``value_too_large``: the list would be.
        """
        added = tuple(values)
        return await self._write(Action.SET_STATE, lambda op, held: states.append(op, key, added, held, ttl_s=ttl_s))

    async def get_range(self, key: str, start: int = 0, end: int = -1) -> tuple[Any, ...]:
        """Read a part of the list under a key: both ends are in it, and negative ones count from its end, -1 the last.

        Raises:
            InvalidInput: ``value_not_list``.
        """
        return await self._read(lambda op, held: states.read_range(op, key, held, start=start, end=end))

    async def get_length(self, key: str) -> int:
        """Tell how many values the list under a key holds, 0 where there is none.

        Raises:
            InvalidInput: ``value_not_list``.
        """
        return await self._read(lambda op, held: states.length(op, key, held))

    async def mget(self, keys: Sequence[str] = ()) -> tuple[StateEntry, ...]:
        """Read several keys, all without names, in order; those that are not there are left out."""
        return await self._read(lambda op, held: states.read(op, keys, held))

    async def mset(self, values: Mapping[str, Any], *, ttl_s: float | None = None) -> tuple[StateEntry, ...]:
        """Keep several values, all or none.

        Raises:
            LimitExceeded: ``value_too_large``, ``keys_out_of_range`` or ``state_keys_too_many``.
        """
        kept = dict(values)
        return await self._write(Action.SET_STATE, lambda op, held: states.put(op, kept, held, ttl_s=ttl_s))

    async def exists(self, keys: Sequence[str]) -> int:
        """Tell how many of some keys are there."""
        wanted = tuple(dict.fromkeys(keys))
        return len(await self.mget(wanted)) if wanted else len(await self.keys(""))

    async def clear(self) -> int:
        """Remove all keys; gives how many were there."""
        return await self._write(Action.DELETE_STATE, states.clear)

    async def keys(self, pattern: str = "*") -> tuple[str, ...]:
        """List keys in order; in the pattern ``*`` is any text and ``?`` one character, and all else means itself."""
        return await self._read(lambda op, held: states.names(op, pattern, held))

    async def _read(self, run: Callable[[Operation, bytes | None], Awaitable[tuple[R, HeldState | None]]]) -> R:
        """Read with what the cache holds; the transaction judges whether that still counts."""
        held = await self._cache.get(_name_of(self._caller))
        answer, fresh = await self._door.read(self._caller, Action.GET_STATE, lambda op: run(op, held))
        if fresh is not None:
            await self._hold(fresh)
        return answer

    async def _write(
        self, action: Action, run: Callable[[Operation, bytes | None], Awaitable[tuple[R, HeldState]]]
    ) -> R:
        """Write to the database, then to the cache: what stood there before is carried on, not opened anew."""
        held = await self._cache.get(_name_of(self._caller))
        answer, fresh = await self._door.write(self._caller, action, lambda op: run(op, held))
        await self._hold(fresh)  # what is not held, or of an older version, is read from the database
        return answer

    async def _hold(self, state: HeldState) -> None:
        await self._cache.set(_name(state.session_id), state.data, ttl_s=state.ttl_s)


async def let_go(cache: Cache, caller: Caller) -> None:
    """Forget what a cache holds of the call's session, which has ended."""
    await cache.delete([_name_of(caller)])


def _name_of(caller: Caller) -> str:
    return _name(caller.handle.partition(".")[0])


def _name(session_id: str) -> str:
    return f"state:{session_id}"
