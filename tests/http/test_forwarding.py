"""Requests that are handed on to another server: what becomes of them, and of the connections to it, as it ends."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest
from starlette.types import Message, Scope, Send

from contextdna_server.http import affinity
from contextdna_server.http.affinity import PeerGone, Peers
from contextdna_server.http.forwarding import forwarded
from contextdna_server.http.peer_folder import make_private, socket_path

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="servers reach each other by sockets of Unix"),
]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b"b\r\ndata: one\n\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"
END = b"0\r\n\r\n"
Peer = Callable[[anyio.abc.SocketStream], Awaitable[None]]


@asynccontextmanager
async def listening(path: Path, peer: Peer) -> AsyncIterator[None]:
    """Be another server until the end of the block."""
    make_private(path.parent)

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await peer(stream)

    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield
        tasks.cancel_scope.cancel()


def scope_of(method: str = "tools/call") -> Scope:
    return {
        "type": "http",
        "method": "POST",
        "raw_path": b"/mcp",
        "query_string": b"",
        "headers": [],
        "state": {"message": {"jsonrpc": "2.0", "id": 7, "method": method}},
    }


async def whole(stream: anyio.abc.SocketStream) -> None:
    await stream.send(HEAD + EVENT + END)


async def nowhere(_message: Message) -> None:
    pass


async def forward(peers: Peers, server: str, send: Send = nowhere) -> None:
    await peers.forward(server, scope_of(), send, body=b"{}")


async def test_a_call_that_finds_its_server_ending_cuts_off_no_other(tmp_path: Path) -> None:
    path, peers, sent = socket_path(tmp_path, "a"), Peers(tmp_path), list[bytes]()
    begun, refused = anyio.Event(), anyio.Event()

    async def slow(stream: anyio.abc.SocketStream) -> None:
        await stream.send(HEAD)
        begun.set()
        await refused.wait()
        await stream.send(EVENT + END)

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    with anyio.fail_after(10):
        async with peers.opened(), listening(path, slow), anyio.create_task_group() as tasks:
            tasks.start_soon(forward, peers, "a", send)
            await begun.wait()
            path.unlink()
            with socket.socket(socket.AF_UNIX) as deaf:
                deaf.bind(str(path))
                with pytest.raises(PeerGone):
                    await forward(peers, "a")
            refused.set()
    assert b"".join(sent) == b"data: one\n\n"


async def test_connections_to_a_server_that_has_ended_are_closed(tmp_path: Path) -> None:
    path, peers = socket_path(tmp_path, "a"), Peers(tmp_path)
    async with peers.opened(), listening(path, whole):
        await forward(peers, "a")
        line = peers._lines["a"]
        path.unlink()
        with pytest.raises(PeerGone):
            await forward(peers, "a")
        assert (line.client.is_closed, peers._lines) == (True, {})


async def test_connections_that_nobody_used_for_long_are_closed_as_others_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(affinity, "_UNUSED_S", -1.0)
    peers = Peers(tmp_path)
    async with peers.opened():
        for name in "abc":
            async with listening(socket_path(tmp_path, name), whole):
                await forward(peers, name)
        assert list(peers._lines) == ["c"]


async def answer_cut_off(folder: Path, left_at: bytes) -> list[Message]:
    """Give what a client is sent whose call's server ends after it has said this."""
    peers, sent = Peers(folder), list[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def cut_off(stream: anyio.abc.SocketStream) -> None:
        await stream.send(left_at)

    with anyio.fail_after(10):
        async with peers.opened(), listening(socket_path(folder, "a"), cut_off):
            await forwarded(peers, "a", scope_of(), receive, send, body=b"{}")
    return sent


@pytest.mark.parametrize("left_at", [HEAD, HEAD + EVENT, HEAD + b"8\r\ndata: on\r\n"])
async def test_a_call_whose_stream_of_events_was_cut_off_is_told_so_on_it(tmp_path: Path, left_at: bytes) -> None:
    sent = await answer_cut_off(tmp_path, left_at)
    said = b"".join(message.get("body", b"") for message in sent).decode()
    told = json.loads(re.split(r"\r?\n\r?\n", said)[-2].rpartition("data: ")[2])
    assert (told["id"], told["error"]["data"]["code"]) == (7, "peer_lost")
    assert not sent[-1].get("more_body", False)


async def test_an_answer_that_was_cut_off_as_json_is_not_completed(tmp_path: Path) -> None:
    sent = await answer_cut_off(tmp_path, PLAIN)
    assert [message.get("body") for message in sent] in ([None], [None, b"{"])
