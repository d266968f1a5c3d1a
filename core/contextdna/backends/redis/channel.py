"""Hints between server processes, by publishing and subscribing."""

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import anyio

from contextdna.backends.in_process import InProcessChannel
from contextdna.backends.redis.driver import DRIVER_ERRORS, mapped_error
from contextdna.backends.redis.link import RedisLink
from contextdna.errors import StorageUnavailable
from contextdna.values.event import Event

logger = logging.getLogger(__name__)

_NAME: Final = "events"
_PAUSE_S: Final = 0.05
_PAUSE_S_MAX: Final = 5.0
_ASK_S: Final = 1.0
"""After so much silence the server is asked whether it is there: one that hangs is as silent as one without news."""


class RedisChannel:
    """``EventChannel`` between processes. A message says that there is something new, and nothing of what.

    Listeners of this process are told by itself, so they miss nothing while Redis is away.

    Args:
        link: The way to Redis.
        ask_s: After how much silence the server is asked whether it is there.
    """

    def __init__(self, link: RedisLink, *, ask_s: float = _ASK_S) -> None:
        self._link = link
        self._ask_s = ask_s
        self._name = link.key(_NAME)
        self._own = secrets.token_bytes(8)  # whoever hears this has heard itself
        self._here = InProcessChannel()
        self._subscribed = False
        self._pause_s = _PAUSE_S
        self._sending = anyio.Event()

    @property
    def hears_others(self) -> bool:
        """Whether it tells of what other processes commit."""
        return self._subscribed and self._link.is_attached

    async def publish(self, events: Sequence[Event]) -> None:
        """Tell listeners here, and have those elsewhere told; nobody waits for Redis."""
        if events:
            self._here.hint()
            self._sending.set()

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        """Listen from now on, until the context is left."""
        return self._here.listen()

    async def run(self) -> None:
        """Hear of other processes and tell them, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._tell)
            while True:
                await self._link.until_attached()
                await self._subscribe()
                await self._link.attach()  # it may be away; or it may only refuse subscriptions
                await anyio.sleep(self._pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                self._pause_s = min(2 * self._pause_s, _PAUSE_S_MAX)

    async def _tell(self) -> None:
        """Publish, once for all that was committed meanwhile; what could not be told is told when Redis is back."""
        while True:
            await self._sending.wait()
            self._sending = anyio.Event()
            try:
                await self._link.call(lambda client: client.publish(self._name, self._own))
            except StorageUnavailable as error:
                if self._link.is_attached:
                    logger.debug("other processes have to look for events: %s", error.code)
                    continue
                await self._link.until_attached()
                self._sending.set()

    async def _subscribe(self) -> None:
        listener = self._link.listener()
        subscription = listener.pubsub()
        try:
            await self._hear(subscription)
        except DRIVER_ERRORS as error:
            logger.info("events of other processes are looked for, not heard: %s", mapped_error(error).code)
        finally:
            self._subscribed = False
            self._here.hint()
            with anyio.CancelScope(shield=True), anyio.move_on_after(self._link.place.deadline_s):
                await _close(subscription, listener)

    async def _hear(self, subscription: Any) -> None:
        """Hear until the connection is lost. Once it stands, and whenever it stands again, something may be new."""
        async with asyncio.timeout(self._link.place.deadline_s):
            await subscription.subscribe(self._name)
        asked = False
        while True:
            message = await subscription.get_message(timeout=self._ask_s)
            if message is None:
                if asked:
                    raise TimeoutError
                async with asyncio.timeout(self._link.place.deadline_s):
                    await subscription.ping()
            elif message["type"] == "subscribe":
                self._subscribed = True
                self._pause_s = _PAUSE_S
                self._here.hint()
            elif message["type"] == "message" and message["data"] != self._own:
                self._here.hint()
            asked = message is None


async def _close(subscription: Any, listener: Any) -> None:
    try:
        await subscription.aclose()
        await listener.aclose()
    except DRIVER_ERRORS:
        logger.debug("a subscription could not be closed")
