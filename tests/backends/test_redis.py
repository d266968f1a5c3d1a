"""Redis as it fails and comes back, by TLS and as a cluster: nobody waits for long, and nothing has to be done."""

import asyncio
import contextlib
import random
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from redis.exceptions import MovedError

from contextdna.backends.in_process import InProcessCache
from contextdna.backends.redis import Place, RedisCache, RedisChannel, RedisLink, RedisLocks, SharedCache, redis_facts
from contextdna.backends.redis.driver import mapped_error, open_client
from contextdna.errors import SettingsInvalid, StorageUnavailable
from contextdna.values.ids import ProjectId
from tests.builders import make_event
from tests.servers.certificates import make_certificate
from tests.servers.redis import OwnServer, own_server

pytestmark = pytest.mark.anyio

DEFAULT = ProjectId("default")
EVENTS = [make_event("evt_1")]
TIMEOUT_S = 0.2
LATE_S = 20
"""A busy machine is no failure: what must not hang ends long before."""


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server() as started:
        yield started


@asynccontextmanager
async def attached(server: OwnServer, timeout_s: float = TIMEOUT_S) -> AsyncIterator[RedisLink]:
    link = RedisLink(Place(server.url, timeout_s=timeout_s), pause_s=0.01, pause_s_max=0.05)
    await link.attach()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link.run)
        yield link
        tasks.cancel_scope.cancel()
    await link.close()


async def refused(call: Callable[[], Awaitable[object]], code: str = "redis_unreachable") -> StorageUnavailable:
    with anyio.fail_after(LATE_S), pytest.raises(StorageUnavailable) as caught:
        await call()
    assert caught.value.code == code
    assert caught.value.hint
    return caught.value


async def until_attached(link: RedisLink) -> None:
    with anyio.fail_after(LATE_S):
        await link.until_attached()


def mistreat(server: OwnServer, how: str) -> None:
    if how == "killed":
        server.kill()
    else:
        server.hang()


def mend(server: OwnServer, how: str) -> None:
    if how == "killed":
        server.start()
    else:
        server.wake()


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_who_asks_a_server_that_is_away_is_refused_and_served_again_when_it_is_back(
    server: OwnServer, how: str
) -> None:
    async with attached(server) as link:
        cache, locks = RedisCache(link), RedisLocks(link)
        await cache.set("a", b"1", ttl_s=60)
        mistreat(server, how)
        error = await refused(lambda: cache.get("a"))
        assert error.retryable
        assert not link.is_attached
        for call in (cache.keys, cache.clear, lambda: locks.acquire(DEFAULT, "sweep", ttl_s=60)):
            await refused(call)
        assert not (await link.health()).sound
        mend(server, how)
        await until_attached(link)
        await cache.set("a", b"2", ttl_s=60)
        assert await cache.get("a") == b"2"
        health = await link.health()
        assert health.sound
        assert health.latency_ms > 0


async def test_of_many_who_ask_a_hung_server_each_is_refused_in_time_and_later_ones_at_once(server: OwnServer) -> None:
    async with attached(server) as link:
        cache = RedisCache(link)
        server.hang()
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(64):
                tasks.start_soon(refused, lambda: cache.get("a"))
        assert anyio.current_time() - began < LATE_S
        began = anyio.current_time()
        for _ in range(100):
            await refused(lambda: cache.get("a"))
        assert anyio.current_time() - began < link.place.deadline_s
        server.wake()


async def test_callers_that_share_a_connection_take_turns(server: OwnServer) -> None:
    link = RedisLink(Place(server.url, timeout_s=5, connections_max=1))
    cache = RedisCache(link)
    done = [0] * 8
    least: list[int] = []

    async def ask(caller: int) -> None:
        for _ in range(20):
            await cache.get("a")
            done[caller] += 1
        least.append(min(done))

    async with anyio.create_task_group() as tasks:
        for caller in range(len(done)):
            tasks.start_soon(ask, caller)
    assert least[0] >= 18
    await link.close()


