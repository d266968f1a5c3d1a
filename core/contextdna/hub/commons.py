"""What the server processes of an installation have in common beside the database: cache, hints of events, locks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from contextdna.backends.in_process import InProcessCache
from contextdna.errors import SettingsInvalid
from contextdna.hub.locks import DatabaseLocks, SharedLocks
from contextdna.ports.database import Database
from contextdna.ports.storage import Cache, EventChannel, Locks
from contextdna.values.backend_health import BackendHealth
from contextdna.values.settings import HubSettings

if TYPE_CHECKING:
    from contextdna.backends.redis import Place

_CACHED_MAX: Final = 1000  # each of at most 64 KiB


async def _no_health() -> None:
    """Tell nothing."""


@dataclass(frozen=True, slots=True)
class Commons:
    """A cache, a channel and locks; in the process and the database alone, or in Redis too."""

    cache: Cache
    channel: EventChannel
    locks: Locks
    jobs: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = ()
    """To be run while the hub is open."""
    health: Callable[[], Awaitable[BackendHealth | None]] = _no_health
    """Asks Redis; None where there is none."""
    problem: Callable[[], str] = str
    """Gives the code of what keeps Redis away, as far as is known; empty while it is there."""


async def open_commons(
    stack: AsyncExitStack,
    settings: HubSettings,
    clock: Callable[[], datetime],
    *,
    database: Database,
    channel: EventChannel,
) -> Commons:
    """Open what the settings name. A Redis that does not answer now is no reason not to start.

    Args:
        stack: Closes it.
        settings: What to open.
        clock: Tells the time.
        database: What keeps locks where nothing else does.
        channel: Tells of events where nothing else does.

    Raises:
        SettingsInvalid: ``driver_missing`` or ``redis_url_invalid``.
    """
    near = InProcessCache(entries_max=_CACHED_MAX)
    locks = DatabaseLocks(database, clock)
    if not settings.cache:
        return Commons(near, channel, locks)
    require_redis_driver()
    from contextdna.backends.redis import RedisCache, RedisChannel, RedisLink, RedisLocks, SharedCache

    link = RedisLink(redis_place(settings))
    stack.push_async_callback(link.close)
    await link.attach()
    cache = SharedCache(near, RedisCache(link), write_behind=settings.redis.write_behind)
    told = RedisChannel(link)
    return Commons(
        cache,
        told,
        SharedLocks(RedisLocks(link), locks),
        jobs=(link.run, cache.run, told.run),
        health=link.health,
        problem=link.problem,
    )


def redis_place(settings: HubSettings) -> Place:
    """Give where Redis is, as the settings say."""
    from contextdna.backends.redis import Place

    own = settings.redis
    return Place(settings.cache, own.key_prefix, timeout_s=own.timeout_s, connections_max=own.connections_max)


def require_redis_driver() -> None:
    """Check that Redis can be talked to.

    Raises:
        SettingsInvalid: ``driver_missing``.
    """
    if find_spec("redis") is None:
        raise SettingsInvalid(
            "storage.cache names Redis, but the package redis is not installed",
            code="driver_missing",
            hint="Install contextdna[redis], or leave storage.cache empty.",
        )
