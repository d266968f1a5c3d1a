"""Remote servers for the benchmarks: real processes on this machine, tokens for their callers, and their stores."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.callers import Caller
from benchmarks.corpus import Fact, batches
from benchmarks.http1 import Address
from benchmarks.progress import show_progress
from contextdna import (
    AgentId,
    Hub,
    HubSettings,
    NotFound,
    Principal,
    ProjectId,
    RecordId,
    Role,
    TokenRequest,
    Workspace,
    open_hub,
)

FLOOR = (sys.executable, "-m", "benchmarks.floor_server", "--http", "127.0.0.1:0")
_PROJECT = ProjectId("default")
_LISTENS = re.compile(r"listens on https?://\[?([0-9a-z.:]+?)\]?:(\d+)/")
_START_S = 60.0
_END_S = 30.0
_BATCH = 100


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs."""

    address: Address
    pid: int


@asynccontextmanager
async def serving(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> AsyncIterator[Running]:
    """Start a server; at the end of the block it is told to end.

    Raises:
        RuntimeError: It does not listen, or did not end well.
    """
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **(environment or {})}, stderr=asyncio.subprocess.PIPE
    )
    said: list[str] = []
    try:
        async with asyncio.timeout(_START_S):
            address = await _address(process, said)
        reading = asyncio.create_task(_read(process, said))
        yield Running(address, process.pid)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_END_S):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            code = await process.wait()
    await reading
    if code not in (0, -signal.SIGTERM):
        raise RuntimeError(f"the server ended with {code}: {' '.join(said)[-500:]}")


async def _address(process: asyncio.subprocess.Process, said: list[str]) -> Address:
    while line := await _line(process):
        said.append(line)
        if found := _LISTENS.search(line):
            return Address(found[1], int(found[2]))
    raise RuntimeError(f"the server does not listen: {' '.join(said)[-500:]}")


async def _read(process: asyncio.subprocess.Process, said: list[str]) -> None:
    """Take what the server says, so that it does not wait for that; the last lines are kept."""
    while line := await _line(process):
        said.append(line)
        del said[:-100]


async def _line(process: asyncio.subprocess.Process) -> str:
    return (await process.stderr.readline()).decode(errors="replace").strip() if process.stderr else ""


def product(command: Sequence[str], folder: Path) -> list[str]:
    """Give the command that serves a data folder on a free port."""
    return [*command, "--http", "127.0.0.1:0", "--data", str(folder)]


@asynccontextmanager
async def operated(folder: Path) -> AsyncIterator[tuple[Hub, Workspace]]:
    """Open a data folder as its operator does, also beside a server."""
    async with open_hub(HubSettings(data_dir=folder)) as hub:
        operator = Principal(AgentId("operator"), (_PROJECT,), role=Role.SYSTEM)
        yield hub, hub.bind(operator, project_id=_PROJECT)


async def tokens(folder: Path, agents: int) -> list[str]:
    """Make a token for each of so many agents, as `contextdna token create` does."""
    async with operated(folder) as (_, workspace):
        requests = [TokenRequest(AgentId(f"agent-{number}"), (_PROJECT,)) for number in range(1, agents + 1)]
        return [(await workspace.access_tokens.create(request)).text for request in requests]


async def fill(caller: Caller, stored: Sequence[Fact]) -> None:
    """Store facts in batches."""
    done = 0
    for batch in batches(stored, _BATCH):
        memories = [{"content": fact.content, "memory_type": "fact"} for fact in batch]
        await caller.call("store_memory", {"memories": memories})
        done += len(batch)
        show_progress("storing", done, len(stored))


async def lost(folder: Path, acknowledged: Sequence[str]) -> int:
    """Count the memories that were acknowledged and are not there; the server has ended, so what counts is on disk."""
    missing = 0
    async with operated(folder) as (_, workspace):
        for batch in batches(acknowledged, _BATCH):
            try:
                _, gone = await workspace.get_memories([RecordId(name) for name in batch])
                missing += len(gone)
            except NotFound:  # not one of them
                missing += len(batch)
    return missing
