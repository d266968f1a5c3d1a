"""A cache in Redis, and one that is in the process and in Redis."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from copy import copy
from typing import Any, Final

import anyio

from contextdna.backends.in_process import InProcessCache
from contextdna.backends.redis.link import RedisLink
from contextdna.errors import StorageUnavailable
from contextdna.values.pattern import key_pattern

logger = logging.getLogger(__name__)

_KEPT: Final = "cache:"
_SCANNED: Final = 500
_BEHIND_MAX: Final = 1000
_GATHERED_MAX: Final = 128
_SPECIAL: Final = str.maketrans({sign: f"\\{sign}" for sign in "\\[]^-*?"})


class _Gathered:
    """Values that are sent together."""

    def __init__(self) -> None:
        self.values: list[tuple[str, bytes, int]] = []
        self.sent = anyio.Event()
        self.problem: StorageUnavailable | None = None


class RedisCache:
    """``Cache`` on a server or cluster, under keys that begin with our prefix."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._beginning = link.key(_KEPT)
        self._gathered: _Gathered | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def get(self, key: str) -> bytes | None:
        """Fetch a value, or None.

        Raises:
            StorageUnavailable: Redis is away. So do all the others.
        """
        value: bytes | None = await self._link.call(lambda client: client.get(self._beginning + key))
        return value

    async def get_with_ttl(self, key: str) -> tuple[bytes, float] | None:
        """Fetch a value, and for how many seconds it stays, in one exchange."""

        async def run(client: Any) -> list[Any]:
            commands = client.pipeline(transaction=False).get(self._beginning + key).pttl(self._beginning + key)
            told: list[Any] = await commands.execute()
            return told

        value, millis = await self._link.call(run)
        return None if value is None or millis <= 0 else (value, millis / 1000)

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Keep a value for a while; a ``ttl_s`` of 0 or less forgets it."""
        if ttl_s <= 0:
            await self.delete([key])
            return
        millis = _millis(ttl_s)
        await self._link.call(lambda client: client.set(self._beginning + key, value, px=millis))

    async def delete(self, keys: Sequence[str]) -> int:
        """Forget keys; gives how many were there."""
        return await self._count("unlink", keys)

    async def mget(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Fetch several values; keys that are not there are left out."""
        names = [self._beginning + key for key in keys]
        values = await self._link.call(lambda client: _mget(client)(names)) if names else []
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    async def mset(self, values: Mapping[str, bytes], *, ttl_s: float) -> None:
        """Keep several values for a while."""
        if ttl_s <= 0:
            await self.delete(list(values))
        elif values:
            millis = _millis(ttl_s)
            await self._put([(self._beginning + key, value, millis) for key, value in values.items()])

    async def exists(self, keys: Sequence[str]) -> int:
        """Tell how many of some keys are there."""
        return await self._count("exists", keys)

    async def clear(self) -> int:
        """Forget all keys that begin with our prefix; gives how many there were."""
        there = await self.keys()
        gone = 0
        for start in range(0, len(there), _SCANNED):
            gone += await self.delete(there[start : start + _SCANNED])
        return gone

    async def keys(self, pattern: str = "*") -> list[str]:
        """List keys in order; in the pattern ``*`` is any text and ``?`` one character.

        It goes through all keys of the server, page by page, so it is for operators rather than for calls.
        """
        match = self._beginning.translate(_SPECIAL) + _glob(pattern)
        matches = key_pattern(pattern).fullmatch
        found: set[str] = set()
        async for page in self._pages(match):
            found.update(key.decode()[len(self._beginning) :] for key in page)
        return sorted(filter(matches, found))

    async def _pages(self, match: str) -> AsyncIterator[list[bytes]]:
        """Go through the keys that match; each page is a call of its own, with its own deadline."""
        for node in await self._link.call(_nodes):
            cursor = 0
            while True:
                start = cursor
                cursor, page = await self._link.call(
                    lambda client, node=node, start=start: _page(client, node, start, match)  # type: ignore[misc]
                )
                yield page
                if not cursor:
                    break

    async def _put(self, values: Sequence[tuple[str, bytes, int]]) -> None:
        """Send values, with those of all who put some at the same moment: calls that are committed together end so."""
        gathered = self._gathered
        if gathered is None or len(gathered.values) >= _GATHERED_MAX:
            gathered = self._gathered = _Gathered()
            task = asyncio.create_task(self._send(gathered))  # of nobody: whoever is cancelled takes no other with it
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        gathered.values.extend(values)
        await gathered.sent.wait()
        if (problem := gathered.problem) is not None:
            raise copy(problem)

    async def _send(self, gathered: _Gathered) -> None:
        try:
            await asyncio.sleep(0)  # the others come now
            if self._gathered is gathered:
                self._gathered = None
            await self._link.call(lambda client: _put_all(client, gathered.values))
        except StorageUnavailable as problem:
            gathered.problem = problem
        finally:
            gathered.sent.set()

    async def _count(self, command: str, keys: Sequence[str]) -> int:
        names = [self._beginning + key for key in dict.fromkeys(keys)]
        if not names:
            return 0
        told: int = await self._link.call(lambda client: getattr(client, command)(*names))
        return told


async def _put_all(client: Any, values: Sequence[tuple[str, bytes, int]]) -> None:
    commands = client.pipeline(transaction=False)
    for name, value, millis in values:
        commands.set(name, value, px=millis)
    await commands.execute()


