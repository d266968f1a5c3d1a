"""A server process that stores memories for a while, and what starts several of them at once."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import zipf
from benchmarks.databases import AUTHOR, PROJECTS
from contextdna import HubSettings, MemoryDraft, open_hub

_KEY = "c0" * 32
_READY, _GO = "ready", "go"


@dataclass(frozen=True, slots=True)
class Storing:
    """How processes store: where their data folders are, how long, and from how many callers each."""

    folder: Path
    seconds: float
    callers: int


def stored_by(url: str, how: Storing, projects: Sequence[str]) -> float:
    """Give memories a second that server processes store together, one for each project named.

    Raises:
        RuntimeError: One did not start.
    """
    arguments = [str(how.folder), str(how.seconds), str(how.callers)]
    commands = [
        [sys.executable, "-m", "benchmarks.storing_process", project, str(number), *arguments]
        for number, project in enumerate(projects)
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    started = [subprocess.Popen(command, text=True, **pipes) for command in commands]  # type: ignore[call-overload]  # noqa: S603 - ours
    for process in started:
        process.stdin.write(f"{url}\n")  # not among the arguments, which anybody may list: it may hold a password
        process.stdin.flush()
    if any(process.stdout.readline().strip() != _READY for process in started):
        for process in started:
            process.kill()
        raise RuntimeError("a storing process did not start")
    for process in started:
        process.stdin.write(f"{_GO}\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in started)


async def _store(url: str, project: str, number: int, how: Storing) -> float:
    """Store from several callers until the time is over; gives memories a second."""
    settings = HubSettings(projects=PROJECTS, master_key=_KEY, data_dir=how.folder / f"process-{number}", database=url)
    async with open_hub(settings) as hub:
        workspace = hub.bind(AUTHOR, project_id=project)
        await workspace.store_memories([MemoryDraft(f"process {number} begins at {time.time()}")])
        texts = zipf.texts(1_000_000, seed=int(time.time()) * 100 + number)
        print(_READY, flush=True)
        sys.stdin.readline()
        started = time.perf_counter()
        stored = 0

        async def caller() -> None:
            nonlocal stored
            while time.perf_counter() < started + how.seconds:
                await workspace.store_memories([MemoryDraft(next(texts))])
                stored += 1

        await asyncio.gather(*(caller() for _ in range(how.callers)))
        return stored / (time.perf_counter() - started)


def _main() -> None:
    project, number, folder, seconds, callers = sys.argv[1:]
    url = sys.stdin.readline().strip()
    print(asyncio.run(_store(url, project, int(number), Storing(Path(folder), float(seconds), int(callers)))))


if __name__ == "__main__":
    _main()
