"""The faults: what is done to what, and how it is mended."""

import asyncio
import contextlib
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import cast

from benchmarks.faults.dependencies import Dependency, PostgresServer, RedisServer, S3Server
from benchmarks.faults.site import Site
from benchmarks.faults.tables import SERVER
from contextdna.backends.sqlite.driver import library

During = Callable[[Site], AbstractAsyncContextManager[None]]

_DATABASE_FILE = "data/contextdna.db"
_HELD_S, _FREE_S = 0.25, 0.05
_ENDED_EVERY_S = 0.25


class LeftOut(Exception):
    """A fault that cannot be had here, and why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; while the block of ``during`` runs, it is there."""

    site: str
    dependency: str
    name: str
    what: str
    """What is done, for a reader."""
    during: During
    seconds: float = 4.0

    @property
    def full_name(self) -> str:
        """As it is chosen by."""
        return f"{self.site}:{self.dependency.lower()}:{self.name}"

    @property
    def is_of_server(self) -> bool:
        """Whether a server of ours has to start again."""
        return self.dependency == SERVER


# --- what happens to any dependency behind a relay ---


def killed(name: str) -> During:
    """End it at once; started again with what was on its disk."""
    return _without(name, lambda one: one.kill(), lambda one: one.start())


def restarted(name: str) -> During:
    """End it as its operator does, and start it again at once."""
    return _without(name, lambda one: one.stop(), lambda one: one.start())


def hung(name: str) -> During:
    """Stop its processes, with all connections open."""
    return _without(name, lambda one: one.hang(), lambda one: one.wake())


def _without(name: str, end: Callable[[Dependency], None], begin: Callable[[Dependency], None]) -> During:
    @asynccontextmanager
    async def during(site: Site) -> AsyncIterator[None]:
        one = site.dependencies[name]
        await asyncio.to_thread(end, one)
        try:
            yield
        finally:
            await asyncio.to_thread(begin, one)

    return during


def slowed(name: str, delay_s: float) -> During:
    """Let whatever is said arrive late, both ways."""

    @asynccontextmanager
    async def during(site: Site) -> AsyncIterator[None]:
        relay = site.relays[name]
        relay.delay_s = delay_s
        try:
            yield
        finally:
            relay.delay_s = 0.0

    return during


def cut(name: str, within_bytes: int) -> During:
    """Reset all connections, and each new one after a random number of bytes: in the midst of whatever it is at."""

    @asynccontextmanager
    async def during(site: Site) -> AsyncIterator[None]:
        relay = site.relays[name]
        relay.breaks_within = within_bytes
        relay.cut()
        try:
            yield
        finally:
            relay.breaks_within = 0
            relay.cut()

    return during


# --- PostgreSQL ---


@asynccontextmanager
async def ended_by_postgres(site: Site) -> AsyncIterator[None]:
    """Let PostgreSQL end all connections again and again."""
    server = cast(PostgresServer, site.dependencies["postgres"])

    async def go_on() -> None:
        while True:
            await asyncio.to_thread(server.end_connections)
            await asyncio.sleep(_ENDED_EVERY_S)

    ending = asyncio.create_task(go_on())
    try:
        yield
    finally:
        ending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ending


@asynccontextmanager
async def postgres_disk_full(site: Site) -> AsyncIterator[None]:
    """Take all space on the disk of PostgreSQL; one that gave up, as its log had no room, is started again."""
    server, disk = cast(PostgresServer, site.dependencies["postgres"]), site.database_disk
    if disk is None or not disk.is_own:
        raise LeftOut("no file system of one's own could be mounted")
    await asyncio.to_thread(disk.fill)
    try:
        yield
    finally:
        disk.empty()
        await asyncio.to_thread(server.revive)


@asynccontextmanager
async def killed_with_its_server(site: Site) -> AsyncIterator[None]:
    """Kill PostgreSQL, then the server that has taken writes meanwhile; both are started again."""
    async with killed("postgres")(site):
        await asyncio.sleep(1.5)
        site.servers[0].program.kill()
        yield
    await asyncio.to_thread(site.servers[0].start)


# --- Redis and S3 ---


@asynccontextmanager
async def redis_full(site: Site) -> AsyncIterator[None]:
    """Let Redis refuse whatever needs memory."""
    server = cast(RedisServer, site.dependencies["redis"])
    await asyncio.to_thread(server.fill)
    try:
        yield
    finally:
        await asyncio.to_thread(server.empty)


def s3_refuses(status: int) -> During:
    """Let S3 refuse whatever is to be put."""

    @asynccontextmanager
    async def during(site: Site) -> AsyncIterator[None]:
        server = cast(S3Server, site.dependencies["s3"])
        await asyncio.to_thread(server.refuse, status)
        try:
            yield
        finally:
            await asyncio.to_thread(server.accept)

    return during


# --- SQLite and its disk ---


@asynccontextmanager
async def data_disk_full(site: Site) -> AsyncIterator[None]:
    """Take all space on the disk of the data folder."""
    if not site.data.is_own:
        raise LeftOut("no file system of one's own could be mounted")
    await asyncio.to_thread(site.data.fill)
    try:
        yield
    finally:
        site.data.empty()


