"""Calls on a stream whose answers are not sent yet.

A call over HTTP+SSE came with a request that is over, and its answer may wait for a client that does not read. So it
keeps its place among its caller's calls until the answer is sent: else answers would pile up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp.types import JSONRPCError, JSONRPCRequest, JSONRPCResponse

from contextdna_server.http.limits import Slot
from contextdna_server.open_calls import Incoming, OpenCalls, Outgoing, Receiving, Sending


class UnsentAnswers:
    """Holds the places of one stream's calls.

    Args:
        note: Told how many calls more, or less, there are.
    """

    def __init__(self, note: Callable[[int], None]) -> None:
        self._note = note
        self._slots: dict[str, list[Slot]] = {}  # ids are the client's: several calls may have the same

    def received(self, item: SessionMessage) -> SessionMessage:
        """Hold the place of a message's call; give the message to be passed on."""
        metadata = item.metadata
        if not isinstance(item.message, JSONRPCRequest) or not isinstance(metadata, ServerMessageMetadata):
            return item
        slot: Slot = metadata.request_context.scope["state"]["slot"]
        slot.hold()
        self._note(1)
        call_id = str(item.message.id)
        self._slots.setdefault(call_id, []).append(slot)
        return replace(item, metadata=replace(metadata, on_request_unanswered=self._unanswered(call_id)))

    def _unanswered(self, call_id: str) -> Callable[[], Awaitable[None]]:
        async def settle() -> None:
            self._release(self._take(call_id))

        return settle

    @contextmanager
    def sending(self, item: SessionMessage) -> Iterator[None]:
        """Give the place of a message's call free once the message is sent."""
        answer = item.message
        slot = self._take(str(answer.id)) if isinstance(answer, JSONRPCResponse | JSONRPCError) else None
        try:
            yield
        finally:
            self._release(slot)

    def close(self) -> None:
        """Give all places free, as the stream has ended."""
        for slots in self._slots.values():
            for slot in slots:
                self._release(slot)
        self._slots.clear()

    def _take(self, call_id: str) -> Slot | None:
        slots = self._slots.get(call_id)
        if not slots:
            return None
        slot = slots.pop()
        if not slots:
            del self._slots[call_id]
        return slot

    def _release(self, slot: Slot | None) -> None:
        if slot is not None:
            slot.release()
            self._note(-1)


class CountedIncoming(Incoming):
    """Messages for the server, whose calls hold their places from now on."""

    def __init__(self, stream: Receiving, calls: OpenCalls, unsent: UnsentAnswers) -> None:
        super().__init__(stream, calls)
        self._unsent = unsent

    async def receive(self) -> SessionMessage | Exception:
        """Give the next message, or what could not be parsed as one."""
        item = await super().receive()
        return item if isinstance(item, Exception) else self._unsent.received(item)


class CountedOutgoing(Outgoing):
    """Messages of the server; an answer that was sent makes room for another call."""

    def __init__(self, stream: Sending, calls: OpenCalls, unsent: UnsentAnswers) -> None:
        super().__init__(stream, calls)
        self._unsent = unsent

    async def send(self, item: SessionMessage, /) -> None:
        """Send a message."""
        with self._unsent.sending(item):
            await super().send(item)