async def test_a_caller_that_is_cancelled_leaves_no_wrong_answer_to_the_next(server: OwnServer) -> None:
    async with attached(server, timeout_s=5) as link:
        cache = RedisCache(link)
        await cache.mset({f"key{number}": f"{number}".encode() for number in range(50)}, ttl_s=60)
        for number in range(50):
            with anyio.move_on_after(0.0001 * (number % 7)):
                await cache.get(f"key{number}")
            assert await cache.get(f"key{49 - number}") == f"{49 - number}".encode()


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_the_process_caches_by_itself_while_redis_is_away(server: OwnServer, how: str) -> None:
    async with attached(server) as link:
        far = RedisCache(link)
        cache = SharedCache(InProcessCache(), far)
        await cache.set("a", b"1", ttl_s=60)
        mistreat(server, how)
        with anyio.fail_after(LATE_S):
            await cache.set("b", b"2", ttl_s=60)
            assert await cache.mget(["a", "b", "c"]) == {"a": b"1", "b": b"2"}
            assert await cache.get("absent") is None
            assert await cache.keys() == ["a", "b"]
            assert await cache.exists(["a", "c"]) == 1
            assert await cache.delete(["a", "c"]) == 1
            assert await cache.clear() == 1
        mend(server, how)
        await until_attached(link)
        await cache.set("c", b"3", ttl_s=60)
        assert await far.get("c") == b"3"


async def test_a_process_finds_what_another_has_cached(server: OwnServer) -> None:
    async with attached(server) as here, attached(server) as there:
        writer = SharedCache(InProcessCache(), RedisCache(here))
        near = InProcessCache()
        reader = SharedCache(near, RedisCache(there))
        await writer.set("a", b"1", ttl_s=60)
        assert await reader.get("a") == b"1"
        assert await near.get("a") == b"1"


async def test_what_is_put_at_the_same_moment_goes_in_one_exchange(
    server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with attached(server) as link:
        cache = RedisCache(link)
        call, calls = link.call, 0

        async def counting(run: Any) -> Any:
            nonlocal calls
            calls += 1
            return await call(run)

        monkeypatch.setattr(link, "call", counting)
        await asyncio.gather(*(cache.mset({f"k{number % 5}": b"%d" % number}, ttl_s=60) for number in range(20)))
        assert calls == 1
        found = await cache.mget([f"k{number}" for number in range(5)])
        assert found == {f"k{number}": b"%d" % (number + 15) for number in range(5)}, "the last of each key"
        putting = [asyncio.create_task(cache.mset({name: b""}, ttl_s=60)) for name in ("first", "second")]
        await anyio.lowlevel.checkpoint()
        putting[0].cancel()  # who sends it for both
        await asyncio.gather(*putting, return_exceptions=True)
        assert await cache.exists(["second"]) == 1
        server.kill()
        lost = await asyncio.gather(*(cache.mset({"k": b""}, ttl_s=60) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in lost] == [StorageUnavailable] * 3


async def test_behind_a_write_redis_is_written_by_a_job(server: OwnServer) -> None:
    async with attached(server) as link:
        far = RedisCache(link)
        cache = SharedCache(InProcessCache(), far, write_behind=True)
        await cache.mset({"a": b"1", "b": b"2"}, ttl_s=60)
        await cache.delete(["b"])
        assert await far.keys() == []
        assert await cache.get("a") == b"1"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cache.run)
            with anyio.fail_after(LATE_S):
                while await far.get("a") is None:
                    await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert await far.keys() == ["a"]


@asynccontextmanager
async def speaking(server: OwnServer) -> AsyncIterator[RedisChannel]:
    async with attached(server) as link, anyio.create_task_group() as tasks:
        channel = RedisChannel(link, ask_s=0.1)
        async with channel.listen() as hints:
            tasks.start_soon(channel.run)
            await told(hints)
        yield channel
        tasks.cancel_scope.cancel()


async def told(hints: AsyncIterator[None]) -> None:
    with anyio.fail_after(LATE_S):
        await anext(hints)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(LATE_S):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.005)


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_after_an_outage_listeners_are_told_to_look_and_hear_again(server: OwnServer, how: str) -> None:
    async with speaking(server) as here, speaking(server) as there, there.listen() as hints:
        await here.publish(EVENTS)
        await told(hints)
        mistreat(server, how)
        await until(lambda: not there.hears_others and not here.hears_others)
        await there.publish(EVENTS)
        await told(hints)  # its own are told by itself
        mend(server, how)
        await told(hints)  # something may have been missed
        await until(lambda: there.hears_others and here.hears_others)
        with anyio.move_on_after(0):
            await anext(hints)
        await here.publish(EVENTS)
        await told(hints)


