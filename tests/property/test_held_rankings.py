"""Whatever agents write, lend and take back, and whatever time ends: an answer is the one that a search would give."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextdna import (
    AgentId,
    Context,
    ContextDnaError,
    ContextQuery,
    DelegationRequest,
    Hub,
    Level,
    MemoryChange,
    MemoryDraft,
    Principal,
    ProjectId,
    RecordId,
    Role,
    TurnDraft,
    Workspace,
)
from tests.hub.rig import Clock, begin
from tests.property.conftest import Installation

WORDS: Final = ("apple", "bridge", "cloud", "dragon", "engine")
QUERIES: Final = (
    "apple",
    "apple cloud",
    "bridge cloud",
    "dragon engine apple",
    '"apple bridge"',
    "last week dragon",
    "",
)
HOURS: Final = (None, 0.5, 1.0, 2.0)


@dataclass
class World:
    """A project, who works in it, and what they stored."""

    hub: Hub
    clock: Clock
    rng: Random
    principals: list[Principal]
    handles: dict[AgentId, str] = field(default_factory=dict)
    owned: list[tuple[Principal, RecordId]] = field(default_factory=list)

    def someone(self) -> Principal:
        return self.rng.choice(self.principals)

    def workspace(self, principal: Principal) -> Workspace:
        return self.hub.bind(principal)

    def something(self) -> tuple[Workspace, RecordId]:
        principal, record_id = self.rng.choice(self.owned)
        return self.workspace(principal), record_id

    def text(self) -> str:
        return " ".join(self.rng.choices(WORDS, k=4)) + f" n{len(self.owned)}"

    def other_than(self, workspace: Workspace) -> AgentId:
        own = workspace._caller.principal.agent_id
        return self.rng.choice([one.agent_id for one in self.principals if one.agent_id != own])


async def store(world: World) -> None:
    owner, hours = world.someone(), world.rng.choice(HOURS)
    start, end = world.rng.choice(HOURS), world.rng.choice(HOURS)
    begins = world.clock.now + timedelta(hours=start or 0)
    draft = MemoryDraft(
        world.text(),
        level=world.rng.choice([Level.PRIVATE, Level.TEAM, Level.SWARM, Level.PROJECT]),
        importance=world.rng.random(),
        valid_from=begins if start else None,
        valid_to=begins + timedelta(hours=end) if end else None,
        retention_days=hours and hours / 24,
        relates_to=(world.rng.choice(world.owned)[1],) if world.owned and world.rng.random() < 0.3 else (),
    )
    world.owned.append((owner, (await world.workspace(owner).store_memories([draft]))[0].id))


async def say(world: World) -> None:
    speaker = world.someone()
    workspace = world.hub.bind(speaker, session_id=world.handles[speaker.agent_id])
    await workspace.log_turns([TurnDraft("user", world.text()) for _ in range(2)])


async def change(world: World) -> None:
    workspace, record_id = world.something()
    found, _ = await workspace.get_memories([record_id])
    changed = world.rng.choice(
        [
            MemoryChange(importance=world.rng.random()),
            MemoryChange(content=world.text()),
            MemoryChange(level=Level.PRIVATE),
            MemoryChange(valid_to=world.clock.now + timedelta(hours=world.rng.choice([0, 1]))),
            MemoryChange(superseded_by=world.rng.choice(world.owned)[1]),
        ]
    )
    await workspace.update_memory(record_id, changed, expected_version=found[0].record.version if found else 1)


async def forget(world: World) -> None:
    workspace, record_id = world.something()
    await workspace.forget_memories([record_id], purge=world.rng.random() < 0.3)


async def restore(world: World) -> None:
    workspace, record_id = world.something()
    await workspace.restore_memories([record_id])


async def share(world: World) -> None:
    workspace, record_id = world.something()
    hours = world.rng.choice(HOURS)
    await workspace.share_memories([world.other_than(workspace)], [record_id], expires_in_s=hours and hours * 3600)


async def take_back(world: World) -> None:
    workspace, record_id = world.something()
    await workspace.revoke_shares([world.other_than(workspace)], [record_id])


async def link(world: World) -> None:
    workspace, record_id = world.something()
    await workspace.documents.link(record_id, [world.rng.choice(world.owned)[1]], remove=world.rng.random() < 0.3)


async def delegate(world: World) -> None:
    workspace, record_id = world.something()
    request = DelegationRequest(world.other_than(workspace), "apple", memory_ids=(record_id,), expires_in_s=3600.0)
    lent = await workspace.delegate(request)
    if world.rng.random() < 0.5:
        await world.hub.bind(workspace._caller.principal, session_id=lent.begun.handle).end_session(success=True)


async def sweep(world: World) -> None:
    await world.workspace(world.principals[-1]).sweep()


async def pass_time(world: World) -> None:
    world.clock.advance(minutes=world.rng.choice([1, 20, 30, 60]))


STEPS: Final[tuple[Callable[[World], Awaitable[None]], ...]] = (
    store,
    store,
    say,
    change,
    forget,
    restore,
    share,
    take_back,
    link,
    delegate,
    sweep,
    pass_time,
    pass_time,
    pass_time,
    pass_time,
    pass_time,
)


async def ask(world: World, principal: Principal, query: ContextQuery) -> None:
    """Ask with what is held, then with nothing held, page by page."""
    workspace = world.workspace(principal)
    answer = await workspace.retrieve_context(query)
    assert _without_cursor(answer) == _without_cursor(await _unheld(world.hub, workspace, query))
    if answer.cursor:
        await _same_page(world.hub, workspace, replace(query, cursor=answer.cursor))


async def _same_page(hub: Hub, workspace: Workspace, query: ContextQuery) -> None:
    held, unheld = await workspace.retrieve_context(query), await _unheld(hub, workspace, query)
    assert _without_cursor(held) == _without_cursor(unheld)


def _without_cursor(answer: Context) -> Context:
    """Give an answer without the name that it is held by."""
    return replace(answer, cursor=str(bool(answer.cursor)))


async def _unheld(hub: Hub, workspace: Workspace, query: ContextQuery) -> Context:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub._door, "_rankings_of", lambda _: None)
        patch.setattr(hub._door, "_begun_of", lambda _: None)
        return await workspace.retrieve_context(query)


async def live(hub: Hub, clock: Clock, project_id: ProjectId, rng: Random) -> None:
    principals = [
        Principal(AgentId("anna"), (project_id,), team_id="red", swarm_id="lift"),
        Principal(AgentId("ben"), (project_id,), team_id="red"),
        Principal(AgentId("cleo"), (project_id,), team_id="blue", swarm_id="lift", role=Role.SYSTEM),
    ]
    world = World(hub, clock, rng, principals)
    for principal in principals:
        world.handles[principal.agent_id] = await begin(hub, principal)
    while len(world.owned) < 3:
        with suppress(ContextDnaError):
            await store(world)
    plain = ContextQuery(rng.choice(QUERIES), limit=rng.choice([2, 30]))
    narrowed = rng.choice([replace(plain, min_importance=0.5), replace(plain, as_of=clock.now + timedelta(hours=1))])
    asked = [(principal, query) for principal in rng.sample(principals, 2) for query in (plain, narrowed)]
    for _ in range(12):
        with suppress(ContextDnaError):  # what cannot be done now is refused
            await rng.choice(STEPS)(world)
        for principal, query in asked:
            await ask(world, principal, query)


@settings(max_examples=7)
@given(st.randoms(use_true_random=False))
def test_an_answer_is_the_same_with_and_without_held_rankings(installation: Installation, rng: Random) -> None:
    runner, hub, clock, projects = installation
    runner.run(live(hub, clock, next(projects), rng))
