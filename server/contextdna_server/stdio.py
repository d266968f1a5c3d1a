"""The stdio transport: one client on the pipes of this process.

The SDK's own stdio transport reads and writes on worker threads, which a signal cannot interrupt: SIGTERM kills with no
teardown and SIGINT hangs while the input is open. Here pipes, sockets and terminals are served from the event loop, so
that end of input, a signal and a client that hung up all end the same way: no new calls, running ones get a while to
finish, and `serve_stdio` returns. Regular files and /dev/null, which cannot be polled, are read at once; Windows keeps
the SDK's path.
"""

from __future__ import annotations

import logging
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final, cast

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup, TaskStatus
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage

from contextdna_server.lines import LineBuffer
from contextdna_server.open_calls import Ending, Incoming, OpenCalls, Outgoing, Receiving
from contextdna_server.refused import answers_to

if sys.platform != "win32":
    import fcntl

MESSAGE_BYTES_MAX: Final = 96 * 1024 * 1024
"""A longer line is refused: by default there is room for the largest artifact as base64, and all around it."""

READ_BYTES_MAX: Final = 256 * 1024
FLUSH_S_MAX: Final = 1.0
"""How long the last answers may take to leave once the calls are over: the client may have stopped reading."""

logger = logging.getLogger(__name__)


async def serve_stdio(
    server: Server[Any],
    *,
    grace_s: float = 5.0,
    message_bytes_max: int = MESSAGE_BYTES_MAX,
    waiting_tools: Collection[str] = (),
) -> None:
    """Serve one MCP client on standard input and output until it leaves or a signal asks to stop.

    Ends normally on end of input, SIGTERM, SIGINT, and when the client closes its end of the output, so that the
    caller can close its store and exit 0. While it serves, file descriptor 0 reads as empty and 1 writes to standard
    error, for this process and its children, so that nothing else can touch the protocol stream. Both are restored.

    Args:
        server: The low-level SDK server to run.
        grace_s: Seconds that calls already running get to finish before they are cancelled. A signal that
            arrives while they finish cancels them at once.
        message_bytes_max: A longer line is answered with ``message_too_large``.
        waiting_tools: Tools that only wait for something: at the end their calls get no grace.
    """
    shutdown = _Shutdown()
    async with anyio.create_task_group() as tasks:
        if sys.platform != "win32":
            await tasks.start(_watch_signals, shutdown)
        with ExitStack() as claims:
            stdin = _claim_stdin(claims, shutdown, message_bytes_max)
            stdout = _claim_stdout(claims, shutdown)
            await _run(server, stdin, stdout, OpenCalls(grace_s, waiting_tools, shutdown))
        tasks.cancel_scope.cancel()


async def _run(server: Server[Any], stdin: _Reader | None, stdout: _PipeWriter | None, calls: OpenCalls) -> None:
    """Run the server over the SDK's framing; None selects the SDK's own access to that stream."""
    with anyio.CancelScope() as wire:
        async with stdio_server(
            stdin=cast("anyio.AsyncFile[str] | None", stdin),  # the SDK only iterates, writes and flushes
            stdout=cast("anyio.AsyncFile[str] | None", stdout),
        ) as (received, sent):
            options = server.create_initialization_options()
            outgoing = Outgoing(sent, calls)
            async with anyio.create_task_group() as refusals:
                incoming = _Incoming(received, calls, _Refusing(outgoing, calls, refusals))
                await server.run(incoming, outgoing, options)
                refusals.cancel_scope.cancel()
            wire.deadline = anyio.current_time() + FLUSH_S_MAX


# --- the end --------------------------------------------------------------------------------------


class _Shutdown(Ending):
    """The end of this process, which stops the reading of input."""

    def __init__(self) -> None:
        super().__init__()
        self.on_stop: Callable[[], None] | None = None

    def stop(self) -> None:
        """Take no new calls."""
        super().stop()
        if self.on_stop is not None:
            self.on_stop()


