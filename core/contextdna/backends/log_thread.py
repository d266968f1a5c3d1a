"""A thread that does one thing after the other for an event loop."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

R = TypeVar("R")


class LogThread:
    """A thread of its own: half the way there and back that an executor takes, which matters beside one flush."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="contextdna-log", daemon=True).start()

    def submit(self, task: Callable[[], None]) -> None:
        """Have something done that answers by other means; it must not raise."""
        self._tasks.put(task)

    async def run(self, fn: Callable[..., R], *args: Any) -> R:
        """Have a function run, and await its result. It runs to its end, too, when its caller is cancelled."""
        future: asyncio.Future[R] = self._loop.create_future()

        def task() -> None:
            try:
                result = fn(*args)
            except BaseException as error:  # noqa: BLE001 - its caller gets it
                self.answer(_settle, future, None, error)
            else:
                self.answer(_settle, future, result, None)

        self._tasks.put(task)
        return await future

    def answer(self, fn: Callable[..., None], *args: Any) -> None:
        """Have something done on the loop; from the thread."""
        with suppress(RuntimeError):  # the loop is gone, and its callers with it
            self._loop.call_soon_threadsafe(fn, *args)

    def end(self) -> None:
        """Let the thread end once all is done that was asked of it."""
        self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()


def _settle(future: asyncio.Future[R], result: R, error: BaseException | None) -> None:
    if future.done():
        return  # the caller was cancelled
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