async def test_who_is_cut_off_subscribes_again(server: OwnServer) -> None:
    async with speaking(server) as here, speaking(server) as there, there.listen() as hints:
        client = open_client(Place(server.url, timeout_s=5))
        await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await told(hints)
        await until(lambda: there.hears_others and here.hears_others)
        with anyio.move_on_after(0):
            await anext(hints)
        await here.publish(EVENTS)
        await told(hints)
        await client.aclose()


async def test_it_starts_without_a_server_and_attaches_when_there_is_one(server: OwnServer) -> None:
    server.kill()
    async with attached(server) as link:
        assert not link.is_attached
        server.start()
        await until_attached(link)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--requirepass", "secret-word"), "redis_login_refused"),
        (("--maxmemory", "1", "--maxmemory-policy", "noeviction"), "redis_refused"),
        (("--replicaof", "127.0.0.1", "1"), "redis_refused"),
        (("--cluster-enabled", "yes", "--bind", "127.0.0.1"), "redis_refused"),
    ],
)
async def test_a_server_that_refuses_us_is_away_and_says_why(
    options: tuple[str, ...], code: str, caplog: pytest.LogCaptureFixture
) -> None:
    with own_server(*options) as server:
        async with attached(server, timeout_s=5) as link:
            health = await link.health()
            assert (health.sound, health.problem) == (False, code)
            error = await refused(lambda: RedisCache(link).set("a", b"1", ttl_s=60), code)
        assert "secret-word" not in f"{error.message}{error.hint}{caplog.text}"


async def test_a_user_that_may_not_publish_caches_and_others_look_for_themselves() -> None:
    rights = ("--user", "default", "on", "nopass", "~contextdna:*", "&*", "+@all", "-publish")
    with own_server(*rights) as server:
        async with speaking(server) as here, speaking(server) as there, there.listen() as hints:
            await here.publish(EVENTS)
            await until(lambda: here._link.is_attached)
            await RedisCache(here._link).set("a", b"1", ttl_s=60)
            assert await RedisCache(there._link).get("a") == b"1"
            await there.publish(EVENTS)
            await told(hints)


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "redis+cluster://",
        "redis://host:port",
        "redis://user:secret-word@host/abc",
        "redis://user:secret-word@host?socket_timeout=100",
        "rediss://user:secret-word@host?ssl_cert_reqs=none",
        "redis+cluster://user:secret-word@host:6379/3",
        "redis+sentinel://host",
    ],
)
def test_what_is_no_url_of_redis_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        open_client(Place(url))
    assert caught.value.code == "redis_url_invalid"
    assert "secret-word" not in f"{caught.value.message}{caught.value.hint}{caught.value.__cause__}"


def test_no_repr_holds_a_password() -> None:
    assert "secret-word" not in repr(Place("redis://user:secret-word@host"))


