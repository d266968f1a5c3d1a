"""Contract of ``EventChannel``: within a process, and between two."""

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest

from contextdna.backends.in_process import InProcessChannel
from contextdna.backends.redis import Place, RedisChannel, RedisLink
from contextdna.ports.storage import EventChannel
from contextdna.values.event import Event
from tests.builders import make_event
from tests.servers.redis import own_prefix, redis_url

pytestmark = pytest.mark.anyio

EVENTS = [make_event(f"evt_{number}") for number in range(10)]
DEADLINE_S = 30
_NUMBERS = itertools.count()


@dataclass
class Ends:
    """Who tells, and who hears; on a channel within one process they are one."""

    teller: EventChannel
    hearer: EventChannel

    @property
    def are_apart(self) -> bool:
        return self.teller is not self.hearer


@asynccontextmanager
async def open_redis_channel(place: Place) -> AsyncIterator[RedisChannel]:
    link = RedisLink(place)
    channel = RedisChannel(link)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link.run)
        tasks.start_soon(channel.run)
        async with channel.listen() as hints:
            await told(hints)  # it hears
        yield channel
        tasks.cancel_scope.cancel()
    await link.close()


@pytest.fixture(params=["in_process", "redis_here", "redis_elsewhere"])
async def ends(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Ends]:
    if request.param == "in_process":
        channel = InProcessChannel()
        yield Ends(channel, channel)
        return
    place = Place(redis_url(), f"{own_prefix()}-channel{next(_NUMBERS)}", timeout_s=10)
    async with AsyncExitStack() as stack:
        hearer = await stack.enter_async_context(open_redis_channel(place))
        apart = request.param == "redis_elsewhere"
        yield Ends(await stack.enter_async_context(open_redis_channel(place)) if apart else hearer, hearer)


async def told(hints: AsyncIterator[None]) -> None:
    with anyio.fail_after(DEADLINE_S):
        await anext(hints)


async def is_silent(hints: AsyncIterator[None]) -> bool:
    """Tell whether nothing waits to be heard."""
    with anyio.move_on_after(0):
        await anext(hints)
        return False
    return True


async def test_every_listener_is_told(ends: Ends) -> None:
    async with ends.hearer.listen() as one, ends.hearer.listen() as other:
        await ends.teller.publish(EVENTS[:2])
        await told(one)
        await told(other)


async def test_a_listener_is_told_from_then_on(ends: Ends) -> None:
    async with ends.hearer.listen() as before:
        await ends.teller.publish(EVENTS[:1])
        await told(before)
    async with ends.hearer.listen() as hints:
        assert await is_silent(hints)
        await ends.teller.publish(EVENTS[1:2])
        await told(hints)


async def test_who_did_not_look_for_long_is_told_once(ends: Ends) -> None:
    async with ends.hearer.listen() as slow, ends.hearer.listen() as quick:
        for event in EVENTS:
            await ends.teller.publish([event])
            await told(quick)
        await told(slow)
        assert await is_silent(slow)


async def test_nothing_is_told_of_nothing(ends: Ends) -> None:
    nothing: list[Event] = []
    async with ends.hearer.listen() as hints:
        await ends.teller.publish(nothing)
        assert await is_silent(hints)
        await ends.teller.publish(EVENTS[:1])
        await told(hints)


async def test_a_waiting_listener_is_woken(ends: Ends) -> None:
    async with ends.hearer.listen() as hints, anyio.create_task_group() as tasks:
        tasks.start_soon(told, hints)
        await anyio.wait_all_tasks_blocked()
        await ends.teller.publish(EVENTS[:2])


async def test_a_listener_that_leaves_on_an_error_is_forgotten(ends: Ends) -> None:
    with pytest.raises(KeyError):
        async with ends.hearer.listen():
            raise KeyError
    await ends.teller.publish(EVENTS)


async def test_it_says_whether_others_are_heard(ends: Ends) -> None:
    assert ends.hearer.hears_others is isinstance(ends.hearer, RedisChannel)
