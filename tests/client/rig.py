"""What the tests of the client share: a server whose faults can be ordered, and time that does not pass by itself."""

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from mcp import StdioServerParameters

from contextdna import Workspace, open_hub
from contextdna.client import Memory, Retry, connect
from contextdna_server.settings import Settings

LAUNCHER = Path(__file__).with_name("launcher.py")
DEADLINE_S = 60
CONTENT_BYTES_MAX = 64 * 1024
"""What a memory may hold in the servers of these tests."""


@dataclass
class Time:
    """A clock that tests turn; waiting between tries takes no time, and is noted."""

    now: float = 0.0
    waits: list[float] = field(default_factory=list)
    at_a_wait: Callable[[], None] = lambda: None

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
        self.at_a_wait()
        await anyio.lowlevel.checkpoint()

    def retry(self, **changes: Any) -> Retry:
        """Give a policy whose waits are noted, and whose jitter is none."""
        settings: dict[str, Any] = {"sleep": self.sleep, "clock": self.clock, "jitter": lambda: 1.0, "pause_s": 0.0}
        return Retry(**settings | changes)


class FaultyServer:
    """The orders for a server, and how to start it."""

    def __init__(self, folder: Path, waiting: Path) -> None:
        self.folder = folder
        self._waiting = waiting
        self.time = Time()

    @property
    def parameters(self) -> StdioServerParameters:
        return StdioServerParameters(
            command=sys.executable, args=["-I", "-S", str(LAUNCHER), str(self._waiting), str(self.folder)]
        )

    def connect(self, *, timeout_s: float = DEADLINE_S, **retry: Any) -> Memory:
        return connect(self.parameters, retry=self.time.retry(**retry), timeout_s=timeout_s, connect_s=DEADLINE_S)

    def order(self, tool: str, fault: str) -> None:
        (self.folder / f"{tool}.{fault}").touch()

    def is_ordered(self, tool: str, fault: str) -> bool:
        return (self.folder / f"{tool}.{fault}").exists()

    def withdraw(self, tool: str, fault: str) -> None:
        (self.folder / f"{tool}.{fault}").unlink()

    def go_down(self) -> None:
        (self.folder / "down").touch()

    def come_back(self) -> None:
        (self.folder / "down").unlink()

    @property
    def pid(self) -> int:
        return int((self.folder / "pid").read_text())

    @asynccontextmanager
    async def open_hub(self) -> AsyncIterator[Workspace]:
        """Look at what is stored past the client."""
        settings = Settings(command_line={"data": str(self.folder)}, file={})  # type: ignore[call-arg]  # its own sources
        async with open_hub(settings.to_hub_settings()) as hub:
            yield hub.bind(settings.to_principal())

    async def kill(self) -> None:
        """Kill the server as a crash does, and wait until the operating system is through with it."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + DEADLINE_S
        while is_alive(pid):
            assert time.monotonic() < deadline, "the server did not die"
            await anyio.sleep(0.005)
        for _ in range(50):  # the end of its pipes is there to be seen: let the event loop see it
            await anyio.lowlevel.checkpoint()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
