"""A lock whose waiters take turns by whose they are."""

import asyncio

import anyio
import anyio.lowlevel
import pytest

from contextdna.backends.fair_lock import FairLock

pytestmark = pytest.mark.anyio


async def settled() -> None:
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def test_who_asks_for_much_lets_others_in_between() -> None:
    lock, came = FairLock(), list[str]()

    async def hold(name: str) -> None:
        async with lock.held_for(name.rstrip("1234")):
            came.append(name)

    async with anyio.create_task_group() as tasks, lock.held_for("dora"):
        for name in ("anna1", "anna2", "anna3", "bob1", "anna4", "carl1", "bob2"):
            tasks.start_soon(hold, name)
        await settled()
        assert came == []
    assert came == ["anna1", "bob1", "carl1", "anna2", "bob2", "anna3", "anna4"]


async def test_one_at_a_time_holds_it_and_an_error_gives_it_back() -> None:
    lock = FairLock()
    with pytest.raises(LookupError):
        async with lock.held_for("anna"):
            raise LookupError
    async with lock.held_for("bob"):
        with anyio.move_on_after(0):
            async with lock.held_for("bob"):
                raise AssertionError("two hold it")
    async with lock.held_for("carl"):
        pass


@pytest.mark.parametrize("is_its_turn", [False, True])
async def test_a_waiter_that_is_cancelled_keeps_no_other_waiting(is_its_turn: bool) -> None:
    lock, came = FairLock(), list[str]()

    async def hold(owner: str) -> None:
        async with lock.held_for(owner):
            came.append(owner)

    async with lock.held_for("anna"):
        bob, carl = asyncio.create_task(hold("bob")), asyncio.create_task(hold("carl"))
        await settled()
        if not is_its_turn:
            bob.cancel()
            await settled()
    bob.cancel()
    with anyio.fail_after(5):
        await carl
        async with lock.held_for("dora"):
            pass
    assert (bob.cancelled(), came) == (True, ["carl"])
