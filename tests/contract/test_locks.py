"""Contract of ``Locks``, and of the fencing numbers."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from contextdna.backends.in_memory import open_in_memory
from contextdna.backends.redis import Place, RedisLink, RedisLocks
from contextdna.domain import leases
from contextdna.errors import StorageUnavailable
from contextdna.hub.locks import DatabaseLocks, SharedLocks
from contextdna.ports.database import Database
from contextdna.ports.storage import Locks
from contextdna.values.ids import ProjectId
from contextdna.values.lease import Lease
from tests.contract.conftest import DATABASES, open_database
from tests.servers.redis import own_prefix, redis_url

pytestmark = pytest.mark.anyio

DEFAULT = ProjectId("default")
OTHER = ProjectId("other")
TTL_S = 1000.0
START = datetime(2026, 3, 1, tzinfo=UTC)
_NUMBERS = itertools.count()


@dataclass
class Kept:
    """Locks, and how to let time pass for them."""

    locks: Locks
    pass_time: Callable[[float], Awaitable[None]]

    async def acquire(self, name: str = "sweep", project_id: ProjectId = DEFAULT) -> Lease:
        lease = await self.locks.acquire(project_id, name, ttl_s=TTL_S)
        assert lease is not None
        return lease


@pytest.fixture(params=[*DATABASES, "redis"])
async def kept(request: pytest.FixtureRequest, anyio_backend: str, tmp_path: Path) -> AsyncIterator[Kept]:
    if request.param == "redis":
        link = RedisLink(Place(redis_url(), f"{own_prefix()}-locks{next(_NUMBERS)}", timeout_s=10))

        async def pass_time(seconds: float) -> None:
            for key in await link._client.keys(link.key("lock:*")):
                await link._client.pexpire(key, max(0, await link._client.pttl(key) - round(seconds * 1000)))

        yield Kept(RedisLocks(link), pass_time)
        await link.close()
        return
    now = START

    async def turn_clock(seconds: float) -> None:
        nonlocal now
        now += timedelta(seconds=seconds)

    async with open_database(request.param, tmp_path) as database:
        yield Kept(DatabaseLocks(database, lambda: now), turn_clock)


async def test_one_holds_it_until_it_is_given_back(kept: Kept) -> None:
    lease = await kept.acquire()
    assert await kept.locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S) is None
    assert await kept.locks.release(lease)
    assert await kept.acquire() != lease


async def test_one_holds_it_until_its_time_is_over(kept: Kept) -> None:
    lease = await kept.acquire()
    await kept.pass_time(TTL_S - 100)
    assert await kept.locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S) is None
    await kept.pass_time(100)
    assert not await kept.locks.renew(lease, ttl_s=TTL_S)
    assert not await kept.locks.release(lease)
    await kept.acquire()


async def test_it_is_kept_for_longer_by_renewing(kept: Kept) -> None:
    lease = await kept.acquire()
    await kept.pass_time(TTL_S - 100)
    assert await kept.locks.renew(lease, ttl_s=TTL_S)
    await kept.pass_time(TTL_S - 100)
    assert await kept.locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S) is None


async def test_only_its_holder_gives_it_back_or_renews_it(kept: Kept) -> None:
    earlier = await kept.acquire()
    await kept.pass_time(TTL_S)
    later = await kept.acquire()
    for lease in (earlier, Lease(DEFAULT, "sweep", "somebody", later.fencing)):
        assert not await kept.locks.release(lease)
        assert not await kept.locks.renew(lease, ttl_s=TTL_S)
    assert await kept.locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S) is None
    assert await kept.locks.release(later)
    assert not await kept.locks.release(later)


async def test_each_lease_has_a_greater_number(kept: Kept) -> None:
    numbers = []
    for _ in range(5):
        lease = await kept.acquire()
        numbers.append(lease.fencing)
        await kept.locks.release(lease)
    assert numbers == sorted(set(numbers))


async def test_names_and_projects_are_locked_apart(kept: Kept) -> None:
    await kept.acquire("sweep")
    await kept.acquire("embed")
    await kept.acquire("sweep", OTHER)


async def test_of_many_at_once_one_gets_it(kept: Kept) -> None:
    got: list[Lease | None] = []

    async def try_it() -> None:
        got.append(await kept.locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S))

    async with anyio.create_task_group() as tasks:
        for _ in range(16):
            tasks.start_soon(try_it)
    assert sum(lease is not None for lease in got) == 1


async def fence(database: Database, lease: Lease) -> None:
    await database.write(lambda tx: leases.fence(tx, lease, now=START))


async def test_who_has_lost_a_job_can_write_nothing_more_for_it(database: Database) -> None:
    now = START
    locks = DatabaseLocks(database, lambda: now)
    earlier = await locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S)
    assert earlier is not None
    await fence(database, earlier)
    now += timedelta(seconds=TTL_S)
    later = await locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S)
    assert later is not None
    with pytest.raises(StorageUnavailable) as refused:
        await fence(database, earlier)
    assert refused.value.code == "lease_lost"
    await fence(database, later)


async def test_a_lease_of_elsewhere_is_known_to_the_database_from_its_first_write_on(database: Database) -> None:
    locks = DatabaseLocks(database, lambda: START)
    here = await locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S)
    assert here is not None
    elsewhere = Lease(DEFAULT, "sweep", "holder", here.fencing + 10)
    await fence(database, elsewhere)
    assert not await locks.renew(here, ttl_s=TTL_S)
    with pytest.raises(StorageUnavailable):
        await fence(database, here)
    again = await locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S)
    assert again is not None
    assert again.fencing > elsewhere.fencing


async def test_while_redis_is_away_the_database_locks() -> None:
    link = RedisLink(Place("unix:///nowhere/at/all.sock"))
    async with open_in_memory() as database:
        locks = SharedLocks(RedisLocks(link), DatabaseLocks(database, lambda: START))
        lease = await locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S)
        assert lease is not None
        assert await locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S) is None
        assert await locks.renew(lease, ttl_s=TTL_S)
        assert await locks.release(lease)
    assert not link.is_attached
    await link.close()


async def test_what_redis_has_forgotten_it_grants_again_with_a_greater_number(anyio_backend: str) -> None:
    link = RedisLink(Place(redis_url(), f"{own_prefix()}-forgetful", timeout_s=10))
    locks = RedisLocks(link)
    earlier = await locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S)
    await link._client.delete(*await link._client.keys(link.key("*")))
    later = await locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S)
    assert earlier is not None
    assert later is not None
    assert later.fencing > earlier.fencing
    assert not await locks.release(earlier)
    await link.close()


@pytest.mark.parametrize("poison", ["9000000000000000", "inf", "nan", "-nan", "1e300", "some text"])
async def test_a_number_that_others_have_put_into_redis_stops_no_later_job(anyio_backend: str, poison: str) -> None:
    link = RedisLink(Place(redis_url(), f"{own_prefix()}-poisoned{next(_NUMBERS)}", timeout_s=10))
    async with open_in_memory() as database:
        locks = SharedLocks(RedisLocks(link), DatabaseLocks(database, lambda: datetime.now(UTC)))
        numbers = []
        for entry in (poison, None):
            if entry:
                await link._client.set(link.key("fencing:{default/sweep}"), entry)
            else:
                await link._client.delete(*await link._client.keys(link.key("*")))
            lease = await locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S)
            assert lease is not None
            await fence(database, lease)
            assert await locks.renew(lease, ttl_s=TTL_S)
            assert await locks.release(lease)
            numbers.append(lease.fencing)
        assert numbers[0] < numbers[1] < (datetime.now(UTC) + timedelta(minutes=5)).timestamp() * 1_000_000
    await link.close()


async def test_a_number_of_redis_that_is_below_that_of_the_database_is_not_used(anyio_backend: str) -> None:
    link = RedisLink(Place(redis_url(), f"{own_prefix()}-behind{next(_NUMBERS)}", timeout_s=10))
    async with open_in_memory() as database:
        locks = SharedLocks(RedisLocks(link), DatabaseLocks(database, lambda: datetime.now(UTC)))
        ahead = Lease(DEFAULT, "sweep", "holder", 9_000_000_000_000_001)
        await fence(database, ahead)
        lease = await locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S)
        assert lease is not None
        assert lease.fencing > ahead.fencing
        assert await locks.acquire(DEFAULT, "sweep", ttl_s=TTL_S) is None
        await fence(database, lease)
        assert await locks.release(lease)
    await link.close()
