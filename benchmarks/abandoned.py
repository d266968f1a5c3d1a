"""What clients that vanish leave in a server: its memory before, at the peak, and when their time is over.

Sessions: so many are opened by a 2025-11-25 handshake and never ended, all by one agent, which may hold few of them,
and by many agents. Streams: so many are opened (`GET /sse`, and `GET /mcp` of as many sessions), then their clients go:
with a reset, with an orderly end, or silently, as when a cable is cut. The last is done with a socket filter that drops
all that comes, so that nothing is acknowledged any more: Linux only, as is all of this.

Before anything is counted some clients come and go in order, so that what a server loads and keeps once is there.
`files` are the server's open ones, connections among them. Each way of going has a server of its own, and several are
measured at the same time: memory does not depend on it, and most of the time is waiting.
"""

import argparse
import asyncio
import ctypes
import socket
import struct
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.callers import LEGACY, MCP_PATH, SSE_PATH, SessionCaller, SseCaller
from benchmarks.footprint import kib_of, processes_of
from benchmarks.http1 import Connection
from benchmarks.http_servers import Running, product, serving, tokens
from benchmarks.progress import show_progress
from benchmarks.report import Report, Row
from benchmarks.servers import add_command_option, command_of
from contextdna_server.http.serving import allow_connections

_AT_ONCE = 32
_MARGIN_S = 3.0
_RETURN_S = 25.0
"""When a server has counted what ended, and given its memory back."""
_POLL_S = 0.5
_SO_ATTACH_FILTER = 26
_BPF_RETURN = 0x06

Leave = Callable[[Connection], None]
Open = Callable[[str], Awaitable[None]]
Abandon = Callable[[Running, Sequence[str]], Awaitable[list[Connection]]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--sessions", type=int, default=10_000, help="abandoned (default 10,000)")
    parser.add_argument("--streams", type=int, default=1000, help="of each kind, half open (default 1,000)")
    parser.add_argument("--agents", type=int, default=25, help="where there are many (default 25)")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds after which a session ends (default 20)")
    parser.add_argument("--silence", type=float, default=4.0, help="seconds that a client may be silent (default 4)")
    parser.add_argument(
        "--allocator",
        choices=["malloc", "pymalloc"],
        default="pymalloc",
        help="PYTHONMALLOC (default pymalloc, Python's)",
    )
    parser.add_argument("--at-once", type=int, default=4, help="servers that are measured at the same time (default 4)")
    parser.add_argument("--warmup", type=int, default=200, help="sessions and streams before (default 200)")
    add_command_option(parser)


def run(options: argparse.Namespace) -> Report:
    """Measure all ways of going."""
    allow_connections(options.streams * options.at_once)
    return asyncio.run(_measure(options))


@dataclass(frozen=True, slots=True)
class Way:
    """One way of leaving something behind."""

    name: str
    opened: int
    agents: int
    abandon: Abandon


def _ways(options: argparse.Namespace) -> list[Way]:
    ways = [
        Way(f"sessions of {whose}", options.sessions, agents, _sessions_opener(options.sessions))
        for agents, whose in ((1, "one agent"), (options.agents, f"{options.agents} agents"))
    ]
    for path in (SSE_PATH, MCP_PATH):
        for how, leave in LEAVING.items():
            opener = _streams_opener(path, leave, options.streams)
            ways.append(Way(f"GET {path}, {how}", options.streams, options.agents, opener))
    return ways


async def _measure(options: argparse.Namespace) -> Report:
    room = asyncio.Semaphore(options.at_once)

    async def measured(way: Way) -> Row:
        async with room:
            return {"abandoned": way.name, "opened": way.opened, **await _on_a_server(options, way)}

    async with asyncio.TaskGroup() as tasks:
        measuring = [tasks.create_task(measured(way)) for way in _ways(options)]
    return Report(
        {"memory of the server": [task.result() for task in measuring]},
        ["ratio: RSS when all time is over, over RSS before.", "files of the server: its sockets among them."],
    )


# --- how clients go ---


def _reset(connection: Connection) -> None:
    _socket_of(connection).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.writer.transport.abort()


def _end(connection: Connection) -> None:
    connection.close()


def _fall_silent(connection: Connection) -> None:
    """Let nothing in any more, so that this system does not acknowledge what comes. Source: socket(7), bpf."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
    given = struct.pack("HP", 1, ctypes.addressof(program))
    _socket_of(connection).setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, given)


LEAVING: Mapping[str, Leave] = {"reset": _reset, "ended": _end, "silent": _fall_silent}
"""How a client leaves its stream."""


def _socket_of(connection: Connection) -> socket.socket:
    found: socket.socket = connection.writer.get_extra_info("socket")
    return found


# --- what they leave ---


async def _on_a_server(options: argparse.Namespace, way: Way) -> Row:
    """Let clients abandon something on a server of their own, and look at it before and after."""
    settings = {
        "SESSION_IDLE_S": options.idle,
        "WRITE_TIMEOUT_S": options.silence,
        "RATE_PER_S": 100_000,
        "RATE_BURST": 100_000,
        "CONNECTIONS_MAX": options.streams + 1000,
    }
    environment = {f"CONTEXTDNA_HTTP__{name}": str(value) for name, value in settings.items()}
    environment["PYTHONMALLOC"] = options.allocator
    with tempfile.TemporaryDirectory() as data:
        given = await tokens(Path(data), way.agents)
        async with serving(product(command_of(options), Path(data)), environment=environment) as server:
            pids = processes_of(server.pid)
            await _come_and_go(server, given, options.warmup)
            await asyncio.sleep(options.silence)
            before, files = kib_of(pids)["Rss"], _files_of(pids)
            held = await way.abandon(server, given)
            peak, files_peak = kib_of(pids)["Rss"], _files_of(pids)
            peak = await _wait(options.idle + 2 * options.silence + _RETURN_S, pids, peak)
            after, files_after = kib_of(pids)["Rss"], _files_of(pids)
            for connection in held:
                connection.writer.transport.abort()
    return {
        "before_mib": round(before / 1024, 1),
        "peak_mib": round(peak / 1024, 1),
        "after_mib": round(after / 1024, 1),
        "ratio": round(after / max(1, before), 3),
        "files_before": files,
        "files_peak": files_peak,
        "files_after": files_after,
    }


async def _wait(seconds: float, pids: set[int], peak: int) -> int:
    """Wait, and give the most that was taken meanwhile."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        peak = max(peak, kib_of(pids)["Rss"])
        await asyncio.sleep(_POLL_S)
    return peak


def _files_of(pids: set[int]) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)


