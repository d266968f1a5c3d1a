"""Threads for calls that block, of one's own: what hangs there takes none from anybody else."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

R = TypeVar("R")


class Threads:
    """Runs blocking calls, so many at a time at most.

    A caller that gives up does not wait for its thread; its place is free only when the thread has really ended, so
    that a server that hangs never gathers threads. A process that ends waits for none of them.

    Args:
        most: Threads at the same time.
    """

    def __init__(self, most: int) -> None:
        self._places = asyncio.Semaphore(most)

    async def run(self, work: Callable[[], R]) -> R:
        """Run a blocking call and give what it gives, or raise what it raises."""
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[R] = loop.create_future()

        def finish(answer: Any, error: BaseException | None) -> None:
            self._places.release()
            if done.done():
                return
            if error is None:
                done.set_result(answer)
            else:
                done.set_exception(error)

        def body() -> None:
            answer, failure = None, None
            try:
                answer = work()
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                failure = error
            try:
                loop.call_soon_threadsafe(finish, answer, failure)
            except RuntimeError:  # the loop has ended: nobody waits any more
                return

        threading.Thread(target=body, name="contextdna-s3", daemon=True).start()
        return await done
