"""A lean HTTP/1.1 client for load: one connection kept alive, one request at a time, nothing but what a test needs.

A whole client library would take more time than the server that it measures.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

_LINE_BYTES_MAX = 1 << 20
_ANSWER_S = 60.0

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of ``Host``."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; the names of its headers are in lower case."""

    status: int
    headers: Headers
    body: bytes

    def message(self) -> dict[str, Any]:
        """Read the JSON-RPC message that it is, or the last one that its events hold.

        Raises:
            ValueError: It holds none.
        """
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            return message_in(self.body.rstrip().rpartition(b"\r\n\r\n")[2])
        found: dict[str, Any] = json.loads(self.body)
        return found


class Connection:
    """One connection to a server; close it with ``close``."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._address = address
        self._reader = reader

    @classmethod
    async def opened(cls, address: Address) -> "Connection":
        """Connect."""
        return cls(address, *await asyncio.open_connection(address.host, address.port, limit=_LINE_BYTES_MAX))

    async def ask(self, method: str, path: str, headers: Headers, body: bytes = b"") -> Answer:
        """Send a request and read its answer.

        Raises:
            OSError: The server did not answer, or not in time.
        """
        self._send(method, path, headers, body)
        try:
            async with asyncio.timeout(_ANSWER_S):
                status, answered = await self._head()
                return Answer(status, answered, await self._body(answered))
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("the server closed the connection before its answer was whole") from error

    async def stream(self, path: str, headers: Headers) -> AsyncIterator[bytes]:
        """Open a stream of events, and give each as it comes.

        Raises:
            OSError: The server refused it, or closed the connection.
        """
        self._send("GET", path, headers, b"")
        status, answered = await self._head()
        if status != 200:
            raise ConnectionError(f"GET {path}: {status}")
        return self._events(answered)

    def close(self) -> None:
        """Close it in the ordinary way."""
        self.writer.close()

    def _send(self, method: str, path: str, headers: Headers, body: bytes) -> None:
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._address.authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if method == "POST":
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def _head(self) -> tuple[int, dict[str, str]]:
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
        parts = (line.partition(":") for line in lines)
        return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in parts}

    async def _body(self, headers: Headers) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return b"".join([chunk async for chunk in self._chunks()])
        return await self._reader.readexactly(int(headers.get("content-length", 0)))

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)

    async def _events(self, headers: Headers) -> AsyncIterator[bytes]:
        if headers.get("transfer-encoding") != "chunked":
            raise ConnectionError("the stream is not chunked")
        waiting = b""
        async for chunk in self._chunks():
            *events, waiting = (waiting + chunk).split(b"\r\n\r\n")
            for event in events:
                if not event.startswith(b":"):  # a ping
                    yield event


def message_in(event: bytes) -> dict[str, Any]:
    """Read the message in an event.

    Raises:
        ValueError: It holds none.
    """
    found: dict[str, Any] = json.loads(data_in(event))
    return found


def data_in(event: bytes) -> bytes:
    """Give what stands after ``data:`` in an event of one such line."""
    return next((line[5:].strip() for line in event.split(b"\r\n") if line.startswith(b"data:")), b"")
