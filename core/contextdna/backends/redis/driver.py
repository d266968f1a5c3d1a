"""redis-py: where a server or cluster is, how a client is set up, and what its errors mean."""

import re
import ssl
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit, urlunsplit

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.maint_notifications import MaintNotificationsConfig

from contextdna.errors import SettingsInvalid, StorageUnavailable

DRIVER_ERRORS: Final = (exceptions.RedisError, exceptions.RedisClusterException, OSError, TimeoutError)
"""Whatever redis-py raises once it is called."""

_CLUSTER: Final = "+cluster"
_SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix")
_OPTIONS: Final = frozenset(
    {"db", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_min_version"}
)
"""What a URL may say behind its question mark. Deadlines are settings; that a certificate is checked is none."""

_DATABASE: Final = re.compile(r"/?|/[0-9]+/?")

_PROTOCOL: Final = 2
"""Every server speaks it, and says in it why it refuses a login. Source: https://redis.io/docs/latest/develop/reference/protocol-spec/"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where Redis is, how long we wait for it, and what our keys begin with."""

    url: str = field(repr=False)  # it may hold a password
    key_prefix: str = "contextdna"
    timeout_s: float = 0.25
    """How long one attempt to connect, or to get an answer, may take; there are two."""
    connections_max: int = 16

    @property
    def deadline_s(self) -> float:
        """How long a call may take in all, a second attempt included."""
        return 2 * self.timeout_s + 0.1

    @property
    def is_cluster(self) -> bool:
        """Whether it is a cluster."""
        return urlsplit(self.url).scheme.endswith(_CLUSTER)


def open_client(place: Place) -> Any:
    """Make a client; nothing is connected yet.

    Raises:
        SettingsInvalid: ``redis_url_invalid``.
    """
    options = _options(place)
    if place.is_cluster:
        nodes = options.pop("nodes")
        return RedisCluster(startup_nodes=[ClusterNode(*node) for node in nodes], **options)
    kind = options.pop("connection_class", None)
    pool = BlockingConnectionPool(
        max_connections=place.connections_max + 1,  # one for asking whether the server is there
        timeout=place.deadline_s,
        **({"connection_class": kind} if kind else {}),
        **options,
    )
    return Redis.from_pool(pool)


def open_listener(place: Place, client: Any) -> Any:
    """Make a client of one connection, to listen with: to the server, or to any node that the cluster has now.

    What is published at one node of a cluster is told by all.
    """
    if not place.is_cluster:
        options = _options(place)
    else:
        node = client.get_random_node()
        options = {**_options(place), "host": node.host, "port": node.port}
        options.pop("nodes")
    kind = options.pop("connection_class", None)
    if options.pop("ssl", False):
        from redis.asyncio import SSLConnection

        kind = SSLConnection
    pool = BlockingConnectionPool(
        max_connections=1,
        timeout=place.deadline_s,
        **({"connection_class": kind} if kind else {}),
        **options,
    )
    return Redis.from_pool(pool)


def _options(place: Place) -> dict[str, Any]:
    """Give what a client is made with; redis-py alone would wait for 5 s and try three times more."""
    return {
        **_read(place.url),
        "socket_timeout": place.timeout_s,
        "socket_connect_timeout": place.timeout_s,
        "retry": Retry(NoBackoff(), 1),
        "protocol": _PROTOCOL,
        "driver_info": DriverInfo(name=None, lib_version=None),  # it would be sent at every connecting
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def _read(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    try:
        unknown = set(parse_qs(parts.query, keep_blank_values=True)) - _OPTIONS
        if parts.scheme not in _SCHEMES or unknown:
            raise ValueError
        if not parts.scheme.endswith(_CLUSTER):
            if parts.scheme != "unix" and not _DATABASE.fullmatch(parts.path):
                raise ValueError  # the driver would take database 0
            return dict(parse_url(url))
        return _read_cluster(url)
    except ValueError:
        pass
    raise SettingsInvalid(
        "storage.cache is no URL of a Redis server or cluster",
        code="redis_url_invalid",
        hint="Write it as rediss://user:$PASSWORD@host:6379/0, or rediss+cluster://host:6379; of options it may have "
        f"{', '.join(sorted(_OPTIONS))}.",
    )


def _read_cluster(url: str) -> dict[str, Any]:
    """Read the URL of a cluster, which names one node or, between commas, several."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    nodes = []
    options: dict[str, Any] = {}
    for host in hosts.split(","):
        single = (parts.scheme.removesuffix(_CLUSTER), f"{login}{at}{host}", parts.path, parts.query, "")
        options = dict(parse_url(urlunsplit(single)))
        nodes.append((options.pop("host", ""), options.pop("port", 6379)))
    if options.pop("db", 0) or not all(host for host, _ in nodes):
        raise ValueError("a cluster has one database, and its nodes have names")
    is_secure = options.pop("connection_class", None) is not None
    return {**options, "nodes": nodes, **({"ssl": True} if is_secure else {})}


_HINTS: Final[Mapping[str, str]] = {
    "redis_unreachable": "Check that Redis runs and that storage.cache names it. Meanwhile this process caches by "
    "itself; nothing is lost, and it attaches again by itself.",
    "redis_login_refused": "Check user and password of storage.cache, and the rights of that user: keys and channels "
    "that begin with storage.redis.key_prefix.",
    "redis_insecure": "Check the certificates that storage.cache names.",
    "redis_refused": "Where Redis is out of memory, set maxmemory-policy allkeys-lru; where it is a replica, name the "
    "primary server in storage.cache.",
}


def is_away(error: BaseException) -> bool:
    """Tell whether an error means that the server is of no use now, rather than that it refused one command."""
    refusals = exceptions.DataError | exceptions.NoScriptError | exceptions.NoPermissionError
    return not isinstance(error, refusals)


def mapped_error(error: BaseException) -> StorageUnavailable:
    """Say in our tree what an error of the driver means. No text of the driver is passed on: it may quote values."""
    kind = type(error).__name__
    refusals = exceptions.AuthenticationError | exceptions.NoPermissionError | exceptions.AuthorizationError
    if any(isinstance(one, refusals) for one in _origins(error)):
        return unavailable("redis_login_refused", f"Redis refused the login or a right ({kind})")
    if _is_insecure(error):
        return unavailable("redis_insecure", "the connection to Redis cannot be made secure")
    if found := _otherwise(error):
        return found
    if isinstance(error, exceptions.ResponseError | exceptions.DataError):
        return unavailable("redis_refused", f"Redis refused a command ({kind})")
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return unavailable("redis_unreachable", "Redis did not answer in time")
    return unavailable("redis_unreachable", f"Redis cannot be reached ({kind})")


def _is_insecure(error: BaseException) -> bool:
    """Tell whether an error, or one that it came from, is of TLS, or of a file of certificates that is not there."""
    return any(isinstance(one, ssl.SSLError) or _is_of_tls_file(one) for one in _origins(error))


def _is_of_tls_file(error: BaseException) -> bool:
    """Tell a file that cannot be read from a socket that is not there: only the latter failed to connect."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError | PermissionError):
        return False
    return not any(frame.name == "open_unix_connection" for frame in traceback.extract_tb(error.__traceback__))


def _origins(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _otherwise(error: BaseException) -> StorageUnavailable | None:
    """Tell where storage.cache names something else than is there. The driver has no classes of its own for some."""
    if isinstance(error, exceptions.MovedError | exceptions.AskError):
        return unavailable("redis_refused", "storage.cache names one node of a cluster as a server", HINT_CLUSTER)
    if isinstance(error, exceptions.ClusterDownError) or "slots are not covered" in str(error):
        return unavailable("redis_refused", "the cluster of Redis does not serve all its slots", _HINT_DOWN)
    if "luster mode is not enabled" in str(error):
        return unavailable("redis_refused", "storage.cache names a server as a cluster", _HINT_SERVER)
    if isinstance(error, exceptions.ResponseError) and "db index" in str(error).lower():
        return unavailable("redis_refused", "Redis has no database of that number", _HINT_DATABASE)
    return None


HINT_CLUSTER: Final = "Write redis+cluster:// in storage.cache for redis://, or rediss+cluster:// for rediss://."
_HINT_SERVER: Final = "Write redis:// in storage.cache for redis+cluster://, or rediss:// for rediss+cluster://."
_HINT_DOWN: Final = "Check that its nodes run and hold all slots: redis-cli --cluster check."
_HINT_DATABASE: Final = "Write a smaller number behind the host in storage.cache; servers have 16 databases by default."


def unavailable(code: str, message: str, hint: str = "") -> StorageUnavailable:
    """Make an error with its advice."""
    return StorageUnavailable(message, code=code, hint=hint or _HINTS[code], retryable=code == "redis_unreachable")
