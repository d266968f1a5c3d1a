"""Jobs beside a block of code."""

import anyio
import pytest

from contextdna.backends.background import running

pytestmark = pytest.mark.anyio


async def test_jobs_end_with_the_block_and_what_it_raises_comes_out_as_it_is() -> None:
    begun, ended = anyio.Event(), anyio.Event()

    async def job() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    error = LookupError("of the block")

    async def block() -> None:
        async with running(job):
            await begun.wait()
            raise error

    with pytest.raises(LookupError) as raised:
        await block()
    assert raised.value is error
    assert ended.is_set()


async def test_a_job_that_fails_ends_the_block() -> None:
    async def job() -> None:
        raise OSError

    with pytest.raises(ExceptionGroup) as raised:
        async with running(job):
            await anyio.sleep_forever()
    assert raised.group_contains(OSError)