@asynccontextmanager
async def writes_fail(site: Site) -> AsyncIterator[None]:
    """Let the system refuse all writes of both servers to files, in their midst."""
    limits = {}
    for server in site.servers:
        limits[server.program.pid] = resource.prlimit(server.program.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.program.pid, resource.RLIMIT_FSIZE, (4096, limits[server.program.pid][1]))
    try:
        yield
    finally:
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)


def locked(held_s: float = 0.0, free_s: float = 0.0) -> During:
    """Hold the lock of the database file from another process's place; all the time, or on and off."""

    @asynccontextmanager
    async def during(site: Site) -> AsyncIterator[None]:
        path = site.data.folder / _DATABASE_FILE
        held = asyncio.create_task(_hold(str(path), held_s, free_s))
        try:
            yield
        finally:
            held.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await held

    return during


async def _hold(path: str, held_s: float, free_s: float) -> None:
    with contextlib.closing(library.connect(path, isolation_level=None, timeout=0)) as connection:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except library.OperationalError:  # a server has it
                await asyncio.sleep(0.001)
                continue
            try:
                await asyncio.sleep(held_s or 3600)
            finally:
                connection.execute("ROLLBACK")
            await asyncio.sleep(free_s)


# --- the server itself ---


@asynccontextmanager
async def server_killed(site: Site) -> AsyncIterator[None]:
    """Kill one of the two servers, and start it again."""
    site.servers[0].program.kill()
    try:
        yield
    finally:
        await asyncio.to_thread(site.servers[0].start)


@asynccontextmanager
async def server_hung(site: Site) -> AsyncIterator[None]:
    """Stop one of the two servers for a while."""
    site.servers[0].program.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        site.servers[0].program.signal(signal.SIGCONT)


_POSTGRES, _REDIS, _S3, _SQLITE = "PostgreSQL", "Redis", "S3", "SQLite"

FAULTS: tuple[Fault, ...] = (
    Fault("small", _SQLITE, "hung", "another process holds the lock of the file", locked()),
    Fault("small", _SQLITE, "slowed", "another process holds the lock 5/6 of the time", locked(_HELD_S, _FREE_S)),
    Fault("small", _SQLITE, "cut", "the system refuses writes in their midst (EFBIG)", writes_fail),
    Fault("small", _SQLITE, "disk full", "no block is left on the disk of the data folder", data_disk_full),
    Fault("small", SERVER, "killed", "SIGKILL to one of two servers on one data folder", server_killed),
    Fault("large", _POSTGRES, "killed", "SIGKILL to all its processes", killed("postgres")),
    Fault("large", _POSTGRES, "hung", "SIGSTOP to all its processes", hung("postgres"), 10.0),
    Fault("large", _POSTGRES, "slowed", "each message is 20 ms late", slowed("postgres", 0.02)),
    Fault("large", _POSTGRES, "restarted", "stopped (fast) and started at once", restarted("postgres"), 0.0),
    Fault("large", _POSTGRES, "cut", "each connection is reset within 40 kB", cut("postgres", 40_000)),
    Fault("large", _POSTGRES, "cut by itself", "it ends all connections four times a second", ended_by_postgres),
    Fault("large", _POSTGRES, "disk full", "no block is left on its disk", postgres_disk_full),
    Fault("large", _REDIS, "killed", "SIGKILL", killed("redis")),
    Fault("large", _REDIS, "hung", "SIGSTOP", hung("redis")),
    Fault("large", _REDIS, "slowed", "each message is 50 ms late", slowed("redis", 0.05)),
    Fault("large", _REDIS, "restarted", "stopped and started at once, empty", restarted("redis"), 0.0),
    Fault("large", _REDIS, "cut", "each connection is reset within 2 kB", cut("redis", 2_000)),
    Fault("large", _REDIS, "full", "`maxmemory` reached, `noeviction`", redis_full),
    Fault("large", _S3, "killed", "SIGKILL", killed("s3")),
    Fault("large", _S3, "hung", "SIGSTOP", hung("s3"), 5.0),
    Fault("large", _S3, "slowed", "each message is 300 ms late", slowed("s3", 0.3)),
    Fault("large", _S3, "restarted", "stopped and started at once", restarted("s3"), 0.0),
    Fault("large", _S3, "cut", "each connection is reset within 2 kB", cut("s3", 2_000)),
    Fault("large", _S3, "full", "it answers each PUT with 507", s3_refuses(507)),
    Fault("large", _S3, "overloaded", "it answers each PUT with 503", s3_refuses(503)),
    Fault("large", SERVER, "killed", "SIGKILL to one of two servers", server_killed),
    Fault("large", SERVER, "hung", "SIGSTOP to one of two servers", server_hung),
    Fault(
        "large", SERVER, "killed with PostgreSQL", "SIGKILL while writes wait for PostgreSQL", killed_with_its_server
    ),
)