async def _watch_signals(shutdown: _Shutdown, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """Stop at the first signal, hurry when one comes during the end; later ones act as they do by default."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            if shutdown.stopping:
                shutdown.hurried.set()
                return
            shutdown.stop()


# --- pipes on the event loop ----------------------------------------------------------------------


class _Reader:
    """Lines of a descriptor, as the SDK iterates them."""

    def __init__(self, fd: int, shutdown: _Shutdown, bytes_max: int, *, waits: bool) -> None:
        self._fd = fd
        self._shutdown = shutdown
        self._line = LineBuffer(bytes_max)
        self._waits = waits
        self._wait = anyio.CancelScope()
        shutdown.on_stop = self._wake

    def _wake(self) -> None:
        self._wait.cancel()

    async def __aiter__(self) -> AsyncIterator[str]:
        while chunk := await self._chunk():
            head, *rest = chunk.split(b"\n")
            self._line.add(head)
            for part in rest:
                yield self._line.take()
                self._line.add(part)
        if self._line.size_bytes:
            yield self._line.take()

    async def _chunk(self) -> bytes:
        """Wait for bytes; none means the end of input, a lost client, or a stop."""
        while not self._shutdown.stopping:
            with anyio.CancelScope() as self._wait:
                await self._readable()
                try:
                    return os.read(self._fd, READ_BYTES_MAX)
                except BlockingIOError:
                    continue
                except OSError as error:
                    logger.info("input lost: %s", error.strerror)
                    return b""
        return b""

    async def _readable(self) -> None:
        await (anyio.wait_readable(self._fd) if self._waits else anyio.lowlevel.checkpoint())


class _PipeWriter:
    """A non-blocking descriptor, written as the SDK writes text files. A client that hung up stops the server."""

    def __init__(self, fd: int, shutdown: _Shutdown) -> None:
        self._fd = fd
        self._shutdown = shutdown
        self._lost = False

    async def write(self, text: str) -> int:
        data = memoryview(text.encode())
        while data and not self._lost:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                await anyio.wait_writable(self._fd)
            except ConnectionError:
                self._lost = True
                self._shutdown.stop()
        return len(text)

    async def flush(self) -> None:
        """Do nothing: `write` returns when everything has left."""


# --- messages -------------------------------------------------------------------------------------


class _Refusing:
    """Answers what the SDK could not parse; in tasks, so that a client that does not read cannot hold up the input."""

    def __init__(self, outgoing: Outgoing, calls: OpenCalls, tasks: TaskGroup) -> None:
        self._outgoing = outgoing
        self._calls = calls
        self._tasks = tasks

    def refused(self, error: Exception) -> None:
        for answer in answers_to(error):
            self._calls.opened(answer.id)
            self._tasks.start_soon(self._send, SessionMessage(answer))

    async def _send(self, answer: SessionMessage) -> None:
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            await self._outgoing.send(answer)


class _Incoming(Incoming):
    """Messages for the server; what could not be parsed is answered here."""

    def __init__(self, stream: Receiving, calls: OpenCalls, refusing: _Refusing) -> None:
        super().__init__(stream, calls)
        self._refusing = refusing

    async def receive(self) -> SessionMessage | Exception:
        """Give the next message."""
        while isinstance(item := await super().receive(), Exception):
            self._refusing.refused(item)
        return item


# --- descriptors 0 and 1 --------------------------------------------------------------------------


def _claim_stdin(claims: ExitStack, shutdown: _Shutdown, bytes_max: int) -> _Reader | None:
    """Take descriptor 0 for ourselves; what the event loop cannot wait for, such as a file, can be read at once."""
    if sys.platform == "win32":
        return None
    waits = _is_pipe(0) or os.isatty(0)
    return _Reader(claims.enter_context(_claimed(0)), shutdown, bytes_max, waits=waits)


def _claim_stdout(claims: ExitStack, shutdown: _Shutdown) -> _PipeWriter | None:
    """Take descriptor 1 for ourselves if it is a pipe; a terminal keeps blocking writes, as stderr shares them."""
    return _PipeWriter(claims.enter_context(_claimed(1)), shutdown) if _is_pipe(1) else None


def _is_pipe(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return sys.platform != "win32" and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))


@contextmanager
def _claimed(fd: int) -> Iterator[int]:
    """Lend a private duplicate of `fd`, non-blocking if it is a pipe, while `fd` itself is diverted."""
    wire = _duplicate_above_standard(fd)
    was_blocking = os.get_blocking(wire)
    _divert(fd)
    try:
        if _is_pipe(wire):
            os.set_blocking(wire, False)
        yield wire
    finally:
        if fd == 1 and sys.stdout is not None:
            sys.stdout.flush()  # stray output still buffered belongs to stderr, not to the client
        os.set_blocking(wire, was_blocking)
        os.dup2(wire, fd)
        os.close(wire)


def _duplicate_above_standard(fd: int) -> int:
    """Duplicate `fd`, not inherited by children and never onto a standard descriptor that happens to be closed."""
    if sys.platform == "win32":
        return os.dup(fd)
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _divert(fd: int) -> None:
    """Point 0 at nothing and 1 at standard error, or at nothing if that is closed."""
    try:
        target = os.open(os.devnull, os.O_RDONLY) if fd == 0 else os.dup(2)
    except OSError:
        target = os.open(os.devnull, os.O_WRONLY)
    os.dup2(target, fd)
    os.close(target)