@asynccontextmanager
async def tls_before(server: OwnServer, folder: Path) -> AsyncIterator[tuple[str, Path]]:
    """Let the server be reached by TLS, which its own binary may not speak."""
    certificate, key = make_certificate(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_unix_connection(server.socket)
        await asyncio.gather(pump(reader, behind[1]), pump(behind[0], writer), return_exceptions=True)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield f"rediss://localhost:{listening.sockets[0].getsockname()[1]}", certificate


async def test_by_tls_the_certificate_is_checked(server: OwnServer, tmp_path: Path) -> None:
    async with tls_before(server, tmp_path) as (url, certificate):
        trusting = RedisLink(Place(f"{url}?ssl_ca_certs={certificate}", timeout_s=5))
        await RedisCache(trusting).set("a", b"1", ttl_s=60)
        assert await RedisCache(trusting).get("a") == b"1"
        await trusting.close()
        link = RedisLink(Place(url, timeout_s=5))
        await refused(lambda: RedisCache(link).get("a"), "redis_insecure")
        await link.close()


@pytest.fixture
def free_port() -> int:
    """Give a port of which a cluster's own, 10,000 above, is free too."""
    for port in random.sample(range(20_000, 30_000), 100):
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port
    raise AssertionError("no port is free")


async def everything_works(link: RedisLink) -> None:
    """Use all that there is for."""
    cache, locks, channel = RedisCache(link), RedisLocks(link), RedisChannel(link)
    many = {f"key{number}": f"{number}".encode() for number in range(100)}
    await cache.mset(many, ttl_s=60)
    assert await cache.mget(list(many)) == many
    assert await cache.keys("key1?") == [f"key1{number}" for number in range(10)]
    assert await cache.delete(["key1", "key2", "absent"]) == 2
    assert await cache.exists(["key1", "key3"]) == 1
    assert await SharedCache(InProcessCache(), cache).get("key3") == b"3"
    assert await cache.clear() == 98
    lease = await locks.acquire(DEFAULT, "sweep", ttl_s=60)
    assert lease is not None
    assert await locks.acquire(DEFAULT, "sweep", ttl_s=60) is None
    assert await locks.release(lease)
    async with anyio.create_task_group() as tasks, channel.listen() as hints:
        tasks.start_soon(channel.run)
        await told(hints)
        assert channel.hears_others
        tasks.cancel_scope.cancel()


async def test_a_cluster_serves_cache_channel_and_locks(free_port: int) -> None:
    options = ("--cluster-enabled", "yes", "--bind", "127.0.0.1")
    with own_server(*options, "--port", str(free_port)):
        assert "slots" in (await problem_of(f"redis+cluster://127.0.0.1:{free_port}")).message
        await make_cluster(free_port)
        url = f"redis+cluster://memory:secret@127.0.0.1:{free_port},127.0.0.1:1"
        poor = url.replace("memory:secret", "poor:secret").removesuffix(",127.0.0.1:1")  # of two, either is told
        assert (await problem_of(poor)).code == "redis_login_refused"
        link = RedisLink(Place(url, timeout_s=5))
        await everything_works(link)
        assert (await link.health()).sound
        facts = await redis_facts(link.place)
        assert (facts.is_cluster, facts.is_secure, facts.fills_up) == (True, False, True)
        assert facts.version[0].isdigit()
        await link.close()
        with pytest.raises(StorageUnavailable, match="one node of a cluster"):
            await redis_facts(Place(f"redis://127.0.0.1:{free_port}", timeout_s=5))


async def problem_of(url: str) -> StorageUnavailable:
    """Give what keeps Redis away that a URL names."""
    link = RedisLink(Place(url, timeout_s=5))
    with pytest.raises(StorageUnavailable) as caught:
        await RedisCache(link).get("a")
    await link.close()
    return caught.value


async def test_a_url_that_does_not_fit_what_is_there_is_told_of(free_port: int, tmp_path: Path) -> None:
    with own_server("--port", str(free_port)):
        at = f"127.0.0.1:{free_port}"
        assert "redis://" in (await problem_of(f"redis+cluster://{at}")).hint
        assert "database" in (await problem_of(f"redis://{at}/99")).message
        missing = await problem_of(f"rediss://{at}?ssl_ca_certs={tmp_path}/none.pem")
        assert missing.code == "redis_insecure"
        assert (await problem_of(f"unix://{tmp_path}/none.sock")).code == "redis_unreachable"
    moved = mapped_error(MovedError("1 127.0.0.1:7001"))
    assert (moved.code, "redis+cluster://" in moved.hint) == ("redis_refused", True)


def documented_rights() -> list[str]:
    """Give the rights that the documents name for our user."""
    documents = (Path(__file__).parents[2] / "docs" / "redis.md").read_text()
    [rights] = re.findall(r"^ACL SETUSER memory on >secret (.+)$", documents, re.MULTILINE)
    return str(rights).split()


async def make_cluster(port: int) -> None:
    """Make a cluster of one server, which has all the slots, and users with our rights, and with fewer."""
    client: Any = open_client(Place(f"redis://127.0.0.1:{port}", timeout_s=5))
    rights = documented_rights()
    await client.execute_command("ACL", "SETUSER", "memory", "on", ">secret", *rights)
    poor = [right for right in rights if not right.startswith("+cluster")]
    await client.execute_command("ACL", "SETUSER", "poor", "on", ">secret", *poor)
    await client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
    with anyio.fail_after(LATE_S):
        while (await client.execute_command("CLUSTER INFO"))["cluster_state"] != "ok":  # noqa: ASYNC110
            await anyio.sleep(0.02)
    await client.aclose()


async def test_the_rights_that_the_documents_name_are_enough() -> None:
    rights = documented_rights()
    with own_server("--user", "memory", "on", ">secret", *rights, "--user", "default", "off") as server:
        url = server.url.replace("unix://", "unix://memory:secret@")
        link = RedisLink(Place(url, timeout_s=5))
        await everything_works(link)
        await link.close()