class SharedCache:
    """``Cache`` in this process, and behind it in Redis, where other processes find what is not in theirs.

    It never fails: while Redis is away, the process caches by itself.

    Args:
        near: In the process.
        far: In Redis.
        write_behind: Whether Redis is written by a job, ``run``, rather than before ``set`` answers.
    """

    def __init__(self, near: InProcessCache, far: RedisCache, *, write_behind: bool = False) -> None:
        self._near = near
        self._far = far
        self._behind: OrderedDict[str, tuple[bytes, float]] | None = OrderedDict() if write_behind else None
        self._waiting = anyio.Event()

    async def get(self, key: str) -> bytes | None:
        """Fetch a value: from here, else from Redis, whose value then is here for as long as it is there."""
        value = await self._near.get(key)
        if value is not None:
            return value
        try:
            found = await self._far.get_with_ttl(key)
        except StorageUnavailable:
            return None
        if found is None:
            return None
        await self._near.set(key, found[0], ttl_s=found[1])
        return found[0]

    async def set(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Keep a value for a while, here and in Redis."""
        await self.mset({key: value}, ttl_s=ttl_s)

    async def delete(self, keys: Sequence[str]) -> int:
        """Forget keys, here and in Redis."""
        for key in keys:
            if self._behind is not None:
                self._behind.pop(key, None)
        here = list(await self._near.mget(keys))
        await self._near.delete(here)
        try:
            elsewhere = await self._far.delete([key for key in keys if key not in here])
            await self._far.delete(here)
        except StorageUnavailable:
            return len(here)
        return len(here) + elsewhere

    async def mget(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Fetch several values, from here, else from Redis."""
        found = await self._near.mget(keys)
        try:
            return found | await self._far.mget([key for key in keys if key not in found])
        except StorageUnavailable:
            return found

    async def mset(self, values: Mapping[str, bytes], *, ttl_s: float) -> None:
        """Keep several values for a while, here and in Redis."""
        await self._near.mset(values, ttl_s=ttl_s)
        if self._behind is not None and ttl_s > 0:
            self._put_behind(values, ttl_s)
            return
        try:
            await self._far.mset(values, ttl_s=ttl_s)
        except StorageUnavailable as error:
            logger.debug("a value is cached in this process alone: %s", error.code)

    async def exists(self, keys: Sequence[str]) -> int:
        """Tell how many of some keys are there, here or in Redis."""
        return len(await self.mget(list(dict.fromkeys(keys))))

    async def clear(self) -> int:
        """Forget all keys, here and in Redis."""
        if self._behind is not None:
            self._behind.clear()
        here = await self._near.keys()
        await self._near.clear()
        try:
            there = {*here, *await self._far.keys()}
            await self._far.clear()
        except StorageUnavailable:
            return len(here)
        return len(there)

    async def keys(self, pattern: str = "*") -> list[str]:
        """List keys in order, of here and of Redis."""
        here = await self._near.keys(pattern)
        try:
            return sorted({*here, *await self._far.keys(pattern)})
        except StorageUnavailable:
            return here

    async def run(self) -> None:
        """Write to Redis what waits for it, until cancelled. What cannot be written is not cached there."""
        while self._behind is not None:
            await self._waiting.wait()
            self._waiting = anyio.Event()
            while self._behind:
                key, (value, ttl_s) = self._behind.popitem(last=False)
                try:
                    await self._far.set(key, value, ttl_s=ttl_s)
                except StorageUnavailable as error:
                    logger.debug("a value is cached in this process alone: %s", error.code)

    def _put_behind(self, values: Mapping[str, bytes], ttl_s: float) -> None:
        if self._behind is None:
            return
        for key, value in values.items():
            self._behind.pop(key, None)
            self._behind[key] = (value, ttl_s)
            if len(self._behind) > _BEHIND_MAX:
                self._behind.popitem(last=False)
        self._waiting.set()


def _millis(ttl_s: float) -> int:
    return max(1, round(ttl_s * 1000))


def _glob(pattern: str) -> str:
    """Write a pattern as Redis has it, or a wider one. Source: https://redis.io/docs/latest/commands/keys/"""
    return "".join("*" if sign in "*?" else sign.translate(_SPECIAL) for sign in pattern)  # ? is one byte there


def _mget(client: Any) -> Callable[[Sequence[str]], Awaitable[list[bytes | None]]]:
    """Give the client's way to ask for several keys; those of a cluster may be on several nodes."""
    mget: Callable[[Sequence[str]], Awaitable[list[bytes | None]]] = getattr(client, "mget_nonatomic", client.mget)
    return mget


async def _nodes(client: Any) -> list[Any]:
    """Give the primaries of a cluster; of a server, one None."""
    if not hasattr(client, "get_primaries"):
        return [None]
    await client.initialize()
    return list(client.get_primaries())


async def _page(client: Any, node: Any, cursor: int, match: str) -> tuple[int, list[bytes]]:
    if node is None:
        told = await client.scan(cursor, match=match, count=_SCANNED)
    else:
        cursors, page = await client.scan(cursor, match=match, count=_SCANNED, target_nodes=node)
        told = (next(iter(cursors.values())), page)
    return int(told[0]), list(told[1])
