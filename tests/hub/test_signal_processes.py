"""Processes that signal each other on one file: no signal is lost, none is acknowledged twice."""

from collections import defaultdict
from pathlib import Path
from typing import Final

import pytest

from contextdna import AgentId, Principal, SignalDraft, open_hub
from tests.forked import Forked
from tests.hub.rig import DEFAULT, ROOT, raw_database, settings_in, start_program

pytestmark = pytest.mark.anyio

PROCESSES: Final = 8
ROUNDS: Final = 10
SHARED: Final = 20
DEADLINE_S: Final = 120


def start(folder: Path, number: int) -> Forked:
    """Start a signalling process, which waits for the word to begin."""
    return start_program("signalling_process.py", folder, number, PROCESSES, ROUNDS)


def run_all(folder: Path, shared: list[str]) -> dict[str, list[str]]:
    """Let all processes begin together; gives the ids that they told, by word."""
    processes = [start(folder, number) for number in range(PROCESSES)]
    for process in processes:
        assert process.stdout.readline().split() == ["opened"], process.communicate(timeout=DEADLINE_S)
    for process in processes:
        process.stdin.write(" ".join(shared) + "\n")
        process.stdin.flush()
    told: dict[str, list[str]] = defaultdict(list)
    for process in processes:
        out, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, err
        for line in out.splitlines():
            word, signal_id = line.split()
            told[word].append(signal_id)
    return told


async def test_eight_processes_lose_no_signal_and_acknowledge_none_twice(folder: Path) -> None:
    async with open_hub(settings_in(folder)) as hub:
        caller = hub.bind(Principal(AgentId("caller"), (DEFAULT,))).signals
        drafts = [SignalDraft(f"call-{number}", (AgentId("shared"),)) for number in range(SHARED)]
        shared = [str((await caller.send(draft)).id) for draft in drafts]
    told = run_all(folder, shared)
    assert len(set(told["sent"])) == PROCESSES * ROUNDS
    assert sorted(told["got"]) == sorted(told["first"]) == sorted(told["sent"])
    assert sorted(told["shared"]) == sorted(shared)
    with raw_database(folder) as run:
        assert run("SELECT count(*) FROM acknowledgements") == [(PROCESSES * ROUNDS + SHARED,)]
    async with open_hub(settings_in(folder)) as hub:
        assert (await hub.bind(ROOT, project_id=DEFAULT).verify_audit()).intact
