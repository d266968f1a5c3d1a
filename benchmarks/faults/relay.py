"""What stands between a server and what it leans on: passes bytes on, late when told so, and cuts connections."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HOST = "127.0.0.1"
_CHUNK_BYTES = 65536
_RESET = struct.pack("ii", 1, 0)


class Relay:
    """A port that leads to another one.

    Args:
        target: The port of the server behind it.
        dice: Decides where connections break.
    """

    def __init__(self, target: int, dice: random.Random) -> None:
        self.port = 0
        self.delay_s = 0.0
        """How late each piece of bytes arrives, in both directions."""
        self.breaks_within = 0
        """After how many bytes at most a connection is reset, at a random one; 0: never."""
        self._target = target
        self._dice = dice
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """Reset all connections, now."""
        for writer in tuple(self._open):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._target)
        except OSError:
            _reset(writer)
            return
        both = {writer, far_writer}
        self._open |= both
        left = [self._dice.randrange(self.breaks_within)] if self.breaks_within else []
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass(reader, far_writer, left))
                tasks.create_task(self._pass(far_reader, writer, left))
        except* (OSError, asyncio.CancelledError):
            for one in both:
                _reset(one)
        finally:
            self._open -= both
            for one in both:
                one.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int]) -> None:
        """Pass on one direction; both count together towards where the connection breaks."""
        while data := await reader.read(_CHUNK_BYTES):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if left:
                part = data[: left[0]]
                left[0] -= len(part)
                writer.write(part)
                if len(part) < len(data):
                    raise ConnectionResetError("broken")
            else:
                writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as one that breaks does, not as one that is closed."""
    own: socket.socket | None = writer.get_extra_info("socket")
    if own is not None:
        with contextlib.suppress(OSError):
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@asynccontextmanager
async def relayed(port: int, dice: random.Random) -> AsyncIterator[Relay]:
    """Lead to a port until the end of the block."""
    relay = Relay(port, dice)
    await relay.open()
    try:
        yield relay
    finally:
        await relay.close()


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.create_server((HOST, 0)) as found:
        port: int = found.getsockname()[1]
        return port


def is_open(port: int) -> bool:
    """Tell whether something listens."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
