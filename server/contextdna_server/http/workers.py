"""Several server processes on one port: a supervisor starts them, starts others for those that end, and ends all."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

RESTART_S: Final = 1.0
"""How long one that ended is waited with; twice as long each time it could not even start."""

_RESTART_S_MAX: Final = 32.0
_DOUBLINGS_MAX: Final = 10  # a worker may fail a thousand times in a night
_STOP_POLL_S: Final = 0.1
_READY: Final = b"1"

logger = logging.getLogger(__name__)


class _Worker:
    """One place among the workers: a server process, or when to start the next one.

    A process has a line to its supervisor: it ends where that does, however that ended.
    """

    def __init__(self, command: Sequence[str], listening: socket.socket) -> None:
        self._command = command
        self._descriptor = listening.fileno()
        self._failures = 0
        self._due_at: float | None = None
        self._start()

    def _start(self) -> None:
        self._due_at = None
        self.is_ready = False
        self.line, theirs = socket.socketpair()
        self.line.setblocking(False)
        with theirs:
            own = [*self._command, "--socket", str(self._descriptor)]
            self.process = subprocess.Popen(own, stdin=theirs.fileno(), pass_fds=[self._descriptor])  # noqa: S603 - ours

    def look(self) -> int:
        """See how the process is, and start another where that is due.

        Returns:
            The exit code of a process that could not start; else 0.
        """
        if self._due_at is not None:
            if time.monotonic() >= self._due_at:
                self._start()
            return 0
        code = self.process.poll()
        self._listen()  # after that: one that has ended may have been ready before
        if code is None:
            return 0
        self._failures = 0 if self.is_ready else self._failures + 1
        self.line.close()
        self._due_at = time.monotonic() + min(RESTART_S * 2 ** min(self._failures, _DOUBLINGS_MAX), _RESTART_S_MAX)
        logger.warning("a worker ended with %s: starting another", code)
        return 0 if self.is_ready else max(code, 0)

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # it has said nothing yet, or is gone
            self.is_ready = self.is_ready or self.line.recv(1) == _READY


def supervise(
    command: Sequence[str],
    workers: int,
    listening: socket.socket,
    *,
    drain_s: float,
    on_ready: Callable[[], None],
) -> int:
    """Run several server processes on one listening socket; one that ends by itself is started again.

    Args:
        command: The command of one worker, without the option that names its socket.
        workers: How many.
        listening: The public socket, which they share; it is closed at the end.
        drain_s: How long they may take to end, in seconds.
        on_ready: Told when the first one serves.

    Returns:
        The exit code: that of a worker that could not start where none ever could, else 0.
    """
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)

    started = [_Worker(command, listening) for _ in range(workers)]
    code = 0
    is_ready = False
    while not stopping and not code:
        time.sleep(_STOP_POLL_S)
        codes = [worker.look() for worker in started]
        if not is_ready and any(worker.is_ready for worker in started):
            is_ready = True
            on_ready()
        if not is_ready:
            code = max(codes)  # it would not start the next time either
    listening.close()  # first: it would take connections that no worker serves any more
    _end(started, drain_s)
    return code


def _end(workers: Sequence[_Worker], drain_s: float) -> None:
    for worker in workers:
        worker.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + drain_s + 5
    for worker in workers:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        worker.line.close()


def supervisor_line() -> socket.socket | None:
    """Take a worker's line to its supervisor, which is its standard input; None where that is no such."""
    try:
        return socket.socket(fileno=os.dup(0))
    except OSError:
        return None


def tell_ready(supervisor: socket.socket) -> None:
    """Tell the supervisor that this worker serves."""
    with contextlib.suppress(OSError):  # it is gone, which is noticed elsewhere
        supervisor.send(_READY)


def worker_command() -> list[str]:
    """Give this process's own command, for a worker."""
    return [sys.executable, "-m", "contextdna_server", *sys.argv[1:]]


def inherited_socket(descriptor: int) -> socket.socket:
    """Take the listening socket that a supervisor handed down."""
    listening = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    return listening
