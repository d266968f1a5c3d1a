"""Locks in Redis.

Source: https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/ . What a single server grants it may
forget, with all it knows; the fencing number makes that harmless, so it has to grow even then: it is never less than
the server's clock.
"""

import secrets
from typing import Final

from contextdna.backends.redis.driver import unavailable
from contextdna.backends.redis.link import RedisLink
from contextdna.values.ids import ProjectId
from contextdna.values.lease import Lease

_FENCING_KEPT_S: Final = 30 * 86_400

_ACQUIRE: Final = """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return ''
end
local now = redis.call('TIME')
local fencing = math.max(tonumber(redis.call('GET', KEYS[2]) or 0) + 1, now[1] * 1000000 + now[2])
local written = string.format('%.0f', fencing)
redis.call('SET', KEYS[2], written, 'EX', ARGV[3])
return written
"""
_RENEW: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
"""


class RedisLocks:
    """``Locks`` on a server or cluster."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    async def acquire(self, project_id: ProjectId, name: str, *, ttl_s: float) -> Lease | None:
        """Take a lock; None while another one has it.

        A lock that was taken by an attempt whose answer was lost is nobody's until its time is over.

        Raises:
            StorageUnavailable: Redis is away. So do all the others.
        """
        holder = secrets.token_hex(16)
        keys = self._keys(project_id, name)
        arguments = (holder, max(1, round(ttl_s * 1000)), _FENCING_KEPT_S)
        told = await self._link.call(lambda client: client.eval(_ACQUIRE, len(keys), *keys, *arguments))
        return Lease(project_id, name, holder, _number(told)) if told else None

    async def renew(self, lease: Lease, *, ttl_s: float) -> bool:
        """Keep a lock for longer; False when it is over."""
        key = self._keys(lease.project_id, lease.name)[0]
        millis = max(1, round(ttl_s * 1000))
        return bool(await self._link.call(lambda client: client.eval(_RENEW, 1, key, lease.holder, millis)))

    async def release(self, lease: Lease) -> bool:
        """Give a lock back; False when it was over, or another one's."""
        key = self._keys(lease.project_id, lease.name)[0]
        return bool(await self._link.call(lambda client: client.eval(_RELEASE, 1, key, lease.holder)))

    def _keys(self, project_id: ProjectId, name: str) -> tuple[str, str]:
        """Give the keys of a lock and of its numbers; what is between braces puts both on one node of a cluster."""
        tag = f"{{{project_id}/{name}}}"
        return self._link.key(f"lock:{tag}"), self._link.key(f"fencing:{tag}")


def _number(told: bytes) -> int:
    """Read a fencing number; what others have written in its place may come to none."""
    try:
        return int(told)
    except ValueError:
        raise unavailable("redis_refused", "Redis gave a lock no number") from None
