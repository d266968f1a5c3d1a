"""Fan-out between server processes by LISTEN and NOTIFY: a hint to read the outbox, never the truth itself."""

import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import anyio

from contextdna.backends.background import running
from contextdna.backends.in_process import InProcessChannel
from contextdna.backends.postgres.driver import DRIVER_ERRORS, Server, connect, sqlstate_of
from contextdna.errors import ContextDnaError
from contextdna.values.event import Event

logger = logging.getLogger(__name__)

_CHANNEL: Final = "contextdna_events"
_GATHER_S: Final = 0.005
"""How long events are gathered for one NOTIFY: the server passes on those of one transaction at a time."""
_AGAIN_S: Final = 0.5
_AGAIN_MAX_S: Final = 15.0


class PostgresChannel:
    """``EventChannel`` between the server processes of a database.

    Others are told that there is something new, not what: any role of the database may listen. Publishing waits for
    nobody.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._here = InProcessChannel()
        self._sender = uuid4().hex
        self._hears = False
        self._is_new = False
        self._wake = anyio.Event()

    @property
    def hears_others(self) -> bool:
        """Whether other processes are heard, as far as is known."""
        return self._hears

    async def publish(self, events: Sequence[Event]) -> None:
        """Tell listeners, here and in other processes."""
        await self._here.publish(events)
        if events:
            self._is_new = True
            self._wake.set()

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        """Be told from now on."""
        return self._here.listen()

    async def run(self) -> None:
        """Keep a connection to hear and tell, until cancelled."""
        pause_s = _AGAIN_S
        while True:
            try:
                connection = await connect(self._server)
            except ContextDnaError as error:
                logger.warning("events of other servers come late: %s", error.code)
            else:
                pause_s = _AGAIN_S
                await self._serve(connection)
            await anyio.sleep(random.uniform(0, pause_s))  # noqa: S311 - jitter, not a secret
            pause_s = min(2 * pause_s, _AGAIN_MAX_S)

    async def _serve(self, connection: Any) -> None:
        """Hear and tell until the connection is lost."""
        connection.add_termination_listener(self._lose)
        try:
            await connection.add_listener(_CHANNEL, self._hear)
            self._hears = True
            self._here.hint()  # something may have been missed
            while not connection.is_closed():
                self._wake = anyio.Event()
                if self._is_new:
                    self._is_new = False
                    await connection.execute("SELECT pg_notify($1, $2)", _CHANNEL, self._sender)
                await self._wake.wait()
                await anyio.sleep(_GATHER_S)
        except DRIVER_ERRORS as error:
            logger.warning("events of other servers come late: %s", sqlstate_of(error) or type(error).__name__)
        finally:
            self._hears = False
            connection.terminate()

    def _lose(self, _connection: Any) -> None:
        self._hears = False
        self._wake.set()

    def _hear(self, _connection: Any, _pid: int, _channel: str, sender: str) -> None:
        if sender != self._sender:
            self._here.hint()


@asynccontextmanager
async def open_channel(server: Server) -> AsyncIterator[PostgresChannel]:
    """Open a channel; a server that is away is looked for in the background."""
    channel = PostgresChannel(server)
    async with running(channel.run):
        yield channel
