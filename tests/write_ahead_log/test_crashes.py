"""Processes killed at every step: nothing acknowledged is lost, nothing comes twice, the order is kept.

With ``CONTEXTDNA_TEST_EVERYWHERE`` set it is every step at every moment; else a few of them.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from contextdna.ports.database import Transaction
from tests.backends.samples import PROJECT
from tests.servers.postgres import EVERYWHERE, database_url
from tests.write_ahead_log.crashing import entries_of, open_log
from tests.write_ahead_log.durable import open_durable_folder
from tests.write_ahead_log.logs import LOGS, held

pytestmark = pytest.mark.anyio

MOMENTS: Final = ("before", "half", "after")
STRIDE: Final = 1 if EVERYWHERE else 13
"""Of the steps of a task so many are let pass between two that kill."""


class Crashes:
    """A process that forks others, which are killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.write_ahead_log.crashing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def run(self, name: str, *arguments: str, step: int = 0, moment: str = "before") -> list[str]:
        """Do a task until the step that kills it; gives what was said."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        task = {"name": name, "arguments": arguments, "step": step, "moment": moment}
        print(json.dumps(task), file=self._process.stdin, flush=True)
        said: list[str] = json.loads(self._process.stdout.readline())
        assert "failed" not in said
        return said

    def at_every_step(self, name: str, *arguments: str, first: int) -> Iterator[list[str]]:
        """Do a task again and again, killed at one step after the other, until it is done before that."""
        for turn in count():
            said = self.run(name, *arguments, step=1 + turn * STRIDE, moment=MOMENTS[(turn + first) % 3])
            yield said
            if "ended" in said:
                return

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module")
def crashes() -> Iterator[Crashes]:
    process = Crashes()
    yield process
    process.close()


@pytest.fixture(params=LOGS)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Name an engine, and where its log is."""
    place = tmp_path / "place"
    return request.param, f"{database_url()} {place}" if request.param == "postgres" else str(place)


@pytest.mark.parametrize("first", range(1, 1 + (3 if EVERYWHERE else 1)))
async def test_writers_that_are_killed_lose_nothing_acknowledged(
    crashes: Crashes, log: tuple[str, str], first: int
) -> None:
    for said in crashes.at_every_step("write", *log, first=first):
        await check(log, said)


async def test_appliers_that_are_killed_apply_each_entry_once(crashes: Crashes, log: tuple[str, str]) -> None:
    for turn, step in enumerate(range(1, 40, STRIDE)):
        crashes.run("append", *log, step=9)
        crashes.run("apply", *log, step=step, moment=MOMENTS[turn % 3])
    crashes.run("apply", *log)
    assert "done" in crashes.run("apply", *log)
    effects = Path(log[1].split(" ")[-1]).with_suffix(".effects")
    async with open_log(*log) as opened:
        last_seq = (await opened.status()).last_seq
    assert effects.read_text().splitlines() == [f"{seq} {data.decode()}" for seq, data in expected(last_seq)]


@pytest.mark.parametrize("first", range(1, 1 + (3 if EVERYWHERE else 1)))
async def test_databases_in_memory_that_are_killed_lose_nothing_acknowledged(
    crashes: Crashes, tmp_path: Path, first: int
) -> None:
    place, before = tmp_path / "memory", 0
    for said in crashes.at_every_step("change", str(place), first=first):
        acknowledged = [int(line.split(" ")[1]) for line in said if line.startswith("counted")]
        assert acknowledged == list(range(before + 1, before + 1 + len(acknowledged)))
        entries, counted = await _counts(place)
        assert entries == list(range(1, counted + 1))
        assert before + len(acknowledged) <= counted <= before + len(acknowledged) + 1
        before = counted


async def _counts(place: Path) -> tuple[list[int], int]:
    async def unit(tx: Transaction) -> tuple[list[int], int]:
        entries = await tx.audit.entries(PROJECT, after_seq=0, limit=10_000)
        lease = await tx.leases.get(PROJECT, "counter")
        return [entry.seq for entry in entries], lease.fencing if lease else 0

    async with open_durable_folder(place) as database:
        return await database.read(unit)


async def check(log: tuple[str, str], said: list[str]) -> None:
    """Check what a log holds after a crash, and that looking changes nothing."""
    async with open_log(*log) as opened:
        status, entries = await opened.status(), await held(opened)
    async with open_log(*log) as opened:
        assert replace(await opened.status(), size_bytes=0) == replace(status, size_bytes=0)
        assert await held(opened) == entries
    assert entries == expected(status.last_seq)[status.forgotten_seq :]
    for line in said:
        word, *numbers = line.split(" ")
        if word == "acknowledged":
            unit, seq = map(int, numbers)
            assert ends_at(unit) == seq <= status.last_seq
        if word == "forgotten":
            assert status.forgotten_seq >= int(numbers[0])
    asked = [int(line.split(" ")[1]) for line in said if line.startswith("forgetting")]
    assert status.forgotten_seq <= max(asked, default=status.forgotten_seq)


def expected(last_seq: int) -> list[tuple[int, bytes]]:
    """Give all entries up to a number, which must end a unit: they are a matter of arithmetic."""
    entries: list[bytes] = []
    for unit in count():
        if len(entries) >= last_seq:
            break
        entries += entries_of(unit)
    assert len(entries) == last_seq
    return list(enumerate(entries, 1))


def ends_at(unit: int) -> int:
    """Give the number of a unit's last entry."""
    return sum(len(entries_of(each)) for each in range(unit + 1))
