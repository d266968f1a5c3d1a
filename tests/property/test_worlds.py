"""Whatever agents store, share, delegate and take back: the workspace reveals what the pure rule allows."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from contextdna import (
    AgentId,
    DelegationRequest,
    Hub,
    Kind,
    Level,
    MemoryChange,
    Principal,
    ProjectId,
    RecordId,
    Role,
)
from contextdna.values.principal import Reader
from contextdna.values.record import RecordRef
from contextdna.values.visibility import visible
from tests.hub.revealing import LOOPS, Planted, expected, plant, revealed
from tests.hub.rig import Clock
from tests.property.conftest import Installation
from tests.servers.postgres import EVERYWHERE

AGENTS: Final = ("anna", "ben", "cleo")
CIRCLES: Final = ("", "red", "blue")
HOUR: Final = 3600.0

R = TypeVar("R")


@dataclass
class Lent:
    """A grant as the model keeps it."""

    record_id: RecordId
    giver: AgentId
    taker: AgentId
    expires_at: datetime | None
    delegation: str = ""


@dataclass
class World:
    """A model of a project: who is in it, what they made, and what they lent."""

    hub: Hub
    clock: Clock
    project_id: ProjectId
    principals: list[Principal]
    refs: dict[RecordId, RecordRef] = field(default_factory=dict)
    planted: dict[RecordId, Planted] = field(default_factory=dict)
    versions: dict[RecordId, int] = field(default_factory=dict)
    forgotten: set[RecordId] = field(default_factory=set)
    lent: list[Lent] = field(default_factory=list)
    handles: list[tuple[Principal, str, Reader]] = field(default_factory=list)
    """Sessions of children that have not ended: parent, handle, child."""
    children: list[Principal] = field(default_factory=list)

    def seen_by(self, reader: Reader) -> list[Planted]:
        """Give what the pure rule allows a reader."""
        held = {
            lent.record_id
            for lent in self.lent
            if lent.taker == reader.agent_id and (lent.expires_at is None or lent.expires_at > self.clock.now)
        }
        return [
            self.planted[record_id]
            for record_id, ref in self.refs.items()
            if record_id not in self.forgotten and visible(reader, ref, granted=record_id in held)
        ]


def reader_of(principal: Principal) -> Reader:
    return Reader(principal.project_ids[0], principal.agent_id, principal.team_id, principal.swarm_id, principal.role)


def levels_of(principal: Principal) -> list[Level]:
    """Give the levels that a caller may write at."""
    levels = [Level.PRIVATE, Level.PROJECT]
    levels += [Level.TEAM] if principal.team_id else []
    levels += [Level.SWARM] if principal.swarm_id else []
    return [*levels, Level.SYSTEM] if principal.role is Role.SYSTEM else levels


def chosen(draw: Callable[..., Any], options: list[RecordId]) -> RecordId | None:
    return options[draw(st.integers(0, len(options) - 1))] if options else None


async def make(world: World, draw: Callable[..., Any]) -> None:
    owner = world.principals[draw(st.integers(0, len(world.principals) - 1))]
    kind = draw(st.sampled_from(Kind))
    levels = levels_of(owner)
    if kind is Kind.LOOP:
        # A confidence and a decision any agent records, whatever its role; a consensus needs a swarm.
        levels = [level for level in LOOPS if level is not Level.SWARM or owner.swarm_id]
    planted = await plant(world.hub, owner, kind, draw(st.sampled_from(levels)), f"n{len(world.refs)}")
    world.planted[planted.id] = planted
    world.versions[planted.id] = 1
    world.refs[planted.id] = RecordRef(
        planted.id, world.project_id, kind, planted.level, owner.agent_id, owner.team_id, owner.swarm_id
    )


async def lend(world: World, draw: Callable[..., Any]) -> None:
    owner = draw(st.sampled_from(world.principals))
    taker = draw(st.sampled_from([p.agent_id for p in world.principals if p.agent_id != owner.agent_id]))
    record_id = chosen(draw, owned(world, owner))
    if record_id is None:
        return
    seconds = draw(st.sampled_from([None, HOUR, 2 * HOUR]))
    await world.hub.bind(owner).share_memories([taker], [record_id], expires_in_s=seconds)
    await _take_back(world, owner.agent_id, taker, record_id)
    world.lent.append(Lent(record_id, owner.agent_id, taker, seconds and world.clock.now + timedelta(seconds=seconds)))


async def take_back(world: World, draw: Callable[..., Any]) -> None:
    owner = draw(st.sampled_from(world.principals))
    taker = draw(st.sampled_from([p.agent_id for p in world.principals if p.agent_id != owner.agent_id]))
    record_id = chosen(draw, owned(world, owner)) if draw(st.booleans()) else None
    await world.hub.bind(owner).revoke_shares([taker], [record_id] if record_id else [])
    await _take_back(world, owner.agent_id, taker, record_id)


async def _take_back(world: World, giver: AgentId, taker: AgentId, record_id: RecordId | None) -> None:
    world.lent = [
        lent
        for lent in world.lent
        if (lent.giver, lent.taker, lent.delegation) != (giver, taker, "") or record_id not in (None, lent.record_id)
    ]


async def hand_down(world: World, draw: Callable[..., Any]) -> None:
    parent = draw(st.sampled_from(world.principals))
    lendable = [i for i in owned(world, parent) if world.refs[i].level is not Level.PROJECT]
    mine = chosen(draw, [i for i in lendable if world.planted[i].kind is Kind.MEMORY])
    child = AgentId(f"child{len(world.children)}")
    request = DelegationRequest(child, "help", memory_ids=(mine,) if mine else (), limit=0, expires_in_s=HOUR)
    report = await world.hub.bind(parent).delegate(request)
    session = report.begun.session
    child = session.agent_id  # a path, unless the role system delegated
    reader = Reader(world.project_id, child, session.team_id, session.swarm_id, session.role)
    world.handles.append((parent, report.begun.handle, reader))
    world.children.append(Principal(child, parent.project_ids, session.team_id, session.swarm_id, session.role))
    if mine:
        world.lent.append(Lent(mine, parent.agent_id, child, session.expires_at, report.delegation.id))


async def come_back(world: World, draw: Callable[..., Any]) -> None:
    if not world.handles:
        return
    parent, handle, reader = world.handles.pop(draw(st.integers(0, len(world.handles) - 1)))
    await world.hub.bind(parent, session_id=handle).end_session(success=draw(st.booleans()))
    world.lent = [lent for lent in world.lent if lent.taker != reader.agent_id or not lent.delegation]


async def move(world: World, draw: Callable[..., Any]) -> None:
    owner = draw(st.sampled_from(world.principals))
    record_id = chosen(draw, [i for i in owned(world, owner) if world.planted[i].kind is Kind.MEMORY])
    if record_id is None:
        return
    change = MemoryChange(level=draw(st.sampled_from(levels_of(owner))))
    version = world.versions[record_id]
    stored = await world.hub.bind(owner).update_memory(record_id, change, expected_version=version)
    world.versions[record_id] = stored.version
    assert change.level is not None
    if change.level is not world.refs[record_id].level:  # its owner has said anew who may read
        world.lent = [lent for lent in world.lent if lent.record_id != record_id or not lent.delegation]
    world.refs[record_id] = replace(world.refs[record_id], level=change.level)
    world.planted[record_id] = replace(world.planted[record_id], level=change.level)


async def forget(world: World, draw: Callable[..., Any]) -> None:
    owner = draw(st.sampled_from(world.principals))
    record_id = chosen(draw, [i for i in owned(world, owner) if world.planted[i].kind is Kind.MEMORY])
    if record_id is None:
        return
    await world.hub.bind(owner).forget_memories([record_id])
    world.forgotten.add(record_id)


async def restore(world: World, draw: Callable[..., Any]) -> None:
    record_id = chosen(draw, sorted(world.forgotten))
    if record_id is None:
        return
    owner = next(p for p in world.principals if p.agent_id == world.refs[record_id].owner_id)
    await world.hub.bind(owner).restore_memories([record_id])
    world.forgotten.discard(record_id)


async def wait(world: World, draw: Callable[..., Any]) -> None:
    world.clock.advance(seconds=draw(st.sampled_from([1.0, HOUR - 1, HOUR])))
    world.handles = []  # their hour may be over; what they inherited is judged by its expiry


def owned(world: World, owner: Principal) -> list[RecordId]:
    return [i for i, ref in world.refs.items() if ref.owner_id == owner.agent_id and i not in world.forgotten]


OPERATIONS: Final = (make, make, make, lend, lend, take_back, hand_down, come_back, move, forget, restore, wait)


async def live(hub: Hub, clock: Clock, project_id: ProjectId, data: st.DataObject) -> None:
    draw = data.draw
    principals = [
        Principal(
            AgentId(name),
            (project_id,),
            team_id=draw(st.sampled_from(CIRCLES)),
            swarm_id=draw(st.sampled_from(CIRCLES)),
            role=draw(st.sampled_from(Role)),
        )
        for name in AGENTS
    ]
    world = World(hub, clock, project_id, principals)
    for operation in draw(st.lists(st.sampled_from(OPERATIONS), min_size=6, max_size=20)):
        await operation(world, draw)
    records = world.planted.values()
    for principal in (*principals, *world.children):
        seen = await revealed(hub.bind(principal), records)
        assert seen == expected(world.seen_by(reader_of(principal))), principal
    for parent, handle, reader in world.handles:
        seen = await revealed(hub.bind(parent, session_id=handle), records)
        assert seen == expected(world.seen_by(reader)), reader


@settings(max_examples=100 if EVERYWHERE else 20)
@given(data=st.data())
def test_every_path_reveals_what_the_rule_allows_and_nothing_else(
    installation: Installation, data: st.DataObject
) -> None:
    runner, hub, clock, projects = installation
    runner.run(live(hub, clock, next(projects), data))
