"""Something between a client and a server that can be cut, and that can hang: the network, as tests want it."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

_SOCKET: Final = ".s.PGSQL.5432"


class Relay:
    """Passes bytes on, both ways; ``cut`` refuses and drops connections, ``hang`` takes them and says nothing."""

    def __init__(self, folder: Path, target: str | tuple[str, int]) -> None:
        self.place = folder / _SOCKET
        self._target = target
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._by_tcp: asyncio.Server | None = None

    async def open(self) -> None:
        """Let connections through."""
        self._flows.set()
        if self._server is None:
            self._server = await asyncio.start_unix_server(self._serve, self.place)

    async def open_tcp(self) -> int:
        """Let connections through by a port of this machine, too; gives it."""
        self._by_tcp = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._by_tcp.sockets[0].getsockname()[1])

    async def cut(self) -> None:
        """Drop all connections and take no more."""
        for server in filter(None, (self._server, self._by_tcp)):
            server.close()
        self._server = self._by_tcp = None
        self.place.unlink(missing_ok=True)
        for writer in self._writers:
            transport = writer.transport
            transport.abort()
        for task in self._tasks:
            task.cancel()

    def hang(self) -> None:
        """Take connections and bytes, and let nothing pass."""
        self._flows.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = asyncio.current_task()
        assert own is not None
        self._tasks.add(own)
        self._writers.add(writer)
        try:
            await self._flows.wait()
            if isinstance(self._target, str):
                far_reader, far_writer = await asyncio.open_unix_connection(self._target)
            else:
                far_reader, far_writer = await asyncio.open_connection(*self._target)
            self._writers.add(far_writer)
            try:
                await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
            finally:
                self._writers.discard(far_writer)
                far_writer.close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            self._tasks.discard(own)
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.write_eof()


@asynccontextmanager
async def relayed(url: str) -> AsyncIterator[tuple[Relay, str]]:
    """Put a relay before the PostgreSQL of a URL; gives it, and the URL that leads through it."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    host = query["host"][0] if "host" in query else unquote(parts.hostname or "localhost")
    target: str | tuple[str, int]
    target = f"{host}/{_SOCKET}" if host.startswith("/") else (host, parts.port or 5432)
    with tempfile.TemporaryDirectory() as folder:  # the path of a socket is short
        relay = Relay(Path(folder), target)
        await relay.open()
        user = parts.netloc.rpartition("@")[0]
        try:
            yield relay, urlunsplit((parts.scheme, f"{user}@", parts.path, f"host={quote(folder)}", ""))
        finally:
            await relay.cut()


def silent_port() -> tuple[socket.socket, int]:
    """Give a socket that takes connections and never answers, and its port."""
    listening = socket.create_server(("127.0.0.1", 0))
    return listening, listening.getsockname()[1]
