"""Processes that are killed at a step of their work: `python crashing.py`, a server of such processes.

Each line on its standard input is a task in JSON; the process forks, does it there, and answers on its standard output
with what the child acknowledged before it was killed. One start of Python serves hundreds of crashes: nothing runs in
it but this loop, so forking is safe.

A step is a call that changes what lies on a disk or is sent to a server. The child counts them and kills itself before
the n-th, after it, or when half of what it writes is written. Nothing in the product knows of that.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

from contextdna.backends.postgres import driver as postgres_driver
from contextdna.backends.postgres import log as postgres_log
from contextdna.backends.segmented_log import open_segmented_log
from contextdna.backends.sqlite import driver
from contextdna.backends.sqlite import log as sqlite_log
from contextdna.ports.database import Transaction
from contextdna.ports.write_ahead_log import WriteAheadLog
from contextdna.values.lease import LeaseRow
from tests.backends.samples import PROJECT, T0, audit_entry, audit_head
from tests.write_ahead_log.durable import open_durable_folder

UNITS: Final = 6
TOGETHER: Final = 4
"""So many of them are committed at the same time, but for the first."""

_REAL_WRITE: Final = os.write
_REAL_KILL: Final = os.kill


class Killer:
    """Counts steps and kills its process at one."""

    def __init__(self, step: int, moment: str) -> None:
        self._left = step
        self._moment = moment

    def wrap(self, name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        """Make a call a step."""

        def step(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left != 0:
                return do(*args, **kwargs)
            if self._moment == "half" and name == "write":
                do(args[0], bytes(args[1])[: len(args[1]) // 2])
            if self._moment == "after":
                do(*args, **kwargs)
            kill()

        return step

    def wrap_async(self, do: Callable[..., Any]) -> Callable[..., Any]:
        """Make an awaited call a step; `half` is when it was sent and not yet answered."""

        async def step(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left != 0:
                return await do(*args, **kwargs)
            if self._moment == "half":
                sent = asyncio.ensure_future(do(*args, **kwargs))
                for _ in range(3):
                    await asyncio.sleep(0)
                assert not sent.cancelled()
            if self._moment == "after":
                await do(*args, **kwargs)
            kill()

        return step


def kill() -> None:
    """End at once, as by SIGKILL from outside."""
    _REAL_KILL(os.getpid(), signal.SIGKILL)


class Steps:
    """A connection of a driver each of whose statements is a step."""

    def __init__(self, inner: Any, killer: Killer, names: tuple[str, ...], *, awaited: bool) -> None:
        self._inner = inner
        self._wrapped = {
            name: killer.wrap_async(getattr(inner, name)) if awaited else killer.wrap(name, getattr(inner, name))
            for name in names
        }

    def __getattr__(self, name: str) -> Any:
        return self._wrapped.get(name) or getattr(self._inner, name)


def set_traps(killer: Killer) -> None:
    """Make steps of all that changes a disk, and of the statements of the two drivers."""
    for name in ("write", "fsync", "ftruncate", "replace", "unlink"):
        setattr(os, name, killer.wrap(name, getattr(os, name)))

    def connect_file(path: Path, *, busy_timeout_s: float) -> Any:
        connection = driver.connect_writer(path, busy_timeout_s=busy_timeout_s)
        return Steps(connection, killer, ("execute", "executemany"), awaited=False)

    async def connect_server(server: Any) -> Any:
        names = ("execute", "fetch", "fetchval", "fetchrow")
        return Steps(await postgres_driver.connect(server), killer, names, awaited=True)

    setattr(sqlite_log, "connect_writer", connect_file)  # noqa: B010 - no name that it exports
    setattr(postgres_log, "connect", connect_server)  # noqa: B010


@asynccontextmanager
async def open_log(engine: str, place: str) -> AsyncIterator[WriteAheadLog]:
    """Open the log of a task."""
    if engine == "postgres":
        url, name = place.split(" ")
        async with postgres_log.open_postgres_log(url, name=name) as postgres:
            yield postgres
    elif engine == "sqlite":
        async with sqlite_log.open_sqlite_log(Path(place) / "log.db") as sqlite:
            yield sqlite
    else:
        async with open_segmented_log(Path(place) / "log", segment_bytes=300) as files:
            yield files


def entries_of(unit: int) -> list[bytes]:
    """Give the entries of a unit: one to three, of a size of their own."""
    return [f"{unit}.{number} ".encode() + b"x" * (unit * 17 % 90) for number in range(unit % 3 + 1)]


async def write(engine: str, place: str, say: Callable[[str], None]) -> None:
    """Commit units, some at the same time, roll some back and forget some; say what is acknowledged."""
    async with open_log(engine, place) as log:
        first = await next_unit(log)
        await write_unit(log, first, say)
        await asyncio.gather(*(write_unit(log, unit, say) for unit in range(first + 1, first + TOGETHER)))
        seq = (await log.status()).last_seq - 1
        say(f"forgetting {seq}")
        await log.forget(seq)
        say(f"forgotten {seq}")
        for unit in range(first + TOGETHER, first + UNITS):
            await write_unit(log, unit, say)
        seq = (await log.status()).last_seq
        say(f"forgetting {seq}")
        await log.forget(seq)
        say(f"forgotten {seq}")
        await write_unit(log, first + UNITS, say)


async def write_unit(log: WriteAheadLog, unit: int, say: Callable[[str], None]) -> None:
    """Commit a unit, and roll one back beside it."""
    dropped = await log.begin()
    await log.write_entry(dropped, b"never")
    number = await log.begin()
    for entry in entries_of(unit):
        await log.write_entry(number, entry)
    say(f"wrote {unit}")
    await log.rollback(dropped)
    say(f"acknowledged {unit} {await log.commit(number)}")


async def apply(engine: str, place: str, say: Callable[[str], None]) -> None:
    """Recover and apply: the effect of an entry and its number are one line of a file, which is what makes it once."""
    effects = Path(place.rsplit(" ", maxsplit=1)[-1]).with_suffix(".effects")
    held = effects.read_text() if effects.exists() else ""
    whole = held[: held.rfind("\n") + 1]
    after = int(whole.splitlines()[-1].split(" ")[0]) if whole else 0
    descriptor = os.open(effects, os.O_RDWR | os.O_CREAT)
    os.ftruncate(descriptor, len(whole))
    os.lseek(descriptor, 0, os.SEEK_END)
    async with open_log(engine, place) as log:
        async for entry in log.recover(after=after):
            os.write(descriptor, f"{entry.seq} {entry.data.decode()}\n".encode())
            os.fsync(descriptor)
            if entry.seq % 4 == 0:
                await log.forget(entry.seq)
        say("done")


async def change(place: str, say: Callable[[str], None]) -> None:
    """Count in a durable in-memory database, with an audit chain that a unit applied twice would break."""
    async with open_durable_folder(Path(place), checkpoint_bytes=1500, segment_bytes=600) as database:
        for _ in range(UNITS):

            async def unit(tx: Transaction) -> int:
                head = await tx.audit.head(PROJECT)
                seq = head.seq + 1 if head else 1
                await tx.audit.append([audit_entry(seq, f"mem_{seq}")], audit_head(seq))
                held = await tx.leases.get(PROJECT, "counter")
                await tx.leases.put(LeaseRow(PROJECT, "counter", "", (held.fencing if held else 0) + 1, T0))
                return seq

            say(f"counted {await database.write(unit)}")
            await asyncio.sleep(0)
        await database.shred_remains()
        say("done")


async def append(engine: str, place: str, say: Callable[[str], None]) -> None:
    """Commit a few units."""
    async with open_log(engine, place) as log:
        first = await next_unit(log)
        for unit in range(first, first + TOGETHER):
            await write_unit(log, unit, say)


async def next_unit(log: WriteAheadLog) -> int:
    """Tell which unit comes next, by how many entries there were ever."""
    done = (await log.status()).last_seq
    return next(unit for unit in count() if sum(len(entries_of(each)) for each in range(unit)) >= done)


TASKS: Final[dict[str, Callable[..., Any]]] = {"write": write, "append": append, "apply": apply, "change": change}


def run_task(task: dict[str, Any], said: int) -> None:
    """Do a task in a child, until it is killed or done."""

    def say(text: str) -> None:
        _REAL_WRITE(said, f"{text}\n".encode())

    if task["step"]:
        set_traps(Killer(task["step"], task["moment"]))
    asyncio.run(TASKS[task["name"]](*task["arguments"], say))
    say("ended")
    os._exit(0)


def crash(task: dict[str, Any]) -> list[str]:
    """Do a task in a process of its own; gives what it said before it was gone."""
    hear, said = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(hear)
            run_task(task, said)
        finally:
            os._exit(1)
    os.close(said)
    with os.fdopen(hear) as stream:
        lines = stream.read().splitlines()
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        lines.append("failed")
    return lines


def main() -> None:
    """Answer tasks until the input ends."""
    for line in sys.stdin:
        print(json.dumps(crash(json.loads(line))), flush=True)  # noqa: T201 - the protocol with the test


if __name__ == "__main__":
    main()
