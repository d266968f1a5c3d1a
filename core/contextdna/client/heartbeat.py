"""The sign of life of a run: an agent that only thinks for long is not gone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import anyio

from contextdna.client import requests
from contextdna.client.connection import Connection
from contextdna.client.errors import ClientError, Refused

TASK: Final = "contextdna.client heartbeat"

logger = logging.getLogger(__name__)


class Heartbeat:
    """Tells the server now and then that the agent of a session is alive.

    It starts no server and is not tried again: a server that is away is for the run's own calls to find. A server that
    refuses it, as one that serves the default profile, is not asked again; nobody waits for agents by name there.
    """

    def __init__(self, connection: Connection, session: Callable[[], str], every_s: float) -> None:
        self._connection = connection
        self._session = session
        self._every_s = every_s
        self._scope: anyio.CancelScope | None = None

    def start(self) -> None:
        """Begin, beside the work."""
        if self._every_s > 0:
            self._scope = anyio.CancelScope()
            self._connection.start(partial(self._keep, self._scope), name=TASK)

    def stop(self) -> None:
        """End, at once."""
        if self._scope is not None:
            self._scope.cancel()

    async def _keep(self, scope: anyio.CancelScope) -> None:
        with scope:
            wanted = True
            while wanted:
                await anyio.sleep(self._every_s)
                wanted = await self._beat()

    async def _beat(self) -> bool:
        """Beat once; False where it will never be of use. Raises nothing."""
        session_id = self._session()
        try:
            if session_id:
                await self._connection.call_once(requests.beat(session_id))
        except Refused as error:
            return error.retryable
        except ClientError:
            return True
        except Exception as error:  # noqa: BLE001 - the boundary of an owned task: the work goes on without it
            logger.error("no more heartbeats: %s", type(error).__name__)
            return False
        return True
