"""Processes that share a data folder: none loses another's writes, and a killed one loses none of its own."""

import random
import signal
from pathlib import Path
from typing import Final

import pytest

from contextdna import Hub, Principal, open_hub
from contextdna.values.ids import AgentId
from tests.forked import Forked
from tests.hub.rig import DEFAULT, ROOT, raw_database, settings_in, start_program

pytestmark = pytest.mark.anyio

PROCESSES, MEMORIES = 8, 500
ROUNDS: Final = 20
ENDLESS: Final = 1_000_000


def start(folder: Path, name: str, memories: int) -> Forked:
    return start_program("storing_process.py", folder, name, memories)


def store_and_finish(folder: Path) -> set[str]:
    """Let all processes store at once; gives what they were told is stored."""
    processes = [start(folder, f"agent{number}", MEMORIES) for number in range(PROCESSES)]
    acknowledged: set[str] = set()
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        lines = out.split()
        assert (lines[0], len(lines)) == ("opened", MEMORIES + 1)
        acknowledged.update(lines[1:])
    return acknowledged


def store_until_killed(folder: Path, number: int, after: int) -> set[str]:
    """Kill a storing process after so many answers; gives every id that it was told, those still in the pipe too."""
    process = start(folder, f"agent{number}", ENDLESS)
    lines = [process.stdout.readline() for _ in range(after + 1)]
    process.send_signal(signal.SIGKILL)
    with process:  # not communicate, which passes over what the lines above were read ahead with
        rest = process.stdout.read()
    whole, _, _ = rest.rpartition("\n")  # the last line may be cut off
    return set("".join(lines).split()[1:]) | set(whole.split())


def stored_ids(folder: Path) -> set[str]:
    with raw_database(folder) as run:
        assert run("PRAGMA integrity_check") == [("ok",)]
        return {row[0] for row in run("SELECT id FROM records")}


async def expect_whole_trail(hub: Hub, memories: set[str]) -> None:
    """Every memory has its entry in an intact chain."""
    root = hub.bind(ROOT, project_id=DEFAULT)
    assert (await root.verify_audit()).intact
    told = [entry.draft async for entry in root.export_audit() if entry.draft.action == "memory.store"]
    assert {record_id for draft in told for record_id in draft.record_ids} == memories


async def test_eight_processes_lose_nothing(folder: Path) -> None:
    acknowledged = store_and_finish(folder)
    assert len(acknowledged) == PROCESSES * MEMORIES
    assert stored_ids(folder) == acknowledged
    async with open_hub(settings_in(folder)) as hub:
        await expect_whole_trail(hub, acknowledged)
        reader = hub.bind(Principal(AgentId("reader"), (DEFAULT,)))
        counts = dict((await reader.project_overview()).records_by_kind)
        assert counts == {"memory": PROCESSES * MEMORIES}


async def test_a_killed_process_loses_nothing_that_it_was_told(folder: Path) -> None:
    rng = random.Random(20260301)  # noqa: S311 - a seed, to kill at the same places again
    acknowledged: set[str] = set()
    for number in range(ROUNDS):
        acknowledged |= store_until_killed(folder, number, after=rng.randrange(60))
        assert acknowledged <= stored_ids(folder), f"round {number}"
    async with open_hub(settings_in(folder)) as hub:
        await expect_whole_trail(hub, stored_ids(folder))
