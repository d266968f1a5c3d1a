"""What a Redis server says of itself."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redis.exceptions import ResponseError

from contextdna.backends.redis.driver import HINT_CLUSTER, Place, unavailable
from contextdna.backends.redis.link import RedisLink

_UNKNOWN = "of unknown version"


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """A server, or one node of a cluster."""

    version: str
    latency_ms: float
    is_cluster: bool
    is_secure: bool
    """Whether the connection is encrypted, or within this machine."""
    fills_up: bool
    """Whether it refuses writes when it is full, instead of forgetting what was not used for long."""


async def redis_facts(place: Place) -> RedisFacts:
    """Ask a server.

    Raises:
        SettingsInvalid: ``redis_url_invalid``.
        StorageUnavailable: It cannot be reached, or refuses us.
    """
    link = RedisLink(place)
    try:
        health = await link.health()  # connects
        health = await link.health() if health.sound else health
        told = await link.call(_told)
        if told.get("cluster_enabled") and not place.is_cluster:
            raise unavailable("redis_refused", "storage.cache names one node of a cluster as a server", HINT_CLUSTER)
    finally:
        await link.close()
    is_secure = urlsplit(place.url).scheme.startswith(("rediss", "unix"))
    fills_up = bool(told.get("maxmemory")) and told.get("maxmemory_policy") == "noeviction"
    return RedisFacts(
        str(told.get("redis_version", _UNKNOWN)), health.latency_ms, place.is_cluster, is_secure, fills_up
    )


async def _told(client: Any) -> dict[str, Any]:
    try:
        told: dict[str, Any] = await client.info()
    except ResponseError:  # our user there need not have the right to ask
        return {}
    return told if "redis_version" in told else next(iter(told.values()), {})  # a cluster tells of each node
