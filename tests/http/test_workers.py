"""The supervisor of several workers: which it starts again, when it gives up, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from contextdna_server.http import workers
from contextdna_server.http.serving import bound_socket

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="workers share a socket")

READY_AND_STAY = ("sh", "-c", "printf 1 >&0; exec sleep 60")
READY_AND_FAIL = ("sh", "-c", "printf 1 >&0; exit 3")
FAIL = ("sh", "-c", "exit 3")


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with bound_socket("127.0.0.1", 0) as bound:
        yield bound
    for number, handler in handlers.items():
        signal.signal(number, handler)


def end() -> None:
    """Be told to end, as an operator does it."""
    os.kill(os.getpid(), signal.SIGTERM)


def test_the_port_takes_nothing_more_once_workers_are_told_to_end(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    send_signal = subprocess.Popen.send_signal

    def note(process: subprocess.Popen[bytes], number: int) -> None:
        seen.append(listening.fileno())
        send_signal(process, number)

    monkeypatch.setattr(subprocess.Popen, "send_signal", note)
    assert workers.supervise(READY_AND_STAY, 2, listening, drain_s=1, on_ready=end) == 0
    assert seen == [-1, -1]


def test_workers_that_cannot_start_end_the_server_however_long_they_took(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10**6, 100))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))  # a slow machine
    assert workers.supervise(FAIL, 2, listening, drain_s=1, on_ready=end) == 3


def test_a_worker_that_was_ready_and_failed_is_started_again(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "RESTART_S", 0.0)
    started: list[str] = []
    popen = subprocess.Popen

    class Counted(popen):  # type: ignore[misc, valid-type]
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            started.append("")
            if len(started) == 3:
                end()

    monkeypatch.setattr(subprocess, "Popen", Counted)
    assert workers.supervise(READY_AND_FAIL, 1, listening, drain_s=1, on_ready=lambda: None) == 0
    assert len(started) == 3
