"""Programs of the tests in processes of their own that need no start: forked from one that has imported the product.

A start takes most of a second of a core, and tests of what processes share start dozens.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from threading import Thread
from typing import IO, Any

PRELOADED = ["contextdna", "contextdna.backends.sqlite", "contextdna.hub.opening", "tests.hub.rig"]


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class Forked:
    """A program that runs in a process of its own, with pipes of text; used as `subprocess.Popen` is."""

    def __init__(self, program: Path, *arguments: object) -> None:
        pipes = [_context().Pipe(duplex=False) for _ in range(3)]
        (its_input, to_it), (from_it, its_output), (errors_from_it, its_errors) = pipes
        theirs = (its_input, its_output, its_errors)
        command = [str(program), *map(str, arguments)]
        self._process = _context().Process(target=_run, args=(command, theirs), daemon=True)
        self._process.start()
        for end in theirs:
            end.close()
        self.stdin = _opened(to_it, "w")
        self.stdout = _opened(from_it, "r")
        self.stderr = _opened(errors_from_it, "r")

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, below zero that of the signal which killed it; none while it runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = 120.0) -> tuple[str, str]:
        """Close its input and wait for its end; gives what it wrote to its output and its errors."""
        self.stdin.close()
        read: dict[str, str] = {}

        def read_all(name: str, stream: IO[str]) -> None:
            read[name] = stream.read()

        streams = {"output": self.stdout, "errors": self.stderr}
        threads = [Thread(target=read_all, args=item, daemon=True) for item in streams.items()]
        for thread in threads:
            thread.start()
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired("a forked program", timeout)
        for thread in threads:
            thread.join()
        self._close()
        return read["output"], read["errors"]

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._process.join()

    def _close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()


def _opened(end: Any, mode: str) -> IO[str]:
    """Open our end of a pipe as a stream of text."""
    with end:
        stream: IO[str] = os.fdopen(os.dup(end.fileno()), mode, encoding="utf-8")
    return stream


def _run(command: Sequence[str], ends: Sequence[Any]) -> None:
    """Run a program in this process as Python would run it, with these pipes as its standard streams."""
    for target, end in enumerate(ends):
        os.dup2(end.fileno(), target)
        end.close()
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(target, mode, encoding="utf-8", closefd=False) for target, mode in enumerate("rww")
    )
    sys.argv = list(command)
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        sys.stdout.flush()
