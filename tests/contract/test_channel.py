"""Contract of ``EventChannel``."""

from collections.abc import AsyncIterator

import anyio
import pytest

from contextdna.backends.in_process import InProcessChannel
from contextdna.values.event import Event
from tests.builders import make_event

pytestmark = pytest.mark.anyio

EVENTS = [make_event(f"evt_{number}") for number in range(10)]
DEADLINE_S = 30


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    with anyio.fail_after(DEADLINE_S):
        return [await anext(events) for _ in range(count)]


async def test_every_listener_hears_every_event_in_order() -> None:
    channel = InProcessChannel()
    async with channel.listen() as one, channel.listen() as other:
        await channel.publish(EVENTS[:2])
        await channel.publish(EVENTS[2:4])
        assert await take(one, 4) == EVENTS[:4]
        assert await take(other, 4) == EVENTS[:4]


async def test_a_listener_hears_what_is_told_from_then_on() -> None:
    channel = InProcessChannel()
    await channel.publish(EVENTS[:1])
    async with channel.listen() as events:
        await channel.publish(EVENTS[1:2])
        assert await take(events, 1) == EVENTS[1:2]
    await channel.publish(EVENTS[2:3])


async def test_a_slow_listener_loses_the_oldest_events() -> None:
    channel = InProcessChannel(buffer_max=3)
    async with channel.listen() as slow:
        with anyio.fail_after(DEADLINE_S):
            await channel.publish(EVENTS)
        assert await take(slow, 3) == EVENTS[-3:]


async def test_a_slow_listener_costs_others_nothing() -> None:
    channel = InProcessChannel(buffer_max=3)
    async with channel.listen(), channel.listen() as quick:
        heard = []
        for event in EVENTS:
            await channel.publish([event])
            heard += await take(quick, 1)
        assert heard == EVENTS


async def test_a_waiting_listener_is_woken() -> None:
    channel = InProcessChannel()
    heard: list[Event] = []

    async def listen(events: AsyncIterator[Event]) -> None:
        heard.extend(await take(events, 2))

    async with channel.listen() as events, anyio.create_task_group() as tasks:
        tasks.start_soon(listen, events)
        await anyio.wait_all_tasks_blocked()
        await channel.publish(EVENTS[:2])
    assert heard == EVENTS[:2]


async def test_a_waiting_listener_of_a_full_buffer_loses_nothing() -> None:
    channel = InProcessChannel(buffer_max=1)
    heard: list[Event] = []

    async def listen(events: AsyncIterator[Event]) -> None:
        heard.extend(await take(events, 2))

    async with channel.listen() as events, anyio.create_task_group() as tasks:
        tasks.start_soon(listen, events)
        await anyio.wait_all_tasks_blocked()
        await channel.publish(EVENTS[:2])  # the first goes to the one who waits, the second into the buffer
    assert heard == EVENTS[:2]


async def test_a_listener_that_leaves_on_an_error_is_forgotten() -> None:
    channel = InProcessChannel()
    with pytest.raises(KeyError):
        async with channel.listen():
            raise KeyError
    await channel.publish(EVENTS)


def test_a_channel_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="buffer_max"):
        InProcessChannel(buffer_max=0)
