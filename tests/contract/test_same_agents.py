"""Random histories of agents get the same answers from every backend as from the model, whoever reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextdna.ports.database import Transaction
from contextdna.values.agent import Agent, AgentChange, AgentEntry, AgentFilter, AgentHistoryFilter, AgentStatus
from contextdna.values.ids import AgentEntryId, AgentId
from contextdna.values.principal import Reader, Role
from tests.builders import OTHER_PROJECT, PROJECT, make_agent, minutes
from tests.contract.conftest import open_database
from tests.servers.postgres import EVERYWHERE

pytestmark = pytest.mark.anyio

# Small pools, so that names, circles and times meet often.
PROJECTS = st.sampled_from([PROJECT, PROJECT, PROJECT, OTHER_PROJECT])
PATHS = st.sampled_from([AgentId(name) for name in ("alice", "alice/drone", "alice/drone/x", "alicex", "bob")])
TEAMS = st.sampled_from(["", "core"])
SWARMS = st.sampled_from(["", "lift", "sink"])
ROLES = st.sampled_from(list(Role))
STATUSES = st.sampled_from(list(AgentStatus))
CHANGES = st.sampled_from([AgentChange.REGISTERED, AgentChange.RETIRED])
TIMES = st.integers(-2, 2).map(minutes)
MAYBE_TIMES = st.one_of(st.none(), TIMES)
MANY: Final = 1000

AGENTS = st.builds(
    make_agent,
    PATHS,
    project_id=PROJECTS,
    team_id=TEAMS,
    swarm_id=SWARMS,
    role=ROLES,
    last_seen_at=TIMES,
    first_seen_at=TIMES,
    agent_type=st.sampled_from(["", "coder"]),
    capabilities=st.sampled_from([(), ("sql",), ("sql", "python")]),
    status=STATUSES,
    confidence=st.sampled_from([None, 0.0, 0.5]),
    retired_at=MAYBE_TIMES,
    placed=st.booleans(),
    credential_role=st.one_of(st.none(), ROLES),
)
ENTRIES = st.builds(
    AgentEntry,
    id=st.uuids().map(lambda number: AgentEntryId(f"aen_{number.hex}")),
    project_id=PROJECTS,
    agent_id=PATHS,
    at=TIMES,
    what=CHANGES,
    by_agent_id=PATHS,
)
FILTERS = st.builds(
    AgentFilter,
    agent_type=st.sampled_from(["", "coder"]),
    capability=st.sampled_from(["", "sql", "python"]),
    status=st.one_of(st.none(), STATUSES),
    team_id=st.one_of(st.none(), TEAMS),
    swarm_id=st.one_of(st.none(), SWARMS),
)
HISTORY_FILTERS = st.builds(
    AgentHistoryFilter,
    agent_id=st.one_of(st.just(AgentId("")), PATHS),
    what=st.lists(CHANGES, max_size=1).map(tuple),
    since=MAYBE_TIMES,
    until=MAYBE_TIMES,
)
READERS = st.builds(Reader, PROJECTS, PATHS, TEAMS, SWARMS, ROLES)


@dataclass(frozen=True)
class World:
    """What is written, and what is then asked."""

    agents: Sequence[Agent]
    seen: Sequence[Agent]
    entries: Sequence[AgentEntry]
    readers: Sequence[Reader]
    where: AgentFilter
    history: AgentHistoryFilter
    limit: int

    async def write(self, tx: Transaction) -> None:
        for agent in self.agents:
            await tx.agents.put(agent)
        for agent in self.seen:
            await tx.projects.see_agent(agent)
        await tx.agents.append(self.entries)

    async def read(self, tx: Transaction) -> list[object]:
        answers: list[object] = [
            await tx.projects.agents(PROJECT),
            await tx.agents.counts(PROJECT),
            await tx.agents.page(PROJECT, self.where, after=AgentId("alice"), limit=self.limit),
        ]
        for reader in self.readers:
            for newest_first in (True, False):
                found = await tx.agents.history(
                    reader, self.history, place=None, newest_first=newest_first, limit=self.limit
                )
                answers.append(found)
        return answers


WORLDS = st.builds(
    World,
    agents=st.lists(AGENTS, max_size=6),
    seen=st.lists(AGENTS, max_size=3),
    entries=st.lists(ENTRIES, max_size=8, unique_by=lambda entry: entry.id),
    readers=st.lists(READERS, min_size=4, max_size=4),
    where=FILTERS,
    history=HISTORY_FILTERS,
    limit=st.sampled_from([1, 2, MANY]),
)


async def check_answers(name: str, world: World) -> None:
    with TemporaryDirectory() as folder:
        async with (
            open_database("in_memory", Path(folder)) as model,
            open_database(name, Path(folder)) as other,
        ):
            await model.write(world.write)
            await other.write(world.write)
            assert await other.read(world.read) == await model.read(world.read)


@given(WORLDS)
@settings(max_examples=30 if EVERYWHERE else 15)
async def test_random_agents_get_the_same_answers(world: World) -> None:
    await check_answers("sqlite", world)


@given(WORLDS)
@settings(max_examples=20 if EVERYWHERE else 10)
async def test_random_agents_get_the_same_answers_from_a_server(world: World) -> None:
    await check_answers("postgres", world)
