"""Requests that belong to another server of the installation: handed on to it, and answered where it ends meanwhile."""

from __future__ import annotations

import logging

import anyio
from starlette.types import Message, Receive, Scope, Send

from contextdna import StorageUnavailable
from contextdna_server.http.affinity import PeerGone, PeerLost, Peers
from contextdna_server.http.refusals import Refusal, answer, is_events

logger = logging.getLogger(__name__)


async def forwarded(peers: Peers, server: str, scope: Scope, receive: Receive, send: Send, *, body: bytes) -> None:
    """Hand a request on, until its client leaves. Where its server ends meanwhile, the client is told so.

    Raises:
        PeerGone: The server does not answer; nothing was sent.
    """
    gone: PeerGone | None = None
    start: Message | None = None
    lost = False

    async def note(message: Message) -> None:
        nonlocal start
        start = start or message
        await send(message)

    async def watch(scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, tasks.cancel_scope)
        try:
            await peers.forward(server, scope, note, body=body)
        except PeerGone as error:  # raised below, not wrapped into the task group's
            gone = error
        except PeerLost:
            lost = True
        tasks.cancel_scope.cancel()
    if gone is not None:
        raise gone
    if lost:
        await _tell_lost(start, call_id_of(scope), send)


async def _tell_lost(start: Message | None, call_id: int | str | None, send: Send) -> None:
    """Tell a client that the server of its call ended; an answer that began otherwise than as events is cut off."""
    if start is None:
        await answer(_lost_server(), send, call_id=call_id)
        return
    logger.info("a server ended while it answered")
    if call_id is not None and is_events(start):
        event = b"\r\n\r\n" + _lost_server().event(call_id)  # one before it may have been left in the middle
        await send({"type": "http.response.body", "body": event})


def call_id_of(scope: Scope) -> int | str | None:
    """Give the id of a call; None for anything else."""
    message = scope["state"].get("message")
    return message.get("id") if isinstance(message, dict) and "method" in message else None


def _lost_server() -> Refusal:
    error = StorageUnavailable(
        "the server of this connection ended before it answered",
        code="peer_lost",
        hint="What it was to change may be changed or not: look, then retry, with an idempotency_key.",
        retryable=True,
    )
    return Refusal(error, 503, (("Retry-After", "1"),))
