"""Redis: a cache, hints of events, and locks between server processes (extra ``redis``). Imported only when it is used.

Nothing is in it alone: what it forgets is found in the database.
"""

from contextdna.backends.redis.cache import RedisCache, SharedCache
from contextdna.backends.redis.channel import RedisChannel
from contextdna.backends.redis.driver import Place
from contextdna.backends.redis.facts import RedisFacts, redis_facts
from contextdna.backends.redis.link import RedisLink
from contextdna.backends.redis.locks import RedisLocks

__all__ = ["Place", "RedisCache", "RedisChannel", "RedisFacts", "RedisLink", "RedisLocks", "SharedCache", "redis_facts"]
