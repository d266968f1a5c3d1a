"""Jobs that run beside a block of code, and end with it."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def running(*jobs: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[TaskGroup]:
    """Run jobs until the block ends, which cancels them; gives their task group, for more.

    Args:
        jobs: What to run.

    Raises:
        Exception: Whatever the block raised, as it is: a task group alone would wrap it into a group.
        ExceptionGroup: A job failed.
    """
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        for job in jobs:
            tasks.start_soon(job)
        try:
            yield tasks
        except Exception as error:  # noqa: BLE001 - raised again below
            failure = error
        finally:
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