async def _come_and_go(server: Running, given: Sequence[str], many: int) -> None:
    """Serve clients that do as they should."""

    async def visit(token: str) -> None:
        session, stream = SessionCaller(server.address, token), SseCaller(server.address, token)
        for caller in (session, stream):
            await caller.connect()
            await caller.call("store_memory", {"content": "A client that does as it should."})
        await session.end()
        await stream.leave()

    await _repeat(visit, given, many, label="clients before")


def _sessions_opener(many: int) -> Abandon:
    """Open sessions, and leave their connections."""

    async def open_and_leave(server: Running, given: Sequence[str]) -> list[Connection]:
        async def abandon(token: str) -> None:
            caller = SessionCaller(server.address, token)
            await caller.connect()
            await caller.leave()

        await _repeat(abandon, given, many, label="sessions")
        return []

    return open_and_leave


def _streams_opener(path: str, leave: Leave, many: int) -> Abandon:
    """Open streams, and let their clients go."""

    async def open_and_leave(server: Running, given: Sequence[str]) -> list[Connection]:
        opened: list[Connection] = []

        async def open_one(token: str) -> None:
            caller = SessionCaller(server.address, token)
            if path == MCP_PATH:
                await caller.connect()
                await caller.leave()
            connection = await Connection.opened(server.address)
            await connection.stream(path, {**caller.headers, "mcp-protocol-version": LEGACY})
            opened.append(connection)

        await _repeat(open_one, given, many, label=f"GET {path}")
        await asyncio.sleep(_MARGIN_S)  # all of them rest
        for connection in opened:
            leave(connection)
        return opened

    return open_and_leave


async def _repeat(visit: Open, given: Sequence[str], many: int, *, label: str) -> None:
    """Do something so many times, some of it at once, with each token in turn."""
    waiting = iter(range(many))

    async def work() -> None:
        for number in waiting:
            await visit(given[number % len(given)])
            show_progress(label, number + 1, many)

    await asyncio.gather(*(work() for _ in range(min(_AT_ONCE, many))))
